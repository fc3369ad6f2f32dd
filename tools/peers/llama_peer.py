"""llama.cpp for the checks, in an environment of its own: tools/peers/setup tools/peers/requirements_llama.txt makes it
once (tools/check_peers.sh says when). Without it the checks that need it are skipped, and counted as such."""
import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np

import common

HERE = Path(__file__).resolve().parent


def python():
    """The environment's python, or None."""
    digest = hashlib.sha256((HERE / "requirements_llama.txt").read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    venv = cache / "graft" / f"peers-{digest}"
    return venv / "bin" / "python" if (venv / "ready").exists() else None


def need():
    """Skips the check that calls it where llama.cpp is not there."""
    if not python():
        raise common.Skipped("llama.cpp is not there (tools/peers/setup tools/peers/requirements_llama.txt compiles it)")


def run(ctx, **job):
    file = ctx.work / "llama-job.json"
    file.write_text(json.dumps({key: str(value) if isinstance(value, Path) else value for key, value in job.items()}))
    done = subprocess.run([str(python()), str(HERE / "llama_logits.py"), str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"llama.cpp: {done.stderr[-600:]}"
    return json.loads(done.stdout.splitlines()[-1])


def logits(ctx, model, rows, adapter=None, greedy=0):
    """[tokens, vocabulary] of each row, and with greedy the tokens that follow the last and their leads."""
    out = ctx.work / "llama-logits.npy"
    more = run(ctx, model=model, adapter=str(adapter) if adapter else None, rows=rows, out=out, greedy=greedy)
    found = np.split(np.load(out), np.cumsum([len(ids) for ids in rows])[:-1])
    return (found, more["tokens"], more["gaps"]) if greedy else found


def quantize(ctx, source, target, ftype):
    run(ctx, quantize=[str(source), str(target), ftype])


def write_gguf(model_dir, path, arch, pairs):
    """A tiny model of make_tiny_models.py as GGUF in f32, without a tokenizer. pairs: q and k as llama.cpp's converter
    permutes them."""
    import gguf

    weights, config = common.read_weights(model_dir)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    theta = config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta", 10000.0)
    out = gguf.GGUFWriter(str(path), arch)
    out.add_block_count(config["num_hidden_layers"])
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_key_length(width)
    out.add_value_length(width)
    out.add_rope_dimension_count(width)
    out.add_rope_freq_base(theta)
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_vocab_size(config["vocab_size"])
    out.add_tokenizer_model("none")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], config["num_hidden_layers"])
    for name, value in weights.items():
        if pairs and ("q_proj" in name or "k_proj" in name):
            n = heads if "q_proj" in name else kv_heads
            value = value.reshape(n, 2, width // 2, *value.shape[1:]).swapaxes(1, 2).reshape(value.shape)
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert target, f"no GGUF name for {name}"
        out.add_tensor(target, np.ascontiguousarray(value, dtype=np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path
