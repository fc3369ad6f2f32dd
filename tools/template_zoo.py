#!/usr/bin/env python3
"""Renders a folder of chat templates with many conversations, as transformers does and as graft does.

    tools/template_zoo.py FOLDER [--render build/release/tests/render_chats] [--show N]

Every *.jinja of FOLDER with every conversation of jinja_zoo, with and without tools and generation prompt, and with
several sets of template variables. A rendering is equal when the text and the spans of generation blocks are the same
byte for byte, or when both refuse. A last table counts by families of models, which files' names say.
Of conversations whose answers are known by their words, the mask of --train-on assistant must hold those that are rendered
and nobody else's. Prints the templates that differ, then how many of how many are equal. Needs transformers and jinja2. The clock of
strftime_now stands at 2024-02-29 13:05:09 (UTC), in both."""
import argparse
import datetime
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jinja2
import transformers
from transformers.utils import chat_template_utils as ctu

sys.path.insert(0, os.path.dirname(__file__))
from jinja_zoo import CHATS, MASK_CHATS, MASK_WORDS, TOOLS, VARIABLE_SETS, ZOO_CHATS

NOW = datetime.datetime(2024, 2, 29, 13, 5, 9)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
# Families of models by the names of files.
FAMILIES = {"Llama": "llama(?!cpp)", "SmolLM": "smollm", "Mistral, Ministral": "ministral|mistral", "Qwen2": "qwen-?_?2",
            "Qwen3": "qwen-?_?3", "Gemma": "gemma", "Phi": "phi", "Granite": "granite", "StarCoder2": "starcoder2",
            "StableLM, Zephyr": "stablelm|zephyr"}
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


ctu.datetime = Clock


def cases():
    chats = {**CHATS, **ZOO_CHATS}
    for (name, messages), tools, prompt, (label, variables) in itertools.product(
            chats.items(), (None, TOOLS), (False, True), VARIABLE_SETS.items()):
        yield f"{name}, {label}, tools {tools is not None}, prompt {prompt}", messages, tools, prompt, variables


def in_bytes(text, spans):
    """Spans of characters to spans of UTF-8 bytes; empty ones go, neighbours become one."""
    out = []
    for start, end in spans:
        start, end = (len(text[:i].encode()) for i in (start, end))
        if start < end and out and out[-1][1] == start:
            out[-1][1] = end
        elif start < end:
            out.append([start, end])
    return out


def expected(source, messages, tools, prompt, variables):
    """The text and its spans of generation, or None and the exception's name and message."""
    clean = [{k: v for k, v in m.items() if v is not None} for m in messages]  # as apply_chat_template does
    variables = dict(variables)
    documents = variables.pop("documents", None)
    try:
        texts, spans = ctu.render_jinja_template(
            conversations=[clean], tools=tools, documents=documents, chat_template=source, add_generation_prompt=prompt,
            return_assistant_tokens_mask=bool(GENERATION.search(source)), **{**SPECIAL, **variables})
    except Exception as e:  # whatever a template raises
        return None, f"{type(e).__name__}: {e}"
    text = texts[0]
    if " at 0x" in text or "<built-in" in text:
        return None, "prints a memory address"
    return (text, in_bytes(text, spans[0] if spans else [])), ""


class Graft:
    def __init__(self, program):
        env = {**os.environ, "TZ": "UTC"}
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)

    def send(self, document):
        self.process.stdin.write(json.dumps(document).encode() + b"\n")
        self.process.stdin.flush()

    def render(self, messages, tools, prompt, variables):
        self.send({"messages": messages, "tools": tools, "prompt": prompt, "variables": variables})
        answer = json.loads(self.process.stdout.readline())
        return ((answer["text"], answer["generation"]) if "text" in answer else None), answer.get("error", "")


    def trained(self, messages, tools):
        """The rendering and the trained part of it; None where it is refused."""
        self.send({"messages": messages, "tools": tools, "train": True})
        answer = json.loads(self.process.stdout.readline())
        return (answer["text"], answer["trained"]) if "trained" in answer else None


def masks(graft):
    """How many masks are right, of how many, and the first that is not. The first token is never a target: an answer at the
    very start of the text may lack it."""
    right = total = 0
    note = ""
    for name, messages in MASK_CHATS.items():
        got = graft.trained(messages, TOOLS if "calls" in name else None)
        if got is None:
            continue
        text, trained = got
        ours = [w for w in MASK_WORDS[0] if w in text and not text.startswith(w)]
        good = all(w in trained for w in ours) and not any(w in trained for w in MASK_WORDS[1])
        total += 1
        right += good
        if not good and not note:
            note = f"  mask of {name}: {trained!r:.300}"
    return right, total, note


def difference(want, got):
    if want is None or got is None:
        return f"want {want!r:.300}, got {got!r:.300}"
    if want[0] == got[0]:
        return f"generation: want {want[1]}, got {got[1]}"
    want, got = want[0], got[0]
    at = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
    return f"at {at}: want {want[max(0, at - 40):at + 60]!r}, got {got[max(0, at - 40):at + 60]!r}"


def compare(graft, path, show):
    source = path.read_text(encoding="utf-8", newline="") if sys.version_info >= (3, 13) else path.read_bytes().decode()
    graft.send({"template": source})
    equal = total = refused = 0
    notes = []
    for label, messages, tools, prompt, variables in cases():
        want, why = expected(source, messages, tools, prompt, variables)
        got, error = graft.render(messages, tools, prompt, variables)
        total += 1
        refused += want is None
        if want == got:
            equal += 1
        elif len(notes) < show:
            notes.append(f"  {label}: {difference(want, got)}{' | ' + why if why else ''}{' | ' + error if error else ''}")
    return equal, total, refused, notes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--render", default="build/release/tests/render_chats")
    parser.add_argument("--show", type=int, default=1, help="differences to print of each template")
    args = parser.parse_args()
    seen, sums, good, count, right, masked = set(), [0, 0, 0], 0, 0, 0, 0
    families = {name: [0, 0, 0, 0] for name in FAMILIES}
    graft = Graft(args.render)
    for path in sorted(args.folder.glob("*.jinja")):
        text = path.read_bytes()
        if text in seen:
            continue
        seen.add(text)
        equal, total, refused, notes = compare(graft, path, args.show)
        sums = [a + b for a, b in zip(sums, (equal, total, refused))]
        own, of, note = masks(graft)
        right, masked = right + own, masked + of
        for name in (n for n, words in FAMILIES.items() if re.search(words, path.stem, re.IGNORECASE)):
            families[name] = [a + b for a, b in zip(families[name], (equal == total, 1, equal, total))]
        good += equal == total
        count += 1
        if equal != total:
            print(f"{path.stem}: {equal} of {total}", *notes, sep="\n", flush=True)
        if note:
            print(f"{path.stem}: {own} of {of} masks", note, sep="\n", flush=True)
    for name, (whole, of, same, all_of) in families.items():
        print(f"| {name} | {whole} of {of} | {same} of {all_of} |")
    print(f"{good} of {count} templates equal in every rendering; {sums[0]} of {sums[1]} renderings, of which both refuse "
          f"{sums[2]} (transformers {transformers.__version__}, jinja2 {jinja2.__version__})")
    print(f"{right} of {masked} masks hold what the assistant says and nothing else")
    sys.exit(good != count or right != masked)


if __name__ == "__main__":
    main()
