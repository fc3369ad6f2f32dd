#!/bin/bash
# check_peers.sh GRAFT: compares the built program with the programs its users come from (transformers, PEFT,
# mlx-lm, llama.cpp), installed once into virtual environments in the cache. Ends with `N passed, N failed`.
# Skipped, and counted apart, are the checks against llama.cpp where it cannot be compiled, or with LLAMA=0, which does not try.
set -u
graft=$(realpath "$1")
cd "$(dirname "$0")/.." || exit 1
requirements=tools/peers/requirements.txt

python=$(timeout 1800 tools/peers/setup "$requirements") && model=$(tools/fetch_smollm2.sh) || {
    echo "0 passed, 1 failed"
    exit 1
}
[ "${LLAMA:-1}" = 0 ] || timeout 1500 tools/peers/setup tools/peers/requirements_llama.txt >/dev/null ||
    echo "llama.cpp cannot be installed: the checks against it are skipped"
export GRAFT=$graft GRAFT_SMOLLM2=$model HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$python" tools/peers/run_all.py "$graft" </dev/null 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
tail -1 "$log" | grep -qE '^[0-9]+ passed, [0-9]+ failed$' || { echo "0 passed, 1 failed"; exit 1; }
exit "$status"
