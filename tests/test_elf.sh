#!/bin/bash
# What the linker made: the hardening that a release promises, no writable data of its own (two runs in one process
# share nothing), and no call out of libgraft.a that prints, exits, changes the process or makes code at run time.
set -u
command -v readelf >/dev/null && [ "$(uname)" = Linux ] || { echo "skipped: no ELF here"; exit 77; }
[ "$GRAFT_BUILD_TYPE" = Release ] || { echo "skipped: only releases are hardened"; exit 77; }
failed=0
fail() { echo "failed: $*"; failed=1; }
library=$GRAFT_BUILD_DIR/libgraft.a
shared=$GRAFT_BUILD_DIR/libgraft.so

for file in "$GRAFT" "$shared"; do
    name=$(basename "$file")
    segments=$(readelf -lW "$file") dynamic=$(readelf -dW "$file")
    grep -qE 'GNU_STACK .* RW +0x' <<<"$segments" || fail "$name: the stack is executable"
    grep -qE ' RWE +0x' <<<"$segments" && fail "$name: a segment is writable and executable"
    grep -q GNU_RELRO <<<"$segments" || fail "$name: no RELRO"
    grep -q BIND_NOW <<<"$dynamic" || fail "$name: not all is bound at start, so RELRO is not full"
    grep -q TEXTREL <<<"$dynamic" && fail "$name: relocations in code"
    grep -qE 'RPATH|RUNPATH' <<<"$dynamic" && fail "$name: looks for libraries in a place of its own"
    imports=$(nm -D "$file")
    grep -q ' U __stack_chk_fail' <<<"$imports" || fail "$name: no stack protector"
    grep -q ' U __[a-z]*_chk@' <<<"$imports" || fail "$name: no fortified calls"
done
readelf -dW "$GRAFT" | grep -q 'Flags:.*PIE' || fail "graft is not position-independent"
# Every function that can be called through a pointer starts with a landing mark for processors that check it.
case $(readelf -h "$GRAFT" | sed -n 's/ *Machine: *//p') in
*X86-64*)
    entry=$(objdump -d --no-show-raw-insn --disassemble=graft_version "$GRAFT" | grep -A1 '<graft_version>:' | tail -1)
    grep -q endbr64 <<<"$entry" || fail "no endbr64 at a function's start"
    ;;
esac
[ $failed = 0 ] && echo "ok: hardened"

# Constants with pointers in them (.data.rel.ro) are read-only once the program runs.
writable=$(objdump -t "$library" | awk '$0 ~ /\.data\.rel\.ro/ {next}
    $0 ~ /[ \t]\.(data|bss|tdata|tbss)[. \t]|\*COM\*/ && $NF !~ /^\.(data|bss|tdata|tbss)/ {print $NF}')
[ -z "$writable" ] || fail "writable data in libgraft.a:" $writable
[ $failed = 0 ] && echo "ok: no writable data"

# By room of libc: ends the process; prints; changes it for everybody; state that threads share; unbounded; runs
# other programs; compiles to machine code (that no page is both writable and executable, test_host sees).
# hub_http.c loads libcurl, by that name alone, when a download is asked for; http/http.c libmicrohttpd and
# dist/comm_mpi.c Open MPI, likewise.
calls="exit _exit quick_exit abort|printf puts putchar vprintf perror psignal stdout stderr
signal sigaction sigprocmask pthread_sigmask setlocale setenv putenv unsetenv chdir fchdir umask setrlimit alarm atexit
strtok localtime gmtime asctime ctime rand srand random drand48 getpwnam setlogmask tmpnam
gets sprintf vsprintf strcat stpcpy system popen fork vfork execv execve execvp posix_spawn posix_spawnp
dlopen pcre2_jit_compile_8 pcre2_jit_match_8 pcre2_jit_stack_create_8"
called=$(nm -A "$library" 2>/dev/null | sed -nE 's/^[^:]*:([^:]*): *U (__)?([A-Za-z0-9_]+)(_chk|64)?(@.*)?$/\3 \1/p' |
    sed -E 's/_chk / /' | sort -u)
for call in ${calls//|/ }; do
    caller=$(sed -n "s/^$call //p" <<<"$called" | tr '\n' ' ')
    [ "$call" = dlopen ] && caller=$(tr ' ' '\n' <<<"$caller" | grep -vxE '((hub_)?http|comm_mpi)\.c\.o' | tr '\n' ' ') && caller=${caller% }
    [ -z "$caller" ] || fail "libgraft.a calls $call: $caller"
done
[ $failed = 0 ] && echo "ok: calls"
exit $failed
