#!/bin/sh
# budget_sweep.sh [GRAFT]: training SmolLM2 with a series of --budget sizes, some of them too small: the peak of
# each process (VmHWM; tokenizing, two updates, validation and saving included) must not exceed its budget, and
# the least that a refusal names must be enough. Exits 1 otherwise.
set -u
graft=$(realpath "${1:-build/graft}")
cd "$(dirname "$0")/.." || exit 1
work=build/budget
mkdir -p $work/data
gguf=$(tools/fetch_smollm2.sh) || exit 1
model=$work/smollm2-4bit
[ -f $model/config.json ] || "$graft" convert --model "$gguf" --mlx-path $model -q >$work/log 2>&1 || exit 1
awk 'BEGIN {
    srand(7)
    n = split("the a red old small house river stone under over runs sleeps and of green light morning", w, " ")
    for (r = 0; r < 64; r++) {
        printf "{\"text\": \""
        m = 20 + rand() * 300
        for (i = 0; i < m; i++) printf "%s ", w[int(rand() * n) + 1]
        print "\"}"
    }
}' >$work/data/train.jsonl
head -8 $work/data/train.jsonl >$work/data/valid.jsonl

# the last value of a key in a file of JSON
value() {
    sed -n "s/.*\"$1\": *\([0-9][0-9]*\).*/\1/p" "$2" | tail -1
}

train() {
    rm -rf $work/adapter
    "$graft" train --model $model --data $work/data --adapter-path $work/adapter --iters 2 --batch-size 8 \
        --val-batches 1 --budget "$1" --json >$work/out.json 2>$work/log
}

exceeded=0 kept=0 refused=0 least=
try() {
    if train "$1"; then
        peak=$(value peak_memory_bytes $work/out.json)
        room=${1%MB}000000
        verdict=kept
        [ "$peak" -le "$room" ] || verdict=EXCEEDED exceeded=$((exceeded + 1))
        kept=$((kept + 1))
        printf '%8s  %-8s peak %6.1f MB, ' "$1" $verdict "$(awk "BEGIN { print $peak / 1e6 }")"
        sed -n 's/.*\(--grad-checkpoint .*\)/\1/p' $work/log
    else
        refused=$((refused + 1))
        printf '%8s  refused, ' "$1"
        sed -n 's/.*expected \(at least .*\)/\1/p' $work/log
        least=$(sed -n 's/.*at least \([0-9]*\) MB.*/\1/p' $work/log)
        [ -n "$least" ] || { cat $work/log >&2; exit 1; }
    fi
}

for size in 2000MB 1000MB 800MB 600MB 500MB 450MB 400MB 350MB 325MB 300MB 275MB 250MB 240MB 230MB 220MB 210MB 200MB \
    150MB 100MB 10MB; do
    try $size
done
[ -z "$least" ] || try "${least}MB"
[ -z "$least" ] || try "$((least - 2))MB"
echo "$kept budgets kept, $refused refused, $exceeded exceeded"
[ $exceeded -eq 0 ] && [ $kept -gt 0 ] && [ $refused -gt 0 ]
