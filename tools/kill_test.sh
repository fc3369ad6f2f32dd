#!/bin/bash
# kill_test.sh [BUILD]: kills `graft train` at random instants with SIGKILL and resumes it, each time with other
# threads, another rung and other saves (tests/test_kill.c): a tiny run KILLS times, in memory and on the disk,
# and a run of SmolLM2 on real rows REAL_KILLS times. Each ends in the bytes of one that nothing stopped, and
# every checkpoint on the way is loaded; exits 1 otherwise. Then what another instruction set changes of SmolLM2 in
# fp32 is measured. SEED chooses the instants; 0 kills leave a part out.
set -u
build=${1:-build/release}
cd "$(dirname "$0")/.." || exit 1
kills=${KILLS:-3000} real=${REAL_KILLS:-200} seed=${SEED:-1}
work=$PWD/build/kill
mkdir -p $work/data
[ -x "$build/tests/test_kill" ] && [ -x "$build/tests/test_other_isa" ] || { echo "kill_test: the tests in $build are not built: run make" >&2; exit 1; }

run() {
    "$build/tests/test_kill" 2>&1 | grep -vE '^\[(=+|-+| RUN  | *OK) *\]'
    return "${PIPESTATUS[0]}"
}

if [ "$kills" -gt 0 ]; then
    echo "== a tiny run, in memory"
    GRAFT_KILLS=$((kills / 2)) GRAFT_SEED=$seed run || exit 1
    echo "== a tiny run, on the disk"
    TMPDIR=$work GRAFT_KILLS=$((kills - kills / 2)) GRAFT_SEED=$((seed + 1)) GRAFT_DELAY=0.2 run || exit 1
fi
[ "$real" -gt 0 ] || exit 0

# Short rows: an iteration then takes a tenth of a second. The Devil's Dictionary, or, where Debian's
# archive cannot be reached, the lines of the licence texts that Debian installs.
if dictionary=$(tools/fetch_devil.sh 2>$work/log); then
    tools/devil_to_jsonl.sh "$dictionary" $work/devil >/dev/null || exit 1
    for part in train valid; do awk 'length($0) < 200' $work/devil/$part.jsonl | head -300 >$work/data/$part.jsonl; done
else
    cat /usr/share/common-licenses/* | awk 'length($0) > 40 && length($0) < 120 && !/["\\\t]/ && !seen[$0]++ {
        print "{\"text\": \"" $0 "\"}" }' >$work/lines
    head -300 $work/lines >$work/data/train.jsonl
    tail -n +301 $work/lines | head -20 >$work/data/valid.jsonl
fi
model=build/bench/smollm2-4bit
if [ ! -f $model/config.json ]; then
    gguf=$(tools/fetch_smollm2.sh) || exit 1
    "$build/graft" convert --model "$gguf" --mlx-path $model -q >$work/log 2>&1 || { cat $work/log >&2; exit 1; }
fi
echo "== SmolLM2-135M in 4 bits, $(wc -l <$work/data/train.jsonl) rows"
GRAFT_KILLS=$real GRAFT_SEED=$seed GRAFT_DELAY=${DELAY:-4} GRAFT_MODEL=$model GRAFT_DATA=$work/data \
    GRAFT_SAVES="2 5 10 0.5s 1s" GRAFT_OPTIONS="--lora-rank 8 --batch-size 1 --grad-accumulation-steps 2 \
    --iters ${ITERS:-400} --steps-per-report 10 --steps-per-eval 100 --val-batches 2 --lr-schedule cosine --warmup 10 \
    --lora-dropout 0.05 --overflow drop --seed 1 --keep-best" TMPDIR=$work run || exit 1

echo "== SmolLM2-135M going on with another instruction set"
mkdir -p $work/few
cp $work/data/train.jsonl $work/few
head -3 $work/data/valid.jsonl >$work/few/valid.jsonl
GRAFT_MODEL=$model GRAFT_DATA=$work/few TMPDIR=$work "$build/tests/test_other_isa" 2>&1 | grep -E 'after|FAILED|PASSED'
exit "${PIPESTATUS[0]}"
