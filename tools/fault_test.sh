#!/bin/bash
# fault_test.sh [POINTS]: the whole of the fault injection that `make check` samples. Every call of every kind
# fails once in every command (tests/test_faults.c), every allocation in every call of the library
# (tests/test_fault_memory.c); then, with the address sanitizer and its leak check, POINTS of each (200).
set -u
cd "$(dirname "$0")/.." || exit 1
points=${1:-200} failed=0
commands=("plan" "info" "info adapter" "tokenize" "eval" "generate" "generate --logits" "convert" "convert again"
    "train" "train --resume")

# sweep PRESET POINTS TEST [COMMAND]: one line of what was tried.
sweep() {
    local log
    log=build/fault-$(tr -c 'a-z0-9\n' - <<<"$1-$3-${4:-all}").log
    FAULT_POINTS=$2 ${4:+env FAULT_COMMAND="$4"} "build/$1/tests/$3" </dev/null >"$log" 2>&1 || failed=1
    printf '%-11s %-18s %-18s %s\n' "$1" "$3" "${4:-}" "$(grep -E '^[0-9]+ (points|allocations)' "$log" || echo "FAILED: $log")"
}

for preset in release asan-ubsan; do
    cmake --preset $preset >/dev/null && cmake --build build/$preset -j "${JOBS:-2}" --target test_faults \
        test_fault_memory test_signals >build/fault-build.log 2>&1 || {
        tail -20 build/fault-build.log
        exit 1
    }
done
for command in "${commands[@]}"; do sweep release 0 test_faults "$command"; done
sweep release 0 test_fault_memory
for command in "${commands[@]}"; do sweep asan-ubsan "$points" test_faults "$command"; done
sweep asan-ubsan "$points" test_fault_memory
for preset in release asan-ubsan; do
    build/$preset/tests/test_signals >build/fault-signals-$preset.log 2>&1 || failed=1
    printf '%-11s %-18s %s\n' $preset test_signals "$(grep -E 'PASSED|FAILED' build/fault-signals-$preset.log | head -1)"
done
exit $failed
