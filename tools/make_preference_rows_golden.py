#!/usr/bin/env python3
"""Writes tests/golden/preference_rows.json: rows of preferences, and the tokens that TRL's DPOTrainer makes of them.

usage: make_preference_rows_golden.py OUTPUT_DIR    (tests/golden; needs tools/peers/requirements.txt)

The tokenizer is that of rows.json beside it. A row's "cut" is what TRL's collator leaves of it at WIDTH tokens, null
where its trainer drops the row. A prompt given as text beside lists of messages goes through maybe_extract_prompt
first, as TRL's scripts and its ORPOTrainer do.
"""
import importlib.metadata
import json
import sys
from pathlib import Path
from types import SimpleNamespace

from datasets import Dataset
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from trl import DPOTrainer
from trl.data_utils import maybe_extract_prompt
from trl.trainer.dpo_trainer import DataCollatorForPreference

WIDTH = 14
# renders tools, and ends the generation prompt with what the whole conversation does not have
THINKER = (
    "{% if tools %}{% for t in tools %}{{ '<|im_start|>tool ' + t['function']['name'] + '<|im_end|>' }}{% endfor %}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<t></t>' }}{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]


def user(text):
    return {"role": "user", "content": text}


def model(text):
    return {"role": "assistant", "content": text}


ROWS = [
    ({"prompt": "2+2?", "chosen": " 4", "rejected": " 5, I think"}, None),
    ({"chosen": "The answer is yes", "rejected": "The answer is no"}, None),
    ({"chosen": "héllo wörld é!", "rejected": "héllo wörld è?"}, None),
    ({"chosen": "a b", "rejected": "a b c"}, None),
    ({"chosen": "ending é", "rejected": "ending é too"}, None),
    ({"chosen": "same here", "rejected": "same here"}, None),
    ({"prompt": "x", "chosen": "y</s>", "rejected": "z"}, None),
    ({"prompt": "ax", "chosen": "x", "rejected": "y"}, None),
    ({"prompt": "q", "chosen": "", "rejected": "no"}, None),
    ({"prompt": "", "chosen": "up", "rejected": "down"}, None),
    ({"prompt": "longer than the width", "chosen": "a", "rejected": "b"}, None),
    ({"prompt": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "chosen": "yo<|im_end|>\n",
      "rejected": "no<|im_end|>\n"}, None),
    ({"prompt": [user("hi")], "chosen": [model("yo")], "rejected": [model("hey you")]}, None),
    ({"chosen": [user("hi"), model("yo")], "rejected": [user("hi"), model("go")]}, None),
    ({"chosen": [{"role": "system", "content": "s"}, user("a"), model("b"), user("c"), model("d")],
      "rejected": [{"role": "system", "content": "s"}, user("a"), model("b"), user("c"), model("e"), user("f"), model("g")]},
     None),
    ({"prompt": "hi", "chosen": [user("hi"), model("yo")], "rejected": [user("hi"), model("go")]}, None),
    ({"chosen": [user("hi"), model("yo")], "rejected": [user("hi"), model("yo")]}, None),
    ({"prompt": [user("hi")], "chosen": [model("yo")], "rejected": [model("no")]}, THINKER),
    ({"prompt": [user("1+1")], "chosen": [model("2")], "rejected": [model("3")], "tools": TOOLS}, THINKER),
    ({"prompt": [user("1+1")], "chosen": [model("2")], "rejected": [model("3")], "tools": json.dumps(TOOLS)}, THINKER),
]


def tokens(tokenizer, row):
    """TRL's own columns for one row."""
    trainer = SimpleNamespace(_tokenizer=tokenizer)
    args = SimpleNamespace(dataset_num_proc=None, max_length=None, truncation_mode="keep_start")
    if isinstance(row.get("prompt"), str) and isinstance(row["chosen"], list):
        row = {**row, **maybe_extract_prompt(row)}
    made = DPOTrainer._prepare_dataset(trainer, Dataset.from_list([row]), tokenizer, args, "train")[0]
    return {k: made[k] for k in ("prompt_ids", "chosen_ids", "rejected_ids")}


def cut(made):
    """[chosen, rejected] as the collator leaves them."""
    if len(made["prompt_ids"]) >= WIDTH:  # the trainer's filter
        return None
    batch = DataCollatorForPreference(pad_token_id=0, max_length=WIDTH)([made])
    return [[int(i) for i, m in zip(ids, mask) if m] for ids, mask in zip(batch["input_ids"], batch["attention_mask"])]


def main():
    out = Path(sys.argv[1])
    given = json.loads((out / "rows.json").read_text())
    golden = []
    for row, template in ROWS:
        config = {**given["config"], **({"chat_template": template} if template else {})}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(given["tokenizer"])), **config)
        made = tokens(tokenizer, row)
        golden.append({"row": row, "template": template, **made, "cut": cut(made)})
    versions = {n: importlib.metadata.version(n) for n in ("trl", "transformers", "tokenizers")}
    text = json.dumps({"made_by": "tools/make_preference_rows_golden.py", **versions, "width": WIDTH, "rows": golden},
                      ensure_ascii=False, separators=(",", ":"))
    (out / "preference_rows.json").write_text(text + "\n")
    print(f"preference_rows.json: {len(text)} bytes")


if __name__ == "__main__":
    main()
