#!/bin/bash
# fetch_devil.sh: prints the path of devil.dict.dz, The Devil's Dictionary by Ambrose Bierce (public domain) as
# Debian packages it. The package is unpacked into the cache, not installed.
set -u
cache=${XDG_CACHE_HOME:-$HOME/.cache}/graft
name=dict-devil_1.0-13.1_all.deb
dictionary=$cache/data/devil.dict.dz
digest=995ca92760d677965cb2780e78b808e982f9d49e8c12d795c1854476bbf13819

is_right() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$digest" ]; }
if is_right "$dictionary"; then
    echo "$dictionary"
    exit 0
fi

mkdir -p "$cache/data" || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
echo "fetching The Devil's Dictionary (0.2 MB)" >&2

from_apt() { command -v apt-get >/dev/null && (cd "$work" && apt-get download -q dict-devil) >"$work/log" 2>&1; }
# The same package from Debian's pool, for systems without its package lists.
from_pool() {
    python3 - "http://deb.debian.org/debian/pool/main/d/dict-devil/$name" "$work/$name" >>"$work/log" 2>&1 <<'P'
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as source, open(sys.argv[2], "wb") as out:
    out.write(source.read())
P
}
# A .deb is an ar archive with a compressed tar inside.
unpack() {
    if command -v dpkg-deb >/dev/null; then
        dpkg-deb -x "$1" "$work/tree"
    else
        (cd "$work" && ar x "$1" && mkdir -p tree && tar -xf data.tar.* -C tree)
    fi
}
from_apt || from_pool || {
    tail -2 "$work/log" >&2
    echo "the data set is not in $cache/data and Debian's archive could not be reached: connect to the network and try again" >&2
    exit 1
}
unpack "$(ls "$work"/dict-devil_*.deb)" || exit 1
is_right "$work/tree/usr/share/dictd/devil.dict.dz" || { echo "the fetched dictionary is not the expected one (sha256 differs)" >&2; exit 1; }
mv "$work/tree/usr/share/dictd/devil.dict.dz" "$dictionary"
echo "$dictionary"
