"""Ten training steps of graft in f32 with adafactor and muon against mlx-lm's model and mlx.optimizers, both on the
same initial adapter (or the base, for full), rows and optimizer_config.

Bounds: both sum f32 in orders of their own. Adafactor divides by the root of a gradient's mean, so near-zero gradients
keep their relative rounding; muon's five iterations amplify rounding some hundred times. A wrong rule, such as the
other orientation of A, shows at 1e-1 in the step's size.
"""
import json

import common

ITERS, BATCH, RANK, SCALE, RATE = 10, 2, 4, 2.0, 1e-3
LOSS, GROUP = 1e-4, 5e-3
KEYS = ["self_attn.q_proj", "mlp.down_proj"]
# name, optimizer, optimizer_config, whether the blocks themselves train
CASES = [
    ("adafactor as mlx-lm runs it", "adafactor", {}, False),
    ("adafactor with a given rate", "adafactor", {"relative_step": False, "scale_parameter": False}, False),
    ("adafactor with every setting", "adafactor", {"eps": [1e-20, 1e-2], "clip_threshold": 0.7, "decay_rate": -0.6,
                                                   "beta_1": 0.9, "weight_decay": 0.02, "relative_step": False}, False),
    ("muon as mlx-lm runs it", "muon", {}, False),
    ("muon with every setting", "muon", {"momentum": 0.8, "weight_decay": 0.1, "nesterov": False, "ns_steps": 3}, False),
    ("adafactor on whole blocks", "adafactor", {}, True),
    ("muon on whole blocks", "muon", {}, True),
]


def mlx_model(model_dir, full):
    import mlx.core as mx
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    mx.set_default_device(mx.cpu)
    mx.random.seed(3)
    model, _ = load_model(model_dir)
    model.set_dtype(mx.float32)
    model.freeze()
    if full:
        for layer in model.layers:
            layer.unfreeze()
        return model
    linear_to_lora_layers(model, len(model.layers), {"rank": RANK, "scale": SCALE, "dropout": 0.0, "keys": KEYS})
    return model


def save_start(model, place):
    import mlx.core as mx
    from mlx.utils import tree_flatten

    place.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(place / "adapters.safetensors"), dict(tree_flatten(model.trainable_parameters())))
    config = {"fine_tune_type": "lora", "num_layers": len(model.layers),
              "lora_parameters": {"rank": RANK, "scale": SCALE, "dropout": 0.0,
                                  "keys": KEYS}}
    (place / "adapter_config.json").write_text(json.dumps(config))


def mlx_half(model, rows, kind, settings):
    import mlx.core as mx
    import mlx.nn as nn
    import mlx.optimizers
    import numpy as np
    from mlx.utils import tree_flatten

    optimizer = {"adafactor": mlx.optimizers.Adafactor, "muon": mlx.optimizers.Muon}[kind]
    optimizer = optimizer(learning_rate=RATE, **settings)

    def loss_of(batch):
        total = 0
        for ids, _ in batch:
            logits = model(mx.array([ids[:-1]]))
            total = total + nn.losses.cross_entropy(logits, mx.array([ids[1:]])).sum()
        return total / sum(len(ids) - 1 for ids, _ in batch)

    step, losses = nn.value_and_grad(model, loss_of), []
    for i in range(ITERS):
        loss, grads = step([rows[(i * BATCH + k) % len(rows)] for k in range(BATCH)])
        optimizer.update(model, grads)
        mx.eval(model.parameters(), optimizer.state)
        losses.append(loss.item())
    return losses, {name: np.array(x) for name, x in tree_flatten(model.trainable_parameters())}


def one(ctx, case):
    import numpy as np
    from safetensors.numpy import load_file

    name, kind, settings, full = case
    model_dir, data_dir = ctx.tiny("llama_tied"), ctx.tiny_data("text")
    place = ctx.work / "optimizers" / name.replace(" ", "_")
    model = mlx_model(model_dir, full)
    save_start(model, place / "start")
    rows = common.read_rows(common.tokenizer(model_dir), data_dir / "train.jsonl")
    assert len(rows) % BATCH == 0 or len(rows) >= ITERS * BATCH, "rows would wrap inside a batch"
    (place / "config.yaml").write_text(json.dumps({"optimizer": kind, "optimizer_config": {kind: settings}}))
    what = ["--fine-tune-type", "full", "--num-layers", -1] if full else ["--resume-adapter-file", place / "start"]
    ctx.run("train", "--config", place / "config.yaml", "--model", model_dir, "--data", data_dir, "--adapter-path",
            place / "graft", "--iters", ITERS, "--batch-size", BATCH, "--learning-rate", RATE, "--compute", "fp32",
            "--no-shuffle", "--steps-per-report", 1, "--steps-per-eval", 1000, *what)
    lines = [json.loads(line) for line in (place / "graft" / "metrics.jsonl").read_text().splitlines()]
    found = load_file(place / "graft" / "adapters.safetensors")
    start = load_file(place / "start" / "adapters.safetensors")
    losses, expected = mlx_half(model, rows, kind, settings)
    common.near("losses", [line["train_loss"] for line in lines if "train_loss" in line], losses, LOSS)
    assert set(found) == set(expected), "tensor names differ"
    for part in ("proj.weight", "layernorm.weight") if full else ("lora_a", "lora_b"):
        names = [n for n in expected if part in n]
        moved = [expected[n] - start[n] for n in names]
        distance = common.relative([found[n] - start[n] for n in names], moved)
        assert distance <= GROUP, f"all {part} together: what training changed differs by {distance:.3g}"
        assert max(float(np.max(np.abs(x))) for x in moved) > 1e-5, f"no {part} was trained"


def checks(ctx):
    for case in CASES:
        yield f"10 steps as mlx.optimizers: {case[0]}", lambda case=case: one(ctx, case)
