"""Every kind of adapter, and full training, against PEFT, PyTorch and mlx-lm in the same run.

For each kind of KINDS: PEFT makes and saves an adapter whose matrices are all far from zero; `graft eval` with it has
PEFT's loss; ten steps of graft from it are ten steps of PEFT; PEFT, and mlx-lm where its format holds the kind, load what
graft saved and have graft's logits. For each of FRESH graft makes the adapter itself from its options. mlx-lm's own
adapters (MLX) are loaded by graft. test_ten_steps.c has tighter bounds against float64; here everything passes through
the programs' real files.
"""
import json

import numpy as np

import check_logits
import common
import train_torch

ITERS, BATCH, RATE, FULL_RATE = 10, 2, 2e-3, 5e-4
LOGITS = 1e-4  # of the largest logit, 5 to 20
LOSS, GROUP = 5e-4, 2e-3  # relative: the bounds of check_train, and a tenth of them on small models
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = ATTENTION + ["gate_proj", "up_proj", "down_proj"]
TIED = {"ensure_weight_tying": True}
# name: model, PEFT's settings, can mlx-lm hold it, LoRA+ ratio
KINDS = {
    "rank and alpha patterns": ("qwen2", dict(target_modules=ALL, rank_pattern={"q_proj": 4, r"layers\.1\..*down_proj": 2},
                                              alpha_pattern={"v_proj": 7}), True, None),
    "rslora": ("llama_tied", dict(target_modules=ALL, use_rslora=True), True, None),
    "layers and exclude": ("llama_tied", dict(target_modules=ALL, layers_to_transform=[0, 2], exclude_modules=["gate_proj"]),
                           True, None),
    "bias all": ("qwen2", dict(target_modules=["q_proj", "down_proj"], bias="all"), False, None),
    "bias lora_only": ("qwen2", dict(target_modules=ATTENTION, bias="lora_only"), False, None),
    "dora": ("qwen3", dict(target_modules=ALL, use_dora=True), True, None),
    "dora on 4 bits": ("llama_tied_mlx4", dict(target_modules=ALL, use_dora=True), True, None),
    "dora and bias all": ("qwen2", dict(target_modules=ATTENTION, use_dora=True, bias="all"), False, None),
    "embedding and head": ("qwen3", dict(target_modules=["q_proj", "embed_tokens", "lm_head"]), True, None),
    "head alone": ("qwen3", dict(target_modules=["v_proj", "lm_head"]), True, None),
    "tied embedding": ("llama_tied", dict(target_modules=["q_proj", "embed_tokens"], **TIED), True, None),
    "tied embedding, scaled": ("gemma3", dict(target_modules=["q_proj", "embed_tokens"], **TIED), True, None),
    "modules to save": ("qwen3", dict(target_modules=ATTENTION, modules_to_save=["embed_tokens", "lm_head"]), False, None),
    "tied embedding to save": ("qwen2", dict(target_modules=ATTENTION, modules_to_save=["embed_tokens"], **TIED), False,
                               None),
    "loraplus": ("llama_tied", dict(target_modules=ALL), True, 4.0),
    "SmolLM2, dora with patterns": ("smollm", dict(target_modules=ATTENTION, use_dora=True, rank_pattern={"k_proj": 4},
                                                   alpha_pattern={"o_proj": 4}, layers_to_transform=[5, 28, 29]), True,
                                    None),
}
# name: model, options, mlx-lm, PEFT
FRESH = {
    "rank and alpha patterns": ("llama_tied", ["--lora-targets", "full", "--rank-pattern", '{"q_proj": 4, "down_proj": 3}',
                                               "--alpha-pattern", '{"v_proj": 5}'], True, True),
    "rslora": ("qwen2", ["--use-rslora", "--lora-rank", 6], True, True),
    "dropout": ("llama_tied", ["--lora-dropout", 0.3], True, True),
    "bias all": ("qwen2", ["--lora-targets", "standard", "--lora-bias", "all"], False, True),
    "dora": ("qwen2", ["--fine-tune-type", "dora", "--lora-targets", "full"], True, True),
    "dora on 4 bits": ("llama_tied_mlx4", ["--fine-tune-type", "dora"], True, True),
    "embedding and head": ("qwen3", ["--lora-targets", "q_proj,embed_tokens,lm_head"], True, True),
    "tied embedding": ("llama_tied", ["--lora-targets", "v_proj,embed_tokens"], True, True),
    "modules to save": ("qwen3", ["--modules-to-save", "embed_tokens,lm_head"], False, True),
    "tied embedding to save": ("llama_tied", ["--modules-to-save", "embed_tokens"], False, True),
    "the last two blocks": ("llama_tied", ["--num-layers", 2], True, True),
    "all at once": ("qwen2", ["--fine-tune-type", "dora", "--lora-bias", "all", "--rank-pattern", '{"q_proj": 2}',
                              "--modules-to-save", "embed_tokens", "--loraplus-lr-ratio", 4, "--use-rslora"], False, True),
    "full, one block": ("llama_tied", ["--fine-tune-type", "full", "--num-layers", 1], True, False),
    "full, all blocks of qwen2": ("qwen2", ["--fine-tune-type", "full"], True, False),
    "full with embedding and head": ("qwen3", ["--fine-tune-type", "full", "--modules-to-save", "embed_tokens,lm_head"],
                                     True, False),
}
# name: model, keys, DoRA; None: full training
MLX = {
    "lora on named modules": ("llama_tied", ["self_attn.q_proj", "mlp.down_proj"], False),
    "dora": ("qwen2", ["self_attn.q_proj", "mlp.up_proj"], True),
    "dora on 4 bits": ("llama_tied_mlx4", ["self_attn.v_proj"], True),
    "embedding and head": ("qwen3", ["model.embed_tokens", "lm_head", "self_attn.o_proj"], False),
    "tied embedding": ("llama_tied", ["model.embed_tokens", "self_attn.o_proj"], False),
    "full": ("qwen2", None, False),
}


def close_logits(what, found, expected):
    common.near(what, found, expected, LOGITS * float(np.max(np.abs(expected))))


def plain_loss(model, rows):
    """Loss per target over all rows."""
    import torch

    model.eval()
    with torch.no_grad():
        parts = [train_torch.row_loss(model, ids, mask) for ids, mask in rows]
    return sum(float(loss) for loss, _ in parts) / sum(n for _, n in parts)


def text_rows(ctx, model_dir, name):
    return common.read_rows(common.tokenizer(model_dir), ctx.tiny_data("text") / f"{name}.jsonl")


def peft_start(model_dir, folder, settings, noise):
    """An adapter as PEFT saves it: nothing in it is zero, saved modules and biases are not the base's."""
    import peft
    import torch

    torch.manual_seed(5)
    model = peft.get_peft_model(common.torch_model(model_dir),
                                peft.LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", **settings))
    for name, p in model.named_parameters():
        if p.requires_grad and "lora_A" not in name and "lm_head.lora" not in name:
            p.data += noise * torch.randn(p.shape) * (p.abs().mean() if "magnitude" in name else 1)
    model.save_pretrained(folder)


def graft_eval(ctx, model_dir, adapter):
    return ctx.json("eval", "--model", model_dir, "--adapter-path", adapter, "--compute", "fp32", "--data",
                    ctx.tiny_data("text") / "test.jsonl")["loss"]


def graft_train(ctx, model_dir, out, *more):
    ctx.run("train", "--model", model_dir, "--data", ctx.tiny_data("text"), "--adapter-path", out, "--iters", ITERS,
            "--batch-size", BATCH, "--compute", "fp32", "--no-shuffle", "--steps-per-report", 1, "--steps-per-eval", 1000,
            "--optimizer", "adamw", "--weight-decay", 0.01, "--grad-clip", 1.0, *more)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["train_loss"] for line in lines if "train_loss" in line]


def peft_loads(ctx, model_dir, out):
    """A fresh PEFT model with graft's files has graft's logits, and every tensor of the file found its place."""
    import peft
    from safetensors.numpy import load_file

    close_logits("PEFT's logits with graft's files", check_logits.graft_logits(ctx, model_dir, out),
                 check_logits.torch_logits(model_dir, out))
    model = peft.PeftModel.from_pretrained(common.torch_model(model_dir), str(out))
    known = train_torch.adapter_tensors(model)
    for name, value in load_file(out / "adapter_model.safetensors").items():
        assert name in known, f"PEFT drops {name}"
        common.near(name, value, known[name], 0)
    return model


def same_answer(ctx, model_dir, out, model):
    """Twelve greedy tokens: graft's decoding takes other paths than its batches."""
    import torch

    tok = common.tokenizer(model_dir)
    ids = tok.encode("Ada found")
    start = len(ids)
    model.eval()
    with torch.no_grad():
        while len(ids) < start + 12 and (len(ids) == start or ids[-1] != tok.eos_token_id):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    got = ctx.json("generate", "--model", model_dir, "--adapter-path", out, "--prompt", "Ada found", "--max-tokens", 12,
                   "--ignore-chat-template", "--compute", "fp32")["text"]
    want = tok.decode(ids[start:], skip_special_tokens=True)
    assert got == want, f"the answer is {got!r}, PEFT's {want!r}"


def mlx_loads(ctx, model_dir, out):
    close_logits("mlx-lm's logits with graft's files", check_logits.graft_logits(ctx, model_dir, out),
                 check_logits.mlx_logits(model_dir, out))


def compare_tensors(out, model, strict):
    """What ten steps left, all tensors of a kind together, over what they changed."""
    from safetensors.numpy import load_file

    found = load_file(out / "adapter_model.safetensors")
    expected = {k: v for k, v in train_torch.adapter_tensors(model).items() if not k.endswith("base_layer.weight")}
    assert set(found) == set(expected), f"tensor names differ: {sorted(set(found) ^ set(expected))[:6]}"
    for words in (("lora_A", "embedding_A"), ("lora_B", "embedding_B"), ("magnitude",), ("bias",), ("embed_tokens.weight",
                                                                                                     "lm_head.weight")):
        names = [n for n in expected if any(w in n for w in words)]
        if names:
            distance = common.relative([found[n] for n in names], [expected[n] for n in names])
            assert distance <= strict * GROUP, f"{words[0]}: relative distance {distance:.3g}"


def every_tensor_moved(out, start):
    from safetensors.numpy import load_file

    before, after = (load_file(d / "adapter_model.safetensors") for d in (start, out))
    for name, value in after.items():
        assert np.any(value != before[name]), f"{name} did not move"


def from_peft(ctx, kind):
    import peft

    model_name, settings, mlx, ratio = KINDS[kind]
    model_dir, strict = (ctx.smollm(), 1.0) if model_name == "smollm" else (ctx.tiny(model_name), 0.1)
    assert model_dir is not None, "no SmolLM2 GGUF in the cache"
    place = ctx.work / "kinds" / kind.replace(" ", "_").replace(",", "")
    start, out = place / "start", place / "graft"
    peft_start(model_dir, start, settings, 0.15 if model_name == "smollm" else 0.05)
    model = peft.PeftModel.from_pretrained(common.torch_model(model_dir), str(start), is_trainable=True)
    want, got = plain_loss(model, text_rows(ctx, model_dir, "test")), graft_eval(ctx, model_dir, start)
    base = plain_loss(common.torch_model(model_dir), text_rows(ctx, model_dir, "test"))
    assert abs(want - base) > 1e-2, f"the start is too close to the base: {want} and {base}"
    common.near("loss of PEFT's adapter", got, want, strict * LOSS * want)
    losses = graft_train(ctx, model_dir, out, "--learning-rate", RATE, "--resume-adapter-file", start,
                         *(["--loraplus-lr-ratio", ratio] if ratio else []))
    if kind not in ("tied embedding", "tied embedding, scaled"):  # PEFT moves a tied pair twice a step, see make_adapter_golden.py
        report = train_torch.train(model, text_rows(ctx, model_dir, "train"), ITERS, BATCH, 1, RATE, loraplus_ratio=ratio)
        expected = [r["loss"] for r in report]
        common.near("losses", losses, expected, strict * LOSS * max(expected))
        compare_tensors(out, model, strict)
    every_tensor_moved(out, start)
    model = peft_loads(ctx, model_dir, out)
    same_answer(ctx, model_dir, out, model)
    if mlx:
        mlx_loads(ctx, model_dir, out)
    else:
        assert not (out / "adapters.safetensors").exists(), "mlx-lm's format cannot hold this"


def nothing_is_at_rest(model_dir, out):
    """No B is zero any more, and whatever starts as the base's is the base's no longer."""
    from safetensors.numpy import load_file

    file = out / "adapter_model.safetensors"
    base, _ = common.read_weights(model_dir)
    for name, value in load_file(file if file.exists() else out / "adapters.safetensors").items():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        before = base.get("model.embed_tokens.weight" if plain not in base and plain == "lm_head.weight" else plain, 0)
        assert np.any(value != before), f"{name} did not move"


def fresh(ctx, kind):
    model_name, options, mlx, peft = FRESH[kind]
    model_dir, out = ctx.tiny(model_name), ctx.work / "kinds" / ("fresh_" + kind.replace(" ", "_").replace(",", ""))
    graft_train(ctx, model_dir, out, "--learning-rate", RATE, "--seed", 3, *options)
    moved = np.max(np.abs(check_logits.graft_logits(ctx, model_dir, out) - check_logits.torch_logits(model_dir)))
    assert moved > 0.05, f"the adapter moves the logits by {moved} only"
    assert (out / "adapter_model.safetensors").exists() == peft, "adapter_model.safetensors"
    assert (out / "adapters.safetensors").exists() == mlx, "adapters.safetensors"
    nothing_is_at_rest(model_dir, out)
    if peft:
        peft_loads(ctx, model_dir, out)
    if mlx:
        mlx_loads(ctx, model_dir, out)


def full_steps(ctx, model_name, blocks, saved):
    """Full training against plain PyTorch; then the frozen tensors are the base's and every trained one moved."""
    import torch
    from safetensors.numpy import load_file

    model_dir = ctx.tiny(model_name)
    out = ctx.work / "kinds" / f"full_{model_name}_{blocks}_{len(saved)}"
    model = common.torch_model(model_dir)
    layers = model.config.num_hidden_layers
    wanted = tuple(f"model.layers.{i}." for i in range(layers - blocks, layers)) + tuple(saved)
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith(wanted))
    before = {n: p.detach().numpy().copy() for n, p in model.named_parameters()}
    report = train_torch.train(model, text_rows(ctx, model_dir, "train"), ITERS, BATCH, 1, FULL_RATE)
    losses = graft_train(ctx, model_dir, out, "--learning-rate", FULL_RATE, "--fine-tune-type", "full", "--num-layers",
                         blocks, *(["--modules-to-save", ",".join(n.split(".")[-2] for n in saved)] if saved else []))
    expected = [r["loss"] for r in report]
    common.near("losses", losses, expected, 0.1 * LOSS * max(expected))
    found = load_file(out / "adapters.safetensors")
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert set(found) == set(trained), f"tensor names differ: {sorted(set(found) ^ set(trained))[:6]}"
    for name, p in trained.items():
        assert np.any(found[name] != before[name]), f"{name} did not move"
    distance = common.relative([found[n] - before[n] for n in trained],
                               [p.detach().numpy() - before[n] for n, p in trained.items()])
    assert distance <= 2 * GROUP, f"what training changed: relative distance {distance:.3g}"
    with torch.no_grad():
        ids = common.tokenizer(model_dir).encode(check_logits.PROMPT)
        logits = model(input_ids=torch.tensor([ids])).logits[0].numpy()
    same_answer(ctx, model_dir, out, model)
    common.near("logits", check_logits.graft_logits(ctx, model_dir, out), logits, 1e-3 * float(np.max(np.abs(logits))))


def from_mlx(ctx, kind):
    """An adapter that mlx-lm made, as its trainer saves it."""
    import mlx.core as mx
    import mlx_lm
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model_name, keys, dora = MLX[kind]
    model_dir, folder = ctx.tiny(model_name), ctx.work / "kinds" / ("mlx_" + kind.replace(" ", "_"))
    folder.mkdir(parents=True, exist_ok=True)
    model, _ = mlx_lm.load(str(model_dir))
    model.freeze()
    mx.random.seed(9)
    parameters = {"rank": 5, "scale": 3.0, "dropout": 0.0, "keys": keys} if keys else None
    if keys:
        linear_to_lora_layers(model, 2, parameters, use_dora=dora)
    else:
        for layer in model.layers[-2:]:
            layer.unfreeze()
    noise = [(k, v + 0.05 * mx.random.normal(v.shape)) for k, v in tree_flatten(model.trainable_parameters())]
    model.load_weights(noise, strict=False)
    mx.save_safetensors(str(folder / "adapters.safetensors"), dict(tree_flatten(model.trainable_parameters())))
    (folder / "adapter_config.json").write_text(json.dumps(
        {"fine_tune_type": "dora" if dora else "lora" if keys else "full", "num_layers": 2, "model": str(model_dir),
         "lora_parameters": parameters}))
    found, expected = check_logits.graft_logits(ctx, model_dir, folder), check_logits.mlx_logits(model_dir, folder)
    assert np.max(np.abs(expected - check_logits.mlx_logits(model_dir))) > 0.05, "the adapter does nothing"
    close_logits("logits with mlx-lm's adapter", found, expected)


def stacked_experts(ctx, model_name, parameters):
    """PEFT's adapters of experts, gate and up in one, compute the same where graft has read them."""
    model_dir, folder = ctx.tiny(model_name), ctx.work / "stacked" / f"{model_name}-{parameters[0][12:]}-{len(parameters)}"
    peft_start(model_dir, folder, dict(target_modules=["q_proj"], target_parameters=parameters), 0.05)
    found, expected = (f(*args) for f, args in ((check_logits.graft_logits, (ctx, model_dir, folder)),
                                                (check_logits.torch_logits, (model_dir, folder))))
    close_logits("graft's logits with PEFT's experts", found, expected)
    assert float(np.max(np.abs(expected - check_logits.torch_logits(model_dir, None)))) > 1e-2, "the adapter does nothing"


def checks(ctx):
    for name in ("qwen3_moe", "olmoe"):
        for parameters in (["mlp.experts.gate_up_proj", "mlp.experts.down_proj"], ["mlp.experts.down_proj"],
                           ["mlp.experts.gate_up_proj"]):
            yield f"adapter kinds: PEFT's experts: {name}, {' and '.join(p.split('.')[2] for p in parameters)}", \
                lambda n=name, p=parameters: stacked_experts(ctx, n, p)
    for kind in KINDS:
        yield f"adapter kinds: from PEFT and back: {kind}", lambda kind=kind: from_peft(ctx, kind)
    for kind in FRESH:
        yield f"adapter kinds: graft's own: {kind}", lambda kind=kind: fresh(ctx, kind)
    for kind in MLX:
        yield f"adapter kinds: from mlx-lm: {kind}", lambda kind=kind: from_mlx(ctx, kind)
    for model, blocks, saved in (("llama_rope", 1, []), ("qwen2", 3, []), ("qwen3", 2, ["model.embed_tokens.", "lm_head."]),
                                 ("llama_tied", 3, ["model.embed_tokens."])):
        yield f"adapter kinds: full training as PyTorch: {model}, {blocks} blocks{' and ' + ' '.join(saved) if saved else ''}", \
            lambda m=model, b=blocks, s=saved: full_steps(ctx, m, b, s)
