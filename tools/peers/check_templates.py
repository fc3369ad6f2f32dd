"""Chat templates: `graft tokenize --render` against transformers' apply_chat_template.

Every template of tests/golden/templates with every conversation of jinja_zoo, with and without tools, rendered through
the command line from a model directory that holds a tokenizer and that template; and with template variables. What
transformers refuses, graft must refuse too."""
import json
import re
import shutil
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2] / "tests"
CONFIG = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
# Templates that print the date: both programs read the clock, a run across midnight would differ.
DATE = re.compile(r"\b\d{1,2} [A-Z][a-z]+ \d{4}\b")


def folder_with(ctx, template):
    """A model directory: the small byte-level tokenizer of the tests and this template."""
    folder = ctx.work / "templates" / template.stem
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(TESTS / "data" / "tokenizer_bytes.json", folder / "tokenizer.json")
    shutil.copy(template, folder / "chat_template.jinja")
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    return folder


def expected(tok, messages, tools, **variables):
    """transformers' text, None where it raises."""
    try:
        return tok.apply_chat_template(messages, tools=tools, tokenize=False, **variables)
    except Exception:  # whatever the template raises
        return None


def rendered(ctx, folder, document, **variables):
    path = folder / "messages.json"
    path.write_text(json.dumps(document))
    done = ctx.run("tokenize", "--render", "--messages", path, "--model", folder, "--json",
                   *(["--template-kwargs", json.dumps(variables)] if variables else []), ok=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[0])["text"]
    assert done.returncode == 1, f"exit {done.returncode}: {done.stderr[-300:]}"
    return None


def same(a, b):
    return a == b or (a is not None and b is not None and DATE.sub("DATE", a) == DATE.sub("DATE", b))


def compare(ctx, template):
    from transformers import AutoTokenizer

    from jinja_zoo import CHATS, TOOLS

    folder = folder_with(ctx, template)
    tok = AutoTokenizer.from_pretrained(str(folder))
    equal, total, first = 0, 0, ""
    for name, messages in CHATS.items():
        for tools in (None, TOOLS):
            want = expected(tok, messages, tools)
            got = rendered(ctx, folder, {"messages": messages, "tools": tools} if tools else messages)
            total += 1
            equal += same(want, got)
            if not same(want, got) and not first:
                first = f"; first: {name}, tools {tools is not None}: want {want!r:.300}, got {got!r:.300}"
    ctx.figure("templates of the tests", template.stem, "renderings equal", f"{equal} of {total}")
    assert equal == total, f"{equal} of {total} equal{first}"


def compare_variables(ctx, template):
    """Variables change what most templates render; all sets of jinja_zoo with all conversations that have turns."""
    from transformers import AutoTokenizer

    from jinja_zoo import CHATS, VARIABLE_SETS

    folder = folder_with(ctx, template)
    tok = AutoTokenizer.from_pretrained(str(folder))
    for name, messages in CHATS.items():
        for label, variables in VARIABLE_SETS.items():
            want, got = expected(tok, messages, None, **variables), rendered(ctx, folder, messages, **variables)
            assert same(want, got), f"{name}, {label}: want {want!r:.300}, got {got!r:.300}"


def checks(ctx):
    for template in sorted((TESTS / "golden" / "templates").glob("*.jinja")):
        yield f"template {template.stem} as transformers renders it", lambda template=template: compare(ctx, template)
    for name in ("qwen3_think", "granite_documents", "command_r", "llama31_tools", "smollm3_generation"):
        template = TESTS / "golden" / "templates" / f"{name}.jinja"
        yield f"template {name} with variables", lambda template=template: compare_variables(ctx, template)
