#!/usr/bin/env python3
"""Writes tests/golden/gguf_pre.json: a byte-level vocabulary, texts, and what llama.cpp makes of them with each name
that tokenizer.ggml.pre may have.

usage: make_gguf_pre_golden.py OUTPUT_DIR    (tests/golden; needs llama-cpp-python, tools/peers/requirements_llama.txt)

The merges are those of the texts themselves, uncut, so that where a text is cut shows in its tokens. Where llama.cpp is
known to cut otherwise than the model's own tokenizer.json, which graft follows, there is null: its expressions for tekken
and gpt-4o leave marks out, and those of deepseek see other spaces than ASCII's as a vertical tab.
"""
import collections
import json
import re
import struct
import sys
import tempfile
import unicodedata
from pathlib import Path

import llama_cpp

TEXTS = [
    "The Lamp's 1234, lit...\n\n  灯火 x", "It's THEY'RE we'VE DON'T I'll O'Neil", "12 boats 345 1,024 199812345 3.14 1a2b3c",
    "def light(lamp):\n    if lamp.oil > 0:\n\n\t\treturn lamp.light()\r\n\r\n    # end", "  two  spaces   three \t tab\n \n x  ",
    "über größer café ÀÉÎ naïve Straße ΑΒΓ αβγ", "灯火在山上，渔船回家。 山の上の灯り カタカナ 한국어 텍스트", "Свет на холме ГОРИТ каждый вечер",
    "a+b=c; x<=y && z!=w | p^q ~ $5 & 10% @home #tag _under_ `code` \"q\"", "camelCaseWord HTTPServer XMLHttp iPhone ABCdef",
    "x²½٣٤٥ १२ Ⅷ ¼", "path/to/file.txt https://a.b/c?d=e&f=g", "👍🏽 🎉🎉 ok 👩‍👩‍👧", "hello!!! wow?? (yes) [no] {maybe} —dash– “quotes”",
    "\n\n\nlines\n\n", "tab\tsep\t\tend", "don't can't 'tis 'S 'sx ''s", "۱۲۳ नमस्ते दुनिया สวัสดี ชาวโลก עברית العربية",
    "A.B.C. e.g. U.S.A. 1st 2nd v2.0.1-rc3", "trailing   ", "   leading", "mixed灯123火abc", "a\u00a0b\u3000c\u2028d", "Ünïcödé́",
]
BYTES = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
CHARS = {b: chr(b) for b in BYTES} | {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in BYTES)}


def merges_of(words, count):
    """Plain BPE: the pair that occurs most, the first of equals."""
    merges = []
    for _ in range(count):
        pairs = collections.Counter(p for w in words for p in zip(w, w[1:]))
        if not pairs:
            break
        best = max(pairs.items(), key=lambda x: (x[1], -len("".join(x[0])), x[0]))[0]
        merges.append(best)
        for w in words:
            i = 0
            while i + 1 < len(w):
                if (w[i], w[i + 1]) == best:
                    w[i:i + 2] = [w[i] + w[i + 1]]
                i += 1
    return merges


def gguf(path, tokens, merges, pre):
    def string(s):
        return struct.pack("<Q", len(s.encode())) + s.encode()

    def strings(key, values):
        return string(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(string, values))

    def text(key, value):
        return string(key) + struct.pack("<I", 8) + string(value)

    keys = [text("general.architecture", "llama"), text("tokenizer.ggml.model", "gpt2"),
            strings("tokenizer.ggml.tokens", tokens), strings("tokenizer.ggml.merges", [" ".join(m) for m in merges])]
    if pre:
        keys.append(text("tokenizer.ggml.pre", pre))
    data = b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys)
    path.write_bytes(data + b"\0" * (-len(data) % 32))


def rows(path):
    try:
        model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    except ValueError:
        return None
    return [model.tokenize(t.encode(), add_bos=False, special=False) for t in TEXTS]


def is_other(name, text):
    marks = any(unicodedata.category(c)[0] == "M" for c in text)
    spaces = any(c.isspace() and ord(c) > 127 for c in text)
    cased = name in ("tekken", "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2")
    return cased and marks or name in ("deepseek-llm", "deepseek-coder") and spaces


def main():
    table = (Path(__file__).resolve().parent.parent / "src/text/gguf_pre.c").read_text()
    table = table[table.index("static const gr_gguf_pre rows"):]
    names = [n for line in re.findall(r"\.names = ((?:\"[^\"]*\"\s*)+)", table)
             for n in "".join(re.findall(r'"([^"]*)"', line)).split()]
    merges = merges_of([[CHARS[b] for b in t.encode()] for t in TEXTS], 900)
    tokens = [CHARS[b] for b in range(256)] + ["".join(m) for m in merges]
    tokens = list(dict.fromkeys(tokens))
    golden, unknown = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name in [""] + names:
            path = Path(folder, "x.gguf")
            gguf(path, tokens, merges, name)
            ids = rows(path)
            if ids is None:
                unknown.append(name)
            else:
                golden[name] = [None if is_other(name, t) else i for t, i in zip(TEXTS, ids)]
    # equal lists once: names that cut alike
    lists = []
    for ids in golden.values():
        if ids not in lists:
            lists.append(ids)
    text = json.dumps({"made_by": f"tools/make_gguf_pre_golden.py, llama-cpp-python {llama_cpp.__version__}",
                       "tokens": tokens, "merges": [" ".join(m) for m in merges], "texts": TEXTS, "unknown": unknown,
                       "names": {n: lists.index(ids) for n, ids in golden.items()}, "ids": lists},
                      ensure_ascii=False, separators=(",", ":"))
    (Path(sys.argv[1]) / "gguf_pre.json").write_text(text + "\n")
    print(f"gguf_pre.json: {len(text)} bytes, {len(golden)} names, {len(lists)} ways; not known: {' '.join(unknown)}")


main()
