#!/bin/bash
# bench.sh GRAFT: the same training work (LoRA rank 16 on q, k, v, o; batch 1) by graft and by PyTorch + PEFT, one
# after the other on this machine, and the ratio. Steps and length: STEPS=8 SEQ=512.
set -u
graft=$(realpath "$1")
cd "$(dirname "$0")/.." || exit 1
steps=${STEPS:-8} length=${SEQ:-512}
work=build/bench
mkdir -p $work
python=$(tools/peers/setup tools/peers/requirements.txt) && gguf=$(tools/fetch_smollm2.sh) || exit 1
if [ ! -f $work/smollm2-4bit/config.json ]; then
    "$graft" convert --model "$gguf" --mlx-path $work/smollm2-4bit -q || exit 1
fi
echo "graft, 4-bit base"
"$graft" bench train --model $work/smollm2-4bit --steps "$steps" --seq-length "$length" --batch-size 1 \
    --lora-rank 16 --lora-targets q_proj,k_proj,v_proj,o_proj --json >$work/graft.json || exit 1
cat $work/graft.json
echo "torch + PEFT, bf16 base"
"$python" tools/peers/bench_torch.py --model "$gguf" --steps "$steps" --seq-length "$length" \
    >$work/torch.json 2>$work/torch.log || { tail -5 $work/torch.log >&2; exit 1; }
cat $work/torch.json
"$python" - $work/graft.json $work/torch.json <<'P'
import json, sys
graft, torch = (json.load(open(path)) for path in sys.argv[1:])
print(f"tokens per second: graft {graft['tokens_per_second']:.0f}, torch {torch['tokens_per_second']:.0f}: "
      f"{graft['tokens_per_second'] / torch['tokens_per_second']:.2f} x")
print(f"peak memory: graft {graft['peak_rss_bytes'] / 1e6:.0f} MB, torch {torch['peak_rss_bytes'] / 1e6:.0f} MB")
P
