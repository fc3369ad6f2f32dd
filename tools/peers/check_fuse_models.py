"""Fused models of other layouts than Llama's, and fused GGUF files, in the programs that run them.

Phi keeps q, k, v and gate, up in one matrix each; Gemma's norms count from one and its embedding is the head too. Each is
fused into floats and into its own 4 bits and computed by transformers (of codes, from what they stand for) and mlx-lm.
A GGUF base in each type that graft writes, made by llama.cpp itself, with an adapter fused in, is loaded by llama.cpp
(llama_peer.py), whose logits are graft's as nearly as those of the base are: it rounds activations to 8 bits or f16.
"""
import json
import shutil

import numpy as np

import check_gguf_models
import check_logits
import common
import llama_peer

PHI = "qkv_proj,o_proj,gate_up_proj,down_proj"
FAMILIES = {"phi3": ["--lora-targets", PHI], "phi4": ["--lora-targets", PHI + ",embed_tokens"],
            "gemma2": ["--lora-targets", "q_proj,k_proj,v_proj,o_proj,up_proj,embed_tokens"],
            "gemma3": ["--lora-targets", "full", "--modules-to-save", "norm"]}
POOLED = {"phi3": ["--lora-targets", PHI], "gemma3": ["--lora-targets", "full"]}
FTYPES = {"F16": 1, "Q8_0": 7, "Q4_0": 2, "Q4_1": 3}  # llama_ftype
GGUF = ("llama_tied", "qwen2")


def trained(ctx, model, name, *options):
    out = ctx.work / "fuse-models" / f"adapter-{name}"
    if not (out / "adapter_config.json").exists():
        ctx.run("train", "--model", model, "--data", ctx.tiny_data("text"), "--adapter-path", out, "--iters", 6, "--batch-size", 2,
                "--learning-rate", 1e-2, "--lora-rank", 8, "--compute", "fp32", "--seed", 1, *options)
    return out


def fused(ctx, model, adapter, name, *options):
    out = ctx.work / "fuse-models" / name
    ctx.run("fuse", "--model", model, "--adapter-path", adapter, "--save-path", out, *options)
    return out


def in_4_bits(ctx, name):
    out = ctx.work / "fuse-models" / f"{name}-4"
    if not (out / "config.json").exists():
        ctx.run("convert", "--model", ctx.tiny(name), "--mlx-path", out, "-q")
    return out


def distance(a, b):
    return float(np.max(np.abs(a - b)))


def floats(ctx, name):
    """transformers' logits of the fused model against PEFT's of base and adapter."""
    base = ctx.tiny(name)
    adapter = trained(ctx, base, name, *FAMILIES[name])
    expected = check_logits.torch_logits(base, adapter)
    moved = distance(expected, check_logits.torch_logits(base))
    assert moved > 0.1, f"the adapter moves the logits by {moved:.3g} only"
    exact = fused(ctx, base, adapter, f"{name}-f32", "--dtype", "float32")
    rounded = fused(ctx, base, adapter, f"{name}-f16", "--dequantize", "--dtype", "float16")
    found, half = check_logits.torch_logits(exact), check_logits.torch_logits(rounded)
    print(f"      {name}: moved {moved:.2g}; transformers differs by {distance(found, expected):.2g} fused in 32 bits, "
          f"{distance(half, expected):.2g} in 16; graft from transformers {distance(check_logits.graft_logits(ctx, rounded), half):.2g}",
          flush=True)
    check_logits.near("logits, 32 bits", ctx.tiny(name), found, expected)
    common.near("logits, 16 bits", half, expected, 5e-3 * moved)
    check_logits.near("graft's, 16 bits", rounded, check_logits.graft_logits(ctx, rounded), half)


def codes(ctx, name):
    """Fused into its own 4 bits: what the codes stand for, in transformers, as graft computes with them."""
    base = in_4_bits(ctx, name)
    adapter = trained(ctx, base, f"{name}-4", *FAMILIES[name])
    out = fused(ctx, base, adapter, f"{name}-fused4")
    found = check_logits.torch_logits(out)
    kept, moved = distance(found, check_logits.torch_logits(base, adapter)), distance(found, check_logits.torch_logits(base))
    print(f"      {name}: moved {moved:.2g}; {kept:.2g} from base + adapter; graft from transformers "
          f"{distance(check_logits.graft_logits(ctx, out), found):.2g}", flush=True)
    check_logits.near("graft's logits", out, check_logits.graft_logits(ctx, out), found)
    assert moved > 0.1, f"the adapter moves the logits by {moved:.3g} only"


def pooled(ctx, name):
    """Group-pooled: base and adapter again, in mlx-lm and in transformers."""
    base = in_4_bits(ctx, name)
    adapter = trained(ctx, base, f"{name}-pooled", "--group-pooled", *POOLED[name])
    out = fused(ctx, base, adapter, f"{name}-fused-pooled", "--dtype", "float32")
    for program, logits in (("mlx-lm", check_logits.mlx_logits), ("transformers", check_logits.torch_logits)):
        expected = logits(base, adapter)
        moved, worst = distance(expected, logits(base)), distance(logits(out), expected)
        print(f"      {name}, {program}: moved {moved:.2g}; fused differs by {worst:.2g}", flush=True)
        assert moved > 0.1 and worst < 1e-4 * moved + 1e-4, f"{program}: {worst:.3g} of {moved:.3g}"


def gguf_base(ctx, name, kind):
    """The tiny model as GGUF in f32, then in the types that llama.cpp gives it."""
    folder = ctx.work / "fuse-models"
    folder.mkdir(parents=True, exist_ok=True)
    plain, path = check_gguf_models.file_of(ctx, name)[1], folder / f"{name}.{kind}.gguf"
    if not path.exists():
        llama_peer.quantize(ctx, plain, path, FTYPES[kind])
    types = {t["dtype"] for t in ctx.json("info", path)["tensors"] if "blk" in t["name"] and len(t["shape"]) == 2}
    assert types == {kind}, types
    return path


def in_gguf(ctx, name, kind):
    llama_peer.need()
    base = gguf_base(ctx, name, kind)
    more = ["--group-pooled"] if kind == "Q4_1" else []
    adapter = trained(ctx, base, f"{name}-{kind}", "--lora-targets", "full", *more)
    out = ctx.work / "fuse-models" / f"{name}.{kind}.fused.gguf"
    document = ctx.json("fuse", "--model", base, "--adapter-path", adapter, "--save-path", out)
    assert document["changed"] == 7 * 3, document
    ids = common.tokenizer(ctx.tiny(name)).encode(check_logits.PROMPT)
    before, after = (llama_peer.logits(ctx, path, [ids])[0] for path in (base, out))
    wish, of_base, of_fused = (check_logits.graft_logits(ctx, base, adapter), check_logits.graft_logits(ctx, base),
                               check_logits.graft_logits(ctx, out))
    usual, worst, moved = distance(before, of_base), distance(after, of_fused), distance(wish, of_base)
    print(f"      {name} {kind}: llama.cpp from graft: base {usual:.2g}, fused {worst:.2g}; the adapter moves by {moved:.2g}, "
          f"fused is {distance(after, wish):.2g} from base + adapter", flush=True)
    assert worst <= 2 * usual + 1e-3, f"llama.cpp's logits differ by {worst:.3g}, those of the base by {usual:.3g}"
    assert distance(after, wish) < 0.7 * distance(after, of_base), "the fused file is not nearer to base and adapter than to the base"


def checks(ctx):
    for name in FAMILIES:
        yield f"fused into floats, transformers as PEFT: {name}", lambda name=name: floats(ctx, name)
        yield f"fused into 4 bits, transformers as graft: {name}", lambda name=name: codes(ctx, name)
    for name in POOLED:
        yield f"group-pooled in 4 bits as base and adapter: {name}", lambda name=name: pooled(ctx, name)
    for name in GGUF:
        for kind in FTYPES:
            yield f"fused GGUF in llama.cpp: {name} {kind}", lambda name=name, kind=kind: in_gguf(ctx, name, kind)
