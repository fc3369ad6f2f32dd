#!/bin/bash
# docs/reference.md and docs/graft.1 are what the tables of verbs and options say today, and a manual page without
# faults (`make docs` writes both); and the map of docs/how-it-works.md shows every room.
set -u
bad=0
compare() {
    if ! "$MAKE_REFERENCE" "$1" | diff -u "$GRAFT_SOURCE_DIR/$2" - >"$work/diff"; then
        echo "FAILED: $2 is out of date, run: make docs"
        head -20 "$work/diff"
        bad=1
    fi
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
compare markdown docs/reference.md
compare man docs/graft.1
if ! command -v mandoc >/dev/null; then
    echo "skipped: no mandoc to look at docs/graft.1"
elif ! mandoc -T lint -W style "$GRAFT_SOURCE_DIR/docs/graft.1"; then
    echo "FAILED: mandoc does not like docs/graft.1"
    bad=1
fi
for room in "$GRAFT_SOURCE_DIR"/src/*/; do
    room=$(basename "$room")
    sed -n '/^## The map/,/^## /p' "$GRAFT_SOURCE_DIR/docs/how-it-works.md" | grep -q "| .*\b$room  " && continue
    echo "FAILED: the map of docs/how-it-works.md does not show the room $room"
    bad=1
done
[ $bad = 0 ] && echo "ok: reference and manual page"
exit $bad
