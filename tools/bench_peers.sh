#!/bin/bash
# bench_peers.sh GRAFT [PEER ...]: graft and the other programs at the same work in one run; writes bench/PEERS.md and
# prints it. PEERs (torch, torch-compile, torch-recompute, torch-fp32, bnb, mlx, llama) pick some. About ten minutes.
set -u
graft=$(realpath "$1")
shift
cd "$(dirname "$0")/.." || exit 1
work=build/bench
mkdir -p $work
python=$(tools/peers/setup tools/peers/requirements.txt) && gguf=$(tools/fetch_smollm2.sh) || exit 1
if [ ! -f $work/smollm2-4bit/config.json ]; then
    "$graft" convert --model "$gguf" --mlx-path $work/smollm2-4bit -q || exit 1
fi
hash=$(sha256sum <tools/peers/requirements_llama.txt | cut -c1-12)
llama=${XDG_CACHE_HOME:-$HOME/.cache}/graft/peers-$hash # compiled on request only: that takes longer than all of this
[ -e "$llama/ready" ] && export GRAFT_LLAMA_PYTHON=${GRAFT_LLAMA_PYTHON:-$llama/bin/python}
export GRAFT_PEERS_PYTHON=$python GRAFT_TOOLS=tools GGUF=$gguf
"$python" tools/bench_peers.py "$graft" $work/smollm2-4bit bench/PEERS.md "$@"
