#!/bin/bash
# Every command on the pages of documentation is run, in order, in a directory of its own for each page, where tiny
# models stand for the real ones (tiny/ holds what make_tiny writes). A page says what its reader does not see in
# comments of HTML:
#
#   <!-- run: COMMAND -->            run here: puts the stand-ins where the page's names expect them
#   <!-- file: NAME -->              the next block is the content of that file
#   <!-- not run: REASON -->         no command of the next block is run
#   <!-- not run [WORDS]: REASON --> nor those commands of it that hold these words
#
# Commands are the lines of blocks fenced as sh; of other blocks the lines that begin with the name of a program below.
# One that is not marked must succeed; marks look at a command without its comment. A server ends when it listens, and
# every port is one that is free. Prints `N commands run, M not run (reasons)`; arguments: only these pages. A page that
# shows commands of which none is found fails, as do all pages together with fewer than `floor`.
#
# mpirun is run where it is installed and the program was built with MPI, and not run elsewhere.
#
# Blocks fenced as python are programs for mlx-lm and PEFT, or after <!-- python: llama --> for llama.cpp. They are run
# where DOCS_PYTHON and DOCS_LLAMA_PYTHON name an interpreter that has these (tools/peers/check_docs.py does), and so are
# commands marked `needs mlx-lm`, from the same directory.
set -u
floor=145 # a little below what the pages have: a test that finds nothing must not pass
cd "${GRAFT_SOURCE_DIR:-$(dirname "$0")/..}" || exit 1
graft=${GRAFT:-$PWD/build/release/graft} make_tiny=${MAKE_TINY:-$PWD/build/release/tests/make_tiny}
programs='graft make cmake cc python python3 pip pipx mlx_lm mlx_lm.generate mlx_lm.lora llama-cli llama-server
    llama-quantize llama-export-lora ollama curl wget apt-get git mpirun tensorboard tools/[a-z_/]*'

# One record for each thing to do: kind, line, and by kind: command; reason, command; name (of a new file); its line.
extract() {
    awk -v programs="$programs" '
    function reason_of(text, word) {
        sub(/ #.*/, "", text)
        for (word in mark) if (word == "" || index(text, word)) return mark[word]
        return ""
    }
    function command(text, reason) {
        reason = reason_of(text)
        print (reason == "" ? "run" : "skip\t" reason) "\t" FNR "\t" text
    }
    function line(text, joined) {
        if (file != "") { print "line\t" FNR "\t" text; return }
        sub(/^\$ /, "", text)
        joined = held text
        if (text ~ /\\$/) { held = substr(joined, 1, length(joined) - 1); return }
        held = ""
        split(joined, word, " ")
        if (joined ~ /^ *(#.*)?$/ || (language != "sh" && word[1] !~ program)) return
        if (language != "sh" && language != "") return
        command(joined)
    }
    function over() {
        if (block == "fence" && language == "python") print "python\t" FNR "\t" peer
        file = held = peer = block = ""
        delete mark
    }
    BEGIN { gsub(/[ \n]+/, "|", programs); gsub(/\./, "\\.", programs); program = "^(" programs ")$" }
    /^<!-- run: .* -->$/ { print "run\t-" FNR "\t" substr($0, 11, length($0) - 14); next }
    /^<!-- file: .* -->$/ { file = substr($0, 12, length($0) - 15); print "file\t" FNR "\t" file; next }
    /^<!-- not run: .* -->$/ { mark[""] = substr($0, 15, length($0) - 18); next }
    /^<!-- not run \[.*\]: .* -->$/ {
        text = substr($0, 15, length($0) - 18); at = index(text, "]: ")
        mark[substr(text, 1, at - 1)] = substr(text, at + 3); next
    }
    /^<!-- python: llama -->$/ { peer = "llama"; next }
    /^```/ {
        if (block == "fence") over()
        else {
            block = "fence"; language = substr($0, 4)
            if (language == "python") print "file\t" FNR "\t" (file = "snippet.py")
        }
        next
    }
    block == "fence" { line($0); next }
    /^    / && (blank || block == "indented") { block = "indented"; language = ""; line(substr($0, 5)); next }
    /^ *$/ { blank = 1; if (block == "indented" && file != "") print "line\t" FNR "\t"; next }
    { if (block == "indented") over(); blank = 0 }' "$1"
}

# A port at which nobody listens now.
free_port() {
    local port
    while port=$((20000 + RANDOM)); (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo $port
}

# A server, at a free port, until it listens and has ended as asked: in order, with 0.
serve() {
    local tries=200 server line status
    line=$(sed -E 's/ #.*//; s/ --port [0-9]+//' <<<"$1")
    eval "exec env $line --port 0" &
    server=$!
    until grep -q listening "$dir.said" || [ $((tries -= 1)) = 0 ] || ! kill -0 $server 2>/dev/null; do sleep 0.05; done
    kill -TERM $server 2>/dev/null
    wait $server
    status=$?
    [ $status = 0 ] || echo "the server ended with $status"
    [ $status = 0 ] && grep -q listening "$dir.said"
}

# Why there can be no ranks here; nothing where there can be.
no_ranks() {
    command -v mpirun >/dev/null || { echo "no Open MPI"; return; }
    timeout 60 mpirun -n 2 "$graft" train 2>&1 </dev/null | grep -o -m1 "built without MPI"
}

# Runs one line of a page, whose number stands in `at`, with a minus where the reader does not see it.
try() {
    [ "${at:0:1}" = - ] || echo >>"$dir.ran"
    case $1 in
    *"graft serve "*) serve "$1" ;;
    *" --watch "*) eval "$(sed -E "s/ --watch [0-9]+/ --watch $(free_port)/" <<<"$1")" ;;
    *) eval "$1" ;;
    esac </dev/null >"$dir.said" 2>&1 && return
    echo "FAILED: $name:${at#-}: $1"
    tail -5 "$dir.said" | sed 's/^/    /'
}

# Does what a page says in directory $2; counts and failures go to $2.*.
page() {
    local name=$1 dir=$2 kind at text reason file=
    mkdir -p "$dir/home"
    ln -s "$work/tiny" "$dir/tiny"
    exec >"$dir.failed" 2>&1
    extract "$name" >"$dir.todo" || echo "FAILED: $name: cannot be read"
    if grep -qE '^```sh|^    (graft|make|cc|mpirun) ' "$name" && ! grep -qP '^(run\t\d|skip\t)' "$dir.todo"; then
        echo "FAILED: $name: no command found"
    fi
    cd "$dir" || exit 1
    taskset -pc $((turn % $(nproc))) $BASHPID >/dev/null 2>&1 # one thread: tiny models only wait with more
    export HOME=$dir/home XDG_CACHE_HOME=$dir/home/.cache
    while IFS= read -r record <&3; do
        kind=${record%%$'\t'*} text=${record#*$'\t'}
        if [ "$kind" = skip ]; then
            reason=${text%%$'\t'*} text=${text#*$'\t'}
            if [ "$reason" != "needs mlx-lm" ] || [ -z "${DOCS_PYTHON:-}" ]; then
                echo "$reason" >>"$dir.skipped"
                continue
            fi
            kind=run text=${text%%$'\t'*}$'\t'$(dirname "$DOCS_PYTHON")/${text#*$'\t'}
        fi
        at=${text%%$'\t'*} text=${text#*$'\t'}
        reason=
        [[ $kind$'\t'${text#*$'\t'} == run$'\t'mpirun\ * ]] && reason=$(no_ranks)
        if [ -n "$reason" ]; then
            echo "$reason" >>"$dir.skipped"
            continue
        fi
        case $kind in
        file) file=$text; mkdir -p "$(dirname "$file")"; : >"$file" ;;
        line) printf '%s\n' "$text" >>"$file" ;;
        run) try "$text" ;;
        python)
            reason=${DOCS_PYTHON:-}
            [ "$text" = llama ] && reason=${DOCS_LLAMA_PYTHON:-}
            if [ -n "$reason" ]; then try "$reason snippet.py"; else echo "Python" >>"$dir.skipped"; fi ;;
        esac
    done 3<"$dir.todo"
    : >"$dir.done"
}

work=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)")
trap 'rm -rf "$work"' EXIT
mkdir "$work/tiny" "$work/bin"
"$make_tiny" "$work/tiny" || exit 1
ln -s "$graft" "$work/bin/graft"
export PATH=$work/bin:$PATH HF_HUB_OFFLINE=1 COLUMNS=100
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
if [ $# -gt 0 ]; then floor=0; else set -- README.md CONTRIBUTING.md SECURITY.md src/README.md docs/*.md docs/*/*.md; fi
turn=0
for name in "$@"; do
    turn=$((turn + 1))
    (page "$name" "$work/${name//\//-}") &
    [ "$(jobs -pr | wc -l)" -lt 2 ] || wait -n
done
wait
for name in "$@"; do # what came to its end, and nothing but a failure said anything
    [ -e "$work/${name//\//-}.done" ] || echo "FAILED: $name: the test of this page did not end" >>"$work/${name//\//-}.failed"
done
ran=$(cat "$work"/*.ran 2>/dev/null | wc -l)
skipped=$(cat "$work"/*.skipped 2>/dev/null | wc -l)
reasons=$(cat "$work"/*.skipped 2>/dev/null | sort | uniq -c | sort -rn | sed 's/^ *//' | paste -sd, | sed 's/,/, /g')
cat "$work"/*.failed
echo "$ran commands run, $skipped not run (${reasons:-no reasons})"
[ "$ran" -ge $floor ] || echo "FAILED: at least $floor commands were expected" | tee "$work/all.failed"
if grep -q . "$work"/*.failed; then
    echo "the head of tests/test_docs.sh says how a page marks what cannot be run"
    exit 1
fi
