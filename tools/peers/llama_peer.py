"""llama.cpp for the checks, in an environment of its own: tools/peers/setup tools/peers/requirements_llama.txt makes it
once (tools/check_peers.sh says when). Without it the checks that need it are skipped, and counted as such."""
import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np

import common

HERE = Path(__file__).resolve().parent


def python():
    """The environment's python, or None."""
    digest = hashlib.sha256((HERE / "requirements_llama.txt").read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    venv = cache / "graft" / f"peers-{digest}"
    return venv / "bin" / "python" if (venv / "ready").exists() else None


def need():
    """Skips the check that calls it where llama.cpp is not there."""
    if not python():
        raise common.Skipped("llama.cpp is not there (tools/peers/setup tools/peers/requirements_llama.txt compiles it)")


def run(ctx, **job):
    file = ctx.work / "llama-job.json"
    file.write_text(json.dumps({key: str(value) if isinstance(value, Path) else value for key, value in job.items()}))
    done = subprocess.run([str(python()), str(HERE / "llama_logits.py"), str(file)], capture_output=True, text=True,
                          check=False, timeout=common.TIMEOUT)
    assert done.returncode == 0, f"llama.cpp: {done.stderr[-600:]}"
    return json.loads(done.stdout.splitlines()[-1])


def logits(ctx, model, rows, adapter=None):
    """[tokens, vocabulary] of each row."""
    return answers(ctx, model, rows, adapter, 0, 0)[0]


def answers(ctx, model, rows, adapter, count, greedy):
    """The same, and of the last `count` rows the greedy tokens that follow each and their leads over the second."""
    out = ctx.work / "llama-logits.npy"
    more = run(ctx, model=model, adapter=str(adapter) if adapter else None, rows=rows, out=out, count=count, greedy=greedy)
    return np.split(np.load(out), np.cumsum([len(ids) for ids in rows])[:-1]), more["tokens"], more["gaps"]


def quantize(ctx, source, target, ftype):
    run(ctx, quantize=[str(source), str(target), ftype])
