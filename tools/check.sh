#!/bin/bash
# Builds and runs every test: one line per suite, `N passed, N failed` at the end, exit 1 on any failure.
# Single tests are counted: cmocka's own, and 1 for each script, header and replayed corpus.
set -u
cd "$(dirname "$0")/.." || exit 1
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
logs=build/check
mkdir -p $logs
passed=0 failed=0

# suite NAME PASSED FAILED LOG: prints the line and adds up.
suite() {
    passed=$((passed + $2)) failed=$((failed + $3))
    printf '%-34s %5d passed, %d failed   (%ds)\n' "$1" "$2" "$3" $((SECONDS - started))
    if [ "$3" -gt 0 ]; then
        echo "  log: $4"
        grep -hE '\[  FAILED  \]|\*\*\*|error:|ERROR:|WARNING: ThreadSanitizer|runtime error|^FAILED|refused' "$4" |
            grep -vE '\[ (RUN     |      OK) \]' | sort -u | head -40 | sed 's/^/  /'
    fi
}

# Counts a verbose ctest log: "PASSED FAILED". A program that died without naming a failed test counts as one; a script
# that could not run here (exit 77) is told apart by `skips`.
count() {
    awk '
        /^[0-9]+: .*\[  PASSED  \] [0-9]+ test/ { t = $1; sub(/.*PASSED  \] /, ""); good[t] += $1; own[t] = 1 }
        /^[0-9]+: .*\[  FAILED  \] [0-9]+ test/ { t = $1; sub(/.*FAILED  \] /, ""); bad[t] += $1; own[t] = 1 }
        /Test +#[0-9]+: .*\*\*\*Skipped/ { next }
        /Test +#[0-9]+: .*(Passed|\*\*\*|Not Run)/ {
            match($0, /#[0-9]+:/); t = substr($0, RSTART + 1, RLENGTH - 1)
            if ($0 ~ /Passed/) { if (!own[t]) good[t] = 1 } else if (!bad[t]) bad[t] = 1
        }
        END { for (t in good) g += good[t]; for (t in bad) b += bad[t]; print g + 0, b + 0 }' "$1"
}

# What a log's tests said that they could not do here, each reason once.
skips() {
    sed -nE 's/^([0-9]+: )?(skipped: .*)/  \2/p' "$1" | sort -u
}

# run NAME PRESET [TARGET [CTEST ARGUMENT...]]: configures, builds and tests one preset.
run() {
    local name=$1 preset=$2 target=${3:-all} log=$logs/$2.log
    shift 2; [ $# -gt 0 ] && shift
    started=$SECONDS
    if ! { cmake --preset "$preset" && cmake --build "build/$preset" -j "$jobs" --target "$target"; } >"$log" 2>&1; then
        suite "$name: build" 0 1 "$log"
        return
    fi
    ctest --test-dir "build/$preset" -V -j "$jobs" --no-tests=error "$@" </dev/null >"$log" 2>&1
    local status=$? good bad
    read -r good bad < <(count "$log")
    [ $status -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
    suite "$name" "$good" "$bad" "$log"
    skips "$log"
}

# Each public header compiles alone, as C and as C++, by both compilers.
headers() {
    local log=$logs/headers.log good=0 bad=0 header compiler
    started=$SECONDS
    : >"$log"
    for header in include/*.h; do
        for compiler in 'gcc -std=c11 -xc' 'clang -std=c11 -xc' 'g++ -std=c++17 -xc++' 'clang++ -std=c++17 -xc++'; do
            if $compiler -Wall -Wextra -Wpedantic -Werror -fsyntax-only "$header" >>"$log" 2>&1; then
                good=$((good + 1))
            else
                bad=$((bad + 1))
            fi
        done
    done
    suite "public headers alone" $good $bad "$log"
}

# Every command on the pages of documentation, and the pages that are made from tables. Each command counts.
pages() {
    local log=$logs/docs.log build=$PWD/build/release good bad
    started=$SECONDS
    [ -x $build/graft ] || return # told above
    bash tests/test_reference.sh >$log 2>&1
    local status=$?
    bash tests/test_docs.sh >>$log 2>&1 </dev/null
    status=$((status + $?))
    bad=$(grep -c '^FAILED' $log)
    good=$(sed -nE 's/^([0-9]+) commands run.*/\1/p' $log)
    [ "$bad" -eq 0 ] && { [ $status -ne 0 ] || [ "${good:-0}" -eq 0 ]; } && bad=1
    suite "documentation" $((${good:-0} - bad > 0 ? good - bad : 0)) "$bad" "$log"
}

# The whole tree for arm64 under qemu, where a cross compiler can be had.
arm64() {
    local log=$logs/arm64.log status good bad
    started=$SECONDS
    tools/check_arm64.sh >$log 2>&1
    status=$?
    if [ $status = 77 ]; then
        echo "arm64 under qemu: skipped, $(tail -1 $log)"
        return
    fi
    read -r good bad < <(count $log)
    [ $status -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
    suite "arm64 under qemu" "$good" "$bad" $log
}

export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
run "gcc" release
run "clang" clang
run "asan + ubsan" asan-ubsan
run "tsan, threaded tests" tsan threaded_tests -L threaded
headers
pages
arm64
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
