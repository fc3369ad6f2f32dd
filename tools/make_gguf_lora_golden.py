"""Writes tests/golden/gguf_lora.json: PEFT adapters and what llama.cpp's convert_lora_to_gguf.py makes of them.

usage: make_gguf_lora_golden.py LLAMA_CPP_SOURCE      (vendor/llama.cpp of llama-cpp-python 0.3.36's source package)

Needs torch, transformers, safetensors and gguf (tools/peers/requirements.txt). Each tensor's numbers count up, so that
every one says where it came from.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import save_file

TARGET = Path(__file__).resolve().parent.parent / "tests" / "golden" / "gguf_lora.json"
BASE = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 4, "vocab_size": 16, "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
        "rope_theta": 10000.0}
MORE = {"granite": {"attention_multiplier": 0.5, "embedding_multiplier": 1.0, "residual_multiplier": 1.0, "logits_scaling": 1.0},
        "gemma2": {"query_pre_attn_scalar": 4, "sliding_window": 32, "final_logit_softcapping": 30.0,
                   "attn_logit_softcapping": 50.0, "hidden_activation": "gelu_pytorch_tanh"},
        "gemma3_text": {"query_pre_attn_scalar": 4, "sliding_window": 32, "hidden_activation": "gelu_pytorch_tanh",
                        "sliding_window_pattern": 2, "rope_local_base_freq": 10000.0},
        "smollm3": {"no_rope_layers": [1, 1]},
        "phi3": {"sliding_window": None, "original_max_position_embeddings": 64, "pad_token_id": 0},
        "stablelm": {"layer_norm_eps": 1e-5, "use_qkv_bias": True, "partial_rotary_factor": 0.5},
        "starcoder2": {"norm_epsilon": 1e-5},
        "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
        "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12}}
SHAPES = {"self_attn.q_proj": (8, 8), "self_attn.k_proj": (4, 8), "self_attn.v_proj": (4, 8), "self_attn.o_proj": (8, 8),
          "mlp.gate_proj": (12, 8), "mlp.up_proj": (12, 8), "mlp.down_proj": (8, 12)}
OTHERS = {"self_attn.qkv_proj": (16, 8), "mlp.gate_up_proj": (24, 8), "mlp.c_fc": (12, 8), "mlp.c_proj": (8, 12)}
CASES = [("llama", "LlamaForCausalLM", list(SHAPES) + ["embed_tokens", "lm_head"]),
         ("mistral", "MistralForCausalLM", ["self_attn.q_proj", "self_attn.k_proj"]),
         ("qwen2", "Qwen2ForCausalLM", ["self_attn.q_proj", "self_attn.k_proj"]),
         ("qwen3", "Qwen3ForCausalLM", ["self_attn.k_proj"]),
         ("smollm3", "SmolLM3ForCausalLM", ["self_attn.k_proj"]),
         ("granite", "GraniteForCausalLM", ["self_attn.k_proj"]),
         ("olmo2", "Olmo2ForCausalLM", ["self_attn.k_proj", "mlp.down_proj"]),
         ("gemma2", "Gemma2ForCausalLM", ["self_attn.k_proj", "mlp.gate_proj"]),
         ("gemma3_text", "Gemma3ForCausalLM", ["self_attn.k_proj"]),
         ("phi3", "Phi3ForCausalLM", ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"]),
         ("stablelm", "StableLmForCausalLM", ["self_attn.k_proj", "mlp.gate_proj"]),
         ("starcoder2", "Starcoder2ForCausalLM", ["self_attn.k_proj", "mlp.c_fc", "mlp.c_proj"]),
         ("olmoe", "OlmoeForCausalLM", ["self_attn.q_proj", "self_attn.k_proj"]),
         ("qwen3_moe", "Qwen3MoeForCausalLM", ["self_attn.k_proj"])]  # of Ministral 3 the converter wants a tokenizer
RANK, ALPHA = 2, 6


def peft_tensors(modules):
    tensors, at = {}, 0

    def count(*shape):
        nonlocal at
        at += int(np.prod(shape))
        return np.arange(at - np.prod(shape), at, dtype=np.float32).reshape(shape) + 1

    for name in modules:
        if name == "embed_tokens":
            tensors["base_model.model.model.embed_tokens.lora_embedding_A"] = count(RANK, 16)
            tensors["base_model.model.model.embed_tokens.lora_embedding_B"] = count(8, RANK)
            continue
        out, inner = (16, 8) if name == "lm_head" else {**SHAPES, **OTHERS}[name]
        stem = "base_model.model." + ("lm_head" if name == "lm_head" else f"model.layers.1.{name}")
        tensors[stem + ".lora_A.weight"] = count(RANK, inner)
        tensors[stem + ".lora_B.weight"] = count(out, RANK)
    return tensors


def plain(array):
    return {"shape": list(array.shape), "data": [int(x) for x in array.flatten()]}


def convert(source, model_type, architecture, modules):
    with tempfile.TemporaryDirectory() as scratch:
        base, adapter = Path(scratch) / "base", Path(scratch) / "adapter"
        base.mkdir()
        adapter.mkdir()
        config = {**BASE, **MORE.get(model_type, {}), "model_type": model_type, "architectures": [architecture], "tie_word_embeddings": False}
        (base / "config.json").write_text(json.dumps(config))
        tensors = peft_tensors(modules)
        save_file(tensors, adapter / "adapter_model.safetensors")
        (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}))
        subprocess.run([sys.executable, Path(source) / "convert_lora_to_gguf.py", adapter, "--base", base, "--outtype", "f32",
                        "--outfile", adapter / "lora.gguf"], check=True, stdout=subprocess.DEVNULL)
        reader = GGUFReader(adapter / "lora.gguf")
        made = {t.name: plain(t.data.reshape([int(n) for n in reversed(t.shape)])) for t in reader.tensors}
        keys = {k: reader.get_field(k).contents() for k in
                ("general.type", "general.architecture", "adapter.type", "adapter.lora.alpha")}
    return {"config": config, "peft": {k: plain(v) for k, v in tensors.items()}, "gguf": made, "keys": keys}


def main():
    cases = [convert(sys.argv[1], *case) for case in CASES]
    golden = {"program": "convert_lora_to_gguf.py of llama.cpp as in llama-cpp-python 0.3.36", "rank": RANK, "alpha": ALPHA,
              "cases": cases}
    TARGET.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
