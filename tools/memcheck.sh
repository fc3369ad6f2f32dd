#!/bin/bash
# memcheck.sh [all | NAME...]: valgrind's memcheck on the release's tests and the replayed corpora; an error or a leak
# fails. (For lines beside the functions' names: cmake --preset debug, and the same program from there.)
# Valgrind knows no AVX-512 and says so to the program, which then takes AVX2. Without a name, all but those that train
# or time for minutes under it; `all` leaves out only those that say nothing there.
set -u
cd "$(dirname "$0")/.." || exit 1
build=build/release logs=build/memcheck jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}

# Timing and the process's own memory mean nothing under valgrind, which has its own; of programs that others start it
# sees nothing.
never='^(test_bench|test_budget|test_soak|test_fault[a-z_]*|test_signals|test_kill|test_bad_inputs|test_hostile_[a-z]*)$'
# Minutes each, for code that the others run too: whole nets, matrices of every size, the program started 300 times.
long='^test_(attention|cli|freeze|generate_batch|linear_kinds|matmul|net|packed|packed_net|preset|ten_steps|train)$'

rm -rf $logs && mkdir -p $logs

list() {
    case ${1:-} in
    '') all | grep -vE "$never" | grep -vE "$long" ;;
    all) all | grep -vE "$never" ;;
    *) printf '%s\n' "$@" ;;
    esac
}
all() { (cd $build && ls tests/test_* fuzz/fuzz_*) | grep -vE '\.|_arm64' | xargs -n1 basename; }

# One program; its line ends in "clean" or in what was found.
check() {
    local name=$1 log=$PWD/$logs/$1.log program arguments= status started=$SECONDS
    program=$PWD/$build/tests/$name
    [[ $name == fuzz_* ]] && program=$PWD/$build/fuzz/$name arguments=$PWD/fuzz/corpus/${name#fuzz_}
    # shellcheck disable=SC2086 # no argument, or one
    (cd $build/tests && timeout 3600 valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=all \
        --errors-for-leak-kinds=definite,indirect,possible --num-callers=20 \
        "$program" $arguments) </dev/null >"$log" 2>&1
    status=$?
    if [ $status = 0 ]; then
        echo "$name: clean ($((SECONDS - started))s)"
    else
        echo "$name: FAILED with $status, see $logs/$name.log"
        grep -E '^==[0-9]+== [A-Z]|FAILED' "$log" | sed 's/==[0-9]*== //' | sort | uniq -c | sort -rn | head -5
        return 1
    fi
}
export -f check
export build logs

list "$@" | xargs -P "$jobs" -I{} bash -c 'check {}'
