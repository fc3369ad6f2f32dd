"""Weights from a formula: the same small models in Python as ref/ref_tiny.c makes in C.

Value i of a tensor depends on the tensor's Hugging Face name and on i only (see ref/ref.h); every value is exact in
bfloat16, so float64, float32 and bfloat16 programs start from equal numbers.
"""
import numpy as np

ADAPTED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")

FUSED = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
PLAIN = (*ADAPTED[:4], "mlp.c_fc", "mlp.c_proj")


def adapted(model_type):
    """The linears of a block."""
    return {"phi3": FUSED, "starcoder2": PLAIN, "qwen3_moe": ADAPTED[:4], "olmoe": ADAPTED[:4]}.get(model_type, ADAPTED)


def fnv1a(name):
    h = 2166136261
    for byte in name.encode():
        h = ((h ^ byte) * 16777619) & 0xFFFFFFFF
    return h


def formula(name, shape):
    """u in [-0.5, 0.5) in steps of 1/128, float64."""
    n = int(np.prod(shape))
    m = np.uint64(0xFFFFFFFF)
    x = (np.uint64(fnv1a(name)) + np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B1)) & m
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x7FEB352D)) & m
    x = ((x ^ (x >> np.uint64(15))) * np.uint64(0x846CA68B)) & m
    x = x ^ (x >> np.uint64(16))
    return ((x >> np.uint64(25)).astype(np.float64) / 128 - 0.5).reshape(shape)


def parameter(name, shape):
    """value() of a parameter of transformers, which keeps all experts of a block in one."""
    parent, _, leaf = name.rpartition(".")
    if not parent.endswith(".experts"):
        return value(name, shape)
    parts = [f"{leaf}.weight"] if leaf == "down_proj" else ["gate_proj.weight", "up_proj.weight"]
    own = (shape[1] // len(parts), shape[2])
    return np.stack([np.concatenate([value(f"{parent}.{e}.{part}", own) for part in parts]) for e in range(shape[0])])


def value(name, shape):
    """A tensor's weights; adapters are named "model.layers.0.self_attn.q_proj.lora_A" (A [rank,in], B [rank,out])."""
    amplitude = 2.0 if "embed" in name else 1.0 if "norm" in name else 0.25 if "lora_B" in name else 0.5
    return (1.0 if "norm" in name and not name.endswith("bias") else 0.0) + amplitude * formula(name, shape)
