#!/bin/bash
# analyze.sh [TOOL...]: tidy (clang-tidy with clang's analyzer; .clang-tidy has the checks), gcc (its -fanalyzer),
# cppcheck; all three by default. Prints each finding that tools/analyze.txt does not explain and fails if there is one.
# The instruction sets' files are left out: generated loops over intrinsics, minutes each, and no input reaches them
# unchecked.
set -u
cd "$(dirname "$0")/.." || exit 1
out=build/analyze/findings jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
mkdir -p $out
cmake --preset analyze >build/analyze.log 2>&1 || { cat build/analyze.log; exit 1; }
all=$(ls src/*.c src/*/*.c cli/*.c | grep -v 'kernels/isa_')
own=src/base/status.c # defines what tools/analyze.h describes

# Each prints lines `FILE:LINE:COLUMN: KIND: TEXT [CHECK]`.
tidy() {
    local extra=(--extra-arg=-include "--extra-arg=$PWD/tools/analyze.h")
    { grep -vx "$own" <<<"$all" | xargs -P "$jobs" -n 4 clang-tidy -p build/analyze --quiet "${extra[@]}"
        clang-tidy -p build/analyze --quiet "$own"; } 2>/dev/null | grep -E '(warning|error): ' | sed "s|$PWD/||"
}
# -O1: what the optimizer has understood is not doubted again.
gcc() {
    local call='command gcc -std=gnu17 -O1 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -Isrc -fanalyzer -c -o /dev/null'
    { grep -vx "$own" <<<"$all" | xargs -P "$jobs" -I{} bash -c "$call -include tools/analyze.h {} 2>&1"
        $call "$own" 2>&1; } | grep -E '^[a-z].*(warning|error): '
}
cppcheck() {
    command cppcheck -j "$jobs" --quiet --library=tools/cppcheck.xml --std=c11 -Iinclude -Isrc -D_GNU_SOURCE \
        --enable=warning,performance,portability \
        --template='{file}:{line}:{column}: {severity}: {message} [{id}]' $all 2>&1
}

# Lines of tools/analyze.txt: `TOOL FILE CHECK COUNT reason`; COUNT findings of the check in the file are explained.
judge() {
    awk -v tool="$1" '
        FNR == NR { if ($1 == tool) allowed[$2 " " $3] = $4; next }
        {
            file = $0; sub(/:.*/, "", file)
            check = $0; sub(/.*\[/, "", check); sub(/\].*/, "", check); sub(/,.*/, "", check)
            key = file " " check
            count[key]++; text[key] = text[key] "  " $0 "\n"
            all++
        }
        END {
            for (key in count)
                if (count[key] > allowed[key]) { printf "%s", text[key]; bad += count[key] - allowed[key] }
            for (key in allowed)
                if (count[key] < allowed[key]) printf "  %s: %d explained, %d found: shorten tools/analyze.txt\n", key,
                    allowed[key], count[key]
            printf "%s: %d findings, %d of them not explained\n", tool, all, bad
            exit bad > 0
        }' tools/analyze.txt "$2"
}

failed=0
for tool in ${@:-tidy gcc cppcheck}; do
    $tool | sort -u >"$out/$tool.txt"
    judge "$tool" "$out/$tool.txt" || failed=1
done
exit $failed
