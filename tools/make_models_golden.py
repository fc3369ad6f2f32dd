"""Writes tests/golden/tiny_*.json: logits, loss and LoRA gradients of small models from transformers in float64.

usage: make_models_golden.py OUTPUT_DIR            (tests/golden; needs tools/peers/requirements.txt)

transformers computes norms, softmax and rotary angles in float32 whatever the model's type; ExactMode turns each
request for float32 into float64, so that the numbers are good to about 1e-13 and ref/ must meet them that closely.
LoRA is written out here as y += scale * B^T (A x), independent of PEFT (tools/peers compares with PEFT itself); the
adapter of tiny_llama_dora is PEFT's own DoRA, with magnitudes of the rows' length plus u/4.
"""
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.overrides import TorchFunctionMode

import tiny_formula

ROWS = [[3, 17, 42, 99, 5, 64, 127, 0, 31, 77, 12, 8, 42], [7, 120, 1, 55, 90, 23, 4]]
MASKS = [[0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 1, 1]]
RANK, SCALE = 4, 2.0
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 5, "beta_fast": 0.75, "beta_slow": 0.0625,
        "mscale": 1.0, "mscale_all_dim": 0.5, "truncate": False, "llama_4_scaling_beta": 0.1}
LONG = {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.5, 2.0, 3.0], "long_factor": [1.0, 2, 3, 4, 5, 6]}
BASE = dict(vocab_size=128, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, intermediate_size=128, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False)
MODELS = {
    "llama": ("llama", {**BASE, "rope_scaling": LLAMA3}),
    "llama_tied": ("llama", {**BASE, "tie_word_embeddings": True, "rope_theta": 500000.0}),
    "llama_dora": ("llama", {**BASE}),
    "mistral": ("mistral", {**BASE, "sliding_window": 5, "num_key_value_heads": 1}),
    "qwen2": ("qwen2", {**BASE, "tie_word_embeddings": True, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0}),
    "qwen3": ("qwen3", {**BASE, "head_dim": 32, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0}),
    "gemma2": ("gemma2", {**BASE, "head_dim": 32, "tie_word_embeddings": True, "sliding_window": 5,
                          "query_pre_attn_scalar": 24, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3": ("gemma3_text", {**BASE, "num_hidden_layers": 3, "head_dim": 32, "tie_word_embeddings": True,
                               "sliding_window": 5, "sliding_window_pattern": 2, "query_pre_attn_scalar": 24,
                               "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0}),
    "smollm3": ("smollm3", {**BASE, "tie_word_embeddings": True, "rope_theta": 2000000.0, "no_rope_layer_interval": 2}),
    "granite": ("granite", {**BASE, "embedding_multiplier": 6.0, "residual_multiplier": 0.25,
                            "attention_multiplier": 0.125, "logits_scaling": 4.0}),
    "olmo2": ("olmo2", {k: v for k, v in BASE.items() if k != "head_dim"}),
    "ministral": ("ministral", {**BASE, "sliding_window": 5,
                                "layer_types": ["sliding_attention", "full_attention"]}),
    "phi3": ("phi3", {**{k: v for k, v in BASE.items() if k != "head_dim"}, "sliding_window": 9}),
    "phi4": ("phi3", {**{k: v for k, v in BASE.items() if k != "head_dim"}, "tie_word_embeddings": True,
                      "partial_rotary_factor": 0.75, "original_max_position_embeddings": 32, "rope_scaling": LONG}),
    "stablelm": ("stablelm", {**{k: v for k, v in BASE.items() if k not in ("head_dim", "rms_norm_eps")},
                              "layer_norm_eps": 1e-5, "use_qkv_bias": True, "partial_rotary_factor": 0.25}),
    "starcoder2": ("starcoder2", {**{k: v for k, v in BASE.items() if k not in ("head_dim", "rms_norm_eps")},
                                  "norm_epsilon": 1e-5, "tie_word_embeddings": True, "sliding_window": 6}),
    "qwen3_moe": ("qwen3_moe", {**BASE, "head_dim": 32, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "num_experts": 6,
                                "num_experts_per_tok": 3, "moe_intermediate_size": 32, "norm_topk_prob": True}),
    "olmoe": ("olmoe", {**{k: v for k, v in BASE.items() if k != "head_dim"}, "intermediate_size": 32, "num_experts": 5,
                        "num_experts_per_tok": 2}),
    "ministral3": ("ministral3", {**BASE, "rope_scaling": YARN}),
}


class ExactMode(TorchFunctionMode):
    """Whoever asks for float32 gets float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.float:
            return args[0].double()
        args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in kwargs.items()}
        return func(*args, **kwargs)


def build(model_type, settings):
    settings = dict(settings)
    rope = {"rope_type": "default", **(settings.pop("rope_scaling", None) or {})}
    rope["rope_theta"] = settings.pop("rope_theta")
    if "partial_rotary_factor" in settings:
        rope["partial_rotary_factor"] = settings.pop("partial_rotary_factor")
    if "rope_local_base_freq" in settings:
        rope = {"full_attention": rope, "sliding_attention": {"rope_type": "default",
                                                              "rope_theta": settings.pop("rope_local_base_freq")}}
    config = transformers.AutoConfig.for_model(model_type, rope_parameters=rope, attn_implementation="eager",
                                               max_position_embeddings=64, pad_token_id=None, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float64,
                                                          attn_implementation="eager").eval()
    model.config._experts_implementation = "eager"  # of mixtures: the others have no float64
    for name, p in model.named_parameters():
        p.data = torch.from_numpy(tiny_formula.parameter(name, tuple(p.shape)))
        p.requires_grad_(False)
    model.tie_weights()
    return model


class Lora(torch.nn.Module):
    def __init__(self, name, base):
        super().__init__()
        self.base = base
        self.A = torch.nn.Parameter(torch.from_numpy(tiny_formula.value(name + ".lora_A", (RANK, base.in_features))))
        self.B = torch.nn.Parameter(torch.from_numpy(tiny_formula.value(name + ".lora_B", (RANK, base.out_features))))

    def forward(self, x):
        return self.base(x) + SCALE * (x @ self.A.T) @ self.B


def sample(array, count):
    """Entries 0, s, 2s ... of the flat array with s = size // count, and the L2 norm of the whole."""
    flat = np.asarray(array).reshape(-1)
    norm = math.sqrt(math.fsum(flat * flat))  # np.linalg.norm's last digit is that of the BLAS and the CPU
    return {"norm": norm, "stride": max(1, flat.size // count),
            "values": [float(v) for v in flat[:: max(1, flat.size // count)]]}


def plain_lora(model):
    """Wraps every linear of the blocks; returns {name: (A, B, None)}."""
    found = {}
    for i, layer in enumerate(model.model.layers):
        for part in tiny_formula.adapted(model.config.model_type):
            parent, leaf = part.split(".")
            name = f"model.layers.{i}.{part}"
            lora = Lora(name, getattr(getattr(layer, parent), leaf))
            setattr(getattr(layer, parent), leaf, lora)
            found[name] = (lora.A, lora.B, None)
        if hasattr(layer.mlp, "experts"):
            expert_lora(layer.mlp.experts, f"model.layers.{i}.mlp.experts", found)
    return model, found


def expert_lora(experts, prefix, found):
    """Adapters of every expert, in the matrices that transformers stacks."""
    for leaf, parts in (("gate_up_proj", ("gate_proj", "up_proj")), ("down_proj", ("down_proj",))):
        base = getattr(experts, leaf)
        rows, width = base.shape[1] // len(parts), base.shape[2]
        deltas = []
        for e in range(base.shape[0]):
            for part in parts:
                name = f"{prefix}.{e}.{part}"
                a = torch.nn.Parameter(torch.from_numpy(tiny_formula.value(name + ".lora_A", (RANK, width))))
                b = torch.nn.Parameter(torch.from_numpy(tiny_formula.value(name + ".lora_B", (RANK, rows))))
                found[name] = (a, b, None)
                deltas.append(SCALE * b.T @ a)
        delattr(experts, leaf)
        setattr(experts, leaf, base + torch.cat(deltas).reshape(base.shape))


def peft_dora(model):
    """The same through PEFT with use_dora; {name: (A, B^T, m)}."""
    import peft

    leaves = [part.split(".")[1] for part in tiny_formula.ADAPTED]
    model = peft.get_peft_model(model, peft.LoraConfig(r=RANK, lora_alpha=SCALE * RANK, use_dora=True,
                                                       target_modules=leaves))
    found = {}
    for name, module in model.named_modules():
        if not hasattr(module, "lora_magnitude_vector") or not module.lora_A:
            continue
        name = name.removeprefix("base_model.model.")
        a, b, m = (part["default"].weight for part in (module.lora_A, module.lora_B, module.lora_magnitude_vector))
        rows = module.base_layer.weight.norm(dim=1)
        a.data = torch.from_numpy(tiny_formula.value(name + ".lora_A", tuple(a.shape)))
        b.data = torch.from_numpy(tiny_formula.value(name + ".lora_B", tuple(b.shape)[::-1])).T.contiguous()
        m.data = rows + 0.25 * torch.from_numpy(tiny_formula.formula(name + ".lora_magnitude_vector", tuple(m.shape)))
        found[name] = (a, b, m)
    return model, found


def golden(model_type, settings, dora):
    model, adapters = (peft_dora if dora else plain_lora)(build(model_type, settings))
    loss, logits = 0.0, []
    for ids, mask in zip(ROWS, MASKS):
        out = model(input_ids=torch.tensor([ids])).logits[0]
        logits.append(out.detach().numpy())
        per_token = torch.nn.functional.cross_entropy(out[:-1], torch.tensor(ids[1:]), reduction="none")
        loss = loss + (per_token * torch.tensor(mask[1:])).sum()
    loss.backward()
    grads = {}
    for name, (a, b, m) in adapters.items():
        grads[name + ".lora_A"] = sample(a.grad.numpy(), 8)
        grads[name + ".lora_B"] = sample((b.grad.T if dora else b.grad).numpy(), 8)
        if m is not None:
            grads[name + ".lora_magnitude_vector"] = sample(m.grad.numpy(), 8)
    linears = len(tiny_formula.adapted(model_type)) + 3 * settings.get("num_experts", 0)
    assert len(adapters) == settings["num_hidden_layers"] * linears
    import peft

    return {"made_by": f"transformers {transformers.__version__}, torch {torch.__version__}"
                       + (f", peft {peft.__version__}" if dora else "") + ", float64",
            "script": "tools/make_models_golden.py", "model_type": model_type, "config": settings, "rank": RANK,
            "scale": SCALE, "dora": dora, "rows": ROWS, "masks": MASKS, "loss": float(loss.detach()),
            "targets": int(sum(sum(m[1:]) for m in MASKS)),
            "logits": sample(np.concatenate(logits), 256), "gradients": grads}


def main():
    out = Path(sys.argv[1])
    torch.set_default_dtype(torch.float64)
    with ExactMode():
        for name, (model_type, settings) in MODELS.items():
            text = json.dumps(golden(model_type, settings, name.endswith("_dora")), indent=1)
            (out / f"tiny_{name}.json").write_text(text + "\n")
            print(f"tiny_{name}.json: {len(text)} bytes")


if __name__ == "__main__":
    main()
