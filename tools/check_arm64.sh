#!/bin/bash
# Builds the tree for arm64 with Debian's cross compiler and runs its tests under qemu, but for those that
# tests/CMakeLists.txt labels `native`. The arm64
# libraries are unpacked into the cache, so the system's own architecture list stays as it is. Exit 77: cannot be
# done here, and the last line says why.
set -u
cd "$(dirname "$0")/.." || exit 1
skip() { echo "$*"; exit 77; }
[ "$(uname -m)" = aarch64 ] && skip "this machine is arm64 itself"
bash tools/deps.sh arm64 || skip "no cross compiler or qemu"

GRAFT_SYSROOT=${XDG_CACHE_HOME:-$HOME/.cache}/graft/arm64-$(. /etc/os-release && echo "$ID-${VERSION_ID:-sid}")
export GRAFT_SYSROOT
if [ ! -e "$GRAFT_SYSROOT/ready" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$GRAFT_SYSROOT"
    : >"$work/status"
    # An apt of its own: its lists, its cache, nothing installed.
    apt=(apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::lists="$work/lists"
        -o Dir::Cache="$work/cache" -o Dir::State::status="$work/status" -o APT::Sandbox::User=)
    "${apt[@]}" update </dev/null || skip "no package lists for arm64"
    # The runtime packages' names carry versions that differ between releases: the -dev packages know them.
    dev=(libjansson-dev libpcre2-dev libutf8proc-dev libyaml-dev libcmocka-dev)
    runtime=$(apt-cache "${apt[@]:2}" depends --no-recommends --no-suggests "${dev[@]}" |
        sed -nE 's/^ *Depends: (lib(jansson|pcre2-8|utf8proc|yaml|cmocka)[^ ]*)$/\1/p' | sort -u)
    # shellcheck disable=SC2086 # a list of names
    (cd "$work/debs" && "${apt[@]}" download "${dev[@]}" $runtime </dev/null) || skip "no arm64 libraries"
    for package in "$work"/debs/*.deb; do
        dpkg-deb -x "$package" "$GRAFT_SYSROOT" || skip "an arm64 package does not unpack"
    done
    touch "$GRAFT_SYSROOT/ready"
fi

export GRAFT_EMULATED=1 # tests/each_isa.h: checks of the whole net run the best set alone
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
cmake --preset release -B build/arm64 --toolchain "$PWD/cmake/arm64.cmake" &&
    cmake --build build/arm64 -j "$jobs" || exit 1
ctest --test-dir build/arm64 -V -j "$jobs" --no-tests=error -LE native </dev/null
