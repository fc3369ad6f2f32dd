#!/bin/bash
# bench_curves.sh GRAFT MODEL [OUT]: the pictures of docs/performance.md: speed and memory of a training step by length,
# batch, rank and threads (OUT: docs/img). About three minutes. BENCH_PREFIX: see bench_runs.py.
set -u
graft=$1 model=$2 out=${3:-$(dirname "$0")/../docs/img}
mkdir -p "$out"
curve() {
    ${BENCH_PREFIX:-} "$graft" bench curves --model "$model" --lora-rank 16 --lora-targets extended --over "$1" \
        --values "$2" --steps "$3" --svg "$out/cost-$1.svg"
}
curve seq-length 256,512,1024,2048,4096 3 &&
    curve batch-size 1,2,4,8 3 &&
    curve lora-rank 4,8,16,32,64,128 4 &&
    curve threads 1,2,4 4
