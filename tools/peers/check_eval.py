"""Loss, perplexity, standard error and accuracy of `graft eval` against transformers f32 on the same weights."""
import math

import numpy as np

import common
import train_torch

EXACT, BF16 = 1e-4, 5e-3  # relative, of the perplexity


def expected(model_dir, path):
    """All targets of the file, one row at a time."""
    import torch

    model, tok = common.torch_model(model_dir), common.tokenizer(model_dir)
    losses, hits, rows = [], 0, 0
    with torch.no_grad():
        for ids, mask in common.read_rows(tok, path):
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
            wanted, target = torch.tensor(mask[1:], dtype=torch.bool), torch.tensor(ids[1:])
            each = torch.nn.functional.cross_entropy(logits, target, reduction="none")
            losses.extend(each[wanted].tolist())
            hits += int((logits.argmax(-1) == target)[wanted].sum())
            rows += 1
    loss, n = float(np.mean(losses)), len(losses)
    return {"loss": loss, "perplexity": math.exp(loss), "tokens": n, "rows": rows, "accuracy": hits / n,
            "perplexity_stderr": math.exp(loss) * float(np.std(losses, ddof=1)) / math.sqrt(n)}


def compare(ctx, model_dir, path, compute, bound):
    assert model_dir is not None, "no SmolLM2 GGUF in the cache"
    want = expected(model_dir, path)
    got = ctx.json("eval", "--model", model_dir, "--data", path, "--compute", compute)
    for key in ("tokens", "rows"):
        assert got[key] == want[key], f"{key}: {got[key]}, expected {want[key]}"
    common.near("perplexity", got["perplexity"], want["perplexity"], bound * want["perplexity"])
    common.near("loss", got["loss"], want["loss"], bound)
    common.near("perplexity_stderr", got["perplexity_stderr"], want["perplexity_stderr"],
                4 * bound * want["perplexity_stderr"])
    slack = 0.01 if compute == "bf16" else 2.5 / want["tokens"]  # near-ties may fall either way
    common.near("accuracy", got["accuracy"], want["accuracy"], slack)


def checks(ctx):
    def tiny_path():
        return ctx.tiny_data("text") / "test.jsonl"

    for name in ("llama_rope", "llama_tied", "mistral_window", "qwen2", "qwen3", "llama_tied_mlx4"):
        yield f"perplexity as transformers: {name}", \
            lambda name=name: compare(ctx, ctx.tiny(name), tiny_path(), "fp32", EXACT)
    for compute, bound in (("fp32", EXACT), ("bf16", BF16)):
        yield f"perplexity as transformers: SmolLM2, {compute}", \
            lambda c=compute, b=bound: compare(ctx, ctx.smollm(), ctx.data or tiny_path(), c, b)
