#!/bin/bash
# bench.sh GRAFT: the same training work (LoRA rank 16 on q, k, v, o; batch 1; the same batches and start) by graft and
# by another program, one after the other on this machine. PEER=torch, mlx or bnb; STEPS=8 SEQ=512.
set -u
graft=$(realpath "$1")
cd "$(dirname "$0")/.." || exit 1
peer=${PEER:-torch} steps=${STEPS:-8} length=${SEQ:-512}
work=build/bench
mkdir -p $work
python=$(tools/peers/setup tools/peers/requirements.txt) && gguf=$(tools/fetch_smollm2.sh) || exit 1
if [ ! -f $work/smollm2-4bit/config.json ]; then
    "$graft" convert --model "$gguf" --mlx-path $work/smollm2-4bit -q || exit 1
fi
GRAFT_PEERS_PYTHON=$python GRAFT_TOOLS=tools "$graft" bench train --model $work/smollm2-4bit --steps "$steps" \
    --seq-length "$length" --batch-size 1 --lora-rank 16 --lora-targets extended --peer "$peer" --peer-steps "$steps" \
    --svg $work/train-"$peer".svg
