#!/bin/bash
# Two ranks in two network namespaces, which only a veth pair connects: messages over TCP give the bits of one, and
# when the link is cut, rank 0 saves and says so. Needs root. No packet leaves the two namespaces.
. "$(dirname "$0")/mpi_common.sh"
skip() { echo "skipped: $1"; rm -rf "$work"; exit 77; }
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
command -v ip >/dev/null || skip "ip is not installed (Debian: iproute2)"
a=graft-$$-1 b=graft-$$-2
ip netns add $a 2>/dev/null || skip "no network namespaces here"
clean() {
    for ns in $a $b; do
        pids=$(ip netns pids $ns 2>/dev/null)
        [ -n "$pids" ] && kill -9 $pids 2>/dev/null
        ip netns del $ns 2>/dev/null
    done
}
trap clean EXIT
ip netns add $b
ip link add graft1 netns $a type veth peer name graft2 netns $b 2>/dev/null || skip "no veth pairs here"
for side in "$a graft1 1" "$b graft2 2"; do
    read -r ns link number <<<"$side"
    ip -n $ns addr add 10.99.7.$number/24 dev $link
    ip -n $ns link set lo up
    ip -n $ns link set $link up
done

# mpirun's way to the other "machine".
cat >agent.sh <<AGENT
#!/bin/bash
host=\$1; shift
exec ip netns exec $b unshare --uts bash -c "hostname graft-2; \$*"
AGENT
chmod +x agent.sh
over_tcp() {
    ip netns exec $a unshare --uts bash -c 'hostname graft-1; exec mpirun "$@"' mpirun \
        --mca plm_rsh_agent "$work/agent.sh" --mca pml ob1 --mca btl tcp,self \
        --mca btl_tcp_if_include 10.99.7.0/24 --mca oob_tcp_if_include 10.99.7.0/24 \
        -H 10.99.7.1,10.99.7.2 "$@"
}

"$GRAFT" "${run[@]}" --iters 40 --adapter-path "$work/one" >out 2>&1 || fail "one: $(tail -2 out)"
timeout 100 bash -c "$(declare -f over_tcp); a=$a work=$work; over_tcp $(printf '%q ' "$GRAFT" "${run[@]}" \
    --iters 40 --adapter-path "$work/two")" >out 2>&1 || fail "two namespaces: $(tail -3 out)"
same one two
bytes=$(ip netns exec $a cat /sys/class/net/graft1/statistics/tx_bytes)
[ "$bytes" -gt 100000 ] || fail "only $bytes bytes went over the link"

# The link is cut while both compute.
long=(--iters 1000000 --save-every 1000000 --rank-timeout 4 --adapter-path "$work/cut")
over_tcp "$GRAFT" "${run[@]}" "${long[@]}" >out 2>&1 &
if wait_for_lines cut 10; then
    ip -n $b link set graft2 down
    for ((i = 0; i < 300; i++)); do
        grep -q "rank 1 of 2 is lost" out && break
        sleep 0.1
    done
    grep -q "rank 1 of 2 is lost" out || fail "a cut link: $(tail -3 out)"
    grep -q "everything up to iteration .* is saved" out || fail "nothing was saved: $(tail -3 out)"
    [ -n "$(ls cut/checkpoints)" ] || fail "no checkpoint after a cut link"
fi
clean # mpirun waits for its other half for ever
wait
finish "ranks across network namespaces"
