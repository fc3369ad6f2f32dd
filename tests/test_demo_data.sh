#!/bin/bash
# tools/devil_to_jsonl.sh on a made-up dictionary: headwords, wrapped lines, broken words, escapes, what is left
# out, and the split.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    printf 'A preface that is no entry.\n\n'
    printf 'ABLE, adj.  Said to be "able" \\ by _some_, like a cannon-\nshot, and\nby others.\n\n    A verse, n.  Indented.\n\n'
    printf 'SEEN, n.  See {ABLE}.\n\nLEAD, n.  It leads into a verse:\n\n    verse\n\n'
    for i in $(seq 600); do
        word=$(printf %03d "$i" | tr 0-9 A-J)
        printf 'X%s, n.  Number %s of the made-up entries.\n\n' "$word" "$i"
    done
} | gzip -n >"$work/dict.dz"
summary=$(sh "$GRAFT_SOURCE_DIR/tools/devil_to_jsonl.sh" "$work/dict.dz" "$work/data")
fail() { echo "failed: $1"; exit 1; }
[ "$summary" = "481 train, 60 valid, 60 test rows" ] || fail "split: $summary"
want='{"messages":[{"role":"user","content":"Define able."},{"role":"assistant","content":"Said to be \"able\" \\ by some, like a cannon-shot, and by others."}]}'
[ "$(head -1 "$work/data/train.jsonl")" = "$want" ] || fail "row: $(head -1 "$work/data/train.jsonl")"
! grep -q 'Define \(seen\|lead\|a verse\)' "$work"/data/*.jsonl || fail "a row that should be left out"
printf 'ABLE, n.  Too short a dictionary.\n' | gzip -n >"$work/short.dz"
! sh "$GRAFT_SOURCE_DIR/tools/devil_to_jsonl.sh" "$work/short.dz" "$work/short" 2>/dev/null || fail "a short dictionary was accepted"
echo "ok: rows"
