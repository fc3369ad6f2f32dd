"""Fused models in mlx-lm: they are what base and adapter are there, and codes that had to change are mx.quantize's.

Everything passes through real files: graft trains an adapter on a tiny 4-bit model that mlx-lm made, fuses it, and mlx-lm
loads base, adapter and fused model.
"""
import numpy as np

import check_logits
import common

MODEL = "llama_tied_mlx4"
KINDS = {"plain": [], "dora": ["--fine-tune-type", "dora"], "pooled": ["--group-pooled"], "qat": ["--qat"]}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def trained(ctx, kind):
    out = ctx.work / "fuse" / kind
    if not (out / "adapter_config.json").exists():
        ctx.run("train", "--model", ctx.tiny(MODEL), "--data", ctx.tiny_data("text"), "--adapter-path", out, "--iters", 8,
                "--batch-size", 2, "--learning-rate", 1e-2, "--lora-rank", 8, "--compute", "fp32", "--seed", 1,
                "--lora-targets", "full", *KINDS[kind])
    return out


def fused(ctx, kind, name, *options):
    out = ctx.work / "fuse" / f"{kind}-{name}"
    if not (out / "config.json").exists():
        ctx.run("fuse", "--model", ctx.tiny(MODEL), "--adapter-path", trained(ctx, kind), "--save-path", out, *options)
    return out


def same_logits(ctx, kind, name, bound, *options):
    """mlx-lm's logits of the fused model against its own of base and adapter, in 32 bits."""
    adapter = trained(ctx, kind)
    expected = check_logits.mlx_logits(ctx.tiny(MODEL), adapter)
    moved = float(np.max(np.abs(expected - check_logits.mlx_logits(ctx.tiny(MODEL)))))
    assert moved > 0.1, f"the adapter moves the logits by {moved:.3g} only"
    common.near("logits", check_logits.mlx_logits(fused(ctx, kind, name, *options)), expected, bound * moved)


def as_graft(ctx, kind):
    """Both programs have the same logits of a model fused into 4 bits."""
    out = fused(ctx, kind, "4")
    check_logits.near("logits", out, check_logits.mlx_logits(out), check_logits.graft_logits(ctx, out))


def module_sums(ctx, kind):
    """name, W, W + scale B A in f32, dtype of scales, for every adapted linear; bits and group are mlx-lm's defaults."""
    import json

    from safetensors.numpy import load_file

    adapter = trained(ctx, kind)
    config = json.loads((adapter / "adapter_config.json").read_text())
    scale, tensors = config["lora_parameters"]["scale"], load_file(adapter / "adapters.safetensors")
    weights, _ = common.read_weights(ctx.tiny(MODEL))
    for name in sorted(tensors):
        if name.endswith(".lora_a"):
            path = name.removesuffix(".lora_a")
            delta = scale * (np.float64(tensors[name]) @ np.float64(tensors[path + ".lora_b"])).T
            yield path, weights[path + ".weight"], (weights[path + ".weight"] + delta).astype(np.float32)


def quantized_anew(ctx, kind):
    """Codes, scales and biases of every module; the sums' last bits may round a code in a thousand the other way."""
    import mlx.core as mx

    found, base = common.read_tensors(fused(ctx, kind, "4")), common.read_tensors(ctx.tiny(MODEL))
    wrong = codes = modules = 0
    for path, _, total in module_sums(ctx, kind):
        words, scales, biases = (np.array(x) for x in mx.quantize(mx.array(total), 64, 4))
        mine = common.unpack(found[path + ".weight"], 4, total.shape[1])
        wrong += int((mine != common.unpack(words, 4, total.shape[1])).sum())
        codes += mine.size
        modules += 1
        common.near(path + ".scales", found[path + ".scales"], scales, 2e-2 * float(np.max(np.abs(scales))))
        common.near(path + ".biases", found[path + ".biases"], biases, 2e-2 * float(np.max(np.abs(biases))))
        assert not np.array_equal(found[path + ".weight"], base[path + ".weight"])
    assert modules and modules % 7 == 0, modules
    assert wrong <= codes / 1000, f"{wrong} of {codes} codes are not mx.quantize's"


def biases_alone(ctx):
    """Group-pooled: every byte of codes and scales stays."""
    found, base = common.read_tensors(fused(ctx, "pooled", "4")), common.read_tensors(ctx.tiny(MODEL))
    assert found.keys() == base.keys()
    for name, value in base.items():
        moved = name.endswith(".biases") and name.split(".")[-2] in LINEARS
        assert np.array_equal(found[name], value) != moved, name


def checks(ctx):
    yield "in 32 bits as base and adapter in mlx-lm", \
        lambda: same_logits(ctx, "plain", "32", 1e-4, "--dequantize", "--dtype", "float32")
    yield "DoRA in 32 bits as base and adapter in mlx-lm", \
        lambda: same_logits(ctx, "dora", "32", 1e-3, "--dequantize", "--dtype", "float32")
    yield "codes that change are mx.quantize's", lambda: quantized_anew(ctx, "plain")
    yield "group-pooled: biases alone change", lambda: biases_alone(ctx)
    yield "group-pooled in 4 bits as base and adapter in mlx-lm", lambda: same_logits(ctx, "pooled", "4", 2e-2)
    yield "group-pooled in 4 bits with 32-bit biases as base and adapter in mlx-lm", \
        lambda: same_logits(ctx, "pooled", "4-32", 1e-4, "--dtype", "float32")
    for kind in KINDS:
        yield f"fused into 4 bits, mlx-lm as graft: {kind}", lambda kind=kind: as_graft(ctx, kind)
