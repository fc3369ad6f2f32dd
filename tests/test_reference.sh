#!/bin/bash
# docs/reference.md and docs/graft.1 are what the tables of verbs and options say today, and a manual page without
# faults (`make docs` writes both); the map of docs/how-it-works.md shows every room; links between pages lead somewhere.
set -u
cd "${GRAFT_SOURCE_DIR:-$(dirname "$0")/..}" || exit 1
make_reference=build/release/tests/make_reference
bad=0
compare() {
    if ! "$make_reference" "$1" | diff -u "$2" - >"$work/diff"; then
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
elif ! mandoc -T lint -W style docs/graft.1; then
    echo "FAILED: mandoc does not like docs/graft.1"
    bad=1
fi
for room in src/*/; do
    room=$(basename "$room")
    sed -n '/^## The map/,/^## /p' docs/how-it-works.md | grep -q "| .*\b$room  " && continue
    echo "FAILED: the map of docs/how-it-works.md does not show the room $room"
    bad=1
done
for page in *.md src/*.md docs/*.md docs/*/*.md; do
    while read -r target; do
        [ -e "$(dirname "$page")/$target" ] && continue
        echo "FAILED: $page leads to $target, which is not there"
        bad=1
    done < <(grep -oE '\]\([^)#:]+[)#]' "$page" | sed -E 's/^..//; s/.$//')
done
[ $bad = 0 ] && echo "ok: reference and manual page"
exit $bad
