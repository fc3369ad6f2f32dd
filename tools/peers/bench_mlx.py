"""The steps of `graft bench train --peer mlx` in mlx-lm on the CPU: the same quantized base, computed in float32 (many
times as fast there as in 16 bits). usage: bench_mlx.py FOLDER (see bench_common.py)
"""
import bench_common


def load(run):
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm import utils

    if run["model"]:
        model, *_ = utils.load(run["model"])
    else:  # a shape: random weights, linears of the blocks in 4 bits
        mx.random.seed(run["seed"])
        model_class, args_class = utils._get_classes(run["config"])  # pylint: disable=protected-access
        model = model_class(args_class.from_dict(run["config"]))
        nn.quantize(model, 64, 4, class_predicate=lambda path, m: isinstance(m, nn.Linear) and "lm_head" not in path)
    model.set_dtype(mx.float32)
    model.freeze()
    mx.eval(model.parameters())
    return model


def adapted(run, model):
    from mlx_lm.tuner.trainer import grad_checkpoint
    from mlx_lm.tuner.utils import load_adapters

    model = load_adapters(model, run.adapter)
    model.train()
    if run["recompute"]:
        grad_checkpoint(model.layers[0])
    return model


def stepper(run, model):
    import mlx.core as mx
    import mlx.nn as nn
    import mlx.optimizers as optim
    from mlx.utils import tree_map

    optimizer = optim.AdamW(learning_rate=1.0, betas=[run["beta1"], run["beta2"]], eps=run["epsilon"],
                            weight_decay=run["weight_decay"], bias_correction=True)
    each = run["grad_accumulation_steps"]

    def mean_loss(ids, targets):
        return nn.losses.cross_entropy(model(ids).astype(mx.float32), targets, reduction="mean")

    loss_and_grad = nn.value_and_grad(model, mean_loss)

    def step(k):
        total, grads = 0.0, None
        for ids, targets in run.batches(k):
            loss, own = loss_and_grad(mx.array(ids), mx.array(targets))
            grads = own if grads is None else tree_map(lambda a, b: a + b, grads, own)
            mx.eval(loss, grads)
            total += loss.item()
        grads = tree_map(lambda g: g / each, grads)
        if run["grad_clip"] > 0:
            grads, _ = optim.clip_grad_norm(grads, run["grad_clip"])
        optimizer.learning_rate = run["learning_rates"][k]
        optimizer.update(model, grads)
        mx.eval(model.trainable_parameters(), optimizer.state)
        return total / each

    return step


def main():
    from importlib.metadata import version

    run = bench_common.Run()
    model = adapted(run, load(run))
    program = f"mlx {version('mlx')} + mlx-lm {version('mlx-lm')}, float32"
    bench_common.measure(run, stepper(run, model), program, "float32")


if __name__ == "__main__":
    main()
