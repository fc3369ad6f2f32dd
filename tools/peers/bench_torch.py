"""The steps of `graft bench train --peer torch` in PyTorch + PEFT, bf16 unless graft computes in fp32: LoRA on the
dequantized base, AdamW, clipping. usage: bench_torch.py FOLDER [--compile | --recompute | --fp32] (see bench_common.py)

--compile: model and loss through torch.compile; --recompute: gradient checkpointing, as where graft recomputes; --fp32.
"""
import sys

import bench_common
import common


def load(run, dtype):
    """The base: the model's own weights, or random ones of a shape."""
    import torch
    import transformers

    if run["model"]:
        model = common.torch_model(run["model"], dtype)
    else:
        config = dict(run["config"])
        torch.manual_seed(run["seed"])
        model = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(config.pop("model_type"), **config), dtype=dtype)
    model.set_attn_implementation("sdpa")
    return model


def adapted(run, base):
    """With graft's initial A and B."""
    import peft

    if run["recompute"] or "--recompute" in sys.argv:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        base.enable_input_require_grads()
    return peft.PeftModel.from_pretrained(base, run.adapter, is_trainable=True).train()


def stepper(run, model):
    """step(k): one update, its mean loss before."""
    import torch

    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1.0, betas=(run["beta1"], run["beta2"]), eps=run["epsilon"],
                                  weight_decay=run["weight_decay"])

    def mean_loss(ids, targets):
        logits = model(input_ids=ids).logits.float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    if "--compile" in sys.argv:
        mean_loss = torch.compile(mean_loss)  # the first step compiles

    def step(k):
        total = 0.0
        for ids, targets in run.batches(k):
            loss = mean_loss(torch.from_numpy(ids).long(), torch.from_numpy(targets).long())
            loss = loss / run["grad_accumulation_steps"]
            loss.backward()
            total += loss.item()
        if run["grad_clip"] > 0:
            torch.nn.utils.clip_grad_norm_(parameters, run["grad_clip"])
        for group in optimizer.param_groups:
            group["lr"] = run["learning_rates"][k]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return step


def main():
    import torch

    run = bench_common.Run()
    torch.set_num_threads(run["threads"])
    dtype = torch.float32 if run["compute"] == "fp32" or "--fp32" in sys.argv else torch.bfloat16
    model = adapted(run, load(run, dtype))
    program = f"torch {torch.__version__} + PEFT, {str(dtype)[6:]}"
    if "--compile" in sys.argv:
        program += ", torch.compile"
    elif "--recompute" in sys.argv or run["recompute"]:
        program += ", gradient checkpointing"
    bench_common.measure(run, stepper(run, model), program, str(dtype)[6:])


if __name__ == "__main__":
    main()
