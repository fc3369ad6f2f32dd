"""The texts of `graft bench tokenize --peer tokenizers` by the tokenizers package: one text after another with one
thread, and all of them at once with all threads. usage: bench_tokenizers.py FOLDER, which holds run.json with model (a
directory), data (a file) and threads; prints one JSON line."""
import json
import os
import statistics
import sys
import time
from pathlib import Path


def texts_of(data):
    """Lines that are not blank, bytes that are no UTF-8 replaced, as graft reads them."""
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines if line.strip(b" \t\r")]


def rate(encode, tokens):
    """Tokens a second: the median of passes over one second at least."""
    seconds, start = [], time.perf_counter()
    while len(seconds) < 3 or time.perf_counter() - start < 1:
        begin = time.perf_counter()
        encode()
        seconds.append(time.perf_counter() - begin)
    return tokens / statistics.median(seconds)


def digest_of(ids):
    value = 0xcbf29ce484222325
    for token in ids:
        value = (value ^ token) * 0x100000001b3 & 0xffffffffffffffff
    return f"{value:016x}"


def main():
    run = json.loads((Path(sys.argv[1]) / "run.json").read_text())
    os.environ["RAYON_NUM_THREADS"] = str(run["threads"])
    import tokenizers

    tok = tokenizers.Tokenizer.from_file(run["model"] + "/tokenizer.json")
    texts = texts_of(Path(run["data"]).read_bytes())
    ids = [i for text in texts for i in tok.encode(text, add_special_tokens=False).ids]
    one = rate(lambda: [tok.encode(text, add_special_tokens=False).ids for text in texts], len(ids))
    batch = rate(lambda: [e.ids for e in tok.encode_batch_fast(texts, add_special_tokens=False)], len(ids))
    print(json.dumps({"program": f"tokenizers {tokenizers.__version__}", "tokens": len(ids), "tokens_per_second": one,
                      "batch_tokens_per_second": batch, "digest": digest_of(ids)}))


if __name__ == "__main__":
    main()
