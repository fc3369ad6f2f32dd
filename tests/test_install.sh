#!/bin/bash
# A stranger's program finds the installed library by pkg-config and by find_package, and the shared library
# shows the graft_ names only.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$GRAFT_BUILD_DIR" --prefix "$work/usr" >/dev/null

cat >"$work/main.c" <<'C'
#include <graft.h>
#include <stdio.h>
#include <string.h>
int main(void) {
    puts(graft_status_text(GRAFT_OK));
    return strcmp(graft_status_text(GRAFT_OK), "done") != 0;
}
C
cat >"$work/CMakeLists.txt" <<'C'
cmake_minimum_required(VERSION 3.25)
project(stranger C)
find_package(graft 0.1 REQUIRED)
add_executable(with_static main.c)
target_link_libraries(with_static graft::graft)
add_executable(with_shared main.c)
target_link_libraries(with_shared graft::graft_shared)
C

PKG_CONFIG_PATH=$(dirname "$(find "$work/usr" -name graft.pc)")
export PKG_CONFIG_PATH
"$CC" "$work/main.c" $(pkg-config --cflags --libs graft) -o "$work/by_pkg_config"
LD_LIBRARY_PATH=$(pkg-config --variable=libdir graft) "$work/by_pkg_config" | grep -qx done
echo "ok: pkg-config"

cmake -S "$work" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/usr" -DCMAKE_C_COMPILER="$CC" >"$work/log" 2>&1 &&
    cmake --build "$work/build" >>"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$work/build/with_static" | grep -qx done
"$work/build/with_shared" | grep -qx done
echo "ok: find_package"

library=$(find "$work/usr" -name 'libgraft.so.*.*.*')
foreign=$(nm -D --defined-only "$library" | awk '{print $NF}' | grep -v '^graft_' || true)
[ -z "$foreign" ] || { echo "libgraft.so shows: $foreign"; exit 1; }
nm -D --defined-only "$library" | grep -q ' T graft_status_text' || { echo "libgraft.so hides graft_status_text"; exit 1; }
echo "ok: symbols"
