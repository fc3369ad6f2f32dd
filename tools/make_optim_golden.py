"""Writes tests/golden/optim.json: ten steps of each optimizer from torch and mlx, in float64.

usage: make_optim_golden.py OUTPUT_DIR

Parameter p0 [6,5] is formula("p"), the gradient of step k = 1..10 is formula("g<k>") (tools/tiny_formula.py), the rate
of step k is 0.01 * k / 10; runs with another shape say it. "after" holds p after steps 1, 2 and 10.
"""
import json
import sys
from pathlib import Path

import numpy as np

import tiny_formula

SHAPE, STEPS, KEEP = (6, 5), 10, (1, 2, 10)


def rate(k):
    return 0.01 * k / 10


def run_torch(kind, **options):
    import torch

    p = torch.nn.Parameter(torch.from_numpy(tiny_formula.formula("p", SHAPE)))
    optimizer = getattr(torch.optim, kind)([p], lr=1.0, **options)
    after = []
    for k in range(1, STEPS + 1):
        p.grad = torch.from_numpy(tiny_formula.formula(f"g{k}", SHAPE))
        optimizer.param_groups[0]["lr"] = rate(k)
        optimizer.step()
        if k in KEEP:
            after.append(p.detach().numpy().reshape(-1).tolist())
    return {"program": f"torch.optim.{kind} {torch.__version__}", "options": options, "after": after}


def run_mlx(kind, shape=SHAPE, **options):
    import mlx.core as mx
    import mlx.optimizers

    mx.set_default_device(mx.cpu)
    p = {"p": mx.array(tiny_formula.formula("p", shape), dtype=mx.float64)}
    optimizer = getattr(mlx.optimizers, kind)(learning_rate=1.0, **options)
    after = []
    for k in range(1, STEPS + 1):
        optimizer.learning_rate = mx.array(rate(k), dtype=mx.float64)
        p = optimizer.apply_gradients({"p": mx.array(tiny_formula.formula(f"g{k}", shape), dtype=mx.float64)}, p)
        mx.eval(p)
        assert p["p"].dtype == mx.float64, p["p"].dtype
        if k in KEEP:
            after.append(np.array(p["p"]).reshape(-1).tolist())
    from importlib.metadata import version

    program = f"mlx.optimizers.{kind} {version('mlx')}"
    return {"program": program, "shape": shape, "options": options, "after": after}


def main():
    adam = {"betas": (0.9, 0.999), "eps": 1e-8}
    runs = {
        "adamw": run_torch("AdamW", **adam, weight_decay=0.01),
        "adam": run_torch("Adam", **adam),
        "sgd": run_torch("SGD", momentum=0.9, weight_decay=0.01),
        "mlx_adam_uncorrected": run_mlx("Adam", betas=[0.9, 0.999], eps=1e-8, bias_correction=False),
        "mlx_adamw_corrected": run_mlx("AdamW", betas=[0.9, 0.999], eps=1e-8, weight_decay=0.01, bias_correction=True),
        "mlx_sgd": run_mlx("SGD", momentum=0.9, weight_decay=0.01),
        "mlx_adafactor": run_mlx("Adafactor", relative_step=False, scale_parameter=False),
        "mlx_adafactor_default": run_mlx("Adafactor"),
        "mlx_adafactor_all": run_mlx(
            "Adafactor",
            shape=(4, 9),
            relative_step=False,
            eps=(1e-20, 0.8),
            clip_threshold=0.7,
            decay_rate=-0.6,
            beta_1=0.9,
            weight_decay=0.02,
        ),
        "mlx_adafactor_warmup": run_mlx("Adafactor", shape=(9, 4), warmup_init=True),
        "mlx_adafactor_vector": run_mlx("Adafactor", shape=(7,), relative_step=False),
        "mlx_muon_wide": run_mlx("Muon", shape=(4, 9)),
        "mlx_muon_tall": run_mlx("Muon", shape=(9, 4), momentum=0.8, weight_decay=0.0, ns_steps=3),
        "mlx_muon_plain": run_mlx("Muon", shape=(4, 9), nesterov=False),
        "mlx_muon_vector": run_mlx("Muon", shape=(7,)),
        "mlx_muon": run_mlx("Muon", momentum=0.95, weight_decay=0.01),
    }
    text = json.dumps({"script": "tools/make_optim_golden.py", "shape": SHAPE, "kept_steps": KEEP, "runs": runs}, indent=1)
    (Path(sys.argv[1]) / "optim.json").write_text(text + "\n")
    print(f"optim.json: {len(text)} bytes")


if __name__ == "__main__":
    main()
