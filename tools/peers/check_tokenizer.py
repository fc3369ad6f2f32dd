"""`graft tokenize` against the tokenizers package: 10,000 varied lines, every id and the decoded text equal. The
tokenizers are SmolLM2's, the small ones of the tests, and those of tools/tokenizer_families.py, trained here."""
import gzip
import json
import random
import shutil
from pathlib import Path

LINES, TABLE = 10000, "tokenizer"
WORDS = (
    "the quick brown fox don't I'll we've THEY'RE it's O'Neil naïve café résumé Straße İstanbul ŉ ǅ ﬁ ﬆ x1 3.14 "
    "1,234,567 2^10 foo_bar camelCase HTTPServer __init__ http://a.b/c?d=e&f=g user@example.com #tag 10:30 1/2 ½ ² ③ Ⅷ "
    "٣٤٥ १२३ 你好 世界 こんにちは カタカナ ﾊﾝｶｸ 한국어 ไทย हिन्दी العربية עברית Ελληνικά Русский tiếng ñ e\u0301 "
    "a\u0300\u0301 q\u0323\u0307 \u1100\u1161\u11a8 👍 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👋🏽 ❤️ ™ € ¥ … — “q” ‘q’ « » \u200b \ufeff \u00a0 "
    "\u3000 \u2028 \u180e \x01 \x7f \x1b[0m ▁ ▁▁ Ġ Ċ â <0x41> <0xE7> <s> </s> <unk> <pad> <mask> <tool> lamp niño "
    "<|im_start|> <|im_end|> <|endoftext|> <|IM_START|> <|im_ <repo_name> [MASK] � ï¿½ Ã©"
).split(" ")
CODE = [
    "def f(x):\n    return x**2 # sq\n", "for (int i = 0; i < n; i++) {\n\tsum += a[i];\n}",
    "SELECT * FROM t WHERE a='b';", '<div class="x">&nbsp;</div>', '{"k": [1, 2.5e-3, null]}', "x => x?.y ?? z",
    "#include <stdio.h>\r\nint main(void) { return 0; }\r\n", "    if a:\n        b()\n    else:\n\t\tc()\n\n\n",
]
SPACE = [" ", "  ", "   ", " " * 7, "\t", "\t\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\u00a0", "\u3000", " \t \n", ""]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<unk>", " ", "\n", "user", "x", "<mask>"]
PLANES = [(1, 0x7F), (0x80, 0x24F), (0x250, 0x52F), (0x530, 0x1FFF), (0x2000, 0x2FFF), (0x3000, 0x9FFF),
          (0xA000, 0xFFFF), (0x10000, 0x1FFFF), (0x20000, 0x323AF), (0xE0000, 0xE01EF), (0x10000, 0x10FFFF)]


def char(r, plane):
    while True:
        code = r.randint(*plane)
        if not 0xD800 <= code <= 0xDFFF:
            return chr(code)


def line(r):
    kind = r.random()
    if kind < 0.35:
        return "".join(r.choice(WORDS) + r.choice(SPACE) for _ in range(r.randint(1, 14)))
    if kind < 0.45:
        return " ".join(r.choice(WORDS) for _ in range(r.randint(1, 14)))
    if kind < 0.55:
        return "".join(r.choice(CODE) for _ in range(r.randint(1, 4)))
    if kind < 0.62:
        return "".join(r.choice(SPACE) for _ in range(r.randint(1, 12))) + r.choice(WORDS) + r.choice(SPACE)
    if kind < 0.70:
        return "".join(r.choice("0123456789٣१½.,- eE") for _ in range(r.randint(1, 25)))
    if kind < 0.80:
        plane = r.choice(PLANES)
        return "".join(char(r, plane) for _ in range(r.randint(1, 20)))
    if kind < 0.88:
        return "".join(char(r, r.choice(PLANES)) for _ in range(r.randint(1, 25)))
    if kind < 0.92:
        return "".join(r.choice("aeiou") + "".join(char(r, (0x300, 0x36F)) for _ in range(r.randint(0, 4)))
                       for _ in range(r.randint(1, 8)))
    if kind < 0.96:
        return "".join(r.choice(SPECIAL) for _ in range(r.randint(1, 9)))
    return r.choice(["a", "é", "啊", "🙂", "\n", "\t", "ab", "-", "<", " "]) * r.randint(1, 300)


def lines(path):
    """Writes the rows once; returns their texts."""
    r = random.Random(7)
    texts = [text for text in (line(r) for _ in range(LINES * 2)) if text.strip()][:LINES]
    path.write_text("".join(json.dumps({"text": t}, ensure_ascii=r.random() < 0.5) + "\n" for t in texts), "utf-8")
    return texts


def from_gguf(path):
    """SmolLM2's tokenizer built by hand from the GGUF's lists: the truth that does not pass through graft."""
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    types = fields["tokenizer.ggml.token_type"].contents()
    t = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])
    t.decoder = decoders.ByteLevel()
    t.add_tokens([AddedToken(x, special=True, normalized=False) for x, kind in zip(tokens, types) if kind == 3])
    return t


def compare(ctx, what, model, truth, eos):
    data = ctx.work / "tokenizer_lines.jsonl"
    texts = lines(data)
    out = ctx.run("tokenize", "--model", model, "--data", data, "--json").stdout
    rows = {row["line"]: (row["ids"], row["text"]) for row in map(json.loads, filter(None, out.split("\n")))}
    wrong = []
    for number, text in enumerate(texts, 1):
        ids = truth.encode(text).ids
        if eos is not None and ids[-1:] != [eos]:  # text rows end in EOS
            ids = ids + [eos]
        expected = (ids, truth.decode(ids, skip_special_tokens=False))
        if rows.get(number) != expected:
            wrong.append((text, expected, rows.get(number)))
    ctx.figure(TABLE, what, "lines whose ids and text are equal", f"{len(texts) - len(wrong)} of {len(texts)}")
    first = f"; first: {wrong[0][0]!r}: {wrong[0][1]} expected, {wrong[0][2]} found" if wrong else ""
    assert not wrong, f"{len(wrong)} of {len(texts)} lines differ{first}"


def tiny_directory(ctx, name):
    """A model directory with one of the tokenizers of tests/data; the weights are a tiny model's."""
    folder = ctx.work / f"tokenizer_{name}"
    shutil.copytree(ctx.tiny("llama_rope"), folder, dirs_exist_ok=True)
    data = Path(__file__).resolve().parents[2] / "tests" / "data"
    for old in ("special_tokens_map.json", "chat_template.jinja", "generation_config.json"):
        (folder / old).unlink(missing_ok=True)
    shutil.copy(data / f"tokenizer_{name}.json", folder / "tokenizer.json")
    eos = {"eos_token": "</s>"} if name != "splits" else {"eos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **eos}))
    return folder, eos["eos_token"]


def corpus(ctx):
    """English prose if it is in the cache, and words of many scripts."""
    r = random.Random(3)
    prose = ctx.cache / "data" / "devil.dict.dz"
    found = gzip.open(prose).read().decode("latin-1").split("\n") if prose.exists() else [" ".join(CODE)] * 200
    mixed = (" ".join(r.choice(WORDS) for _ in range(12)).replace("\0", "") for _ in range(400))
    return [line for line in found if line.strip()] + list(mixed)


def family_directory(ctx, name, tokenizer_class="PreTrainedTokenizerFast", eos="</s>", **config):
    """A tiny model's directory without its tokenizer."""
    folder = ctx.work / ("tokenizer_" + "".join(c if c.isalnum() else "_" for c in name))
    shutil.copytree(ctx.tiny("llama_rope"), folder, dirs_exist_ok=True)
    for old in ("special_tokens_map.json", "chat_template.jinja", "generation_config.json", "tokenizer.json"):
        (folder / old).unlink(missing_ok=True)
    settings = {"tokenizer_class": tokenizer_class, "eos_token": eos, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def checks(ctx):
    from tokenizers import Tokenizer

    def smollm():
        folder = ctx.smollm()
        assert folder, "the SmolLM2 GGUF is not in the cache"
        import os
        gguf = os.environ.get("GRAFT_SMOLLM2") or ctx.cache / "models" / "smollm2-135m-instruct.gguf"
        compare(ctx, "SmolLM2's own, from its GGUF file", folder, from_gguf(gguf), 2)
        written = Tokenizer.from_file(str(folder / "tokenizer.json"))
        truth = from_gguf(gguf)
        for text in lines(ctx.work / "tokenizer_lines.jsonl")[:1000]:
            assert written.encode(text).ids == truth.encode(text).ids, f"tokenizer.json encodes {text!r} differently"

    yield "SmolLM2's tokenizer from GGUF, 10,000 lines", smollm
    for name in ("bytes", "fallback", "metaspace", "words", "splits"):
        def tiny(name=name):
            folder, eos = tiny_directory(ctx, name)
            truth = Tokenizer.from_file(str(folder / "tokenizer.json"))
            compare(ctx, f"the tests' {name}", folder, truth, truth.token_to_id(eos))

        yield f"the {name} tokenizer of tests/data, 10,000 lines", tiny

    import tokenizer_families
    from common import tokenizer

    text = corpus(ctx)
    paths = tokenizer_families.train(text, ctx.work / "sentencepiece")
    for name, truth in (tokenizer_families.json_families(paths) | tokenizer_families.byte_families(text)).items():
        def family(name=name, truth=truth):
            folder = family_directory(ctx, name)
            truth.save(str(folder / "tokenizer.json"))
            compare(ctx, name, folder, truth, truth.token_to_id("</s>"))

        yield f"{name}, 10,000 lines", family

    def model_file(kind, config, model_type):
        """A directory with tokenizer.model alone, and what transformers loads from it."""
        name = f"{kind} {config.get('tokenizer_class')} {config.get('legacy')}"
        folder = family_directory(ctx, name, bos_token="<s>", unk_token="<unk>", **config)
        shutil.copy(paths[kind], folder / "tokenizer.model")
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
        truth = tokenizer(folder)
        (folder / "config.json").write_text(json.dumps(settings))
        compare(ctx, f"tokenizer.model, {name}", folder, truth._tokenizer, truth.eos_token_id)

    for kind, model_type, config in (
            ("llama", "llama", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}),
            ("llama", "llama", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": True}),
            ("gemma", "gemma", {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True})):
        yield (f"tokenizer.model, {config['tokenizer_class']}{', legacy' if 'legacy' in config else ''}, 10,000 lines",
               lambda kind=kind, config=config, model_type=model_type: model_file(kind, config, model_type))

    def sentencepiece_itself(kind):
        import sentencepiece

        folder = family_directory(ctx, kind + " sentencepiece")
        shutil.copy(paths[kind], folder / "tokenizer.model")
        sp = sentencepiece.SentencePieceProcessor(model_file=str(paths[kind]))
        data = ctx.work / "tokenizer_lines.jsonl"
        out = ctx.run("tokenize", "--model", folder, "--data", data, "--json").stdout
        rows = [json.loads(line)["ids"] for line in out.split("\n") if line]
        # Tokens that a text spells are text to sentencepiece, and it cannot say a zero byte.
        texts = [(t, ids) for t, ids in zip(lines(data), rows) if not any(x in t for x in ("<s>", "</s>", "<unk>", "\0"))]
        wrong = [t for t, ids in texts if ids != sp.encode(t) + [sp.eos_id()]]
        ctx.figure(TABLE, f"tokenizer.model, {kind}, as sentencepiece", "lines whose ids and text are equal",
                   f"{len(texts) - len(wrong)} of {len(texts)}")
        assert not wrong, f"{len(wrong)} of {len(texts)} lines differ; first: {wrong[0]!r}"

    yield "tokenizer.model, BPE as sentencepiece, 10,000 lines", lambda: sentencepiece_itself("llama")
