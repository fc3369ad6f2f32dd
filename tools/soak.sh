#!/bin/bash
# soak.sh [STEPS [CYCLES]]: hours in miniature. One training of STEPS steps with reports, validations and saves, then
# CYCLES times every verb of the library in one process; resident memory, descriptors, threads and files must stay
# what they were early on. tests/test_soak.c is the same thing, short, in `make check`.
set -eu
cd "$(dirname "$0")/.."
GRAFT_SOAK_STEPS=${1:-20000} GRAFT_SOAK_CYCLES=${2:-300} build/release/tests/test_soak
