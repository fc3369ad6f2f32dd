#!/usr/bin/env python3
"""tests/golden/tokenizer_dirs.json: which chat templates and special tokens transformers takes from a directory whose
files say different things."""
import json
import pathlib
import tempfile

import transformers

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/tokenizer_dirs.json"
VOCAB = {t: i for i, t in enumerate(["a", "b", "ab", "<s>", "</s>", "<x>", "<y>", "<pad>"])}
TOKENIZER = json.dumps({
    "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None,
    "post_processor": None, "decoder": None,
    "added_tokens": [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
                      "normalized": False, "special": True} for t, i in VOCAB.items() if "<" in t],
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
              "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": VOCAB,
              "merges": [["a", "b"]]}})
CLASS = {"tokenizer_class": "PreTrainedTokenizerFast"}
BOTH = [{"name": "default", "template": "config"}, {"name": "tool_use", "template": "config tools"}]
DECODER = {"added_tokens_decoder": {"3": {"content": "<s>", "special": True, "normalized": False, "lstrip": False,
                                          "rstrip": False, "single_word": False}}}
MAP = {"bos_token": "<x>", "eos_token": {"content": "<y>", "lstrip": False, "rstrip": False, "single_word": False,
                                         "normalized": False}, "pad_token": "<pad>"}

CASES = [
    {"tokenizer_config.json": {"chat_template": "config"}},
    {"tokenizer_config.json": {"chat_template": BOTH}},
    {"tokenizer_config.json": {"chat_template": "config"}, "chat_template.jinja": "file"},
    {"tokenizer_config.json": {"chat_template": BOTH}, "chat_template.jinja": "file"},
    {"tokenizer_config.json": {"chat_template": BOTH}, "chat_template.jinja": "file",
     "additional_chat_templates/tool_use.jinja": "file tools", "additional_chat_templates/rag.jinja": "rag",
     "additional_chat_templates/notes.txt": "no"},
    {"tokenizer_config.json": {}, "chat_template.jinja": "file", "additional_chat_templates/default.jinja": "folder"},
    {"tokenizer_config.json": {}, "additional_chat_templates/default.jinja": "folder",
     "additional_chat_templates/tool_use.jinja": "folder tools"},
    {"tokenizer_config.json": {"bos_token": "<s>", "eos_token": "</s>"}, "special_tokens_map.json": MAP},
    {"tokenizer_config.json": {"bos_token": "<s>", "eos_token": "</s>"} | DECODER, "special_tokens_map.json": MAP},
    {"tokenizer_config.json": {"bos_token": "<s>", "eos_token": "</s>", "added_tokens_decoder": {}},
     "special_tokens_map.json": MAP},
    {"special_tokens_map.json": MAP},
]


def case(files):
    with tempfile.TemporaryDirectory() as d:
        texts = {"tokenizer.json": TOKENIZER}
        for name, value in files.items():
            if name == "tokenizer_config.json":
                value = CLASS | value
            texts[name] = value if isinstance(value, str) else json.dumps(value)
        for name, text in texts.items():
            path = pathlib.Path(d, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        tok = transformers.PreTrainedTokenizerFast.from_pretrained(d)
    found = tok.chat_template
    templates = {"default": found} if isinstance(found, str) else found or {}
    special = {k: str(getattr(tok, k)) for k in ("bos_token", "eos_token", "pad_token") if getattr(tok, k) is not None}
    del texts["tokenizer.json"]
    return {"files": texts, "templates": templates, "special": special}


def main():
    cases = [case(c) for c in CASES]
    OUT.write_text(json.dumps({"program": f"transformers {transformers.__version__}", "tokenizer": TOKENIZER,
                               "cases": cases}, indent=1) + "\n")


main()
