#!/bin/bash
# 200 training steps on WikiSQL in mlx-lm's split: loss curve, tokens per second, peak memory against the forecast, and
# the ratio to torch + PEFT where the peers' environment is installed.
# usage: tools/wikisql.sh DATA_DIR [MODEL_DIR [OUT_DIR]]     (DATA_DIR holds train.jsonl, valid.jsonl, test.jsonl)
set -eu
cd "$(dirname "$0")/.."
data=${1:?usage: tools/wikisql.sh DATA_DIR [MODEL_DIR [OUT_DIR]]}
model=${2:-demo/smollm2-4bit}
out=${3:-demo/wikisql}
graft=${GRAFT:-build/release/graft}
[ -f "$model/config.json" ] || { echo "no model in $model: run make demo first, or name one" >&2; exit 1; }
"$graft" eval --model "$model" --data "$data" --split valid
"$graft" train --model "$model" --data "$data" --adapter-path "$out" --iters 200 --batch-size 4 --steps-per-eval 50
"$graft" eval --model "$model" --data "$data" --split valid --adapter-path "$out"
echo "curve: $out/loss.svg"
