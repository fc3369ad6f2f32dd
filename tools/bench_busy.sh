#!/bin/bash
# bench_busy.sh GRAFT MODEL [PEER]: a training step (S 512, batch 1) on a machine that is not ours alone: another process
# that never stops on one core, and more threads than cores. Prints a table. With PEER also that program, both ways.
set -u
graft=$1 model=$2 peer=${3:-}
speed='import json, sys; d = json.load(sys.stdin); print("%.0f" % d["tokens_per_second"],
    "%.0f" % d["peer"]["tokens_per_second"] if d.get("peer") else "-")'
measure() {
    "$graft" bench train --model "$model" --steps 8 --seq-length 512 --batch-size 1 --lora-rank 16 \
        --lora-targets extended --svg none --json "$@" 2>/dev/null | python3 -c "$speed"
}
row() { # NAME OTHERS ARGUMENTS: OTHERS processes burn a core each meanwhile
    local name=$1 others=$2 pids=() k
    shift 2
    for ((k = 0; k < others; k++)); do
        (while :; do :; done) &
        pids+=($!)
    done
    read -r ours theirs < <(measure "$@")
    ((${#pids[@]})) && kill "${pids[@]}" && wait "${pids[@]}" 2>/dev/null
    printf '| %s | %s | %s |\n' "$name" "${ours:-failed}" "${theirs:--}"
}
with=()
[ -n "$peer" ] && with=(--peer "$peer" --peer-steps 4)
cores=$(getconf _NPROCESSORS_ONLN)
printf '| %s cores | graft, tokens/s | %s |\n|---|---|---|\n' "$cores" "${peer:--}"
row "alone, $cores threads" 0 "${with[@]}"
row "alone, 1 thread" 0 --threads 1
row "another process on one core, $cores threads" 1 "${with[@]}"
row "another process on one core, $((cores > 1 ? cores - 1 : 1)) threads" 1 --threads $((cores > 1 ? cores - 1 : 1))
row "another process on every core, $cores threads" "$cores"
row "alone, $((2 * cores)) threads" 0 --threads $((2 * cores))
row "alone, $((4 * cores)) threads" 0 --threads $((4 * cores))
row "another process on one core, $((4 * cores)) threads" 1 --threads $((4 * cores))
