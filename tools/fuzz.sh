#!/bin/bash
# fuzz.sh SECONDS: runs each libFuzzer target that long, from the committed corpus; new inputs stay in build/.
# What crashes is written to build/fuzz/crashes; add it, made small, to fuzz/corpus/X.
set -u
cd "$(dirname "$0")/.." || exit 1
seconds=${1:-60} failed=0
cmake --preset fuzz >/dev/null && cmake --build build/fuzz -j "${JOBS:-2}" >build/fuzz.log 2>&1 || {
    tail -20 build/fuzz.log
    exit 1
}
mkdir -p build/fuzz/crashes
for source in fuzz/fuzz_*.c; do
    name=$(basename "$source" .c) subject=${source#fuzz/fuzz_}
    subject=${subject%.c}
    mkdir -p "build/fuzz/found/$subject"
    if "build/fuzz/fuzz/$name" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
        -artifact_prefix=build/fuzz/crashes/$subject- "build/fuzz/found/$subject" "fuzz/corpus/$subject" \
        </dev/null >"build/fuzz/$name.log" 2>&1; then
        echo "$name: $(grep -o 'number_of_executed_units: *[0-9]*' "build/fuzz/$name.log" | grep -o '[0-9]*') inputs, no crash"
    else
        echo "$name: CRASH, see build/fuzz/$name.log"
        grep -E 'ERROR|SUMMARY|Test unit written' "build/fuzz/$name.log" | head -5
        failed=1
    fi
done
exit $failed
