#!/bin/bash
# fuzz.sh [SECONDS [TARGET...]]: runs each libFuzzer target (all, or those named: gguf, yaml ..) that long, JOBS at
# a time, from the committed corpus and from what earlier runs found, which stays in build/fuzz/found. Ends with a
# table. What crashes, hangs (10 s) or takes 2 GB is in build/fuzz/crashes: mend it and add it to fuzz/corpus/X.
# MERGE=1 then adds to fuzz/corpus what reaches code that the committed inputs do not: only inputs up to 2 kB,
# since the corpora are replayed in every test run.
set -u
cd "$(dirname "$0")/.." || exit 1
seconds=${1:-60} jobs=${JOBS:-2} failed=0
shift
bin=build/fuzz/fuzz
targets=("$@")
[ $# -gt 0 ] || for source in fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    targets+=("${name#fuzz_}")
done
mkdir -p build
cmake --preset fuzz >build/fuzz.log 2>&1 &&
    cmake --build build/fuzz -j "$jobs" --target "${targets[@]/#/fuzz_}" >build/fuzz.log 2>&1 || {
    tail -20 build/fuzz.log
    exit 1
}
mkdir -p build/fuzz/crashes

# one TARGET: its log is build/fuzz/TARGET.log.
one() {
    mkdir -p "build/fuzz/found/$1"
    "$bin/fuzz_$1" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/crashes/$1-" "build/fuzz/found/$1" "fuzz/corpus/$1" \
        </dev/null >"build/fuzz/$1.log" 2>&1
    echo $? >"build/fuzz/$1.status"
}

# small TARGET: committed inputs and those found that add coverage to them, up to 2 kB, into fuzz/corpus.
small() {
    local merged=build/fuzz/merged/$1 file
    rm -rf "$merged"
    mkdir -p "$merged"
    cp fuzz/corpus/"$1"/* "$merged"/
    "$bin/fuzz_$1" -merge=1 -max_len=2048 "$merged" "build/fuzz/found/$1" </dev/null >"build/fuzz/$1.merge.log" 2>&1
    for file in "$merged"/*; do
        [ -e "fuzz/corpus/$1/$(basename "$file")" ] || cp "$file" "fuzz/corpus/$1/found_$(basename "$file" | cut -c1-8)"
    done
}

for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    one "$target" &
done
wait

number() { grep -o "$1 *[0-9]*" "build/fuzz/$target.log" | tail -1 | grep -o '[0-9]*$'; }
printf '| target | executions | edges | inputs kept | result |\n|---|---:|---:|---:|---|\n'
for target in "${targets[@]}"; do
    if [ "$(cat "build/fuzz/$target.status")" = 0 ]; then
        result=clean
        [ -n "${MERGE:-}" ] && small "$target"
    else
        result="FAILED, see build/fuzz/$target.log" failed=1
    fi
    printf '| %s | %s | %s | %s | %s |\n' "$target" "$(number number_of_executed_units:)" "$(number cov:)" \
        "$(number corp:)" "$result"
done
exit $failed
