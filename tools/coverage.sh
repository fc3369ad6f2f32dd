#!/bin/bash
# coverage.sh: which lines and branches the tests run of what reads files from strangers and of checkpoints (gcc's
# gcov): one line a file, and a floor for each group; fails below it. Those files alone are compiled to count, and
# linked before the release's archive, which gives the rest: so it takes a minute, and the tests train at full speed.
# What did not run is marked ##### or "taken 0" in build/coverage/*.gcov.
set -u
cd "$(dirname "$0")/.." || exit 1
out=$PWD/build/coverage release=$PWD/build/release jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}

# group | least percent of lines, of branches | files. A branch is one way that a condition can go. Most that no test
# goes are allocations that fail; the floors are what was reached, rounded down, and only ever rise.
groups='
parsers of files | 97 86 | src/files/*.c src/model/config.c src/model/stored_codes.c src/base/number.c
tokenizer, templates | 97 82 | src/text/*.c
rows | 98 85 | src/data/rows.c src/data/row_format.c
adapters | 98 87 | src/adapters/*.c
configurations | 99 83 | src/options/yaml.c src/options/mlx_*.c src/convert/gguf_config.c src/convert/quant_rules.c
checkpoints | 93 68 | src/train/checkpoint*.c src/train/metrics.c src/base/os.c src/base/dir_lock.c
'

rm -rf "$out" && mkdir -p "$out"
trap 'rm -f ./*.gcov' EXIT
export out release
flags="-std=gnu17 -O0 -g -w -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -Isrc -I. -Itests
    -DGRAFT_SOURCE_DIR=\"$PWD\" -DGRAFT_BINARY=\"$out/graft\""
libraries="$(pkg-config --libs jansson libpcre2-8 libutf8proc yaml-0.1 cmocka) -lpthread -lm"
export flags libraries

object() { gcc $flags --coverage -fprofile-update=atomic -c "$1" -o "$out/$(tr / _ <<<"${1%.c}").o"; }
program() { # NAME SOURCE...
    local name=$1
    shift
    gcc $flags "$@" "$out"/*.o "$release/libgraft.a" "$release/libgraft_ref.a" --coverage -o "$out/$name" $libraries
}
test_one() {
    local name status corpus='' link=()
    name=$(basename "$1" .c)
    [[ $name == fuzz_* ]] && corpus=$PWD/fuzz/corpus/${name#fuzz_}
    [ "$name" = test_power_cut ] && link=(-Wl,--wrap={open,open64,close,write,fsync,ftruncate64,rename,unlink,mkdir})
    program "$name" "$@" "${link[@]}" && (cd "$out" && "./$name" $corpus) </dev/null >"$out/$name.log" 2>&1
    status=$?
    [ $status = 0 ] || echo "$name failed with $status: the figures are of a run that did not end"
}
export -f object program test_one

# shellcheck disable=SC2046,SC2086 # lists of names
counted=$(ls $(sed -nE 's/.*\| *([^|]+)$/\1/p' <<<"$groups"))
xargs -P "$jobs" -I{} bash -c 'object {}' <<<"$counted" && program graft cli/*.c || exit 1
# Allocations that fail, about every tenth: each has a branch of its own.
export FAULT_POINTS=120
{ for file in tests/test_*.c; do echo "$file$([ "$file" = tests/test_fault_memory.c ] && echo " tests/fault_shim.c -ldl")"; done
    for file in fuzz/fuzz_*.c; do echo "$file fuzz/replay.c"; done; } |
    grep -vE 'test_(bench|budget|soak|attention|matmul|kernels|net|packed_net|linear_kinds|ref_[a-z]*|faults|signals)\.c' |
    xargs -P "$jobs" -L 1 bash -c 'test_one "$@"' _

# "LINES RUN BRANCHES TAKEN FILE", counts; a condition that no run came to counts as not taken.
measure() {
    gcov -b -c -o "$out" "$out/$(tr / _ <<<"${1%.c}").gcda" 2>/dev/null | awk -v file="$1" '
        /^File / { mine = $0 ~ file }
        mine && /^Lines executed/ { split($0, p, /[:% ]+/); lines = p[5]; run = p[3] * p[5] / 100 }
        mine && /^Taken at least once/ { split($0, p, /[:% ]+/); all = p[7]; taken = p[5] * p[7] / 100 }
        END { printf "%d %.0f %d %.0f %s\n", lines, run, all, taken, file }'
    mv -f ./*.gcov "$out" 2>/dev/null
}

status=0
line='%-34s %6.1f %% of %5d lines  %6.1f %% of %5d branches'
while IFS='|' read -r name floors files; do
    [ -n "$name" ] || continue
    for file in $files; do measure "$file"; done | awk -v name="${name% }" -v floors="$floors" -v line="$line" '
        function show(label, l, r, b, t) { printf line, label, l ? 100 * r / l : 100, l, b ? 100 * t / b : 100, b }
        { show($5, $1, $2, $3, $4); print ""; l += $1; r += $2; b += $3; t += $4 }
        END {
            split(floors, least, " ")
            bad = 100 * r < least[1] * l || 100 * t < least[2] * b
            show("= " name, l, r, b, t)
            printf "  (at least %d, %d)%s\n\n", least[1], least[2], bad ? "  TOO FEW" : ""
            exit bad
        }' || status=1
done <<<"$groups"
exit $status
