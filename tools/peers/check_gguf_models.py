"""Small models laid out as llama.cpp's converter does, by the gguf package's own names, read by graft: the same logits
as from the Hugging Face directory that they were made of. What the converter does to values (rows of q and k in pairs,
norms as 1 + weight) is repeated here from its source (llama.cpp convert_hf_to_gguf.py)."""
import json
import re
import shutil

import numpy as np

import check_logits
import common
import llama_peer

# model of make_tiny_models.py: general.architecture, rows of q and k in pairs, norms as 1 + weight
MODELS = {"llama_tied": ("llama", True, False), "llama_rope": ("llama", True, False), "llama_linear": ("llama", True, False),
          "mistral_window": ("llama", True, False),
          "qwen2": ("qwen2", False, False), "qwen3": ("qwen3", False, False),
          "gemma2": ("gemma2", False, True), "gemma3": ("gemma3", False, True), "gemma3_six": ("gemma3", False, True),
          "smollm3": ("smollm3", True, False),
          "granite": ("granite", True, False), "olmo2": ("olmo2", False, False), "phi3": ("phi3", False, False),
          "phi4": ("phi3", False, False), "stablelm": ("stablelm", False, False),
          "starcoder2": ("starcoder2", False, False), "qwen3_moe": ("qwen3moe", False, False),
          "olmoe": ("olmoe", False, False), "olmoe_heads": ("olmoe", False, False)}
# Computed by llama.cpp as by transformers, and of how many tokens: it sees no windows in mistral, phi3 and starcoder2. Not
# gemma3 of four blocks (its pattern is six), and not olmoe with fewer heads of keys than of queries.
LLAMA = {name: {"mistral_window": 8, "phi3": 20, "starcoder2": 20}.get(name, 99) for name in MODELS
         if name not in ("gemma3", "olmoe")}
# Models of which other numbers are taken, and these numbers.
KNOWN = {"gemma2": ("gemma2", {"query_pre_attn_scalar": 32}), "starcoder2": ("starcoder2", {"sliding_window": None}),
         "gemma3": ("gemma3", {"sliding_window_pattern": 6, "query_pre_attn_scalar": 32}),
         "llama_rope": ("llama_rope", {"rope_parameters": {
             "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 8192}}),
         "llama_linear": ("llama_rope", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}})}
# llama.cpp takes GELU from a table of f16: argument and value are rounded by 2^-11 of themselves each.
GELU, GELU_SHARE = ("gemma2", "gemma3_six", "starcoder2"), 2 * 2.0**-11


def paired(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def llama3_divisors(rope, head_dim):
    """What each pair's frequency is divided by."""
    waves = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, head_dim, 2) / head_dim)
    turns, low, high = rope["original_max_position_embeddings"] / waves, rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)


def add_metadata(writer, config, arch):
    """What the converter writes, for the numbers of our small models."""
    import gguf

    rope = config.get("rope_parameters") or {"rope_theta": config["rope_theta"]}
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
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(rope, head_dim))
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


def source_of(ctx, name):
    """The model's directory; what the file cannot say is as llama.cpp knows it of the models that exist."""
    if name not in KNOWN:
        return ctx.tiny(name)
    origin, changed = KNOWN[name]
    folder = ctx.work / f"{name}-known"
    shutil.copytree(ctx.tiny(origin), folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config = {k: v for k, v in config.items() if k not in ("layer_types", "_sliding_window_pattern")} | changed
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def file_of(ctx, name):
    """The model's directory and GGUF file."""
    folder, path = source_of(ctx, name), ctx.work / f"{name}.gguf"
    if not path.exists():
        write(folder, path, *MODELS[name])
    return folder, path


def read(ctx, name):
    folder, path = file_of(ctx, name)
    out = ctx.work / f"{name}-from-gguf"
    ctx.run("convert", "--model", path, "--mlx-path", out)
    found, want = check_logits.graft_logits(ctx, out), check_logits.graft_logits(ctx, folder)
    ctx.figure(check_logits.TABLE, name, "GGUF in graft", check_logits.near("logits", folder, found, want))


def in_llama(ctx, name):
    """The file, and with an adapter on every linear that graft trained over it and exported."""
    llama_peer.need()
    (folder, path), tokens = file_of(ctx, name), LLAMA[name]
    adapter = ctx.work / f"{name}-adapter"
    ctx.run("train", "--model", path, "--data", ctx.tiny_data("text"), "--adapter-path", adapter, "--iters", 8, "--batch-size", 2,
            "--learning-rate", 5e-3, "--lora-rank", 4, "--lora-targets", "all-linear", "--compute", "fp32", "--gguf")
    ids, plain = common.tokenizer(folder).encode(check_logits.PROMPT), None
    for more in ([], [adapter]):
        found = check_logits.graft_logits(ctx, path, *more)[:tokens]
        want = llama_peer.logits(ctx, path, [ids], *(file / "adapter.gguf" for file in more))[0][:tokens]
        bound = check_logits.bound(folder, want)
        if name in GELU:
            bound += GELU_SHARE * float(np.max(np.abs(want)))
        ctx.figure(check_logits.TABLE, name, "llama.cpp", common.near(f"logits, adapters {more}", found, want, bound))
        if plain is not None:
            assert np.max(np.abs(found - plain)) > 10 * bound, "the adapter moves nothing"
        plain = found


def checks(ctx):
    for name in MODELS:
        yield f"a GGUF of {name} gives the logits of its source", lambda name=name: read(ctx, name)
    for name in LLAMA:
        yield f"llama.cpp computes a GGUF of {name}, without and with an adapter", lambda name=name: in_llama(ctx, name)
