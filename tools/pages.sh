#!/bin/bash
# Writes what pages have from the program's own tables: docs/reference.md, docs/graft.1 and the table of --resume in
# docs/adapters.md. The manual page gets today's date (or SOURCE_DATE_EPOCH's) when anything else of it changed.
# tests/test_reference.sh compares.
set -eu
cd "$(dirname "$0")/.."
make_reference=build/release/tests/make_reference
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

$make_reference markdown >"$work/reference.md"
cp "$work/reference.md" docs/reference.md

$make_reference man "$(sed -n 's/^\.Dd //p' docs/graft.1)" >"$work/graft.1"
if ! cmp -s "$work/graft.1" docs/graft.1; then
    $make_reference man "$(LC_ALL=C date -u -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" '+%B %-d, %Y')" >"$work/graft.1"
    cp "$work/graft.1" docs/graft.1
fi

$make_reference resume >"$work/resume"
awk -v made="$work/resume" '
    /^\| on `--resume` \|/ { while ((getline line <made) > 0) print line; old = 1 }
    !/^\|/ { old = 0 }
    !old' docs/adapters.md >"$work/adapters.md"
cp "$work/adapters.md" docs/adapters.md
