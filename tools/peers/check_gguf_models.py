"""Small models laid out as llama.cpp's converter does, by the gguf package's own names, read by graft: the same logits
as from the Hugging Face directory that they were made of. What the converter does to values (rows of q and k in pairs,
norms as 1 + weight) is repeated here from its source (llama.cpp convert_hf_to_gguf.py)."""
import json
import re

import numpy as np

import check_logits
import common
import llama_peer

# model of make_tiny_models.py: general.architecture, rows of q and k in pairs, norms as 1 + weight
MODELS = {"gemma2": ("gemma2", False, True), "gemma3": ("gemma3", False, True), "smollm3": ("smollm3", True, False),
          "granite": ("granite", True, False), "olmo2": ("olmo2", False, False), "phi3": ("phi3", False, False),
          "phi4": ("phi3", False, False), "stablelm": ("stablelm", False, False),
          "starcoder2": ("starcoder2", False, False), "qwen3_moe": ("qwen3moe", False, False),
          "olmoe": ("olmoe", False, False)}
LLAMA = ("qwen3_moe",)  # computed by llama.cpp, too; its OLMoE knows no fewer heads of keys than of queries


def paired(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def add_metadata(writer, config, arch):
    """What the converter writes, for the numbers of our small models."""
    rope = config["rope_parameters"]
    full = rope.get("full_attention", rope)
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_freq_base(full["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * full.get("partial_rotary_factor", 1)))
    eps = config.get("norm_epsilon") or config.get("layer_norm_eps")
    if eps:
        writer.add_layer_norm_eps(eps)
    else:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if config.get("sliding_window") and arch != "starcoder2":  # whose window the converter leaves out
        writer.add_sliding_window(config["sliding_window"])
    experts = config.get("num_experts") or config.get("num_local_experts")
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
        if "moe_intermediate_size" in config:
            writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if config.get("attn_logit_softcapping"):
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if arch == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    if rope.get("rope_type") == "longrope":
        longer = config["max_position_embeddings"] / config["original_max_position_embeddings"]
        writer.add_rope_scaling_orig_ctx_len(config["original_max_position_embeddings"])
        writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(longer) / np.log(config["original_max_position_embeddings"]))))
        for name in ("long", "short"):
            writer.add_tensor(f"rope_factors_{name}.weight", np.array(rope[f"{name}_factor"], np.float32))


def add_tokenizer(writer, folder):
    data = json.loads((folder / "tokenizer.json").read_text())
    vocab = data["model"]["vocab"] | {t["content"]: t["id"] for t in data["added_tokens"]}
    special = {t["id"] for t in data["added_tokens"]}
    tokens = sorted(vocab, key=vocab.get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i in special else 1 for i in range(len(tokens))])
    writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in data["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


def stacked(tensors):
    """Experts of a block as one tensor, under the name that the gguf package has a place for."""
    tensors, layers = dict(tensors), {}
    for name in [n for n in tensors if ".mlp.experts." in n]:
        mlp, number, leaf = re.fullmatch(r"(.*\.mlp)\.experts\.(\d+)\.(\w+\.weight)", name).groups()
        layers.setdefault(f"{mlp}.experts.{leaf}", {})[int(number)] = tensors.pop(name)
    return tensors | {name: np.stack([each[e] for e in sorted(each)]) for name, each in layers.items()}


def write(folder, path, arch, pairs, one_plus):
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    key = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == arch)
    names = gguf.get_tensor_name_map(key, config["num_hidden_layers"])
    writer = gguf.GGUFWriter(str(path), arch)
    add_metadata(writer, config, arch)
    add_tokenizer(writer, folder)
    for name, w in stacked(load_file(folder / "model.safetensors")).items():
        if name == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        if pairs and ("q_proj" in name or "k_proj" in name):
            w = paired(w, config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"])
        if one_plus and "norm" in name:
            w = w + 1
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(w))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def one(ctx, name):
    arch, pairs, one_plus = MODELS[name]
    folder = ctx.tiny(name)
    path = ctx.work / f"{name}.gguf"
    config = json.loads((folder / "config.json").read_text())
    # what the file cannot say is not compared: llama.cpp knows these of the models that exist
    known = {"sliding_window_pattern": {"gemma3": 6}, "query_pre_attn_scalar": {"gemma2": 32, "gemma3": 32},
             "sliding_window": {"starcoder2": None}}
    changed = {k: v[name] for k, v in known.items() if name in v}
    if changed:
        import shutil

        folder = ctx.work / f"{name}-known"
        shutil.copytree(ctx.tiny(name), folder, dirs_exist_ok=True)
        config = {k: v for k, v in config.items() if k not in ("layer_types", "_sliding_window_pattern")} | changed
        (folder / "config.json").write_text(json.dumps(config))
    write(folder, path, arch, pairs, one_plus)
    out = ctx.work / f"{name}-from-gguf"
    ctx.run("convert", "--model", path, "--mlx-path", out)
    found, want = check_logits.graft_logits(ctx, out), check_logits.graft_logits(ctx, folder)
    worst = float(np.max(np.abs(found - want)))
    assert worst < 1e-4, f"logits differ by {worst:.3g}"
    if name in LLAMA and llama_peer.present(f"llama.cpp with {name}"):
        ids = common.tokenizer(folder).encode(check_logits.PROMPT)
        common.near("llama.cpp's logits", llama_peer.logits(ctx, path, [ids])[0], found, check_logits.BOUND)
        adapter = ctx.work / f"{name}-experts"
        ctx.run("train", "--model", out, "--data", ctx.tiny_data("text"), "--adapter-path", adapter, "--iters", 8,
                "--batch-size", 2, "--learning-rate", 2e-3, "--lora-rank", 4, "--lora-targets", "all-linear",
                "--compute", "fp32")
        ctx.run("export", "--adapter-path", adapter, "--out", adapter / "gguf", "--to", "gguf")
        common.near("llama.cpp's logits with adapters on every expert",
                    llama_peer.logits(ctx, path, [ids], adapter / "gguf" / "adapter.gguf")[0],
                    check_logits.graft_logits(ctx, out, adapter), check_logits.BOUND)


def checks(ctx):
    for name in MODELS:
        yield f"a GGUF of {name} gives the logits of its source", lambda name=name: one(ctx, name)
