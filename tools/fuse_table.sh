#!/bin/bash
# fuse_table.sh GRAFT MODEL DATA [WORK]: what fusing costs. Trains three adapters on MODEL (an MLX directory in 4 bits) with
# the same settings: plain LoRA, --qat and --group-pooled; fuses each into 4 bits, the first into 16 as well and the last with
# 32-bit biases; prints the losses on the first ROWS rows of DATA/test.jsonl, by graft and, where PEERS names a python that
# has it, by mlx-lm, both computing in 32 bits. ITERS, BATCH and RATE change the training.
# What is in WORK (fuse-table) is used again; the settings that made it stand in WORK/settings.
set -eu
graft=$(realpath "$1") model=$(realpath "$2") data=$(realpath "$3") work=${4:-fuse-table}
here=$(dirname "$(realpath "$0")")
iters=${ITERS:-100} batch=${BATCH:-4} rate=${RATE:-2e-4} rows=${ROWS:-30}
settings="iterations $iters, rows of a batch $batch, rate $rate, model $model, data $data"
mkdir -p "$work"
[ -e "$work/settings" ] || echo "$settings" >"$work/settings"
[ "$(cat "$work/settings")" = "$settings" ] || {
    echo "$0: $work was made with other settings: $(cat "$work/settings"); name another WORK" >&2
    exit 1
}
head -n "$rows" "$data/test.jsonl" >"$work/rows.jsonl"
train() { # name, options
    [ -e "$work/$1/adapter_config.json" ] && return
    "$graft" train --model "$model" --data "$data" --adapter-path "$work/$1" --iters "$iters" --batch-size "$batch" \
        --learning-rate "$rate" --steps-per-eval 100000 --val-batches 5 --save-every 100000 --seed 1 "${@:2}" >&2
}
fuse() { # adapter, name, options
    [ -e "$work/$2.json" ] && return
    rm -rf "${work:?}/$2"
    "$graft" fuse --model "$model" --adapter-path "$work/$1" --save-path "$work/$2" --data "$work/rows.jsonl" --json \
        --compute fp32 "${@:3}" >"$work/$2.part"
    mv "$work/$2.part" "$work/$2.json"
}
train plain
train qat --qat
train pooled --group-pooled
fuse plain fused16 --dequantize --dtype float16
fuse plain fused4
fuse qat fused4-qat
fuse pooled fused4-pooled
fuse pooled fused4-pooled32 --dtype float32
if [ -n "${PEERS:-}" ]; then
    "$graft" tokenize --model "$model" --data "$work/rows.jsonl" --json >"$work/rows.tok"
    "$PEERS" "$here/fuse_table_mlx.py" "$work" "$model"
fi
python3 - "$work" <<'END'
import json, os, sys
work = sys.argv[1]
mlx = json.load(open(f"{work}/mlx.json")) if os.path.exists(f"{work}/mlx.json") else {}
print(open(f"{work}/settings").read().strip())
print("| adapter, fused into | base | base + adapter | fused | kept of the gain |"
      + (" mlx-lm: base | base + adapter | fused | kept |" if mlx else ""))
print("|---|---:|---:|---:|---:|" + ("---:|---:|---:|---:|" if mlx else ""))
for what, adapter, name in (("LoRA, 16 bits", "plain", "fused16"), ("LoRA, 4 bits", "plain", "fused4"),
                            ("--qat, 4 bits", "qat", "fused4-qat"), ("--group-pooled, 4 bits", "pooled", "fused4-pooled"),
                            ("the same, --dtype float32", "pooled", "fused4-pooled32")):
    d = json.load(open(f"{work}/{name}.json"))
    losses = [[d["loss_base"], d["loss_adapter"], d["loss_fused"]]]
    if mlx:
        losses.append([mlx["base"], mlx[adapter], mlx[name]])
    print(f"| {what} | " + " | ".join(f"{a:.4f} | {b:.4f} | {c:.4f} | {100 * (a - c) / (a - b):.1f} %" for a, b, c in losses)
          + " |")
END
