#!/bin/bash
# bench_ranks.sh GRAFT MODEL DATA [OPTION...]: speed of one rank, of two and of four, each on one thread,
# in turn, and what this machine's loopback gives: the numbers that tools/scaling_model.py takes. Says how
# busy the machine was. RANKS="2 4" are the numbers, BTL=vader,self shared memory in place of TCP.
set -u
graft=$1 model=$2 data=$3
shift 3
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/link.c" <<'C'
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    static const int sizes[] = {2048, 8 << 20};
    int me;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &me);
    char *bytes = calloc(1, (size_t)sizes[1]);
    for (int s = 0; s < 2; s++) {
        int turns = s ? 20 : 500;
        double start = MPI_Wtime();
        for (int i = 0; i < turns; i++) {
            if (me == 0) MPI_Send(bytes, sizes[s], MPI_BYTE, 1, 0, MPI_COMM_WORLD);
            MPI_Recv(bytes, sizes[s], MPI_BYTE, !me, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            if (me == 1) MPI_Send(bytes, sizes[s], MPI_BYTE, 0, 0, MPI_COMM_WORLD);
        }
        double one = (MPI_Wtime() - start) / turns / 2;
        if (me == 0 && s == 0) printf("a message of 2 KB: %.1f us\n", one * 1e6);
        if (me == 0 && s == 1) printf("a message of 8 MB: %.2f GB/s\n", sizes[s] / one / 1e9);
    }
    MPI_Finalize();
    return 0;
}
C
mpicc -O2 "$work/link.c" -o "$work/link" || exit 1
echo "load $(cut -d' ' -f1 /proc/loadavg) on $(getconf _NPROCESSORS_ONLN) cores"
for btl in tcp,self vader,self; do
    echo "loopback, $btl:"
    timeout 60 mpirun -n 2 --mca pml ob1 --mca btl $btl "$work/link"
done
btl=${BTL:-tcp,self}
ranks=${RANKS:-2 4}
run=(train --model "$model" --data "$data" --threads 1 --batch-size 16 --iters 4 --steps-per-report 4 --lora-rank 16 "$@")

# One training: its speed, and what it says where it fails.
measure() {
    local name=$1
    shift
    if ! "$@" "$graft" "${run[@]}" --adapter-path "$work/${name// /-}" >"$work/said" 2>&1; then
        echo "$name: the training failed" >&2
        tail -5 "$work/said" >&2
        exit 1
    fi
    grep -E '^iteration.*tok/s|sent' "$work/said" | sed "s/^/$name: /"
}

for turn in 1 2; do
    measure "1 rank" env
    for n in $ranks; do
        measure "$n ranks" mpirun -n "$n" --mca pml ob1 --mca btl "$btl"
        cmp -s "$work/1-rank/adapters.safetensors" "$work/$n-ranks/adapters.safetensors" ||
            { echo "$n ranks: another adapter than that of one" >&2; exit 1; }
    done
done
