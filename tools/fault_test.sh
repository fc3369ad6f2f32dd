#!/bin/bash
# fault_test.sh: the whole of the fault injection that `make check` samples. Every call of every kind fails once in
# every command (tests/test_faults.c), every allocation in every call of the library, whose blocks are counted
# (tests/test_fault_memory.c). About an hour on two cores, most of it the allocations of train.
set -u
cd "$(dirname "$0")/.." || exit 1
failed=0
commands=("plan" "info" "info adapter" "tokenize" "eval" "generate" "generate --logits" "convert" "convert again"
    "train" "train --resume")

# sweep PRESET POINTS TEST [COMMAND]: one line of what was tried.
sweep() {
    local log
    log=build/fault-$(tr -c 'a-z0-9\n' - <<<"$1-$3-${4:-all}").log
    env FAULT_POINTS="$2" ${4:+FAULT_COMMAND="$4"} "build/$1/tests/$3" </dev/null >"$log" 2>&1 || failed=1
    printf '%-11s %-18s %-18s %s\n' "$1" "$3" "${4:-}" "$(grep -E '^[0-9]+ (points|allocations)' "$log" || echo "FAILED: $log")"
}

cmake --preset release >/dev/null && cmake --build build/release -j "${JOBS:-2}" --target test_faults test_fault_memory \
    test_signals >build/fault-build.log 2>&1 || {
    tail -20 build/fault-build.log
    exit 1
}
for command in "${commands[@]}"; do sweep release 0 test_faults "$command"; done
sweep release 0 test_fault_memory
build/release/tests/test_signals >build/fault-signals.log 2>&1 || failed=1
printf '%-11s %-18s %s\n' release test_signals "$(grep -E 'PASSED|FAILED' build/fault-signals.log | head -1)"
exit $failed
