#!/bin/bash
# bench.sh GRAFT: the table of targets with what this machine reaches; writes bench/RESULTS.md and prints it. About five
# minutes on two cores. With PEER=torch, torch-compile, torch-recompute, torch-fp32, mlx or bnb instead: a training step
# (LoRA rank 16 on q, k, v, o; batch 1; the same batches and start) by graft and by that program (STEPS=8 SEQ=512).
set -u
graft=$(realpath "$1")
cd "$(dirname "$0")/.." || exit 1
work=build/bench
mkdir -p $work
gguf=$(tools/fetch_smollm2.sh) || exit 1
if [ ! -f $work/smollm2-4bit/config.json ]; then
    "$graft" convert --model "$gguf" --mlx-path $work/smollm2-4bit -q || exit 1
fi
if [ -z "${PEER:-}" ]; then
    exec python3 tools/bench_results.py "$graft" $work/smollm2-4bit bench/RESULTS.md
fi
python=$(tools/peers/setup tools/peers/requirements.txt) || exit 1
steps=${STEPS:-8}
GRAFT_PEERS_PYTHON=$python GRAFT_TOOLS=tools "$graft" bench train --model $work/smollm2-4bit --steps "$steps" \
    --seq-length "${SEQ:-512}" --batch-size 1 --lora-rank 16 --lora-targets extended --peer "$PEER" \
    --peer-steps "$steps" --svg "$work/train-$PEER.svg"
