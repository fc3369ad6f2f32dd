"""Prompt logits of graft in f32 against transformers and mlx-lm in f32, without and with an adapter graft trained."""
import json
from pathlib import Path

import numpy as np

import common

PROMPT = "Ada found a map in Kyoto. What is 12 plus 30? Dina lost the old clock in Oslo."
TABLE = "logits and gradients"  # of which other checks fill more columns
TINY = ["llama_rope", "llama_tied", "mistral_window", "qwen2", "qwen3", "gemma2", "gemma3", "smollm3", "granite", "olmo2",
        "ministral", "ministral3", "phi3", "phi4", "stablelm", "starcoder2", "qwen3_moe", "olmoe", "llama_tied_mlx4"]
MLX = ("llama_tied_mlx4", "SmolLM2")  # the others check_convert gives to mlx-lm


def bound(model_dir, logits):
    """How far f32 logits may be from others: a block rounds twelve results behind one another (norm, q, scores, softmax,
    sum, output, residual; norm, gate, product, down, residual), and what is a sum of K terms rounds K times, in an order
    that the instruction set chooses. Independent roundings of 2^-24 grow with the root of their number; four times that,
    because the worst of many elements counts, in either of two programs. A wrong rule moves logits by 1e-1. The figures of
    docs/formats.md, of AVX-512, are a tenth of it; GRAFT_ISA=portable, the plainest, holds it too."""
    config = json.loads((Path(model_dir) / "config.json").read_text())
    longest = max(config["intermediate_size"], config["hidden_size"])
    return 4 * (12 * config["num_hidden_layers"] * longest) ** 0.5 * 2.0**-24 * float(np.max(np.abs(logits)))


def near(what, model_dir, found, expected):
    return common.near(what, found, expected, bound(model_dir, expected))


def graft_logits(ctx, model_dir, adapter=None):
    out = ctx.work / "logits.npy"
    more = ["--adapter-path", adapter] if adapter else []
    ctx.run("generate", "--model", model_dir, "--prompt", PROMPT, "--ignore-chat-template", "--max-tokens", 1,
            "--compute", "fp32", "--logits", out, *more)
    return np.load(out)


def torch_logits(model_dir, adapter=None):
    import torch

    model = common.torch_model(model_dir)
    if adapter:
        import peft

        model = peft.PeftModel.from_pretrained(model, str(adapter)).eval()
    ids = common.tokenizer(model_dir).encode(PROMPT)
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].numpy()


def mlx_logits(model_dir, adapter=None):
    import mlx.core as mx
    import mlx_lm

    model, tok = mlx_lm.load(str(model_dir), adapter_path=str(adapter) if adapter else None)
    model.set_dtype(mx.float32)
    ids = tok.encode(PROMPT)
    logits = model(mx.array([ids]))[0].astype(mx.float32)
    mx.eval(logits)
    return np.array(logits)


def trained_adapter(ctx, model_dir):
    """An adapter graft trained far enough that its effect is plain; made once per model directory."""
    out = ctx.work / "logits" / model_dir.name
    if not (out / "adapter_config.json").exists():
        ctx.run("train", "--model", model_dir, "--data", ctx.tiny_data("text"), "--adapter-path", out, "--iters", 8,
                "--batch-size", 2, "--learning-rate", 2e-3, "--lora-rank", 8, "--compute", "fp32", "--seed", 1)
    return out


def compare(ctx, name, model_dir, peer, with_adapter):
    assert model_dir is not None, "no SmolLM2 GGUF in the cache"
    adapter = trained_adapter(ctx, model_dir) if with_adapter else None
    found, expected = graft_logits(ctx, model_dir, adapter), peer(model_dir, adapter)
    worst = near("logits", model_dir, found, expected)
    ctx.figure(TABLE, name, "largest logit", f"{np.max(np.abs(expected)):.0f}")
    ctx.figure(TABLE, name, COLUMNS[peer], worst)
    if with_adapter:
        moved = float(np.max(np.abs(expected - peer(model_dir))))
        assert moved > 100 * bound(model_dir, expected), f"the adapter moves the logits by {moved:.3g} only: nothing is proved"


COLUMNS = {torch_logits: "transformers, PEFT", mlx_logits: "mlx-lm"}


def checks(ctx):
    for name in [*TINY, "SmolLM2"]:
        place = ctx.smollm if name == "SmolLM2" else lambda name=name: ctx.tiny(name)
        for peer, adapted, what in ((torch_logits, False, "transformers"), (torch_logits, True, "PEFT with a trained adapter"),
                                    (mlx_logits, False, "mlx-lm"), (mlx_logits, True, "mlx-lm with a trained adapter")):
            if peer is torch_logits or name in MLX:
                yield f"logits as {what}: {name}", lambda n=name, p=place, q=peer, w=adapted: compare(ctx, n, p(), q, w)
