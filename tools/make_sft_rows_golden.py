#!/usr/bin/env python3
"""Writes tests/golden/sft_rows.json: conversations, and the tokens and targets that TRL's SFTTrainer makes of them.

usage: make_sft_rows_golden.py OUTPUT_DIR    (tests/golden; needs tools/peers/requirements.txt)

The tokenizer is that of rows.json beside it. "from" is the first token with a loss under completion_only_loss, null
where every token has one.
"""
import importlib.metadata
import json
import sys
from pathlib import Path
from types import SimpleNamespace

from datasets import Dataset
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from trl import SFTTrainer

from make_preference_rows_golden import THINKER, TOOLS, model, user

# what a row's variables say stands in front of all
TAGGED = "{% if tag is defined %}{{ '<' ~ tag ~ '>' }}{% endif %}" + THINKER
MANY = [model("b"), user("c"), model("d")]

ROWS = [
    ({"prompt": [user("hi")], "completion": [model("yo")]}, None),
    ({"prompt": [user("a")], "completion": MANY}, None),
    ({"prompt": [user("a")], "completion": MANY}, THINKER),
    ({"prompt": [user("a"), model("b")], "completion": [user("c"), model("d")]}, THINKER),
    ({"prompt": [user("1+1")], "completion": [model("2")], "tools": json.dumps(TOOLS)}, THINKER),
    ({"messages": [user("1+1"), model("2")], "tools": json.dumps(TOOLS)}, THINKER),
    ({"messages": [user("1+1"), model("2")], "chat_template_kwargs": {"tag": "x"}}, TAGGED),
    ({"messages": [user("1+1"), model("2")], "chat_template_kwargs": {"tag": None}}, TAGGED),
    ({"prompt": [user("a")], "completion": MANY, "chat_template_kwargs": {"tag": 7, "bos_token": "!"}}, TAGGED),
]


def tokens(tokenizer, row):
    """TRL's own columns for one row."""
    trainer = SimpleNamespace(_tokenizer=tokenizer, chat_template=None, completion_only_loss=True)
    args = SimpleNamespace(dataset_num_proc=None, max_length=None, truncation_mode="keep_start", dataset_text_field="text",
                           assistant_only_loss=False, shuffle_dataset=False)
    made = SFTTrainer._prepare_dataset(trainer, Dataset.from_list([row]), tokenizer, args, False, None, "train")[0]
    first = next(i for i, label in enumerate(made["labels"]) if label != -100)
    assert all((label != -100) == (i >= first) for i, label in enumerate(made["labels"]))
    return {"ids": made["input_ids"], "from": first if first else None}


def main():
    out = Path(sys.argv[1])
    given = json.loads((out / "rows.json").read_text())
    golden = []
    for row, template in ROWS:
        config = {**given["config"], **({"chat_template": template} if template else {})}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(given["tokenizer"])), **config)
        golden.append({"row": row, "template": template, **tokens(tokenizer, row)})
    versions = {n: importlib.metadata.version(n) for n in ("trl", "transformers", "tokenizers")}
    text = json.dumps({"made_by": "tools/make_sft_rows_golden.py", **versions, "rows": golden}, ensure_ascii=False,
                      separators=(",", ":"))
    (out / "sft_rows.json").write_text(text + "\n")
    print(f"sft_rows.json: {len(text)} bytes")


if __name__ == "__main__":
    main()
