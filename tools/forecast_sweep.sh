#!/bin/sh
# forecast_sweep.sh [GRAFT]: the forecast of a run against the peak of its process (VmHWM), over models, lengths,
# batches, recompute, ranks, targets, precisions and kinds of training: two updates each, with validation and
# saving. Prints a table and the largest error; exits 1 when it is above 2 %. Rows are made up and cut at the
# length, so that every row has it.
set -u
graft=$(realpath "${1:-build/graft}")
cd "$(dirname "$0")/.." || exit 1
work=build/forecast
mkdir -p $work/data
gguf=$(tools/fetch_smollm2.sh) || exit 1
four=$work/smollm2-4bit sixteen=$work/smollm2-16bit
[ -f $four/config.json ] || "$graft" convert --model "$gguf" --mlx-path $four -q >$work/log 2>&1 || exit 1
[ -f $sixteen/config.json ] || "$graft" convert --model "$gguf" --mlx-path $sixteen -d >$work/log 2>&1 || exit 1
awk 'BEGIN {
    srand(7)
    n = split("the a red old small house river stone under over runs sleeps and of green light morning", w, " ")
    for (r = 0; r < 16; r++) {
        printf "{\"text\": \""
        for (i = 0; i < 2600; i++) printf "%s ", w[int(rand() * n) + 1]
        print "\"}"
    }
}' >$work/data/train.jsonl
head -2 $work/data/train.jsonl >$work/data/valid.jsonl

# the last value of a key in a file of JSON
value() {
    sed -n "s/.*\"$1\": *\([0-9][0-9]*\).*/\1/p" "$2" | tail -1
}

printf '%-9s %5s %5s  %-70s %9s %9s %7s\n' model S batch 'other settings' 'forecast' 'measured' error
worst=0 count=0

check() { # model, length, batch, settings, forecast, measured
    error=$(awk "BEGIN { printf \"%.2f\", 100 * ($5 - $6) / $6 }")
    worst=$(awk "BEGIN { e = $error < 0 ? -($error) : $error; print (e > $worst) ? e : $worst }")
    count=$((count + 1))
    printf '%-9s %5s %5s  %-70s %6.0f MB %6.0f MB %6s%%\n' "$1" "$2" "$3" "$4" \
        "$(awk "BEGIN { print $5 / 1e6 }")" "$(awk "BEGIN { print $6 / 1e6 }")" "$error"
}

while read -r model s batch rest; do
    [ -n "$model" ] || continue
    case $model in 4-bit) dir=$four ;; *) dir=$sixteen ;; esac
    rm -rf $work/adapter
    # shellcheck disable=SC2086 # the settings are words
    "$graft" train --model $dir --data $work/data --adapter-path $work/adapter --iters 2 --max-seq-length "$s" \
        --overflow truncate --batch-size "$batch" --val-batches 1 --json $rest >$work/out.json 2>$work/log ||
        { cat $work/log >&2; exit 1; }
    check "$model" "$s" "$batch" "$rest" "$(value total $work/out.json)" "$(value peak_memory_bytes $work/out.json)"
done <<'SETTINGS'
4-bit   128 1 --grad-checkpoint none --lora-rank 4 --lora-targets standard
4-bit   128 8 --grad-checkpoint layer --lora-rank 16
4-bit   256 4 --grad-checkpoint none --lora-rank 64 --lora-targets all-linear
4-bit   512 1 --grad-checkpoint none --lora-rank 16
4-bit   512 4 --grad-checkpoint layer --lora-rank 32 --lora-targets full
4-bit   512 2 --grad-checkpoint none --compute fp32
4-bit  1024 2 --grad-checkpoint layer --lora-rank 8 --optimizer sgd
4-bit   512 2 --grad-checkpoint mlp --lora-rank 16 --lora-targets all-linear
4-bit   700 1 --grad-checkpoint layer --lora-rank 16
4-bit  2048 1 --grad-checkpoint none --lora-rank 16 --num-layers 4
4-bit  2048 1 --grad-checkpoint layer --lora-rank 16 --grad-accumulation-steps 2
16-bit  128 4 --grad-checkpoint none --lora-rank 16
16-bit  512 2 --grad-checkpoint layer --lora-rank 64 --lora-targets all-linear
16-bit 1024 1 --grad-checkpoint none --lora-rank 8
16-bit  128 2 --grad-checkpoint layer --fine-tune-type full --num-layers 4
16-bit  256 2 --grad-checkpoint none --fine-tune-type full
16-bit  128 2 --grad-checkpoint layer --lora-rank 16 --modules-to-save embed_tokens
4-bit   256 2 --grad-checkpoint layer --lora-rank 16 --fine-tune-type dora
4-bit   256 2 --grad-checkpoint layer --lora-dropout 0.1 --optimizer muon
4-bit   512 2 --budget 350MB
SETTINGS
# random weights of a larger shape: bench train forecasts and measures as training does
for batch in 1 4; do
    "$graft" bench train --shape qwen2.5-0.5b --seq-length 2048 --batch-size $batch --lora-targets all-linear \
        --grad-checkpoint layer --steps 1 --svg none --json >$work/out.json 2>$work/log || { cat $work/log >&2; exit 1; }
    check 0.5B 2048 $batch '--lora-targets all-linear --grad-checkpoint layer' "$(value forecast_bytes $work/out.json)" \
        "$(value peak_rss_bytes $work/out.json)"
done
echo "$count settings, largest error $worst %"
awk "BEGIN { exit !($worst <= 2) }"
