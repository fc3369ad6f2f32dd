"""`graft bench train --peer`: the other program, given what graft hands over, must compute graft's losses.

Bound: three AdamW steps in f32 on the tiny models; see check_train.py, whose bound on losses after 20 steps this is.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import common

BOUND = 5e-5
TOOLS = Path(__file__).resolve().parent.parent


def bench(ctx, peer, *more):
    env = {**os.environ, "GRAFT_TOOLS": str(TOOLS), "GRAFT_PEERS_PYTHON": sys.executable}
    picture = ctx.work / f"bench-{peer}.svg"
    command = [ctx.graft, "bench", "train", "--steps", "4", "--peer-steps", "3", "--seq-length", "24", "--batch-size", "2",
               "--grad-accumulation-steps", "2", "--lora-rank", "4", "--learning-rate", "1e-2", "--compute", "fp32",
               "--peer", peer, "--svg", str(picture), "--json", *map(str, more)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    document = json.loads(done.stdout)
    assert len(document["losses"]) == 4 and len(document["peer"]["losses"]) == 3
    assert "<svg" in picture.read_text() and document["svg"] == str(picture)
    near = document["tokens_per_second"] / document["peer"]["tokens_per_second"]
    common.near("speedup", document["speedup"], near, 1e-9 * near)
    return document


def same_losses(ctx, peer, model):
    data = Path(ctx.tiny_data("text")) / "train.jsonl"
    document = bench(ctx, peer, "--model", ctx.tiny(model), "--data", data)
    common.near("losses", document["losses"][:3], document["peer"]["losses"], BOUND)
    still = ctx.json("bench", "train", "--model", ctx.tiny(model), "--data", data, "--steps", 4, "--seq-length", 24,
                     "--batch-size", 2, "--grad-accumulation-steps", 2, "--lora-rank", 4, "--learning-rate", 0,
                     "--compute", "fp32", "--svg", "none")
    moved = max(abs(a - b) for a, b in zip(still["losses"][:3], document["losses"]))
    assert moved > 20 * BOUND, f"training changed the losses by {moved:.3g} only: the check shows nothing"


def near_losses(ctx):
    """NF4 is another base: near, not equal."""
    document = bench(ctx, "bnb", "--model", ctx.tiny("llama_rope"))
    common.near("losses", document["losses"][:3], document["peer"]["losses"], 0.5)


def same_tokens(ctx):
    data = Path(ctx.tiny_data("text")) / "train.jsonl"
    env = {**os.environ, "GRAFT_TOOLS": str(TOOLS), "GRAFT_PEERS_PYTHON": sys.executable}
    command = [ctx.graft, "bench", "tokenize", "--model", ctx.smollm() or ctx.tiny("llama_rope"), "--data", data, "--peer",
               "tokenizers", "--json"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    document = json.loads(done.stdout)
    assert document["tokens"] == document["peer"]["tokens"] and document["same_tokens"]


def checks(ctx):
    yield "bench train --peer torch, llama", lambda: same_losses(ctx, "torch", "llama_rope")
    yield "bench train --peer torch, MLX 4-bit", lambda: same_losses(ctx, "torch", "llama_tied_mlx4")
    yield "bench train --peer mlx, MLX 4-bit", lambda: same_losses(ctx, "mlx", "llama_tied_mlx4")
    yield "bench train --peer bnb", lambda: near_losses(ctx)
    yield "bench tokenize --peer tokenizers", lambda: same_tokens(ctx)
