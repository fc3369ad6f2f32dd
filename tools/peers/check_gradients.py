"""Gradients of an adapter in f32 against PEFT's in float64, of every architecture.

One step of SGD without clipping moves a parameter by rate times its gradient, so that what the file holds before and after
says the gradient; the rate is large, so that little of it is rounded away. PEFT made the adapter, and nothing in it is zero.
transformers computes norms, softmax and rotary angles in f32 in every type; ExactMode makes these float64, too.
"""
import numpy as np

import check_adapter_kinds
import check_logits
import common
import train_torch

RATE, ROWS = 1024, 4
FUSED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
TARGETS = {"phi3": FUSED, "phi4": FUSED, "starcoder2": [*check_adapter_kinds.ATTENTION, "c_fc", "c_proj"],
           "qwen3_moe": check_adapter_kinds.ATTENTION, "olmoe": check_adapter_kinds.ATTENTION}


def of_peft(ctx, model_dir, start):
    """{name in PEFT's file: gradient of the mean loss over the first rows}."""
    import peft
    import torch
    from make_models_golden import ExactMode

    rows = check_adapter_kinds.text_rows(ctx, model_dir, "train")[:ROWS]
    model = peft.PeftModel.from_pretrained(common.torch_model(model_dir), str(start), is_trainable=True).double().eval()
    model.config._experts_implementation = "eager"  # of mixtures: the others have no float64
    with ExactMode():
        losses, counts = zip(*(train_torch.row_loss(model, ids, mask) for ids, mask in rows))
        (sum(losses) / sum(counts)).backward()
    for p in model.parameters():
        p.data = p.grad if p.requires_grad else p.data
    assert all(p.dtype == torch.float64 for p in model.parameters())
    return train_torch.adapter_tensors(model)


def one(ctx, name):
    from safetensors.numpy import load_file

    model_dir, place = ctx.tiny(name), ctx.work / "gradients" / name
    check_adapter_kinds.peft_start(model_dir, place / "start", dict(target_modules=TARGETS.get(name, check_adapter_kinds.ALL)),
                                   0.05)
    ctx.run("train", "--model", model_dir, "--data", ctx.tiny_data("text"), "--adapter-path", place / "moved", "--iters", 1,
            "--batch-size", ROWS, "--optimizer", "sgd", "--learning-rate", RATE, "--grad-clip", 0, "--compute", "fp32",
            "--no-shuffle", "--resume-adapter-file", place / "start")
    before, after = (load_file(place / d / "adapter_model.safetensors") for d in ("start", "moved"))
    expected = of_peft(ctx, model_dir, place / "start")
    assert set(before) == set(after) == set(expected)
    # of a tensor's largest gradient: twice the roundings of the logits' way, there and back; sums over the rows' tokens
    # are no longer than those over the features
    bound, worst = 2 * check_logits.bound(model_dir, 1), 0.0
    for key, want in expected.items():
        found = (before[key].astype(np.float64) - after[key]) / RATE
        largest = float(np.max(np.abs(want)))
        assert largest > 0, f"{key} has no gradient"
        worst = max(worst, common.near(key, found / largest, want / largest, bound))
    ctx.figure(check_logits.TABLE, name, "gradients", worst)


def checks(ctx):
    for name in check_logits.TINY:
        yield f"gradients as PEFT in float64: {name}", lambda name=name: one(ctx, name)
