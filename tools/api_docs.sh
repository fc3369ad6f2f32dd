#!/bin/bash
# Writes the public headers as pages to build/docs/html. Fails on a mistake in a comment, and on a function, struct or
# constant without one; members whose names say all need none.
set -u
cd "$(dirname "$0")/.." || exit 1
mkdir -p build/docs
found=$(doxygen docs/Doxyfile 2>&1 | grep -vE '\((variable|enumvalue)\)|_(free|close)\(|Member X\(')
[ -z "$found" ] && { echo "wrote build/docs/html/index.html"; exit 0; }
echo "$found"
exit 1
