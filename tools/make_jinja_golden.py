#!/usr/bin/env python3
"""Writes tests/golden/jinja_snippets.json and tests/golden/chat_templates.json: what transformers renders.

Needs transformers and jinja2. The clock of strftime_now stands at 2024-02-29 13:05:09 (UTC)."""
import datetime
import json
import os
import sys

import jinja2
import transformers
from transformers.utils import chat_template_utils as ctu

sys.path.insert(0, os.path.dirname(__file__))
from jinja_zoo import CHATS, EXPRESSIONS, TEMPLATES, TOOLS, VARIABLES

NOW = datetime.datetime(2024, 2, 29, 13, 5, 9)
GOLDEN = os.path.join(os.path.dirname(__file__), "..", "tests", "golden")
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


ctu.datetime = Clock


def compiled(source):
    return ctu._compile_jinja_template.__wrapped__(source) if hasattr(ctu._compile_jinja_template, "__wrapped__") else ctu._compile_jinja_template(source)


def in_bytes(text, spans):
    """Spans of characters to spans of UTF-8 bytes; empty ones go, neighbours become one."""
    out = []
    for start, end in spans:
        start, end = (len(text[:i].encode()) for i in (start, end))
        if start == end:
            continue
        if out and out[-1][1] == start:
            out[-1][1] = end
        else:
            out.append([start, end])
    return out


def render(source, generation, **variables):
    template = compiled(source)
    if generation:
        text, spans = ctu._render_with_assistant_indices(
            compiled_template=template, messages=variables.pop("messages", []), tools=variables.pop("tools", None),
            documents=variables.pop("documents", None), add_generation_prompt=variables.pop("add_generation_prompt", False), **variables)
        return text, in_bytes(text, spans)
    return template.render(**variables), []


def case(source, **variables):
    try:
        text, spans = render(source, "generation" in source, **variables)
    except Exception as e:  # whatever Python raises, the interpreter must refuse too
        return {"error": f"{type(e).__name__}: {e}"[:120]}
    if " at 0x" in text or "<built-in" in text:
        return {"error": "prints a memory address"}
    return {"text": text, **({"generation": spans} if spans else {})}


def snippets():
    sources = ["{{ " + e + " }}" for e in EXPRESSIONS] + TEMPLATES
    return [{"source": s, **case(s, **VARIABLES)} for s in sources]


def chats():
    out = []
    folder = os.path.join(GOLDEN, "templates")
    for name in sorted(os.listdir(folder)):
        source = open(os.path.join(folder, name), encoding="utf-8", newline="").read()
        for chat, messages in CHATS.items():
            for tools in (False, True):
                for prompt in (False, True):
                    clean = [{k: v for k, v in m.items() if v is not None} for m in messages]
                    clean = ctu._alias_reasoning_fields(clean)
                    got = case(source, messages=clean, tools=TOOLS if tools else None, documents=None, add_generation_prompt=prompt, **SPECIAL)
                    out.append({"template": name, "chat": chat, "tools": tools, "prompt": prompt, **got})
    return out


def write(name, document):
    document = {"made_by": f"tools/make_jinja_golden.py, transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
                "now": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp()), **document}
    with open(os.path.join(GOLDEN, name), "w", encoding="utf-8") as f:
        f.write("{\n" + ",\n".join(f"{json.dumps(k)}: " + ("[\n" + ",\n".join(json.dumps(x) for x in v) + "\n]" if k == "cases" else json.dumps(v))
                                   for k, v in document.items()) + "\n}\n")
    errors = sum("error" in c for c in document["cases"])
    print(name, len(document["cases"]), "cases,", errors, "of them errors")


write("jinja_snippets.json", {"variables": VARIABLES, "cases": snippets()})
write("chat_templates.json", {"chats": CHATS, "tools": TOOLS, "special": SPECIAL, "cases": chats()})
