"""Writes tests/golden/sampler.txt: what mlx-lm's filters leave of a distribution, and its repetition penalty.

usage: python tools/make_sampler_golden.py (from the repository's root; needs mlx-lm)
"""
import importlib.metadata as md

import mlx.core as mx
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, make_repetition_penalty

# 1.5 stands there three times and -0.5 twice: nothing but top-k may tell equal logits apart
LOGITS = [0.25, 1.5, -0.5, 2.75, 1.5, -3.0, 0.875, 3.0, -0.5, 1.5, -1.25, 2.0]
# top-p, min-p, top-k, temperature; the top-k of none falls among equals
SETTINGS = [(0, 0, 0, 1), (0, 0, 0, 0.5), (1, 0, 0, 2), (0.3, 0, 0, 1), (0.5, 0, 0, 0.7), (0.7, 0, 0, 1), (0.8, 0, 0, 1.3),
            (0.95, 0, 0, 1), (0.999, 0, 0, 1), (0.01, 0, 0, 1), (0, 0.05, 0, 1), (0, 0.2, 0, 1.5), (0, 1, 0, 1), (0, 0.5, 0, 0.8),
            (0, 0, 1, 1), (0, 0, 3, 0.6), (0, 0, 7, 1), (0, 0, 11, 2), (0.9, 0.1, 6, 1), (0.6, 0.3, 2, 0.9),
            (0.95, 0.02, 9, 3), (0.75, 0.9, 8, 1), (0.7, 0.01, 0, 0.25)]
# penalty, context size, tokens so far
PENALTIES = [(1.3, 20, [7]), (1.3, 20, [7, 7, 5, 7]), (1.1, 3, [0, 1, 2, 3, 4, 5]), (2.5, 2, [5, 7, 10]), (0.5, 20, [3, 2]),
             (1.7, 0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]), (1.05, 1, [11, 8]), (1, 20, [1, 2, 3])]

words = lambda values: ",".join(f"{v:.9g}" for v in values)

with open("tests/golden/sampler.txt", "w") as out:
    out.write(f"# tools/make_sampler_golden.py with mlx-lm {md.version('mlx-lm')}, mlx {md.version('mlx')}\n"
              "# logits VALUES | spread TOP_P MIN_P TOP_K TEMP PROBABILITIES | penalty X CONTEXT TOKENS LOGITS\n"
              f"logits {words(LOGITS)}\n")
    logits = mx.array([LOGITS])
    for top_p, min_p, top_k, temp in SETTINGS:
        x = logits - mx.logsumexp(logits, keepdims=True)
        # the order and the conditions of make_sampler
        if 0 < top_p < 1:
            x = apply_top_p(x, top_p)
        if min_p != 0:
            x = apply_min_p(x, min_p)
        if top_k > 0:
            x = apply_top_k(x, top_k)
        p = mx.softmax(x * (1 / temp), axis=-1)
        out.write(f"spread {top_p} {min_p} {top_k} {temp} {words(p[0].tolist())}\n")
    for penalty, context, tokens in PENALTIES:
        x = make_repetition_penalty(penalty, context)(mx.array(tokens), mx.array([LOGITS]))
        out.write(f"penalty {penalty} {context} {','.join(map(str, tokens))} {words(x[0].tolist())}\n")
