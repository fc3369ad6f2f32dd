#!/usr/bin/env python3
"""Writes tests/golden/chat_masks.json: ids and masks of chats under the templates of tests/golden/templates.

The tokenizer is tests/data/tokenizer_bytes.json. ids come from transformers; `offset` is what mlx-lm's ChatDataset returns
with mask_prompt; `assistant` is transformers' assistant mask where the template marks generation, else the tokens between
the rendering with generation prompt before each assistant message and the rendering up to it."""
import json
import os
import sys

import mlx_lm
import transformers
from mlx_lm.tuner.datasets import ChatDataset
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, os.path.dirname(__file__))
from jinja_zoo import CHATS, TOOLS

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests")
TEMPLATES = ["chatml", "chatml_system", "llama3", "mistral", "qwen25_tools", "qwen3_think", "phi3", "zephyr",
             "generation_chatml"]
USED = ["one", "pair", "system", "long", "unicode", "calls", "reasoning"]


def spans_of(tok, messages, tools):
    """Characters of the assistant's messages, None where renderings are no prefixes of the whole."""
    def text(part, prompt):
        return tok.apply_chat_template(part, tools=tools, tokenize=False, add_generation_prompt=prompt)

    whole, spans = text(messages, False), []
    for k, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, upto = text(messages[:k], True), text(messages[:k + 1], False)
        if not (whole.startswith(before) and whole.startswith(upto)):
            return whole, None
        spans.append((len(before), len(upto)))
    return whole, spans


def masked(tok, messages, tools, ids):
    """The assistant's tokens where spans of characters tell them."""
    whole, spans = spans_of(tok, messages, tools)
    if spans is None:
        return None
    enc = tok(whole, add_special_tokens=False, return_offsets_mapping=True)
    assert enc["input_ids"] == ids
    mask = [int(any(a < end and b > start for start, end in spans)) for a, b in enc["offset_mapping"]]
    mask[0] = 0
    return mask


def offset(tok, messages, tools):
    """mlx-lm's; None for a single message: transformers renders no empty chat."""
    row = {"messages": messages, **({"tools": tools} if tools else {})}
    return ChatDataset([row], tok, mask_prompt=True).process(row)[1] if len(messages) > 1 else None


def case(tok, template, chat, tools):
    messages = CHATS[chat]
    try:
        ids = tok.apply_chat_template(messages, tools=tools, return_dict=False)
        got = {"ids": ids}
        if "generation" in tok.chat_template.split("add_generation_prompt")[0]:
            out = tok.apply_chat_template(messages, tools=tools, return_dict=True, return_assistant_tokens_mask=True)
            got["assistant"] = out["assistant_masks"]
        else:
            got["assistant"] = masked(tok, messages, tools, ids)
        got["offset"] = offset(tok, messages, tools)
    except Exception as e:  # templates refuse some chats, also as a prefix
        got = {"error": f"{type(e).__name__}: {e}"[:100]}
    return {"template": template + ".jinja", "chat": chat, "tools": bool(tools), **got}


def main():
    cases = []
    for template in TEMPLATES:
        tok = PreTrainedTokenizerFast(tokenizer_file=os.path.join(ROOT, "data", "tokenizer_bytes.json"), bos_token="<s>",
                                      eos_token="</s>")
        with open(os.path.join(ROOT, "golden", "templates", template + ".jinja"), encoding="utf-8", newline="") as f:
            tok.chat_template = f.read()
        cases += [case(tok, template, chat, tools) for chat in USED for tools in (None, TOOLS)]
    document = {"made_by": f"tools/make_chat_golden.py, transformers {transformers.__version__}, mlx-lm {mlx_lm.__version__}",
                "chats": {k: CHATS[k] for k in USED}, "tools": TOOLS}
    with open(os.path.join(ROOT, "golden", "chat_masks.json"), "w", encoding="utf-8") as f:
        head = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in document.items())
        f.write("{\n" + head + ',\n"cases": [\n' + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n}\n")
    print(len(cases), "cases,", sum("error" in c for c in cases), "errors,", sum(c.get("assistant") is None for c in cases), "without mask")


main()
