#!/bin/bash
# Several ranks over Open MPI on this machine: the bits of one, another number of ranks after a kill, and what is
# said when ranks disagree.
. "$(dirname "$0")/mpi_common.sh"

"$GRAFT" "${run[@]}" --iters 40 --adapter-path "$work/one" >one.out 2>&1 || fail "one: $(tail -2 one.out)"
for n in 2 4; do
    timeout 100 mpirun -n $n "$GRAFT" "${run[@]}" --iters 40 --adapter-path "$work/ranks$n" >out 2>&1 ||
        fail "$n ranks: $(tail -3 out)"
    same one ranks$n
    [ "$(grep -c '^40 iterations' out)" = 1 ] || fail "$n ranks: not one voice but $(grep -c '^40 iterations' out)"
done

# A rank is killed in the middle: mpirun ends the others, and rank 0 saves what it has before. Then four ranks go on,
# asked to stop as Ctrl-C asks mpirun, and one alone ends it.
"$GRAFT" "${run[@]}" --iters 1200 --adapter-path "$work/long" >long.out 2>&1 || fail "long: $(tail -2 long.out)"
part=("$GRAFT" "${run[@]}" --iters 1200 --save-every 100 --resume --adapter-path "$work/part")
rare=("$GRAFT" "${run[@]}" --iters 1200 --save-every 100000 --adapter-path "$work/part") # saves because a rank is lost
timeout 100 mpirun -n 2 "${rare[@]}" >out 2>&1 &
wait_for_lines part 10
pid=$(pid_of_rank part 1)
[ -n "$pid" ] && kill -9 "$pid"
wait $! && fail "a killed rank went unnoticed"
saved=$(ls part/checkpoints | tail -1)
[ "0$(echo "$saved" | tr -dc 0-9)" -gt 0 ] || fail "nothing was saved: '$saved' $(tail -3 out)"
grep -q "rank 1" out || fail "the lost rank has no name: $(tail -5 out)"
timeout 100 mpirun -n 4 "${part[@]}" >out4 2>&1 &
wait_for_lines part $(($(wc -l <part/metrics.jsonl) + 8))
kill -TERM $(pgrep -P $! mpirun)
wait $!
grep -q "resuming at iteration" out4 || fail "four ranks did not go on from $saved: $(head -5 out4)"
"${part[@]}" >out1 2>&1 || fail "one did not end it: $(tail -2 out1)"
grep -q "resuming at iteration" out1 || fail "one did not go on: $(head -5 out1)"
same long part

# Disagreement ends all ranks with one error that names setting and rank.
timeout 60 mpirun -n 1 "$GRAFT" "${run[@]}" --iters 8 --adapter-path "$work/x" : \
    -n 1 "$GRAFT" "${run[@]}" --iters 8 --lora-alpha 3 --adapter-path "$work/x" >out 2>&1 && fail "disagreement went unnoticed"
grep -q "lora-alpha: 8 on rank 0, 3 on rank 1" out || fail "disagreement: $(head -4 out)"
[ "$(grep -c 'ranks disagree' out)" = 1 ] || fail "said by more than one rank: $(cat out)"
[ -e x/adapters.safetensors ] && fail "ranks that disagree left an adapter"
timeout 60 mpirun -n 3 "$GRAFT" "${run[@]}" --iters 8 --adapter-path "$work/x" >out 2>&1 && fail "a batch of 8 for 3 ranks"
grep -q "3 ranks cannot share a batch of 8" out || fail "3 ranks: $(head -3 out)"
timeout 60 mpirun -n 2 "$GRAFT" info base >out 2>&1 && fail "info as two ranks"
grep -q "only train runs as several ranks" out || fail "info: $(head -3 out)"

# What is wrong with the arguments is said once, unless only one rank has them; a launcher of another MPI is noticed.
timeout 60 mpirun -n 3 "$GRAFT" train --iters none >out 2>&1 && fail "iterations: none"
[ "$(grep -c '^graft train' out)" = 1 ] || fail "a wrong argument is said $(grep -c 'graft train' out) times"
timeout 60 mpirun -n 1 "$GRAFT" "${run[@]}" --iters 8 --adapter-path "$work/x" : \
    -n 1 "$GRAFT" train --iters none >out 2>&1 && fail "a wrong argument of rank 1"
grep -q "rank 1: graft train: " out || fail "rank 1 says nothing: $(head -3 out)"
PMI_SIZE=2 PMI_RANK=0 timeout 60 "$GRAFT" "${run[@]}" --iters 8 --adapter-path "$work/x" >out 2>&1 && fail "PMI_SIZE 2"
grep -q "started 2 processes, and Open MPI knows of 1" out || fail "another launcher: $(head -3 out)"

# A run alone holds nothing of MPI.
ldd "$GRAFT" | grep -q libmpi && fail "the program is linked with MPI"
finish "several ranks over MPI"
