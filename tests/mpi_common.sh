# mpi_common.sh - what the tests of several ranks share; sourced. Skips (exit 0, with a word) where Open MPI is missing.
set -u
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
command -v mpirun >/dev/null || { echo "skipped: mpirun is not installed (Debian: openmpi-bin)"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/graft-mpi-XXXXXX")
failed=0
fail() { echo "failed: $*"; failed=1; }
finish() { rm -rf "$work"; [ $failed = 0 ] && echo "ok: $1"; exit $failed; }
"$MAKE_TINY" "$work" || exit 1
cd "$work" || exit 1
if timeout 60 mpirun -n 2 "$GRAFT" train --model base --data data 2>&1 | grep -q "built without MPI"; then
    echo "skipped: built without MPI (Debian: libopenmpi-dev)"
    rm -rf "$work"
    exit 77
fi
rm -rf adapters

# One training for all tests: updates of two iterations, a validation and saves in between.
run=(train --model base --data data --batch-size 8 --grad-accumulation-steps 2 --threads 1 --lora-rank 4
     --learning-rate 1e-3 --lora-dropout 0.1 --steps-per-eval 500 --steps-per-report 20)

# metrics.jsonl without what depends on the clock or on memory.
timeless() {
    sed -E 's/, "(iterations_per_second|tokens_per_second|peak_memory_bytes|val_time)": [^,}]*//g' "$1/metrics.jsonl"
}

same() {
    cmp -s "$1/adapters.safetensors" "$2/adapters.safetensors" || fail "$2: another adapter than $1's"
    cmp -s <(timeless "$1") <(timeless "$2") || fail "$2: other losses than $1's"
}

# Waits until metrics.jsonl of a run has so many lines.
wait_for_lines() {
    for ((i = 0; i < 600; i++)); do
        [ "$(cat "$1/metrics.jsonl" 2>/dev/null | wc -l)" -ge "$2" ] && return 0
        sleep 0.1
    done
    fail "$1 did not get going"
    return 1
}

# Process of one rank of the run into that directory.
pid_of_rank() {
    local pid
    for pid in $(pgrep -f -- "--adapter-path $work/$1\$"); do
        tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx "OMPI_COMM_WORLD_RANK=$2" && echo "$pid"
    done
}
