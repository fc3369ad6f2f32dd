"""`graft convert` against real peers.

1. The GGUF, converted: mlx-lm loads it, and its weights in f32 are exactly what the gguf package dequantizes
   (the embedding: rounded to float16).
2. A tiny random Llama saved by transformers, converted with -q: the linears equal mlx_lm.convert's byte for byte;
   with --q-embeddings every tensor does; -d gives back what mx.dequantize gives.
3. Random AWQ linears: what mlx-lm makes of them, byte for byte. Random GPTQ linears: with -d the values of the formula
   that AutoGPTQ computes, in f32.
"""
import contextlib
import json
import os
import pathlib
import shutil
from unittest import mock

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from mlx_lm.utils import load_model



def check(good, text):
    assert good, "not so: " + text


def convert(ctx, model, out, *options):
    ctx.run("convert", "--model", model, "--mlx-path", out, *options)


def raw(a):
    return np.array(a.view({4: mx.uint32, 2: mx.uint16}[a.itemsize])).tobytes()


def f32(module):
    w = module.weight
    if hasattr(module, "scales"):
        return mx.dequantize(w, module.scales.astype(mx.float32), module.biases.astype(mx.float32), module.group_size, module.bits)
    return w.astype(mx.float32)


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def check_gguf(ctx):
    work = fresh(ctx)
    out = work / "gguf"
    gguf_path = os.environ.get("GRAFT_SMOLLM2") or ctx.cache / "models" / "smollm2-135m-instruct.gguf"
    assert pathlib.Path(gguf_path).exists(), "no SmolLM2 GGUF in the cache"
    convert(ctx, gguf_path, out)
    model, config = load_model(out)
    model.set_dtype(mx.float32)
    source = {t.name: dequantize(t.data, t.tensor_type) for t in GGUFReader(str(gguf_path)).tensors}
    same = total = 0
    pairs = [("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj"),
             ("attn_output", "self_attn.o_proj"), ("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj"),
             ("ffn_down", "mlp.down_proj"), ("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm")]
    modules = dict(model.named_modules())
    llama = config["model_type"] in ("llama", "mistral")
    for i in range(config["num_hidden_layers"]):
        for theirs, ours in pairs:
            want = source[f"blk.{i}.{theirs}.weight"]
            if llama and theirs == "attn_q":
                want = unpermute(want, config["num_attention_heads"])
            if llama and theirs == "attn_k":
                want = unpermute(want, config["num_key_value_heads"])
            total += 1
            same += np.array_equal(np.array(f32(modules[f"model.layers.{i}.{ours}"])), want)
    check(same == total, f"{same} of {total} weights of the blocks are the file's numbers")
    check(np.array_equal(np.array(f32(modules["model.norm"])), source["output_norm.weight"]), "the last norm too")
    want = source["token_embd.weight"].astype(np.float16).astype(np.float32)
    check(np.array_equal(np.array(f32(modules["model.embed_tokens"])), want), "the embedding, rounded to float16")
    logits = model(mx.array([[1, 2, 3]]))
    check(bool(mx.all(mx.isfinite(logits))), "mlx-lm computes with it")
    if (out / "tokenizer.json").stat().st_size > 10:
        from transformers import AutoTokenizer
        tok = AutoTokenizer.from_pretrained(out)
        text = "Hello, wörld! 123\n  def f(x):"
        check(tok.decode(tok.encode(text)) == text and tok.chat_template is not None, "transformers loads its tokenizer")
    convert(ctx, gguf_path, work / "gguf8", "--q-embeddings")
    model, _ = load_model(work / "gguf8")
    check(np.array_equal(np.array(f32(model.model.embed_tokens)), source["token_embd.weight"]), "--q-embeddings: the embedding exactly")


def check_hf(ctx):
    work = fresh(ctx)
    import torch
    from mlx_lm.convert import convert as mlx_convert
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from tokenizers import Tokenizer, models
    src = work / "hf"
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=512, hidden_size=128, intermediate_size=320, num_hidden_layers=3, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=256, rope_theta=50000.0, tie_word_embeddings=False)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(src)
    vocab = {chr(33 + i): i for i in range(64)}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab=vocab, merges=[]))).save_pretrained(src)
    mlx_convert(str(src), str(work / "mlx"), quantize=True, q_group_size=64, q_bits=4)
    theirs = mx.load(str(work / "mlx" / "model.safetensors"))
    convert(ctx, src, work / "all", "-q", "--q-embeddings")
    ours = mx.load(str(work / "all" / "model.safetensors"))
    equal = [k for k in theirs if k in ours and ours[k].dtype == theirs[k].dtype and raw(ours[k]) == raw(theirs[k])]
    check(len(equal) == len(theirs) == len(ours), f"-q --q-embeddings: {len(equal)} of {len(theirs)} tensors equal mlx_lm.convert")
    a, b = (json.loads((work / d / "config.json").read_text()) for d in ("all", "mlx"))
    check(a["quantization"] == b["quantization"] == a["quantization_config"], "and the same quantization in config.json")
    convert(ctx, src, work / "linears", "-q")
    ours = mx.load(str(work / "linears" / "model.safetensors"))
    linears = [k for k in theirs if "_proj" in k]
    check(all(raw(ours[k]) == raw(theirs[k]) for k in linears), f"-q: {len(linears)} tensors of linears equal")
    check(ours["lm_head.weight"].dtype == mx.bfloat16 == ours["model.embed_tokens.weight"].dtype, "head and embedding stay 16-bit")
    model, _ = load_model(work / "linears")
    check(not isinstance(model.lm_head, nn.QuantizedLinear) and bool(mx.all(mx.isfinite(model(mx.array([[1, 2]]))))), "mlx-lm loads it")
    check(json.loads((work / "linears" / "config.json").read_text())["rope_theta"] == 50000.0, "rope_theta is said in the old style too")
    convert(ctx, work / "all", work / "back", "-d", "--dtype", "float32")
    back = mx.load(str(work / "back" / "model.safetensors"))
    want = mx.dequantize(theirs["lm_head.weight"], *(theirs[f"lm_head.{p}"].astype(mx.float32) for p in ("scales", "biases")), 64, 4)
    check(bool(mx.array_equal(back["lm_head.weight"], want)), "-d gives the codes' values")
    model, _ = load_model(work / "back")


def packed_source(folder, method):
    """A tiny Llama whose linears are random codes as AutoAWQ or AutoGPTQ store them; returns what they stand for."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM
    from make_awq_gptq_golden import ONES, words
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=64, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False)
    LlamaForCausalLM(config).to(torch.float16).save_pretrained(folder)
    tensors, truth, group = {}, {}, 64
    for name, w in LlamaForCausalLM(config).to(torch.float16).state_dict().items():
        if "_proj" not in name:
            tensors[name] = w.contiguous()
            continue
        out, n = w.shape
        r = np.random.default_rng(len(tensors))
        codes, zeros = r.integers(0, 16, (n, out)), r.integers(0, 16, (n // group, out))
        scales = (r.random((n // group, out)) * 0.02 + 0.001).astype(np.float16)
        stem = name.removesuffix(".weight")
        if method == "awq":
            order = [0, 2, 4, 6, 1, 3, 5, 7]
            qweight, qzeros = words(codes, 4, order), words(zeros, 4, order)
        else:
            qweight, qzeros = words(codes.T, 4).T, words(zeros, 4) - np.uint32(ONES[4])
            tensors[stem + ".g_idx"] = torch.arange(n, dtype=torch.int32) // group
            tensors[stem + ".bias"] = torch.zeros(out, dtype=torch.float16)
        tensors[stem + ".qweight"] = torch.from_numpy(np.ascontiguousarray(qweight).view(np.int32))
        tensors[stem + ".qzeros"] = torch.from_numpy(np.ascontiguousarray(qzeros).view(np.int32))
        tensors[stem + ".scales"] = torch.from_numpy(scales)
        rows = np.repeat(np.arange(n // group), group)
        truth[name] = ((codes - zeros[rows]) * scales[rows].astype(np.float32)).T.astype(np.float32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    extra = {"version": "gemm"} if method == "awq" else {"desc_act": False, "checkpoint_format": "gptq"}
    settings["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": group, **extra}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {}, "merges": []}}))
    return truth


def check_columns(ctx, method):
    from mlx_lm.utils import _transform_awq_weights
    work = fresh(ctx)
    truth = packed_source(work / "source", method)
    convert(ctx, work / "source", work / "mlx")
    ours = mx.load(str(work / "mlx" / "model.safetensors"))
    if method == "awq":
        source = mx.load(str(work / "source" / "model.safetensors"))
        theirs, _ = _transform_awq_weights(source, json.loads((work / "source" / "config.json").read_text())["quantization_config"])
        equal = [k for k in theirs if k in ours and ours[k].dtype == theirs[k].dtype and raw(ours[k]) == raw(theirs[k])]
        check(len(equal) == len(theirs) == len(ours), f"{len(equal)} of {len(theirs)} tensors equal mlx-lm's")
    model, _ = load_model(work / "mlx")
    check(bool(mx.all(mx.isfinite(model(mx.array([[1, 2, 3]]))))), "mlx-lm computes with it")
    convert(ctx, work / "source", work / "dense", "-d", "--dtype", "float32")
    dense = mx.load(str(work / "dense" / "model.safetensors"))
    for name, want in truth.items():
        check(np.array_equal(np.array(dense[name]), want), f"{name}: the formula's values")


# What mlx-lm 0.32 computes as transformers does, and of how many tokens: it sees no windows in gemma2, mistral, phi3 and
# starcoder2. It knows no model_type ministral (ministral3 it does).
MLX = {"llama_rope": 99, "llama_tied": 99, "mistral_window": 8, "qwen2": 99, "qwen3": 99, "gemma2": 8, "gemma3": 99,
       "smollm3": 99, "granite": 99, "olmo2": 99, "phi3": 20, "phi4": 99, "stablelm": 99, "starcoder2": 20, "ministral3": 99,
       "qwen3_moe": 99, "olmoe": 99}


def like_mlx(ctx, name):
    """The model, without what mlx-lm is known to compute otherwise: phi4's long factors are what its short ones are, since
    mlx-lm takes the long ones for all rows."""
    if name != "phi4":
        return ctx.tiny(name)
    folder = fresh(ctx) / name
    shutil.copytree(ctx.tiny(name), folder)
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"]["long_factor"] = config["rope_parameters"]["short_factor"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@contextlib.contextmanager
def gelu_of_transformers(name):
    """mlx-lm's StarCoder2 with the GELU that the models' config names (by tanh; mlx-lm's is by erf)."""
    from mlx_lm.models import starcoder2

    with mock.patch.object(starcoder2.nn, "gelu", nn.gelu_approx) if name == "starcoder2" else contextlib.nullcontext():
        yield


def check_mlx(ctx, name):
    import check_logits

    source, out, tokens = like_mlx(ctx, name), fresh(ctx) / name, MLX[name]
    convert(ctx, source, out, "--dtype", "float32")
    adapter = check_logits.trained_adapter(ctx, ctx.tiny(name))
    for more in ([], [adapter]):
        with gelu_of_transformers(name):
            want = check_logits.mlx_logits(out, *more)[:tokens]
        found = check_logits.graft_logits(ctx, source, *more)[:tokens]
        ctx.figure(check_logits.TABLE, name, "mlx-lm", check_logits.near(f"logits, adapters {more}", source, found, want))


def check_experts(ctx, name):
    """Experts and attention in 4 bits load in mlx-lm; what mlx-lm quantizes itself is read, its 8-bit router too."""
    import check_logits
    import mlx_lm

    ours, plain, theirs = fresh(ctx) / name, fresh(ctx) / name, fresh(ctx) / name
    convert(ctx, ctx.tiny(name), ours, "-q")
    convert(ctx, ctx.tiny(name), plain)
    mlx_lm.convert(str(plain), mlx_path=str(theirs), quantize=True, q_group_size=64, q_bits=4)
    for folder in (ours, theirs):
        found, want = check_logits.graft_logits(ctx, folder), check_logits.mlx_logits(folder)
        worst = check_logits.near(f"{name} in 4 bits", folder, found, want)
        ctx.figure(check_logits.TABLE, f"{name}, 4 bits", "mlx-lm", worst)
    dense = fresh(ctx) / name
    convert(ctx, ours, dense, "-d", "--dtype", "float32")
    check_dense_experts(ctx, dense)
    adapter = fresh(ctx) / "adapter"
    ctx.run("train", "--model", ours, "--data", ctx.tiny_data("text"), "--adapter-path", adapter, "--iters", 8,
            "--batch-size", 2, "--learning-rate", 2e-3, "--lora-rank", 4, "--lora-targets", "all-linear", "--compute", "fp32")
    found, want = check_logits.graft_logits(ctx, ours, adapter), check_logits.mlx_logits(ours, adapter)
    moved = float(np.max(np.abs(want - check_logits.mlx_logits(ours))))
    worst = check_logits.near("with adapters on every expert", ours, found, want)
    check(100 * worst < moved, f"they move the logits, by {moved:.3g}")
    ctx.figure(check_logits.TABLE, f"{name}, 4 bits", "mlx-lm", worst)


def check_dense_experts(ctx, folder):
    """A mixture without codes is transformers' too: it finds every tensor, and computes what graft does."""
    import check_logits
    import common
    import torch
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    check(not any(info.values()), "transformers loads a dequantized mixture: nothing missing, nothing left over")
    ids = common.tokenizer(folder).encode(check_logits.PROMPT)
    with torch.no_grad():
        want = model(torch.tensor([ids])).logits[0].numpy()
    check_logits.near("transformers with a dequantized mixture", folder, check_logits.graft_logits(ctx, folder), want)


def fresh(ctx):
    """A new directory for one check."""
    folder = ctx.work / f"convert-{len(list(ctx.work.glob('convert-*')))}"
    folder.mkdir()
    return folder


def check_text_part(ctx, style):
    """The tiny Gemma 3 as a part of a larger model, in the names of transformers 4 and 5."""
    import check_logits
    from safetensors.numpy import load_file, save_file

    source, whole = ctx.tiny("gemma3"), fresh(ctx) / "whole"
    whole.mkdir()
    for file in source.glob("*token*"):
        (whole / file.name).write_bytes(file.read_bytes())
    config = json.loads((source / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"],
                                                   "text_config": config, "vision_config": {}, "eos_token_id": 2}))
    rename = (lambda n: "language_model." + n) if style == 4 else (lambda n: n.replace("model.", "model.language_model.", 1))
    tensors = {rename(k): v for k, v in load_file(source / "model.safetensors").items()}
    tensors["vision_tower.x.weight" if style == 4 else "model.vision_tower.x.weight"] = np.zeros((2, 2), np.float32)
    save_file(tensors, whole / "model.safetensors", {"format": "pt"})
    convert(ctx, whole, whole.parent / "text")
    found, want = check_logits.graft_logits(ctx, whole.parent / "text"), check_logits.graft_logits(ctx, source)
    check(np.array_equal(found, want), "the part's logits are those of the model alone")


def checks(ctx):
    yield "a GGUF keeps its numbers and loads in mlx-lm", lambda: check_gguf(ctx)
    yield "a Hugging Face model equals mlx_lm.convert", lambda: check_hf(ctx)
    yield "AWQ linears equal mlx-lm's reading of them", lambda: check_columns(ctx, "awq")
    yield "GPTQ linears give AutoGPTQ's values", lambda: check_columns(ctx, "gptq")
    for name in MLX:
        yield f"mlx-lm loads a converted {name}", lambda name=name: check_mlx(ctx, name)
    for name in ("qwen3_moe", "olmoe"):
        yield f"experts in 4 bits, ours and mlx-lm's: {name}", lambda name=name: check_experts(ctx, name)
    for style in (4, 5):
        yield f"the text part of Gemma 3, named as by transformers {style}", lambda style=style: check_text_part(ctx, style)
