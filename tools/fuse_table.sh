#!/bin/bash
# fuse_table.sh GRAFT MODEL DATA [WORK]: what fusing costs. Trains three adapters on MODEL (an MLX directory in 4 bits) with
# the same settings: plain LoRA, --qat and --group-pooled; fuses each into 4 bits and the first into 16; prints the losses on
# the first ROWS rows of DATA/test.jsonl by graft, and by mlx-lm (in 32 bits) where PEERS names a python that has it.
# ITERS, BATCH and RATE change the training, ROWS the measurement.
set -eu
graft=$1 model=$2 data=$3 work=${4:-fuse-table}
mkdir -p "$work"
head -n "${ROWS:-30}" "$data/test.jsonl" >"$work/rows.jsonl"
train() { # name, options
    [ -e "$work/$1/adapter_config.json" ] && return
    "$graft" train --model "$model" --data "$data" --adapter-path "$work/$1" --iters "${ITERS:-100}" \
        --batch-size "${BATCH:-4}" --learning-rate "${RATE:-2e-4}" --steps-per-eval 100000 --val-batches 5 \
        --save-every 100000 --seed 1 "${@:2}"
}
fuse() { # adapter, name, options
    rm -rf "${work:?}/$2"
    "$graft" fuse --model "$model" --adapter-path "$work/$1" --save-path "$work/$2" --data "$work/rows.jsonl" --json \
        "${@:3}" >"$work/$2.json"
}
train plain
train qat --qat
train pooled --group-pooled
fuse plain fused16 --dequantize --dtype float16
fuse plain fused4
fuse qat fused4-qat
fuse pooled fused4-pooled
python3 - "$work" <<'END'
import json, sys
print("| adapter, fused into | base | base + adapter | fused | kept of the gain |\n|---|---:|---:|---:|---:|")
for what, name in (("LoRA, 16 bits", "fused16"), ("LoRA, 4 bits", "fused4"), ("--qat, 4 bits", "fused4-qat"),
                   ("--group-pooled, 4 bits", "fused4-pooled")):
    d = json.load(open(f"{sys.argv[1]}/{name}.json"))
    print(f"| {what} | {d['loss_base']:.4f} | {d['loss_adapter']:.4f} | {d['loss_fused']:.4f} | {100 * d['kept']:.1f} % |")
END
[ -n "${PEERS:-}" ] || exit 0
"$graft" tokenize --model "$model" --data "$work/rows.jsonl" --json >"$work/rows.tok"
"$PEERS" - "$work" "$model" <<'END'
import json, sys
import mlx.core as mx
import mlx_lm
import numpy as np

work, base = sys.argv[1:]
rows = [json.loads(line) for line in open(f"{work}/rows.tok")]


def loss(folder, adapter=None):
    model, _ = mlx_lm.load(folder, adapter_path=adapter)
    model.set_dtype(mx.float32)
    total = count = 0
    for row in rows:
        logits = model(mx.array([row["ids"]]))[0]
        target, trains = mx.array(row["ids"][1:]), np.array(row["mask"][1:], bool)
        picked = mx.take_along_axis(logits[:-1], target[:, None], axis=1)[:, 0]
        total += np.array(mx.logsumexp(logits[:-1], axis=1) - picked)[trains].sum(dtype=np.float64)
        count += trains.sum()
    return total / count


for name, adapter in ((base, None), (base, "plain"), (f"{work}/fused16", None), (f"{work}/fused4", None), (base, "qat"),
                      (f"{work}/fused4-qat", None), (base, "pooled"), (f"{work}/fused4-pooled", None)):
    print(f"mlx-lm: {name}{' + ' + adapter if adapter else ''}: {loss(name, adapter and f'{work}/{adapter}'):.4f}", flush=True)
END
