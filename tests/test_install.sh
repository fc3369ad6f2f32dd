#!/bin/bash
# An installed copy serves strangers outside the tree: the examples build by pkg-config and by find_package, with the
# static and the shared library, and run; Python calls it through ctypes; a C++ program includes it; the shared library
# shows the names that are listed, and no other.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "failed: $*"; exit 1; }
cmake --install "$GRAFT_BUILD_DIR" --prefix "$work/usr" >/dev/null
cp -r "$GRAFT_SOURCE_DIR/examples" "$work/examples"
mkdir "$work/tiny"
"$MAKE_TINY" "$work/tiny"
cd "$work/tiny"
PKG_CONFIG_PATH=$(dirname "$(find "$work/usr" -name graft.pc)")
export PKG_CONFIG_PATH
libdir=$(pkg-config --variable=libdir graft)

for name in finetune event_loop buffers; do
    "$CC" -std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror "$work/examples/$name.c" \
        $(pkg-config --cflags --libs graft) -pthread -o "$work/$name"
done
export LD_LIBRARY_PATH=$libdir
"$work/finetune" base data a >log || { cat log; fail "finetune"; }
grep -q '^60 updates in .* s, peak .* MB' log || { cat log; fail "finetune tells nothing"; }
[ -s a/adapters.safetensors ] && [ -s a/adapter_model.safetensors ] || fail "finetune wrote no adapter"
"$work/finetune" nowhere data b 2>log && fail "finetune takes a model that is not there"
grep -q nowhere log || { cat log; fail "finetune does not name it"; }
echo "ok: pkg-config, finetune"

"$work/event_loop" base data c </dev/null >log || { cat log; fail "event_loop"; }
grep -q '^done: loss' log || { cat log; fail "event_loop does not end"; }
(echo how far; sleep 0.2; echo stop) | "$work/event_loop" base-16bit data d >log || { cat log; fail "event_loop, stopped"; }
grep -qE '^(stopped|done)' log && grep -q '^at iteration' log || { cat log; fail "event_loop hears nothing"; }
echo "ok: event loop"

(mkdir "$work/empty" && cd "$work/empty" && "$work/buffers" "$work/tiny/base" >../log && [ -z "$(ls -A)" ]) ||
    { cat log; fail "buffers"; }
grep -qE '^[0-9]+ tensors, [0-9]+ numbers' ../log || { cat ../log; fail "buffers took no adapter"; }
echo "ok: buffers"

python3 "$work/examples/finetune.py" base data e >log || { cat log; fail "ctypes"; }
cmp a/adapters.safetensors e/adapters.safetensors && fail "other settings, same adapter"
[ -s e/adapters.safetensors ] || fail "ctypes wrote no adapter"
echo "ok: ctypes"

unset LD_LIBRARY_PATH
cat >>"$work/examples/CMakeLists.txt" <<'C'
add_executable(finetune_shared finetune.c)
target_link_libraries(finetune_shared PRIVATE graft::graft_shared)
C
cmake -S "$work/examples" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/usr" -DCMAKE_C_COMPILER="$CC" >log 2>&1 &&
    cmake --build "$work/build" >>log 2>&1 || { cat log; fail "find_package"; }
for name in finetune finetune_shared; do
    "$work/build/$name" base data "$name" >/dev/null
    cmp "$name/adapters.safetensors" a/adapters.safetensors || fail "static and shared differ"
done
echo "ok: find_package"

# Debian's own directories are one deeper, and who links with the shared library needs nothing of what is behind it.
cmake -S "$GRAFT_SOURCE_DIR" -B "$work/deep" -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_LIBDIR=lib/some-linux-gnu \
    -DCMAKE_C_COMPILER="$CC" >log 2>&1 || { cat log; fail "configuring for another libdir"; }
mkdir -p "$work/moved/lib/some-linux-gnu/pkgconfig"
cp "$work/deep/graft.pc" "$work/moved/lib/some-linux-gnu/pkgconfig"
deep=$(PKG_CONFIG_PATH=$work/moved/lib/some-linux-gnu/pkgconfig pkg-config --cflags --libs graft)
[ "$(realpath -m "${deep#*-I}" | cut -d' ' -f1)" = "$work/moved/include" ] || fail "graft.pc in lib/some-linux-gnu says $deep"
grep -q -- "lib/some-linux-gnu/pkgconfig/../../../lib/some-linux-gnu -lgraft" <<<"$deep" || fail "graft.pc says $deep"
mkdir "$work/alone"
cat >"$work/alone/CMakeLists.txt" <<C
cmake_minimum_required(VERSION 3.25)
project(guest C)
find_package(graft REQUIRED)
add_executable(guest $work/examples/finetune.c)
target_link_libraries(guest PRIVATE graft::graft_shared)
C
PKG_CONFIG_LIBDIR=/nowhere PKG_CONFIG_PATH='' cmake -S "$work/alone" -B "$work/alone/build" -DCMAKE_PREFIX_PATH="$work/usr" \
    -DCMAKE_C_COMPILER="$CC" >log 2>&1 && cmake --build "$work/alone/build" >>log 2>&1 || { cat log; fail "shared alone"; }
echo "ok: other directories, shared alone"

if command -v c++ >/dev/null; then
    cat >"$work/guest.cc" <<'C'
#include <cstdio>
#include <graft.h>
int main() {
    graft_options o;
    graft_options_init(&o);
    std::puts(graft_version());
    graft_options_free(&o);
}
C
    c++ -Wall -Wextra -Wpedantic -Werror "$work/guest.cc" $(pkg-config --cflags --libs graft) -o "$work/guest"
    LD_LIBRARY_PATH=$libdir "$work/guest" | grep -qx "$("$GRAFT" --version | cut -d' ' -f2)" || fail "C++"
    echo "ok: C++"
fi

for header in "$GRAFT_SOURCE_DIR"/include/*.h; do
    name=$(basename "$header")
    [ "$name" = graft.h ] || grep -q "^| \`$name\`" "$GRAFT_SOURCE_DIR/docs/library.md" || fail "docs/library.md lacks $name"
done

library=$(find "$work/usr" -name 'libgraft.so.*.*.*')
nm -D --defined-only "$library" | awk '{print $NF}' | sort | diff "$GRAFT_SOURCE_DIR/cmake/graft.symbols" - ||
    fail "libgraft.so shows other names than cmake/graft.symbols: look at each, then \`make symbols\`"
grep -v '^graft_' "$GRAFT_SOURCE_DIR/cmake/graft.symbols" && fail "names of a guest begin with graft_"
readelf -d "$library" | grep -q 'soname: \[libgraft.so.[0-9]*\.[0-9]*\]' || fail "the soname has no minor version"
echo "ok: symbols"

if command -v doxygen >/dev/null; then
    (cd "$GRAFT_SOURCE_DIR" && tools/api_docs.sh) || fail "the headers' documentation"
    echo "ok: documentation"
fi
