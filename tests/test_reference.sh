#!/bin/bash
# docs/reference.md, docs/graft.1 and the table of --resume in docs/adapters.md are what the program's tables say today,
# and the manual page has no faults (`make docs` writes them); what the code asks the environment stands there; the map of
# docs/how-it-works.md shows every room; links lead to pages and headings that are there.
set -u
cd "${GRAFT_SOURCE_DIR:-$(dirname "$0")/..}" || exit 1
make_reference=build/release/tests/make_reference
bad=0
compare() {
    local page=$1
    shift
    "$make_reference" "$@" >"$work/made" && [ -s "$work/made" ] || echo "FAILED: make_reference $1" >>"$work/made"
    if ! { if [ "$1" = resume ]; then grep -A4 '^| on `--resume` |' "$page"; else cat "$page"; fi; } |
        diff -u - "$work/made" >"$work/diff"; then
        echo "FAILED: $page is out of date, run: make docs"
        head -20 "$work/diff"
        bad=1
    fi
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
compare docs/reference.md markdown
compare docs/graft.1 man "$(sed -n 's/^\.Dd //p' docs/graft.1)" # its date is that of the last change
compare docs/adapters.md resume
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
for name in $(grep -ohE '"((GRAFT|HF|HUGGINGFACE|XDG)(_[A-Z]+)+|NO_COLOR|COLUMNS|TMPDIR)"' -r src cli | tr -d '"' | sort -u); do
    grep -q "^| \`.*\b$name\b.*\` |" docs/reference.md && continue
    echo "FAILED: the code asks for $name, which is not in the environment of tests/make_reference.c"
    bad=1
done

# The anchors of a page's headings, as GitHub makes them: one a line.
anchors() {
    awk '
        /^```/ { code = !code }
        code || !/^#+ / { next }
        {
            sub(/^#+ +/, "")
            $0 = tolower($0)
            gsub(/[^a-z0-9 _-]/, "")
            gsub(/ /, "-")
            print $0 (seen[$0]++ ? "-" seen[$0] - 1 : "")
        }' "$1"
}
links=0
for page in *.md src/*.md docs/*.md docs/*/*.md; do
    while read -r target; do
        links=$((links + 1)) file=$page
        [ "${target%%#*}" = "" ] || file=$(dirname "$page")/${target%%#*}
        if [ -e "$file" ]; then
            [[ $target != *'#'* ]] && continue
            anchors "$file" | grep -qxF -- "${target#*#}" && continue
        fi
        echo "FAILED: $page leads to $target, which is not there"
        bad=1
    done < <(grep -oE '\]\([^):]+\)' "$page" | sed -E 's/^..//; s/.$//')
done
if [ $links -lt 50 ]; then
    echo "FAILED: only $links links were found"
    bad=1
fi
[ $bad = 0 ] && echo "ok: reference and manual page"
exit $bad
