#!/usr/bin/env python3
"""Makes the small tokenizers of tests/data and what the reference programs do with them (tests/golden).

    python tools/make_tokenizer_golden.py [NAME ..]

Trains with the tokenizers and sentencepiece packages on the text below, so that nothing comes from elsewhere.
tokenizer_NAME.json with golden/tokenizer_NAME.json: encode and decode of the tokenizers package.
tokenizer_smol.gguf, tokenizer_spm.gguf: the same from GGUF metadata; the truth of the second is sentencepiece.
"""
import json
import os
import pathlib
import sys
import tempfile

import gguf
import sentencepiece
import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer

import tokenizer_families as families

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.path.join(ROOT, "tests", "data")
GOLDEN = os.path.join(ROOT, "tests", "golden")

TEXT = [
    "The lamp on the hill is lit every evening when the fishing boats come home.",
    "Whoever sees it first calls out, and the others answer: the lamp, the lamp!",
    "There are 12 boats and 345 nets; in 1998 there were 27 boats and 1,024 nets.",
    "def light(lamp):\n    if lamp.oil > 0:\n        return lamp.light()\n    return None\n",
    "It's late, they're tired, we've waited, I'll go, don't worry, she'd stay.",
    "Das Licht über dem Hügel größer als früher; le café près de la forêt; el niño pequeño.",
    "灯火在山上，渔船回家。灯火在山上。 山の上の灯り。 Свет на холме горит каждый вечер.",
    "He lit the lamp; she lit the other lamp; together they lit the hill.",
]

CASES = [
    "", " ", "  ", "\n", "a", " a", "a ", "The lamp on the hill", "  The  lamp   on\tthe\n\n hill  ",
    "It's THEY'RE we'VE don't I'll", "12 boats 345 1,024 1998 3.14 ½ ² ٣٤٥ १२", "def light(x):\n    return x  # é\n\n",
    "über größer café nin\u0303o nin\u0303\u0323o \u1100\u1161\u11a8 Å \u212b ﬁ", "灯火在山上，渔船回家。 山の上の灯り",
    "👍🏽 👩‍👩‍👧 🏳️‍🌈 \U0001f1e9\U0001f1ea", "\u00a0x\u3000y\u200bz\ufeff\u2028w\u180ev", "\x00\x01\x7f\x1b[0m",
    "<s>hi</s>", "<s> hi </s> <s>", "<unk><pad>", "<|im_start|>user\nhi<|im_end|>\n", "x<mask>y  <mask>  z",
    "lamp lamps a lamp, LAMP", "<tool>lamp</tool>", "▁x ▁ ▁▁", "<0x41><0xE7>", "<|im_", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\U00031350 \u1c89 \U0001fbf4 \u2e44", "The lamp <mask> on the hill.\r\n\r\n  It's lit.",
]

QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
        r"\s*[\r\n]+|\s+(?!\S)|\s+")


def added(content, special=False, **options):
    row = {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
           "special": special}
    row.update(options)
    return row


def train(parts, size, special, alphabet=(), **model):
    t = Tokenizer(models.BPE(**model))
    for name in ("normalizer", "pre_tokenizer"):
        if parts.get(name) is not None:
            setattr(t, name, parts[name])
    t.train_from_iterator(TEXT, BpeTrainer(vocab_size=size, special_tokens=list(special), show_progress=False,
                                           initial_alphabet=list(alphabet)))
    for name in ("decoder", "post_processor"):
        if parts.get(name) is not None:
            setattr(t, name, parts[name])
    return json.loads(t.to_str())


def finish(name, tree, more=(), keep_special=None):
    """Adds tokens, writes the tokenizer and its golden file."""
    rows = tree["added_tokens"]
    if keep_special is not None:
        rows = [r for r in rows if r["content"] in keep_special]
    vocab = tree["model"]["vocab"]
    if isinstance(vocab, list):
        vocab = {piece: i for i, (piece, _) in enumerate(vocab)}
    top = max(vocab.values()) + 1
    for row in more:
        known = vocab.get(row["content"])
        rows.append({"id": top if known is None else known, **row})
        top += known is None
    tree["added_tokens"] = rows
    path = os.path.join(DATA, f"tokenizer_{name}.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(tree, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")
    t, as_text = Tokenizer.from_file(path), Tokenizer.from_file(path)
    if tree["model"]["type"] == "Unigram":  # special tokens meant as text are none: out of the model's reach
        special = {row["content"] for row in rows if row["special"]}
        tree["model"]["vocab"] = [("\U0010fffd" + p if p in special else p, s) for p, s in tree["model"]["vocab"]]
        as_text = Tokenizer.from_str(json.dumps(tree))
    write_golden(name, f"tokenizers {tokenizers.__version__}", [golden_case(t, text, as_text) for text in CASES])


def golden_case(t, text, as_text):
    t.encode_special_tokens = False
    ids = t.encode(text).ids
    bare = t.encode(text, add_special_tokens=False).ids
    as_text.encode_special_tokens = True
    plain = as_text.encode(text, add_special_tokens=False).ids
    return {"text": text, "ids": ids, "bare": bare, "plain": plain,
            "decoded": t.decode(ids, skip_special_tokens=False), "skipped": t.decode(ids, skip_special_tokens=True)}


def write_golden(name, program, cases):
    with open(os.path.join(GOLDEN, f"tokenizer_{name}.json"), "w", encoding="utf-8") as f:
        f.write('{"made_by": %s, "cases": [\n' % json.dumps("tools/make_tokenizer_golden.py, " + program))
        f.write(",\n".join(json.dumps(c, ensure_ascii=True) for c in cases))
        f.write("\n]}\n")


def byte_level():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN), "isolated"),
                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tree = train({"normalizer": normalizers.NFC(), "pre_tokenizer": pre, "decoder": decoders.ByteLevel()}, 420,
                 ["<pad>", "<s>", "</s>"], pre_tokenizers.ByteLevel.alphabet())
    tree["post_processor"] = json.loads(processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]),
    ]).__getstate__())
    tree["model"]["ignore_merges"] = True
    finish("bytes", tree, [added("<|im_start|>", True), added("<|im_end|>", True), added("<mask>", True, lstrip=True),
                           added("<tool>", rstrip=True), added("</tool>"), added("lamp", single_word=True),
                           added("niño", normalized=True)])


def fallback():
    parts = {"normalizer": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
             "decoder": decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)]),
             "post_processor": processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])}
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tree = train(parts, 430, special, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    finish("fallback", tree, keep_special={"<unk>", "<s>", "</s>"})


def metaspace():
    parts = {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="first"),
             "decoder": decoders.Metaspace(prepend_scheme="first"),
             "post_processor": processors.RobertaProcessing(("</s>", 2), ("<s>", 1))}
    tree = train(parts, 200, ["<unk>", "<s>", "</s>"], unk_token="<unk>")
    tree["model"]["merges"] = [" ".join(m) for m in tree["model"]["merges"]]  # the older spelling
    finish("metaspace", tree)


def words():
    parts = {"normalizer": normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(),
                                                 normalizers.Replace(Regex(r"\s+"), " ")]),
             "pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(),
                                                       pre_tokenizers.Digits(individual_digits=True)])}
    tree = train(parts, 180, ["<unk>", "<s>", "</s>"], unk_token="<unk>", fuse_unk=True, continuing_subword_prefix="##",
                 end_of_word_suffix="~")
    finish("words", tree, [added("<mask>", normalized=True), added("The lamp", normalized=True, single_word=True)])


def splits():
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\d+|\W"), "merged_with_previous"), pre_tokenizers.Split(",", "removed"),
        pre_tokenizers.Split(Regex(r"[aeiou]"), "contiguous"), pre_tokenizers.Split(Regex(r"[\p{Lu}]"), "merged_with_next"),
        pre_tokenizers.Split(Regex(r"\w+"), "isolated", invert=True)])
    parts = {"normalizer": normalizers.NFD(), "pre_tokenizer": pre, "decoder": decoders.Fuse()}
    finish("splits", train(parts, 200, ["<unk>", "<s>"]))


# A characters' map small enough to be kept: from, to, as sentencepiece's rules are written.
RULES = [("\ufb01", "fi"), ("\u00a0", " "), ("\u3000", " "), ("\u200b", ""), ("\t", " "), ("\n", " "), ("e\u0301", "\u00e9"),
         ("\u00bd", "1\u20442"), ("\uff11", "1"), ("n\u0303", "\u00f1"), ("\u0303", ""), ("\x01", ""), ("\u00c5", "A")]


def spm_train(folder, name, **options):
    rules = os.path.join(folder, "rules.tsv")
    with open(rules, "w", encoding="utf-8") as f:
        f.writelines("%s\t%s\n" % tuple(" ".join("%X" % ord(c) for c in side) for side in rule) for rule in RULES)
    rules = {} if "normalization_rule_name" in options else {"normalization_rule_tsv": rules}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXT * 3), model_prefix=os.path.join(folder, name),
                                             minloglevel=2, num_threads=1, hard_vocab_limit=False, **rules, **options)
    return pathlib.Path(folder, name + ".model")


def unigram():
    with tempfile.TemporaryDirectory() as tmp:
        t = families.t5(spm_train(tmp, "m", model_type="unigram", vocab_size=260, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
                                  character_coverage=0.98))
    finish("unigram", json.loads(t.to_str()), [added("<mask>", True, lstrip=True)])


def unigram_bytes():
    with tempfile.TemporaryDirectory() as tmp:
        t = families.unigram_bytes(spm_train(tmp, "m", model_type="unigram", vocab_size=460, byte_fallback=True,
                                             split_digits=True, character_coverage=0.98))
    finish("unigram_bytes", json.loads(t.to_str()))


def gemma():
    with tempfile.TemporaryDirectory() as tmp:
        t = families.gemma(spm_train(tmp, "m", **{**families.TRAINED["gemma"], "vocab_size": 460}))
    finish("gemma", json.loads(t.to_str()))


def smol_gguf():
    pre = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    special = ["<unk>", "<s>", "</s>"]
    tree = train({"pre_tokenizer": pre, "decoder": decoders.ByteLevel()}, 380, special,
                 pre_tokenizers.ByteLevel.alphabet())
    tokens = sorted(tree["model"]["vocab"], key=tree["model"]["vocab"].get)
    w = gguf.GGUFWriter(os.path.join(DATA, "tokenizer_smol.gguf"), "llama")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(tokens)
    w.add_token_types([3 if t in special else 1 for t in tokens])
    w.add_token_merges([" ".join(m) for m in tree["model"]["merges"]])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_chat_template("{{ messages }}")
    close(w)
    t = Tokenizer.from_str(json.dumps(tree))
    write_golden("smol_gguf", f"tokenizers {tokenizers.__version__}", [golden_case(t, text, Tokenizer.from_str(t.to_str())) for text in CASES])


def spm_gguf():
    with tempfile.TemporaryDirectory() as tmp:
        prefix = os.path.join(tmp, "m")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT * 3), model_prefix=prefix, model_type="bpe", vocab_size=460, byte_fallback=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.98,
            minloglevel=2, num_threads=1)
        sp = sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")
    n = sp.get_piece_size()
    kind = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in range(n)]
    w = gguf.GGUFWriter(os.path.join(DATA, "tokenizer_spm.gguf"), "llama")
    w.add_tokenizer_model("llama")
    w.add_token_list([sp.id_to_piece(i) for i in range(n)])
    w.add_token_scores([sp.get_score(i) for i in range(n)])
    w.add_token_types(kind)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    close(w)
    cases = [{"text": t, "plain": sp.encode(t), "decoded_plain": sp.decode(sp.encode(t))} for t in CASES if t and "\0" not in t]
    write_golden("spm_gguf", f"sentencepiece {sentencepiece.__version__}", cases)


NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
# name: (the model file or tokenizer.json, tokenizer_config.json, model_type, program that is the truth)
DIRECTORIES = {
    "spm_bpe": ("llama", {}, "mistral", "sentencepiece"),
    "spm_unigram": ("unigram", {}, "mistral", "sentencepiece"),
    "spm_llama": ("llama", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}, "llama", "transformers"),
    "spm_llama_legacy": ("llama", {"tokenizer_class": "LlamaTokenizerFast", "legacy": True, "add_eos_token": True,
                                   "add_bos_token": True}, "llama", "transformers"),
    "spm_gemma": ("gemma", {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True}, "gemma", "transformers"),
    "class_llama": ("tokenizer_fallback.json", {"tokenizer_class": "LlamaTokenizer"}, "llama", "transformers"),
    "class_llama_legacy": ("tokenizer_fallback.json", {"tokenizer_class": "LlamaTokenizerFast", "legacy": True}, "llama",
                           "transformers"),
    "class_llama_bare": ("tokenizer_fallback.json", {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False},
                         "llama", "transformers"),
    "class_of_others": ("tokenizer_fallback.json", {"tokenizer_class": "LlamaTokenizer"}, "mistral", "transformers"),
}


def model_files():
    """tests/data/spm_*.model, and the golden values of directories that hold them or a tokenizer of a named class."""
    with tempfile.TemporaryDirectory() as tmp:
        trained = families.TRAINED
        made = {"llama": spm_train(tmp, "llama", **{**trained["llama"], "vocab_size": 430, "character_coverage": 0.98}),
                "gemma": spm_train(tmp, "gemma", **{**trained["gemma"], "vocab_size": 430, "character_coverage": 0.98}),
                "unigram": spm_train(tmp, "unigram", model_type="unigram", vocab_size=200, character_coverage=0.98,
                                     user_defined_symbols=["<tool>"])}
        for name, path in made.items():
            model = families.proto(path)
            model.trainer_spec.ClearField("input")
            model.trainer_spec.ClearField("model_prefix")
            pathlib.Path(DATA, f"spm_{name}.model").write_bytes(model.SerializeToString())
    for name, (file, config, model_type, program) in DIRECTORIES.items():
        config = {**NAMES, **config}
        file = file if file.endswith(".json") else f"spm_{file}.model"
        cases = sentencepiece_cases(file) if program == "sentencepiece" else transformers_cases(file, config, model_type)
        with open(os.path.join(GOLDEN, f"tokenizer_{name}.json"), "w", encoding="utf-8") as f:
            made_by = f"tools/make_tokenizer_golden.py, {program} {__import__(program).__version__}"
            head = {"made_by": made_by, "file": file, "config": json.dumps(config), "model_type": model_type}
            f.write(json.dumps(head)[:-1] + ', "cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")


def sentencepiece_cases(file):
    sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(DATA, file))
    # Without a letter with two marks: the tokenizers package, and so transformers and we, drop the second.
    texts = [t for t in CASES if "\0" not in t and "<tool>" not in t and "\u0323" not in t]
    if "unigram" in file:  # which takes the sign of a space, spelled at an end, for one
        texts.remove("\u2581x \u2581 \u2581\u2581")
    rows = [{"text": t, "plain": sp.encode(t), "decoded_plain": sp.decode(sp.encode(t))} for t in texts]
    for row in rows:
        if sp.unk_id() in row["plain"]:  # sentencepiece writes a question mark, all others the token
            del row["decoded_plain"]
    return rows


def transformers_cases(file, config, model_type):
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    with tempfile.TemporaryDirectory() as tmp:
        name = "tokenizer.json" if file.endswith(".json") else "tokenizer.model"
        pathlib.Path(tmp, name).write_bytes(pathlib.Path(DATA, file).read_bytes())
        pathlib.Path(tmp, "config.json").write_text(json.dumps({"model_type": model_type}))
        pathlib.Path(tmp, "tokenizer_config.json").write_text(json.dumps(config))
        t = transformers.AutoTokenizer.from_pretrained(tmp)
    rows = []
    for text in CASES:
        ids = t.encode(text)
        rows.append({"text": text, "ids": ids, "bare": t.encode(text, add_special_tokens=False),
                     "decoded": t.decode(ids), "skipped": t.decode(ids, skip_special_tokens=True)})
    return rows


def close(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


ALL = [byte_level, fallback, metaspace, words, splits, unigram, unigram_bytes, gemma, smol_gguf, spm_gguf,
       model_files]

if __name__ == "__main__":
    for make in ALL:
        if len(sys.argv) == 1 or make.__name__ in sys.argv[1:]:
            make()
