"""The work of `graft bench generate --peer llama` by llama.cpp (llama-cpp-python) on the same GGUF file: a prompt, then
greedy tokens. usage: bench_llama.py FOLDER, which holds run.json with model (a file), threads, prompt_tokens, tokens,
repeats and walk (prompt token i is i * walk modulo the vocabulary); prints one JSON line."""
import json
import statistics
import sys
import time
from pathlib import Path

import bench_common


def main():
    run = json.loads((Path(sys.argv[1]) / "run.json").read_text())
    import llama_cpp

    count, tokens = run["prompt_tokens"], run["tokens"]
    llm = llama_cpp.Llama(run["model"], n_ctx=count + tokens + 8, n_batch=max(512, count), n_ubatch=512,
                          n_threads=run["threads"], n_threads_batch=run["threads"], n_gpu_layers=0, verbose=False)
    prompt = [i * run["walk"] % llm.n_vocab() for i in range(count)]
    bench_common.reset_peak()
    seconds = [[], []]
    for _ in range(run["repeats"] + 1):  # the first warms up
        llm.reset()
        start = time.perf_counter()
        llm.eval(prompt)
        middle = time.perf_counter()
        for _ in range(tokens):
            llm.eval([llm.sample(temp=0.0, repeat_penalty=1.0)])
        seconds[0].append(middle - start)
        seconds[1].append(time.perf_counter() - middle)
    prompt_rate, rate = (n / statistics.median(s[1:]) for n, s in zip((count, tokens), seconds))
    print(json.dumps({"program": f"llama.cpp (llama-cpp-python {llama_cpp.__version__})", "tokens": tokens,
                      "tokens_per_second": rate, "generation_tokens_per_second": rate,
                      "prompt_tokens_per_second": prompt_rate, "peak_rss_bytes": bench_common.peak_bytes()}), flush=True)


if __name__ == "__main__":
    main()
