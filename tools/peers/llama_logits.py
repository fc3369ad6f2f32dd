"""Runs in the environment of requirements_llama.txt: llama.cpp's logits of given tokens.

usage: llama_logits.py JOB.json      {"model": FILE.gguf, "adapter": FILE.gguf or null, "rows": [[..], ..],
                                      "out": FILE.npy, "count": K, "greedy": N}, or {"quantize": [FROM, TO, FTYPE]}

Writes the logits of every token, f32 [tokens of all rows, vocabulary], and prints one JSON line with the greedy
continuations of the last K rows by N tokens: the tokens, and how far the first of each stood before the second.
"""
import ctypes
import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np


def decode(context, ids, start):
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, start + i, 1, 0, 1
    status = llama_cpp.llama_decode(context, batch)
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(llama_cpp.llama_get_model(context)))
    logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), shape=(len(ids), vocab)).copy()
    llama_cpp.llama_batch_free(batch)
    assert status == 0, f"llama_decode: {status}"
    return logits


def follow(context, ids, greedy):
    """The greedy continuation of a row and its leads."""
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    tokens, gaps, last = [], [], decode(context, ids, 0)[-1]
    for i in range(greedy):
        best = np.sort(last)[-2:]
        tokens.append(int(np.argmax(last)))
        gaps.append(float(best[1] - best[0]))
        last = decode(context, tokens[-1:], len(ids) + i)[0]
    return tokens, gaps


def quantize(source, target, ftype):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread = ftype, True, 2
    assert llama_cpp.llama_model_quantize(source.encode(), target.encode(), params) == 0, "llama_model_quantize"


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    if "quantize" in job:
        quantize(*job["quantize"])
        print(json.dumps({}))
        return
    rows, count, greedy = job["rows"], job["count"], job["greedy"]
    options = llama_cpp.llama_model_default_params()
    options.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(job["model"].encode(), options)
    assert model, "llama.cpp does not load the model"
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = max(map(len, rows)) + greedy + 8
    options.n_threads = options.n_threads_batch = 1  # two wait for each other by spinning, for minutes on a busy machine
    options.type_k = options.type_v = 0  # f32
    options.flash_attn_type = 0  # which would round to f16
    context = llama_cpp.llama_init_from_model(model, options)
    if job.get("adapter"):
        adapter = llama_cpp.llama_adapter_lora_init(model, job["adapter"].encode())
        assert adapter, "llama.cpp does not load the adapter"
        status = llama_cpp.llama_set_adapters_lora(context, (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter), 1,
                                                   (ctypes.c_float * 1)(1.0))
        assert status == 0, f"llama_set_adapters_lora: {status}"
    all_logits = []
    for ids in rows:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        all_logits.append(decode(context, ids, 0))
    np.save(job["out"], np.concatenate(all_logits))
    tokens, gaps = zip(*(follow(context, ids, greedy) for ids in rows[-count:])) if count else ([], [])
    print(json.dumps({"tokens": tokens, "gaps": gaps}))


if __name__ == "__main__":
    main()
