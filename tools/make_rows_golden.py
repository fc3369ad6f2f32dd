#!/usr/bin/env python3
"""Writes tests/golden/rows.json: a tiny tokenizer, rows, and what mlx-lm makes of them.

Needs the packages tokenizers, transformers and mlx-lm. Run from the root of the tree:
python tools/make_rows_golden.py
"""

import importlib.metadata
import json

import mlx.core as mx
from mlx_lm.tuner.datasets import ChatDataset, CompletionsDataset, TextDataset
from mlx_lm.tuner.trainer import iterate_batches
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WIDTH = 48  # max_seq_length: one row is longer, one is exactly as long

ROWS = [
    {"text": "Hello, world"},
    {"text": "ends itself</s>"},
    {"text": ""},
    {"text": "héllo ☃ 日本"},
    {"text": "z" * 46},  # with <s> and </s> as long as WIDTH
    {"text": "y" * 60},
    {"prompt": "2+2?", "completion": "4"},
    {"prompt": "", "completion": "a longer answer than fits into the row"},
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]},
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]},
]


def make_tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    vocab = {token: i for i, token in enumerate(special + alphabet)}
    merges = [("l", "l"), ("Ġ", "w"), ("x", "x")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


tokenizer = make_tokenizer()
config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}
peer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **config)


def dataset(row, mask_prompt):
    if "prompt" in row:
        return CompletionsDataset([row], peer, "prompt", "completion", mask_prompt)
    if "messages" in row:
        return ChatDataset([row], peer, mask_prompt=mask_prompt)
    return TextDataset([row], peer)


class One:
    """One encoded row, as iterate_batches wants a data set."""

    def __init__(self, encoded):
        self.encoded = encoded

    def __len__(self):
        return 1

    def __getitem__(self, i):
        return self.encoded


def encode(row, mask_prompt):
    ids, offset = dataset(row, mask_prompt).process(row)
    batch, lengths = next(iterate_batches(One((list(ids), offset)), 1, WIDTH))
    steps = mx.arange(1, batch.shape[1])  # as default_loss
    mask = mx.logical_and(steps >= lengths[:, 0:1], steps <= lengths[:, 1:])[0].tolist()
    return {
        "ids": list(ids),
        "offset": offset,
        "mlx_ids": batch[0].tolist(),
        "mlx_targets": [i + 1 for i, m in enumerate(mask) if m],
    }


golden = []
for row in ROWS:
    entry = {"row": row, "all": encode(row, False)}
    if "text" not in row:
        entry["completion"] = encode(row, True)
    golden.append(entry)
versions = {n: importlib.metadata.version(n) for n in ("mlx-lm", "transformers", "tokenizers")}
out = {"made_by": "tools/make_rows_golden.py", **versions, "width": WIDTH}
out |= {"tokenizer": json.loads(tokenizer.to_str()), "config": config, "rows": golden}
with open("tests/golden/rows.json", "w") as file:
    json.dump(out, file, separators=(",", ":"))
    file.write("\n")
