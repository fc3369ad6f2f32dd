#!/bin/sh
# devil_to_jsonl.sh DICT.dz OUT: turns the Devil's Dictionary (Debian's dict-devil) into chat rows,
# OUT/train.jsonl, valid.jsonl and test.jsonl (8 : 1 : 1, always the same rows).
#
# An entry opens at the left margin with its headword in capitals; verse and quotations are indented. A row is
# the entry's first paragraph. Left out: cross references, entries that only lead into a verse, and what is
# longer than 600 characters or carries a slur.
set -eu
[ $# = 2 ] || { echo "usage: devil_to_jsonl.sh DICT.dz OUT" >&2; exit 2; }
mkdir -p "$2"
gzip -dc <"$1" | LC_ALL=C awk -v out="$2" '
    function json(s) {
        gsub(/\\/, "\\\\\\\\", s)
        gsub(/"/, "\\\"", s)
        gsub(/\t/, " ", s)
        return "\"" s "\""
    }
    function message(role, content) { return "{\"role\":\"" role "\",\"content\":" json(content) "}" }
    function flush(    word, text, file) {
        text = entry
        entry = ""
        # HEADWORD, part of speech.  Definition
        if (!match(text, /^[A-Z][A-Z'"'"'.-]+( [A-Z'"'"'.-]+)*, ?(n|adj|adv|v|v\.t|v\.i|pp|p\.p|pro|pron|n\.pl|x|interj|conj|prep)\.  */)) return
        word = substr(text, 1, index(text, ",") - 1)
        text = substr(text, RLENGTH + 1)
        gsub(/\[from \{[^}]*\}\]/, "", text)
        gsub(/\[sic\]|\[Latin\]/, "", text)
        gsub(/_/, "", text)
        gsub(/  +/, " ", text)
        sub(/^ /, "", text)
        sub(/ $/, "", text)
        if (text ~ /\{/ || text ~ /:$/ || text !~ /[.!?")]$/) return
        if (length(text) < 12 || length(text) > 600 || tolower(word " " text) ~ /negro|nigger|darky|darkies/) return
        rows++
        file = rows % 10 == 4 ? "valid" : rows % 10 == 9 ? "test" : "train"
        count[file]++
        print "{\"messages\":[" message("user", "Define " tolower(word) ".") "," message("assistant", text) "]}" \
            > (out "/" file ".jsonl")
    }
    { sub(/[ \r]+$/, "") }
    /^$/ { if (entry != "") flush(); open = 0; next }
    /^[A-Z][A-Z]/ && !open { entry = $0; open = 1; next }
    !open { next }
    /^ / { open = 2; next }
    open == 1 && entry ~ /[a-z]-$/ { entry = entry $0; next }
    open == 1 { entry = entry " " $0 }
    END {
        if (entry != "") flush()
        for (file in count) total += count[file]
        if (total < 500) { print "devil_to_jsonl: only " total + 0 " rows: is this the dictionary?" > "/dev/stderr"; exit 1 }
        print count["train"] " train, " count["valid"] " valid, " count["test"] " test rows"
    }'
