"""fuse_table_mlx.py WORK MODEL: mlx-lm's losses, in 32 bits, of what fuse_table.sh made in WORK, into WORK/mlx.json.

mlx-lm loads model and adapter and computes; its own dequantize_model takes the codes apart, and the products with weights
are numpy's: MLX's own take a hundred times as long on a processor and are the same but for the order of their sums.
"""
import json
import os
import sys

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import numpy as np
from mlx_lm.utils import dequantize_model

work, base = sys.argv[1:]
rows = [json.loads(line) for line in open(f"{work}/rows.tok", encoding="utf-8")]


kept = {}  # by id: a weight, so that its id stays its own, and numpy's copy of it, transposed


def times(x, w):
    if id(w) not in kept:
        kept[id(w)] = w, np.array(w).T
    return mx.array(np.array(x) @ kept[id(w)][1])


def linear(self, x):
    y = times(x, self.weight)
    return y + self.bias if "bias" in self else y


nn.Linear.__call__ = linear
nn.Embedding.as_linear = lambda self, x: times(x, self.weight)


def loss(folder, adapter=None):
    """Mean over the trained tokens of all rows, as graft eval counts them."""
    model, _ = mlx_lm.load(folder, adapter_path=adapter)
    model.set_dtype(mx.float32)
    model = dequantize_model(model)
    total = count = 0
    for row in rows:
        logits = model(mx.array([row["ids"]]))[0]
        target, trains = mx.array(row["ids"][1:]), np.array(row["mask"][1:], bool)
        picked = mx.take_along_axis(logits[:-1], target[:, None], axis=1)[:, 0]
        total += np.array(mx.logsumexp(logits[:-1], axis=1) - picked)[trains].sum(dtype=np.float64)
        count += trains.sum()
    kept.clear()
    print(f"{adapter or folder}: {total / count:.4f}", file=sys.stderr, flush=True)
    return float(total / count)


found = {"version": mlx_lm.__version__, "base": loss(base)}
for name in ("plain", "qat", "pooled"):
    found[name] = loss(base, f"{work}/{name}")
for name in ("fused16", "fused4", "fused4-qat", "fused4-pooled", "fused4-pooled32"):
    found[name] = loss(f"{work}/{name}")
with open(f"{work}/mlx.json.part", "w", encoding="utf-8") as file:
    json.dump(found, file, indent=1)
os.replace(f"{work}/mlx.json.part", f"{work}/mlx.json")
