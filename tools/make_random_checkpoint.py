"""Writes a random bfloat16 checkpoint of a published shape, sharded as Hugging Face does it, for measuring conversions.

usage: make_random_checkpoint.py SHAPE DIR     SHAPE: qwen2.5-0.5b or llama-3.2-1b; needs numpy. One tensor is in memory.
"""
import json
import sys
from pathlib import Path

import numpy as np

SHAPES = {
    "qwen2.5-0.5b": dict(model_type="qwen2", hidden_size=896, num_hidden_layers=24, num_attention_heads=14,
                         num_key_value_heads=2, intermediate_size=4864, vocab_size=151936, rms_norm_eps=1e-6,
                         rope_theta=1e6, tie_word_embeddings=True, max_position_embeddings=32768),
    "llama-3.2-1b": dict(model_type="llama", hidden_size=2048, num_hidden_layers=16, num_attention_heads=32,
                         num_key_value_heads=8, head_dim=64, intermediate_size=8192, vocab_size=128256, rms_norm_eps=1e-5,
                         rope_theta=5e5, tie_word_embeddings=True, max_position_embeddings=131072),
}
SHARD = 1 << 30


def tensors(c):
    h, m = c["hidden_size"], c["intermediate_size"]
    d = c.get("head_dim", h // c["num_attention_heads"])
    q, kv = d * c["num_attention_heads"], d * c["num_key_value_heads"]
    yield "model.embed_tokens.weight", (c["vocab_size"], h)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        for name, shape in (("self_attn.q_proj", (q, h)), ("self_attn.k_proj", (kv, h)), ("self_attn.v_proj", (kv, h)),
                            ("self_attn.o_proj", (h, q)), ("mlp.gate_proj", (m, h)), ("mlp.up_proj", (m, h)),
                            ("mlp.down_proj", (h, m)), ("input_layernorm", (h,)), ("post_attention_layernorm", (h,))):
            yield f"{p}{name}.weight", shape
            if c["model_type"] == "qwen2" and name[-6:] in ("q_proj", "k_proj", "v_proj"):
                yield f"{p}{name}.bias", shape[:1]
    yield "model.norm.weight", (h,)


def write(path, names, rng):
    header, at = {}, 0
    for name, shape in names:
        size = int(np.prod(shape)) * 2
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, shape in names:
            rows, cols = shape if len(shape) == 2 else (1, shape[0])
            for r in range(0, rows, 4096):  # float32 cut to bfloat16
                x = rng.standard_normal((min(4096, rows - r), cols), dtype=np.float32) * np.float32(0.02)
                out.write((x.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def main():
    shape, folder = sys.argv[1], Path(sys.argv[2])
    config = {**SHAPES[shape], "torch_dtype": "bfloat16", "hidden_act": "silu"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "tokenizer.json").write_text("{}")
    shards, size = [[]], 0
    for name, dims in tensors(config):
        n = int(np.prod(dims)) * 2
        if shards[-1] and size + n > SHARD:
            shards.append([])
            size = 0
        shards[-1].append((name, dims))
        size += n
    rng, index = np.random.default_rng(1), {}
    for i, names in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write(folder / file, names, rng)
        index.update({name: file for name, _ in names})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


main()
