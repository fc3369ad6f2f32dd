"""Prompt logits of graft in f32 against transformers and mlx-lm in f32, without and with an adapter graft trained."""
import numpy as np

import common

PROMPT = "Ada found a map in Kyoto. What is 12 plus 30? Dina lost the old clock in Oslo."
BOUND = 2e-3  # logits are of the order of 10; f32 sums in another order move them by 1e-4, a wrong rule by 1e-1
TINY = ["llama_rope", "llama_tied", "mistral_window", "qwen2", "qwen3", "gemma2", "gemma3", "smollm3", "granite", "olmo2",
        "ministral", "ministral3", "phi3", "phi4", "stablelm", "starcoder2", "qwen3_moe", "olmoe", "llama_tied_mlx4"]


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


def compare(ctx, model_dir, peer, with_adapter):
    assert model_dir is not None, "no SmolLM2 GGUF in the cache"
    adapter = trained_adapter(ctx, model_dir) if with_adapter else None
    found, expected = graft_logits(ctx, model_dir, adapter), peer(model_dir, adapter)
    common.near("logits", found, expected, BOUND)
    if with_adapter:
        moved = float(np.max(np.abs(expected - peer(model_dir))))
        assert moved > 10 * BOUND, f"the adapter moves the logits by {moved:.3g} only: this check would prove nothing"


def checks(ctx):
    for name in TINY:
        yield f"logits as transformers: {name}", lambda name=name: compare(ctx, ctx.tiny(name), torch_logits, False)
        yield f"logits as PEFT with a trained adapter: {name}", \
            lambda name=name: compare(ctx, ctx.tiny(name), torch_logits, True)
    for name, place in (("llama_tied_mlx4", lambda: ctx.tiny("llama_tied_mlx4")), ("SmolLM2", ctx.smollm)):
        yield f"logits as mlx-lm: {name}", lambda place=place: compare(ctx, place(), mlx_logits, False)
        yield f"logits as mlx-lm with a trained adapter: {name}", \
            lambda place=place: compare(ctx, place(), mlx_logits, True)
    yield "logits as transformers: SmolLM2", lambda: compare(ctx, ctx.smollm(), torch_logits, False)
    yield "logits as PEFT with a trained adapter: SmolLM2", lambda: compare(ctx, ctx.smollm(), torch_logits, True)
