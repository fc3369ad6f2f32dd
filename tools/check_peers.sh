#!/bin/bash
# check_peers.sh GRAFT: compares the built program with the programs its users come from (transformers, PEFT,
# mlx-lm ...), installed once into a virtual environment in the cache. Ends with `N passed, N failed, N skipped`.
set -u
graft=$(realpath "$1")
cd "$(dirname "$0")/.." || exit 1
requirements=tools/peers/requirements.txt

python=$(tools/peers/setup "$requirements") && model=$(tools/fetch_smollm2.sh) || {
    echo "0 passed, 1 failed"
    exit 1
}
export GRAFT=$graft GRAFT_SMOLLM2=$model HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$python" tools/peers/run_all.py "$graft" </dev/null 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
tail -1 "$log" | grep -qE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' || { echo "0 passed, 1 failed"; exit 1; }
exit "$status"
