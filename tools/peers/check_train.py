"""20 training steps of graft in f32 against PyTorch + PEFT in f32, from the same adapter and the same rows.

Bounds: over 20 AdamW steps PyTorch f32 itself is up to 3e-5 (loss), 4e-4 (all A together) and 6e-4 (all B) away from
f64 on SmolLM2, single tensors 6e-3, because Adam turns the rounding of near-zero gradients into changes of sign; f32
sums in another order may be as far on the other side. On the small models f32 and f64 differ by 2e-6 (loss) and 1e-5 (all
B) only, so there the bounds are a tenth. A wrong rule anywhere shows at 1e-2 or more.
"""
import json
from pathlib import Path

import numpy as np

import common
import train_torch

ITERS, BATCH, ACCUMULATION, RANK = 20, 2, 2, 8
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LOSS, GROUP, SINGLE = 5e-4, 2e-3, 2e-2
# name, model, data, rate, schedule, warm-up, targets
CASES = [
    ("llama with llama3 rope", "llama_rope", "text", 1e-3, "linear", 3, ALL),
    ("llama tied, prompt masked", "llama_tied", "chat", 1e-3, "cosine", 2, ALL),
    ("mistral with a sliding window", "mistral_window", "text", 1e-3, "cosine", 0, ["q_proj", "k_proj", "v_proj", "o_proj"]),
    ("qwen2 with qkv bias", "qwen2", "text", 1e-3, "linear", 0, ALL),
    ("qwen3 with q/k norm", "qwen3", "text", 1e-3, "constant", 5, ALL),
    ("gemma2 with caps and windows", "gemma2", "text", 1e-3, "linear", 0, ALL),
    ("gemma3 with two rotary bases", "gemma3", "text", 1e-3, "cosine", 0, ALL),
    ("phi3 with fused projections", "phi3", "text", 1e-3, "linear", 0, ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
    ("starcoder2 with LayerNorm", "starcoder2", "text", 1e-3, "linear", 0, ["q_proj", "v_proj", "c_fc", "c_proj"]),
    ("qwen3_moe, its attention", "qwen3_moe", "text", 1e-3, "linear", 0, ["q_proj", "k_proj", "v_proj", "o_proj"]),
    ("olmo2 with norms behind", "olmo2", "text", 1e-3, "linear", 0, ALL),
    ("llama tied, MLX 4-bit", "llama_tied_mlx4", "text", 1e-3, "constant", 0, ALL),
    ("SmolLM2, MLX 4-bit", "smollm", "text", 2e-4, "cosine", 2, ["q_proj", "k_proj", "v_proj", "o_proj"]),
]


def torch_half(model_dir, data_dir, init_dir, case, dtype=None, units=lambda rows: rows, **kwargs):
    """Makes the initial adapter if absent and trains units(rows); returns the report and the trained tensors."""
    import peft

    _, _, _, lr, schedule, warmup, targets = case
    base = common.torch_model(model_dir, dtype)
    if not (init_dir / "adapter_config.json").exists():
        train_torch.make_init(base, init_dir, RANK, targets)
    model = peft.PeftModel.from_pretrained(base, str(init_dir), is_trainable=True)
    if dtype is not None:
        model = model.to(dtype)
    rows = common.read_rows(common.tokenizer(model_dir), Path(data_dir) / "train.jsonl")
    report = train_torch.train(model, units(rows), ITERS, BATCH, ACCUMULATION, lr, schedule, warmup, **kwargs)
    return report, train_torch.adapter_tensors(model)


def graft_half(ctx, model_dir, data_dir, init_dir, out_dir, case, *more):
    _, _, data, lr, schedule, warmup, _ = case
    masked = ["--mask-prompt"] if data == "chat" else []
    ctx.run("train", "--model", model_dir, "--data", data_dir, "--adapter-path", out_dir, "--iters", ITERS,
            "--batch-size", BATCH, "--grad-accumulation-steps", ACCUMULATION, "--learning-rate", lr, "--lr-schedule",
            schedule, "--warmup", warmup, "--weight-decay", 0.01, "--grad-clip", 1.0, "--optimizer", "adamw",
            "--compute", "fp32", "--no-shuffle", "--steps-per-report", 1, "--steps-per-eval", 1000,
            "--resume-adapter-file", init_dir, *masked, *more)
    from safetensors.numpy import load_file

    lines = [json.loads(line) for line in (out_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train_loss" in line], load_file(out_dir / "adapter_model.safetensors")


def compare_adapters(found, expected, strict):
    """Returns the larger relative distance of all A together and all B together."""
    worst = 0.0
    assert set(found) == set(expected), f"tensor names differ: {sorted(set(found) ^ set(expected))[:6]}"
    for part in ("lora_A", "lora_B"):
        names = [n for n in expected if part in n]
        distance = common.relative([found[n] for n in names], [expected[n] for n in names])
        assert distance <= strict * GROUP, f"all {part} together: relative distance {distance:.3g}"
        worst = max(worst, distance)
    for name in expected:
        distance = common.relative([found[name]], [expected[name]])
        assert distance <= strict * SINGLE, f"{name}: relative distance {distance:.3g}"
    return worst


def compare_reports(lines, report, strict):
    """Returns the largest difference of a loss."""
    assert len(lines) == len(report), f"{len(lines)} reported iterations, expected {len(report)}"
    worst = common.near("losses", [line["train_loss"] for line in lines], [r["loss"] for r in report], strict * LOSS)
    for i, (line, r) in enumerate(zip(lines, report), 1):
        assert line["iteration"] == i, f"iteration {line['iteration']} at line {i}"
        if r["rate"] is not None:
            common.near(f"learning_rate at {i}", line["learning_rate"], r["rate"], 1e-6 * abs(r["rate"]) + 1e-12)
            common.near(f"grad_norm at {i}", line["grad_norm"], r["grad_norm"], 5e-3 * r["grad_norm"])
    return worst


def one(ctx, case):
    name, model, data, *_ = case
    model_dir = ctx.smollm() if model == "smollm" else ctx.tiny(model)
    assert model_dir is not None, "no SmolLM2 GGUF in the cache"
    data_dir = ctx.tiny_data(data)
    place = ctx.work / "train" / name.replace(" ", "_").replace("/", "_")
    report, expected = torch_half(model_dir, data_dir, place / "init", case)
    lines, found = graft_half(ctx, model_dir, data_dir, place / "init", place / "graft", case)
    strict = 1.0 if model == "smollm" else 0.1
    table = "20 steps as PyTorch + PEFT"
    ctx.figure(table, name, "losses", compare_reports(lines, report, strict))
    ctx.figure(table, name, "adapter, relative", compare_adapters(found, expected, strict))
    changed = max(float(np.max(np.abs(v))) for k, v in expected.items() if "lora_B" in k)
    assert changed > 1e-4, "nothing was trained"


def checks(ctx):
    for case in CASES:
        yield f"20 steps as PyTorch + PEFT: {case[0]}", lambda case=case: one(ctx, case)
