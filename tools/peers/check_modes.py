"""Models in mlx-lm's other formats: block floats (mxfp4, mxfp8, nvfp4) as mlx_lm.convert writes them, and mixed bits.

Block floats are read: the same logits as mlx-lm without and with an adapter that graft trained, -d gives mx.dequantize's
numbers, a plain conversion the same bytes. Recipes are written: every tensor, the index and config.json's quantization
equal mlx_lm.convert's.
"""
import json
import subprocess
import sys

import numpy as np

import common
from check_logits import PROMPT, bound, graft_logits, mlx_logits, near, trained_adapter

MODES = ("mxfp4", "mxfp8", "nvfp4")
RECIPES = ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6")


def raw(a):
    import mlx.core as mx

    return np.array(a.view({4: mx.uint32, 2: mx.uint16, 1: mx.uint8}[a.itemsize])).tobytes()


def mlx_convert(src, out, **options):
    """In a process of its own: mlx_lm.convert prints, and its bits per weight are read from there."""
    if not out.exists():
        code = "import sys, json; from mlx_lm.convert import convert; convert(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))"
        done = subprocess.run([sys.executable, "-c", code, str(src), str(out), json.dumps(options)], capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        (out / "said.txt").write_text(done.stdout)
    return out


def moded(ctx, base, mode):
    out = ctx.work / "modes" / f"{base}-{mode}"
    out.parent.mkdir(exist_ok=True)
    return mlx_convert(ctx.tiny(base), out, quantize=True, q_mode=mode)


def check_logits(ctx, base, mode):
    folder = moded(ctx, base, mode)
    near("logits", folder, graft_logits(ctx, folder), mlx_logits(folder))
    adapter = trained_adapter(ctx, folder)
    found, expected = graft_logits(ctx, folder, adapter), mlx_logits(folder, adapter)
    near("logits with adapter", folder, found, expected)
    assert np.max(np.abs(expected - mlx_logits(folder))) > 100 * bound(folder, expected), "the adapter moves nothing"


def check_bytes(ctx, mode):
    import mlx.core as mx
    from mlx_lm.utils import load_model

    folder = moded(ctx, "qwen2", mode)
    theirs = mx.load(str(folder / "model.safetensors"))
    same = ctx.work / "modes" / f"same-{mode}"
    ctx.run("convert", "--model", folder, "--mlx-path", same)
    ours = mx.load(str(same / "model.safetensors"))
    assert set(ours) == set(theirs), set(ours) ^ set(theirs)
    assert all(raw(ours[k]) == raw(theirs[k]) for k in ours), "codes pass through"
    a, b = (json.loads((d / "config.json").read_text())["quantization"] for d in (same, folder))
    assert {k: v for k, v in a.items() if v is not False} == b, (a, b)
    for dtype, wide in (("float32", mx.float32), ("bfloat16", mx.bfloat16)):
        back = ctx.work / "modes" / f"back-{mode}-{dtype}"
        ctx.run("convert", "--model", folder, "--mlx-path", back, "-d", "--dtype", dtype)
        ours = mx.load(str(back / "model.safetensors"))
        for name in (k.removesuffix(".scales") for k in theirs if k.endswith(".scales")):
            want = mx.dequantize(theirs[name + ".weight"], theirs[name + ".scales"], group_size=b["group_size"], bits=b["bits"],
                                 mode=mode, dtype=wide)
            assert raw(want) == raw(ours[name + ".weight"]), f"{name} in {dtype}"
    load_model(back)


def deep(ctx):
    """Nine blocks: every branch of the recipes is met."""
    import torch
    import transformers

    out = ctx.work / "modes" / "deep"
    if not (out / "config.json").exists():
        torch.manual_seed(3)
        config = transformers.LlamaConfig(vocab_size=512, hidden_size=128, intermediate_size=320, num_hidden_layers=9,
                                          num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
                                          tie_word_embeddings=False)
        transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(out)
        common.tokenizer(ctx.tiny("qwen2")).save_pretrained(out)
    return out


def check_recipe(ctx, recipe):
    import mlx.core as mx

    work = ctx.work / "modes"
    work.mkdir(exist_ok=True)
    theirs_dir = mlx_convert(deep(ctx), work / recipe, quantize=True, q_group_size=64, q_bits=4, quant_predicate=recipe)
    ours_dir = work / f"{recipe}-graft"
    options = ["-q", "--quant-predicate", recipe]
    said = ctx.json("convert", "--model", deep(ctx), "--mlx-path", ours_dir, "--q-embeddings", *options)
    theirs, ours = (mx.load(str(d / "model.safetensors")) for d in (theirs_dir, ours_dir))
    assert set(ours) == set(theirs), set(ours) ^ set(theirs)
    differ = [k for k in theirs if raw(ours[k]) != raw(theirs[k])]
    assert not differ, differ[:5]
    a, b = (json.loads((d / "config.json").read_text()) for d in (ours_dir, theirs_dir))
    undivided = [k for k, v in a["quantization"].items() if v is False]
    assert not undivided and a["quantization"] == b["quantization"], "quantization of config.json"
    a, b = (json.loads((d / "model.safetensors.index.json").read_text()) for d in (ours_dir, theirs_dir))
    assert a == b, "the index"
    assert f"with {said['bits_per_weight']:.3f} bits" in (theirs_dir / "said.txt").read_text(), said["bits_per_weight"]
    near("logits", ours_dir, graft_logits(ctx, ours_dir), mlx_logits(theirs_dir))
    plain = work / f"{recipe}-policy"  # the usual policy (docs/weights.md)
    ctx.run("convert", "--model", deep(ctx), "--mlx-path", plain, *options)
    ours = mx.load(str(plain / "model.safetensors"))
    assert all(raw(ours[k]) == raw(theirs[k]) for k in theirs if "_proj" in k), "linears"
    assert "lm_head.scales" not in ours and "model.embed_tokens.scales" not in ours, "embedding and head stay"
    near("logits", plain, graft_logits(ctx, plain), mlx_logits(plain))


def checks(ctx):
    for mode in MODES:
        for base in ("qwen2", "llama_tied"):  # configs that mlx-lm reads as transformers means them
            yield f"{base} in {mode}: logits of mlx-lm, without and with a trained adapter", \
                lambda base=base, mode=mode: check_logits(ctx, base, mode)
        yield f"{mode}: passes through, and -d gives mx.dequantize's numbers", lambda mode=mode: check_bytes(ctx, mode)
    for recipe in RECIPES:
        yield f"{recipe} equals mlx_lm.convert", lambda recipe=recipe: check_recipe(ctx, recipe)
