#!/bin/bash
# Makes build/dist/graft-VERSION-SYSTEM-MACHINE.tar.gz: the program with every library but the C library inside, the
# README and the licences. It needs nothing installed but libc; `graft download` and what listens load libcurl and
# libmicrohttpd where the system has them.
set -eu
cd "$(dirname "$0")/.."
cmake --preset release -B build/dist/tree -DGRAFT_STATIC=ON >/dev/null
cmake --build build/dist/tree -j "${JOBS:-$(getconf _NPROCESSORS_ONLN)}" --target graft_cli >/dev/null
graft=build/dist/tree/graft
version=$($graft --version | awk '{print $2}')
name=graft-$version-$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m)
rm -rf "build/dist/$name" && mkdir -p "build/dist/$name/licenses"
cp $graft README.md LICENSE "build/dist/$name"
strip "build/dist/$name/graft"
for package in libjansson-dev libpcre2-dev libutf8proc-dev libyaml-dev; do
    copyright=/usr/share/doc/$package/copyright
    [ ! -e $copyright ] || cp $copyright "build/dist/$name/licenses/$package"
done
foreign=$(ldd $graft | awk '{print $1}' | grep -vE '^(linux-vdso|linux-gate|lib(c|m|pthread|dl|rt)\.so|/lib.*/ld-|ld-)' || true)
[ -z "$foreign" ] || { echo "still needs $foreign" >&2; exit 1; }
tar -C build/dist -czf "build/dist/$name.tar.gz" "$name"
echo "build/dist/$name.tar.gz ($(du -h "build/dist/$name.tar.gz" | cut -f1)), needs:" $(ldd $graft | awk '{print $1}' | grep -oE 'lib[a-z]+\.so' | tr '\n' ' ')
