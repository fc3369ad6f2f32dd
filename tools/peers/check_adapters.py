"""`graft export`, three formats by three: an adapter as mlx-lm, as PEFT and as graft for llama.cpp saved it goes into each
of the three, and each file is loaded by the real program, whose logits must be those of graft with the adapter that it
came from. llama.cpp is asked where it is installed (llama_peer.py)."""
import json

import numpy as np

import check_adapter_kinds
import check_gguf_models
import check_logits
import common
import llama_peer

MODELS = ("llama_tied", "qwen2", "qwen3")
TABLE = "adapter, made as"
FILES = {"mlx": "adapters.safetensors", "peft": "adapter_model.safetensors", "gguf": "adapter.gguf"}
PATTERNS = dict(target_modules=check_adapter_kinds.ALL, rank_pattern={"q_proj": 4}, alpha_pattern={"v_proj": 7})
SETTINGS = {"llama_tied": dict(target_modules=check_adapter_kinds.ALL, use_rslora=True), "qwen2": PATTERNS,
            "qwen3": dict(target_modules=["q_proj", "k_proj", "embed_tokens", "lm_head"])}


def from_mlx(model_dir, folder):
    """What mlx_lm.lora saves; every matrix is far from zero."""
    import mlx.core as mx
    import mlx_lm
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers

    parameters = {"rank": 4, "scale": 5.0, "dropout": 0.0, "keys": ["self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"]}
    model, _ = mlx_lm.load(str(model_dir))
    model.set_dtype(mx.float32)
    model.freeze()
    mx.random.seed(3)
    linear_to_lora_layers(model, 64, parameters)
    noise = [(k, v + 0.05 * mx.random.normal(v.shape)) for k, v in tree_flatten(model.trainable_parameters())]
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / FILES["mlx"]), dict(noise))
    (folder / "adapter_config.json").write_text(json.dumps(
        {"fine_tune_type": "lora", "num_layers": -1, "model": str(model_dir), "lora_parameters": parameters}))


def source(ctx, name, kind):
    folder = ctx.work / "export" / f"{name}-{kind}"
    if folder.exists():
        return folder
    if kind == "mlx":
        from_mlx(ctx.tiny(name), folder)
    elif kind == "peft":
        check_adapter_kinds.peft_start(ctx.tiny(name), folder, SETTINGS[name], 0.05)
    else:
        ctx.run("export", "--adapter-path", source(ctx, name, "peft"), "--model", ctx.tiny(name), "--to", "gguf", "--out", folder)
    return folder


def llama_logits(ctx, name, folder):
    ids = common.tokenizer(ctx.tiny(name)).encode(check_logits.PROMPT)
    return llama_peer.logits(ctx, check_gguf_models.file_of(ctx, name)[1], [ids], folder / FILES["gguf"])[0]


def one(ctx, name, kind, to):
    model, folder, out = ctx.tiny(name), source(ctx, name, kind), ctx.work / "export" / f"{name}-{kind}-to-{to}"
    document = ctx.json("export", "--adapter-path", folder / FILES[kind], "--model", model, "--to", to, "--out", out)
    assert document["files"] == [FILES[to]], document["files"]
    expected = check_logits.graft_logits(ctx, model, folder)
    largest = float(np.max(np.abs(expected)))
    moved = float(np.max(np.abs(expected - check_logits.graft_logits(ctx, model))))
    assert moved > 100 * check_logits.bound(model, expected), f"the adapter moves the logits by {moved:.3g} only"
    found = {"graft": check_logits.graft_logits(ctx, model, out)}
    if to == "mlx":
        found["mlx-lm"] = check_logits.mlx_logits(model, out)
    elif to == "peft":
        found["PEFT"] = check_logits.torch_logits(model, out)
    elif llama_peer.python():
        found["llama.cpp"] = llama_logits(ctx, name, out)
    row = f"{name}, {kind}"
    for program, logits in found.items():
        worst = check_logits.near(f"{program}'s logits", model, logits, expected)
        ctx.figure(TABLE, row, f"to {to}: {program}" if program != "graft" else "graft, with each", worst)
    ctx.figure(TABLE, row, "largest logit", f"{largest:.1f}")
    ctx.figure(TABLE, row, "moved by", f"{moved:.1f}")
    if to == "gguf":
        llama_peer.need()


def merged(ctx, how):
    """Two of PEFT's adapters, added up by PEFT and by graft, which also answers with both of them at once."""
    import peft
    import torch

    model = ctx.tiny("llama_tied")
    folders = [ctx.work / "export" / name for name in ("one", "two")]
    for folder, settings in zip(folders, (dict(target_modules=check_adapter_kinds.ALL),
                                          dict(target_modules=["v_proj", "q_proj"], use_rslora=True))):
        check_adapter_kinds.peft_start(model, folder, settings, 0.05)
    theirs = peft.PeftModel.from_pretrained(common.torch_model(model), str(folders[0]), adapter_name="one")
    theirs.load_adapter(str(folders[1]), adapter_name="two")
    theirs.add_weighted_adapter(["one", "two"], [0.7, -0.4], "both", combination_type=how, svd_rank=8 if how == "svd" else None)
    theirs.set_adapter("both")
    ids = common.tokenizer(model).encode(check_logits.PROMPT)
    with torch.no_grad():
        expected = theirs.eval()(input_ids=torch.tensor([ids])).logits[0].numpy()
    out, both = ctx.work / "export" / f"merged-{how}", f"{folders[0]}=0.7,{folders[1]}=-0.4"
    ctx.run("export", "--adapter-path", both, "--model", model, "--to", "peft,gguf", "--merge", how, "--out", out)
    found = {"merged": check_logits.graft_logits(ctx, model, out), "merged, in PEFT": check_logits.torch_logits(model, out)}
    if how == "cat":
        found["both at once"] = check_logits.graft_logits(ctx, model, both)
    moved = np.max(np.abs(expected - check_logits.graft_logits(ctx, model, folders[0])))
    assert moved > 100 * check_logits.bound(model, expected), "the second adapter moves nothing"
    for what, logits in found.items():
        worst = check_logits.near(f"logits, {what}", model, logits, expected)
        ctx.figure("two adapters added up, as PEFT does", how, what, worst)


def checks(ctx):
    for name in MODELS:
        for kind in FILES:
            for to in FILES:
                yield f"export: {name}, {kind} to {to}", lambda name=name, kind=kind, to=to: one(ctx, name, kind, to)
    for how in ("cat", "linear", "svd"):
        yield f"export: two adapters as PEFT's add_weighted_adapter, {how}", lambda how=how: merged(ctx, how)
