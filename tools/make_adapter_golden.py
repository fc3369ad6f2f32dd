"""Writes tests/golden/adapter_kinds.json: ten AdamW steps of every kind of adapter, and of full training.

usage: make_adapter_golden.py OUTPUT_DIR            (tests/golden; needs tools/peers/requirements.txt)

The truth is PEFT's own layers (torch alone where PEFT has no true tie, and for full training) in float64: see ExactMode
in make_models_golden.py. The same steps in PyTorch's float32 give `f32`, how far another program that sums in float32 may
be away; a test's bounds are a small multiple of it. Base weights are tiny_formula.value of their Hugging Face names;
4-bit bases are those values through mx.quantize. What trains starts from formulas too:

    lora_A, lora_embedding_B   u / 2 of the tensor's file name without "base_model.model."
    lora_B, lora_embedding_A   u / 4
    lora_magnitude_vector      length of the base's row + u / 4
    biases, modules_to_save    the base's value + u / 8
    full                       the base's value

Where mlx-lm has the kind too, its losses over the same steps must agree (asserted here, kept as "mlx_losses").
Dropout takes graft's masks (dropout_mask below, src/layers/dropout.h) in the place of PEFT's random ones.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

import make_models_golden
import tiny_formula

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))
import train_torch  # noqa: E402

PREFIX = "base_model.model."
STEPS, BATCH, RATE, FULL_RATE, DECAY, CLIP = 10, 2, 5e-3, 1e-3, 0.01, 1.0
EOS, SEED = 260, 11
TEXTS = ["one two four six", "a bird sat on a log", "42", "rain falls on grey roofs", "six plus six is 12", "go",
         "quiet rivers run far"]  # no "he", no "an": the tokenizer of tests/tiny_dir.h joins those two
BASE = dict(vocab_size=264, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, intermediate_size=128, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False)
MODELS = {
    "llama": ("llama", BASE),
    "llama_tied": ("llama", {**BASE, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", {**BASE, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {**BASE, "tie_word_embeddings": True}),
}
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = ATTENTION + ["gate_proj", "up_proj", "down_proj"]
LORA = dict(r=4, lora_alpha=8, bias="none", lora_dropout=0.0)

# Name: model, PEFT's settings, and what is not PEFT's: full (blocks), saved (its modules), ratio, accumulation, bits, mlx
CASES = {
    "lora": ("llama", dict(target_modules=ALL), {}),
    "rank and alpha patterns": ("llama", dict(target_modules=ALL, rank_pattern={"q_proj": 8, r"layers\.1\.mlp\..*": 2},
                                              alpha_pattern={"down_proj": 5, "layers.0.self_attn.q_proj": 3}), {}),
    "rslora with a rank pattern": ("llama", dict(target_modules=ALL, use_rslora=True, rank_pattern={"v_proj": 9}), {}),
    "layers and exclude": ("llama", dict(target_modules=ALL, layers_to_transform=[1],
                                         exclude_modules=["gate_proj", "self_attn.k_proj"]), {}),
    "loraplus": ("llama", dict(target_modules=ALL), {"ratio": 8.0}),
    "loraplus with biases and dora": ("qwen2", dict(target_modules=["q_proj", "v_proj", "down_proj"], bias="all",
                                                    use_dora=True), {"ratio": 4.0}),
    "loraplus with an embedding": ("llama", dict(target_modules=["q_proj", "embed_tokens"]), {"ratio": 4.0}),
    "bias all": ("qwen2", dict(target_modules=["q_proj", "down_proj"], bias="all"), {}),
    "bias lora_only": ("qwen2", dict(target_modules=["q_proj", "v_proj", "o_proj"], bias="lora_only"), {}),
    "dora": ("llama", dict(target_modules=ALL, use_dora=True), {"mlx": True}),
    "dora on 4 bits": ("llama_tied", dict(target_modules=ALL, use_dora=True), {"bits": 4, "mlx": True}),
    "dora and bias all": ("qwen2", dict(target_modules=["q_proj", "k_proj", "up_proj"], use_dora=True, bias="all"), {}),
    "dora with patterns and rslora": ("qwen3", dict(target_modules=ALL, use_dora=True, use_rslora=True,
                                                    rank_pattern={"k_proj": 2, "mlp.down_proj": 6},
                                                    alpha_pattern={"o_proj": 3}), {}),
    "embedding and head": ("llama", dict(target_modules=["q_proj", "embed_tokens", "lm_head"]), {"mlx": True}),
    "head alone": ("llama", dict(target_modules=["down_proj", "lm_head"]), {"mlx": True}),
    "tied embedding": ("llama_tied", dict(target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True),
                       {"mlx": True}),
    "modules to save": ("llama", dict(target_modules=["q_proj", "v_proj"], modules_to_save=["embed_tokens", "lm_head"]),
                        {}),
    "head to save": ("llama", dict(target_modules=ALL, modules_to_save=["lm_head"]), {}),
    "tied embedding to save": ("llama_tied", dict(target_modules=["q_proj", "v_proj"], modules_to_save=["embed_tokens"],
                                                  ensure_weight_tying=True), {}),
    "norms to save": ("qwen3", dict(target_modules=ATTENTION, modules_to_save=[
        "input_layernorm", "post_attention_layernorm", "q_norm", "k_norm", "model.norm"]), {}),
    "linears to save": ("qwen2", dict(target_modules=ATTENTION, modules_to_save=["v_proj", "layers.1.mlp.down_proj"]), {}),
    "dropout": ("llama", dict(target_modules=ALL, lora_dropout=0.25), {"accumulation": 2}),
    "dropout on embedding and head": ("llama", dict(target_modules=["q_proj", "embed_tokens", "lm_head"],
                                                    lora_dropout=0.25), {}),
    "dropout on a tied embedding": ("llama_tied", dict(target_modules=["q_proj", "embed_tokens"], lora_dropout=0.25,
                                                       ensure_weight_tying=True), {}),
    "dora with dropout": ("llama", dict(target_modules=ATTENTION, use_dora=True, lora_dropout=0.5), {}),
    "full, one block of llama": ("llama", None, {"full": 1, "mlx": True}),
    "full, one block of qwen2": ("qwen2", None, {"full": 1, "mlx": True}),
    "full, one block of qwen3": ("qwen3", None, {"full": 1, "mlx": True}),
    "full, all blocks": ("llama", None, {"full": 2}),
    "full, embedding and head too": ("llama", None, {"full": 2, "saved": ["embed_tokens", "lm_head"]}),
    "full, tied embedding too": ("qwen2", None, {"full": 2, "saved": ["embed_tokens"]}),
}




def rows():
    """(ids, mask) of each text: one token a byte, EOS at the end, all but the first train."""
    return [([*text.encode(), EOS], [0] + [1] * len(text)) for text in TEXTS]


# ------------------------------------------------------------------------------------------------ the models


def quantized(model, bits):
    """The blocks' linears through mx.quantize in groups of 64, and back."""
    import mlx.core as mx

    for name, p in model.named_parameters():
        if ".layers." in name and name.endswith("proj.weight"):
            w = mx.array(p.data.numpy().astype(np.float32))
            back = mx.dequantize(*mx.quantize(w, group_size=64, bits=bits), group_size=64, bits=bits)
            p.data = torch.from_numpy(np.array(back).astype(np.float64))


def base_model(case, dtype):
    name, _, extra = case
    model = make_models_golden.build(*MODELS[name])
    if "bits" in extra:
        quantized(model, extra["bits"])
    return model.to(dtype)


class TiedEmbedding(torch.nn.Module):
    """W[x] + scale * A^T[x] B^T, with PEFT's orientation: A [r, V], B [h, r]."""

    def __init__(self, base, settings):
        super().__init__()
        rank = settings["r"]
        self.base, self.scale = base, settings["lora_alpha"] / rank
        self.lora_embedding_A = torch.nn.Parameter(torch.zeros(rank, base.num_embeddings, dtype=base.weight.dtype))
        self.lora_embedding_B = torch.nn.Parameter(torch.zeros(base.embedding_dim, rank, dtype=base.weight.dtype))

    @property
    def weight(self):
        return self.base.weight

    def forward(self, ids):
        return self.base(ids) + self.scale * self.lora_embedding_A.T[ids] @ self.lora_embedding_B.T


class TiedHead(torch.nn.Module):
    """The same matrix as the head: both uses train one pair. PEFT's ensure_weight_tying has the same forward, but two
    Parameters over one storage, so that its optimizer moves the pair twice a step."""

    def __init__(self, embedding):
        super().__init__()
        self.shared = [embedding]  # a list hides it from named_parameters
        self.dropout = torch.nn.Identity()  # of this use; an embedding's has none, in PEFT neither

    def forward(self, x):
        e = self.shared[0]
        return x @ e.base.weight.T + e.scale * (self.dropout(x) @ e.lora_embedding_B) @ e.lora_embedding_A


def tied_lora(case):
    name, settings, _ = case
    return MODELS[name][1]["tie_word_embeddings"] and settings and "embed_tokens" in settings["target_modules"]


def prepared(case, dtype):
    """The model with its trainable parameters, at the base's values: (model, {file name: parameter})."""
    import peft

    _, settings, extra = case
    model = base_model(case, dtype)
    if settings is None:
        wanted = [f"model.layers.{i}." for i in range(BASE["num_hidden_layers"])][-extra["full"]:]
        wanted += [m if m == "lm_head" else "model." + m for m in extra.get("saved", [])]
        for name, p in model.named_parameters():
            p.requires_grad_(name.startswith(tuple(wanted)))
        return model, {n: p for n, p in model.named_parameters() if p.requires_grad}
    settings = {**LORA, **settings}
    if tied_lora(case):
        plain = [m for m in settings["target_modules"] if m != "embed_tokens"]
        inner = model
        config = peft.LoraConfig(**{**settings, "target_modules": plain, "ensure_weight_tying": False})
        model = peft.get_peft_model(model, config)
        inner.model.embed_tokens = TiedEmbedding(inner.model.embed_tokens, settings)
        inner.lm_head = TiedHead(inner.model.embed_tokens)
    else:
        model = peft.get_peft_model(model, peft.LoraConfig(**settings))
    found = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            name = name.removeprefix(PREFIX).replace(".default", "").replace(".modules_to_save", "")
            found[name.replace("magnitude_vector.weight", "magnitude_vector")] = p
    return model, found


def base_of(name):
    """The base tensor that a trained one changes."""
    return name.replace(".base_layer", "") if name.endswith("bias") else name


def set_start(parameters, bases, full):
    """The formulas of the file's head; every value is rounded to float32."""
    for name, p in parameters.items():
        u = tiny_formula.formula(name, tuple(p.shape))
        if full:
            continue
        if name.endswith(("lora_A.weight", "lora_embedding_B")):
            start = u / 2
        elif name.endswith(("lora_B.weight", "lora_embedding_A")):
            start = u / 4
        elif name.endswith("lora_magnitude_vector"):
            start = np.linalg.norm(bases[name.replace("lora_magnitude_vector", "weight")], axis=1) + u / 4
        else:
            start = bases[base_of(name)] + u / 8
        p.data = torch.from_numpy(np.float64(np.float32(start))).to(p.dtype).contiguous()


# ---------------------------------------------------------------------------------------------- the training


def mix(x):
    x = x.astype(np.uint64)
    low = np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    x = (x * np.uint64(0x7FEB352D)) & low
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(0x846CA68B)) & low
    return x ^ (x >> np.uint64(16))


def fold(h, v):
    return mix(((h ^ v) + np.uint64(0x9E3779B9)) & np.uint64(0xFFFFFFFF))


GROUPS = [ATTENTION[:3], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]


def dropout_mask(seed, update, row, name, shape, p):
    """1 / (1 - p) where kept, 0 where dropped, for the input [tokens, features] of one linear: src/layers/dropout.h."""
    parts = name.split(".")
    last = parts[-1] == "lm_head"  # counts as the first group of one block more
    layer, group = (BASE["num_hidden_layers"], 0) if last else \
        (int(parts[2]), next(i for i, g in enumerate(GROUPS) if parts[-1] in g))
    site = np.zeros((), np.uint64)
    for v in (seed & 0xFFFFFFFF, seed >> 32, update, row, layer * 4 + group):
        site = fold(site, np.uint64(v))
    token = fold(site, np.arange(shape[0], dtype=np.uint64))
    kept = fold(token[:, None], np.arange(shape[1], dtype=np.uint64)[None]) >= np.uint64(int(p * 2**32))
    return kept / (1 - p)


class Dropout(torch.nn.Module):
    """In the place of PEFT's nn.Dropout."""

    def __init__(self, name, p, clock):
        super().__init__()
        self.name, self.p, self.clock = name, p, clock

    def forward(self, x):
        mask = dropout_mask(SEED, self.clock["update"], self.clock["row"], self.name, tuple(x.shape[-2:]), self.p)
        return x * torch.from_numpy(mask).to(x.dtype)


class MlxDora:
    """DoRA under dropout as mlx-lm has it: only A sees the mask (in PEFT the base's part of the product does too)."""

    @staticmethod
    def forward(module, active_adapter, x, result, **_):
        return result + module.lora_magnitude_vector[active_adapter](
            module.lora_dropout[active_adapter](x), lora_A=module.lora_A[active_adapter],
            lora_B=module.lora_B[active_adapter], scaling=module.scaling[active_adapter],
            base_layer=module.get_base_layer(), base_result=result, adapter_name=active_adapter)


def replace_dropout(model, rate, clock):
    for name, module in list(model.named_modules()):
        drop = getattr(module, "lora_dropout", None)
        if isinstance(module, TiedHead) and rate > 0:
            module.dropout = Dropout("lm_head", rate, clock)
        if isinstance(drop, torch.nn.ModuleDict) and len(drop) and isinstance(drop["default"], torch.nn.Dropout):
            drop["default"] = Dropout(name.removeprefix(PREFIX), drop["default"].p, clock)
            if "default" in module.lora_variant:
                module.lora_variant["default"] = MlxDora


def rate_of(case):
    return FULL_RATE if case[1] is None else RATE


def scales_of(model):
    """{module: PEFT's factor before B A}, where it is not alpha / r of the whole configuration."""
    usual = LORA["lora_alpha"] / LORA["r"]
    return {name.removeprefix(PREFIX): module.scaling["default"] for name, module in model.named_modules()
            if isinstance(getattr(module, "scaling", None), dict) and module.scaling["default"] != usual}


def optimizer_of(case, model, parameters):
    import peft.optimizers

    kwargs = dict(betas=(0.9, 0.999), eps=1e-8)
    if "ratio" in case[2]:
        return peft.optimizers.create_loraplus_optimizer(model, torch.optim.AdamW, lr=rate_of(case),
                                                         loraplus_lr_ratio=case[2]["ratio"],
                                                         loraplus_weight_decay=DECAY, **kwargs)
    return torch.optim.AdamW(list(parameters.values()), lr=rate_of(case), weight_decay=DECAY, **kwargs)


def train(case, dtype):
    """(losses, {name: start}, {name: end}, scales); the tensors as float64 arrays."""
    model, parameters = prepared(case, dtype)
    bases = {n.replace(".base_layer", "").replace(".original_module", "").removeprefix(PREFIX): p.detach().double().numpy()
             for n, p in model.named_parameters() if ".lora_" not in n}
    set_start(parameters, bases, case[1] is None)
    start = {n: p.detach().double().numpy().copy() for n, p in parameters.items()}
    clock, accumulation = {"update": 0, "row": 0}, case[2].get("accumulation", 1)
    replace_dropout(model, (case[1] or {}).get("lora_dropout", 0), clock)
    optimizer, losses, pending = optimizer_of(case, model, parameters), [], 0
    model.train()
    for iteration, batch in enumerate(train_torch.batches(rows(), BATCH, STEPS), 1):
        total, count = 0.0, 0
        for ids, mask in batch:
            loss, trained = train_torch.row_loss(model, ids, mask)
            loss.backward()
            total, count = total + loss.item(), count + trained
            clock["row"] += 1
        losses.append(total / count)
        pending += count
        if iteration % accumulation:
            continue
        for p in parameters.values():
            p.grad /= pending
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        pending, clock["update"], clock["row"] = 0, clock["update"] + 1, 0
    return losses, start, {n: p.detach().double().numpy().copy() for n, p in parameters.items()}, scales_of(model)


# ------------------------------------------------------------------------------------------ the same in mlx-lm


def mlx_tensor(name, array):
    """mlx-lm's name and orientation."""
    for ours, theirs in ((".lora_A.weight", ".lora_a"), (".lora_B.weight", ".lora_b"), (".lora_embedding_A", ".lora_a"),
                         (".lora_embedding_B", ".lora_b")):
        if name.endswith(ours):
            return name.removesuffix(ours) + theirs, array.T
    return name.replace(".lora_magnitude_vector", ".m"), array


def mlx_losses(case, start):
    import mlx.core as mx
    import mlx.nn as nn
    import mlx.optimizers as optim
    from mlx.utils import tree_flatten, tree_map
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import _get_classes

    name, settings, extra = case
    model_type, config = MODELS[name]
    config = {**config, "model_type": model_type, "max_position_embeddings": 64}
    model_class, args_class = _get_classes({"model_type": model_type})
    model = model_class(args_class.from_dict(config))
    weights = [(k, mx.array(tiny_formula.value(k, tuple(v.shape)).astype(np.float32)))
               for k, v in tree_flatten(model.parameters())]
    model.load_weights(weights)
    if "bits" in extra:
        nn.quantize(model, group_size=64, bits=extra["bits"],
                    class_predicate=lambda path, m: ".layers." in path and isinstance(m, nn.Linear))
    model.freeze()
    if settings is None:
        for layer in model.layers[-extra["full"]:]:
            layer.unfreeze()
    else:
        given = {**LORA, **settings}
        keys = sorted({k.rsplit(".lora_", 1)[0] for k in start if ".lora_" in k})
        linear_to_lora_layers(model, -1, {"rank": given["r"], "scale": given["lora_alpha"] / given["r"],
                                          "dropout": 0.0, "keys": keys}, use_dora=given.get("use_dora", False))
        found = dict(mlx_tensor(k, v) for k, v in start.items())
        assert set(found) == {k for k, _ in tree_flatten(model.trainable_parameters())}
        model.load_weights([(k, mx.array(v.astype(np.float32))) for k, v in found.items()], strict=False)

    def loss_of(model, batch):
        return sum(nn.losses.cross_entropy(model(mx.array([ids]))[0, :-1], mx.array(ids[1:]), reduction="sum")
                   for ids, _ in batch)

    step, losses = nn.value_and_grad(model, loss_of), []
    optimizer = optim.AdamW(learning_rate=rate_of(case), betas=[0.9, 0.999], eps=1e-8, weight_decay=DECAY,
                            bias_correction=True)
    for batch in train_torch.batches(rows(), BATCH, STEPS):
        count = sum(sum(mask) for _, mask in batch)
        loss, grads = step(model, batch)
        grads = tree_map(lambda g, count=count: g / count, grads)
        norm = float(mx.sqrt(sum((g * g).sum() for _, g in tree_flatten(grads))))
        factor = min(1.0, CLIP / (norm + 1e-6))
        optimizer.update(model, tree_map(lambda g, factor=factor: g * factor, grads))
        mx.eval(model.parameters(), optimizer.state)
        losses.append(loss.item() / count)
    return losses


# ------------------------------------------------------------------------------------------------- the file


def kind_of(name):
    for word, kind in (("lora_A", "A"), ("embedding_A", "A"), ("lora_B", "B"), ("embedding_B", "B"), ("magnitude", "m"),
                       ("bias", "bias")):
        if word in name:
            return kind
    return "weight"


def sampled(array):
    flat = array.reshape(-1)
    return flat[:: max(1, flat.size // 8)]


def distances(found, expected, start):
    """{kind: distance of the samples, over what training changed in them}"""
    sums = {}
    for name, e in expected.items():
        d, c = sums.setdefault(kind_of(name), [0.0, 0.0])
        sums[kind_of(name)] = [d + float(np.sum((sampled(found[name]) - sampled(e)) ** 2)),
                               c + float(np.sum((sampled(e) - sampled(start[name])) ** 2))]
    return {kind: (d / c) ** 0.5 for kind, (d, c) in sums.items()}


def short(x):
    return float(f"{x:.9g}")


def options_of(case):
    """graft's options beside those that all cases share."""
    _, settings, extra = case
    found = {"learning-rate": str(rate_of(case))}
    if settings is None:
        found |= {"fine-tune-type": "full", "num-layers": str(extra["full"])}
        if "saved" in extra:
            found["modules-to-save"] = ",".join(extra["saved"])
    if "ratio" in extra:
        found["loraplus-lr-ratio"] = str(extra["ratio"])
    if settings and "lora_dropout" in settings:
        found |= {"lora-dropout": str(settings["lora_dropout"]), "seed": str(SEED)}
    if "accumulation" in extra:
        found["grad-accumulation-steps"] = str(extra["accumulation"])
    return found


def golden(name, case):
    torch.set_default_dtype(torch.float64)
    with make_models_golden.ExactMode():
        losses, start, end, scales = train(case, torch.float64)
    torch.set_default_dtype(torch.float32)
    near, _, near_end, _ = train(case, torch.float32)
    case_mlx = mlx_losses(case, start) if case[2].get("mlx") else None
    entry = {"name": name, "model": case[0], "bits": case[2].get("bits", 0), "options": options_of(case),
             "adapter_config": None if case[1] is None else {"peft_type": "LORA", "task_type": "CAUSAL_LM", **LORA, **case[1]},
             "scales": {k: short(v) for k, v in scales.items()}, "losses": [short(x) for x in losses],
             "f32": {"loss": short(max(abs(a - b) for a, b in zip(near, losses))),
                     **{k: short(v) for k, v in distances(near_end, end, start).items()}}}
    if case_mlx:
        off = max(abs(a - b) for a, b in zip(case_mlx, losses))
        assert off <= 2e-4, f"{name}: mlx-lm's losses are {off} away: {case_mlx} against {losses}"
        entry["mlx_losses"] = [short(x) for x in case_mlx]
    entry["tensors"] = [{"name": n, "shape": list(e.shape), "norm": short(np.linalg.norm(e)),
                         "moved": short(np.linalg.norm(e - start[n])), "values": [short(v) for v in sampled(e)]}
                        for n, e in end.items()]
    for t in entry["tensors"]:
        assert t["moved"] > 1e-5, f"{name}: {t['name']} did not move"
    print(f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}, f32 {entry['f32']}"
          + (f", mlx {off:.1e}" if case_mlx else ""))
    return entry


def written(head, cases):
    """JSON with one tensor a line."""
    lines = []
    for case in cases:
        tensors = ",\n".join("   " + json.dumps(t) for t in case.pop("tensors"))
        lines.append("  " + json.dumps(case)[:-1] + ', "tensors": [\n' + tensors + "]}")
    return json.dumps(head)[:-1] + ',\n "cases": [\n' + ",\n".join(lines) + "]}\n"


def main():
    import peft

    out = Path(sys.argv[1])
    wanted = sys.argv[2:]
    cases = [golden(name, case) for name, case in CASES.items() if not wanted or name in wanted]
    if wanted:
        return
    head = {"made_by": f"peft {peft.__version__}, torch {torch.__version__}, transformers {transformers.__version__}, "
                       f"float64; mlx-lm 0.32.2 in float32", "script": "tools/make_adapter_golden.py",
            "steps": STEPS, "batch": BATCH, "weight_decay": DECAY, "clip": CLIP, "texts": TEXTS,
            "models": {k: {"model_type": t, **s} for k, (t, s) in MODELS.items()}}
    text = written(head, cases)
    json.loads(text)
    (out / "adapter_kinds.json").write_text(text)
    print(f"adapter_kinds.json: {len(text)} bytes")


if __name__ == "__main__":
    main()
