#!/bin/bash
# src/README.md names every room of the tree and no other, and every room's headers include only rooms above it
# in that list. Names of files are unique, so a name says where it is. Tables of pages that list files list all.
set -u
cd "$GRAFT_SOURCE_DIR" || exit 1
failed=0
fail() { echo "failed: $*"; failed=1; }

# Rooms are the level-3 headings: ### `src/base`
rooms=$(sed -nE 's/^### `([^`]+)`.*/\1/p' src/README.md)
[ -n "$rooms" ] || fail "src/README.md names no room"
for room in $rooms; do
    [ -e "$room" ] || fail "src/README.md describes $room, which is not in the tree"
done
for room in include ref src/*/ src/*.c cli examples tests fuzz bench tools docs; do
    room=${room%/}
    # An empty directory is no room yet: git does not know it either.
    [ -f "$room" ] || [ -n "$(find "$room" -type f 2>/dev/null | head -1)" ] || continue
    grep -qxF "$room" <<<"$rooms" || fail "$room is not described in src/README.md"
done

# A room includes only itself and rooms above it.
order=$(sed -nE 's|^src/([a-z]+)$|\1|p' <<<"$rooms")
rank_of() { grep -nxF "$1" <<<"$order" | cut -d: -f1; }
for room in $order; do
    mine=$(rank_of "$room")
    while read -r file include; do
        [ -n "$file" ] || continue
        theirs=$(rank_of "${include%%/*}")
        [ -z "$theirs" ] || [ "$theirs" -le "$mine" ] || fail "$file includes $include from a room below"
    done < <(grep -HoE '^#include "[a-z]+/[^"]+"' "src/$room"/*.[ch] 2>/dev/null |
        sed -E 's/:#include "([^"]+)"/ \1/')
done
grep -rlE '^#include "(\.\./)?src/' ref cli 2>/dev/null | grep . && fail "ref/ and cli/ share no code with src/"

# The way of a training step names functions that there are.
while read -r name; do
    grep -rqE "^[a-z].*[ *]$name\(" src cli --include='*.c' || fail "src/README.md names $name, which is no function"
done < <(sed -n '/^    main -> /,/^$/p' src/README.md | grep -oE '[a-z_]{5,}' | sort -u)

# What is fuzzed has its line in the table of docs/reliability.md, and nothing else has.
differ=$(diff <(printf '%s\n' fuzz/fuzz_*.c | sed -E 's|.*/fuzz_(.*)\.c|\1|' | sort) \
    <(sed -n '/^| target | executions/,/^$/p' docs/reliability.md | sed -nE 's/^\| ([a-z_]+)[ :].*/\1/p' | grep -vx target | sort))
[ -z "$differ" ] || fail "the table of docs/reliability.md and fuzz/ name other targets:" $differ

twice=$(find src cli ref include -name '*.[ch]' -exec basename {} \; | sort | uniq -d)
[ -z "$twice" ] || fail "file names used twice: $twice"

# A host may write 0,5: only base/number.c formats and reads numbers with a point.
while read -r file; do
    [ "$file" = src/base/number.c ] && continue
    grep -nE '\b(strftime|strtod|strtof|strtold|atof|localeconv|newlocale)\(|\bv(sn|s|f)?printf\(' "$file" |
        sed "s|^|failed: $file asks the host's locale: |" | grep . && failed=1
    # a call may go over several lines
    tr '\n' ' ' <"$file" | grep -oE '\b(snprintf|sscanf)\([^;]*;' | grep -oE '"[^"]*"' | sed 's/%%//g; s/%\.0f//g' |
        grep -E '%[-+ #0-9.*]*l?[aAeEfFgG]' | sed "s|^|failed: $file writes a number as the host does: |" |
        grep . && failed=1
done < <(find src -name '*.c')

[ $failed = 0 ] && echo "ok: rooms"
exit $failed
