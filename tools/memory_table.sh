#!/bin/bash
# memory_table.sh [GRAFT]: what training takes, against the floor (src/forecast/forecast.h): LoRA of rank 16 on every linear,
# linears in 4 bits, recompute of whole layers, one update on random weights of published shapes. Prints a table:
# floor, forecast, the process's measured peak, and with PEER=torch (PyTorch + PEFT, bf16, gradient checkpointing, its
# steps without its loading) the other program's peak where it should fit into free memory.
# SHAPES, LENGTHS and BATCHES choose other rows. A batch of 4 runs in slices, as training does: what it takes above one
# row is the sum of two rows' gradients, which waits for the next two. Exits 1 where a peak is above 1.1 x the floor
# at batch 1 or a forecast off by more than 2 %.
set -u
graft=$(realpath "${1:-build/graft}")
cd "$(dirname "$0")/.." || exit 1
work=build/memory
mkdir -p $work
if [ -n "${PEER:-}" ]; then
    python=$(tools/peers/setup tools/peers/requirements.txt) || exit 1
    export GRAFT_PEERS_PYTHON=$python GRAFT_TOOLS=tools
fi

# the last value of a key in a file of JSON
value() {
    sed -n "s/.*\"$1\": *\([0-9][0-9]*\).*/\1/p" "$2" | tail -1
}

# Would the other program fit? 16-bit weights, and logits as bf16, f32, their gradients and a copy.
fits() { # parameters, vocabulary, tokens
    local free
    free=$(awk '/MemAvailable/ { print $2 * 1024 }' /proc/meminfo)
    awk "BEGIN { exit !($1 * 2 + $2 * $3 * 16 < 0.8 * $free) }"
}

row() { # shape, length, batch; then what it prints
    local peer=() parameters vocab floor forecast peak torch=-
    case $1 in
    qwen2.5-0.5b) parameters=494e6 vocab=151936 ;;
    llama-3.2-1b) parameters=1236e6 vocab=128256 ;;
    *) parameters=8e9 vocab=152064 ;;
    esac
    if [ -n "${PEER:-}" ] && fits $parameters $vocab $(($2 * $3)); then peer=(--peer "$PEER" --peer-steps 1); fi
    "$graft" bench train --shape "$1" --seq-length "$2" --batch-size "$3" --lora-rank 16 --lora-targets all-linear \
        --grad-checkpoint layer --steps 1 --svg none --json "${peer[@]}" >$work/out.json 2>$work/log ||
        { cat $work/log >&2; exit 1; }
    # the peer's object repeats peak_rss_bytes after graft's
    sed '/"peer":/,$d' $work/out.json >$work/own.json
    floor=$(value floor_bytes $work/own.json) forecast=$(value forecast_bytes $work/own.json)
    peak=$(value peak_rss_bytes $work/own.json)
    if [ ${#peer[@]} -gt 0 ]; then
        torch=$(sed -n '/"peer":/,$p' $work/out.json >$work/peer.json && value peak_rss_bytes $work/peer.json)
    fi
    awk -v shape="$1" -v s="$2" -v b="$3" -v floor="$floor" -v forecast="$forecast" -v peak="$peak" -v torch="$torch" '
        BEGIN {
            printf "| %s | %d | %d | %.0f | %.0f | %.0f | %.3f | %+.2f | %s |\n", shape, s, b, floor / 1e6,
                   forecast / 1e6, peak / 1e6, peak / floor, 100 * (forecast / peak - 1),
                   torch == "-" ? "-" : sprintf("%.0f", torch / 1e6)
            off = forecast / peak - 1
            exit (b == 1 && peak > 1.1 * floor) || off > 0.02 || off < -0.02
        }'
}

echo '| shape | S | batch | floor MB | forecast MB | peak MB | peak / floor | forecast off by % | torch + PEFT MB |'
echo '|---|---|---|---|---|---|---|---|---|'
failed=0
for shape in ${SHAPES:-qwen2.5-0.5b llama-3.2-1b}; do
    for batch in ${BATCHES:-1 4}; do
        for length in ${LENGTHS:-512 2048 4096}; do row "$shape" "$length" "$batch" || failed=1; done
    done
done
exit $failed
