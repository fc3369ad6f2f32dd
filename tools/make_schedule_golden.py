#!/usr/bin/env python3
"""Writes tests/golden/schedule.json: learning rates of mlx's schedules as mlx-lm builds them.

Needs the packages mlx and mlx-lm. Run from the root of the tree: python tools/make_schedule_golden.py
"""

import importlib.metadata
import json

import mlx.core as mx
from mlx_lm.tuner.utils import build_schedule

CASES = [
    {"name": "cosine_decay", "arguments": [1e-3, 20, 1e-5]},
    {"name": "cosine_decay", "arguments": [2e-4, 30], "warmup": 5},
    {"name": "cosine_decay", "arguments": [1e-5, 10, 1e-7], "warmup": 3, "warmup_init": 1e-7},
    {"name": "linear_schedule", "arguments": [1e-3, 1e-4, 25]},
    {"name": "linear_schedule", "arguments": [0.0, 1e-1, 7], "warmup": 1},
    {"name": "exponential_decay", "arguments": [1e-1, 0.9], "warmup": 4},
    {"name": "exponential_decay", "arguments": [1e-2, 0.99]},
    {"name": "step_decay", "arguments": [1e-1, 0.5, 6], "warmup": 2, "warmup_init": 0.01},
]
UPDATES = 40


def rates(case):
    schedule = build_schedule(case)
    # an optimizer asks for the rate of update k at step k - 1
    return [float(schedule(mx.array(k, mx.uint64))) for k in range(UPDATES)]


with open("tests/golden/schedule.json", "w") as out:
    versions = {name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm")}
    cases = [dict(case, rates=rates(case)) for case in CASES]
    json.dump({"made_by": "tools/make_schedule_golden.py", **versions, "cases": cases}, out, separators=(",", ":"))
    out.write("\n")
