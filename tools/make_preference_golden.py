#!/usr/bin/env python3
"""Writes tests/golden/preference.json: steps of TRL's DPOTrainer and ORPOTrainer on small models in float64.

usage: make_preference_golden.py OUTPUT_DIR         (tests/golden; needs tools/peers/requirements.txt)

Base weights and the adapter's start are formulas (tiny_formula, as in make_adapter_golden.py); float64 as there: see
ExactMode in make_models_golden.py. The same steps in float32 give `f32`, how far a program that sums in float32 may be
away. DPO's reference is the start itself, as TRL has it for an adapter that is trained on; `eval` measures the start
against the bare base. Rows are taken in their order, without dropout.
"""
import contextlib
import importlib.metadata
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import peft
import torch
from datasets import Dataset
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

import make_adapter_golden
import make_models_golden

STEPS, BATCH, RATE, DECAY, CLIP, BETA = 10, 2, 2e-3, 0.01, 1.0, 0.3
# no "he", no "an": the tokenizer of tests/tiny_dir.h joins those two; no answer is a beginning of another's
ROWS = [("one two ", "four six", "five"), ("a bird ", "sat on a log", "flew"), ("4", "2", "1 or so"),
        ("rain falls ", "on grey roofs", "up to grey skies"), ("six plus six ", "is 12", "is 13"), ("go ", "far", "so"),
        ("quiet rivers ", "run", "fly away"), ("so ", "it was", "is it")]
# name: loss, model, PEFT's settings, trainer's settings
CASES = {
    "sigmoid": ("dpo", "llama", {}, {}),
    "hinge": ("dpo", "llama", {}, {"loss_type": ["hinge"]}),
    "ipo": ("dpo", "llama", {}, {"loss_type": ["ipo"]}),
    "robust": ("dpo", "llama", {}, {"loss_type": ["robust"], "label_smoothing": 0.1}),
    "sigmoid_norm": ("dpo", "llama", {}, {"loss_type": ["sigmoid_norm"]}),
    "accumulation": ("dpo", "llama_tied", {}, {"gradient_accumulation_steps": 2}),
    "dora": ("dpo", "qwen3", {"use_dora": True}, {}),
    "orpo": ("orpo", "llama", {}, {}),
    "orpo, accumulation and dora": ("orpo", "qwen2", {"use_dora": True}, {"gradient_accumulation_steps": 2}),
}
METRICS = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen",
           "logps/rejected", "nll_loss", "log_odds_ratio", "log_odds_chosen"]


def byte_tokenizer():
    """tests/tiny_dir.h's: a token a byte, ids 258..260 for <|endoftext|>, <|im_start|> and <|im_end|>, which is EOS."""
    names = {}
    code = 256
    for b in range(256):
        if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174:
            names[chr(b)] = b
        else:
            names[chr(code)] = b
            code += 1
    names |= {"he": 256, "an": 257}
    tokenizer = Tokenizer(models.BPE(vocab=names, merges=[("h", "e"), ("a", "n")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                  for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")


class Watch(TrainerCallback):
    """Every step's log."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.logs.append({k: float(logs[k]) for k in ["loss", "grad_norm", *METRICS] if k in logs})


def in_order(trainer_class):
    class InOrder(trainer_class):
        def _get_train_sampler(self, *args, **kwargs):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    return InOrder


def adapted(case, dtype):
    """The model under PEFT at its start, and {file name: parameter}."""
    _, name, settings, _ = case
    model = make_models_golden.build(*make_adapter_golden.MODELS[name]).to(dtype)
    for p in model.parameters():
        p.requires_grad_(False)
    lora = {**make_adapter_golden.LORA, "target_modules": make_adapter_golden.ALL, **settings}
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **lora))
    found = {}
    for key, p in model.named_parameters():
        if p.requires_grad:
            key = key.removeprefix(make_adapter_golden.PREFIX).replace(".default", "")
            found[key.replace("magnitude_vector.weight", "magnitude_vector")] = p
    bases = {n.replace(".base_layer", "").removeprefix(make_adapter_golden.PREFIX): p.detach().double().numpy()
             for n, p in model.named_parameters() if ".lora_" not in n}
    make_adapter_golden.set_start(found, bases, False)
    return model, found


def trainer_of(case, dtype, folder, watch):
    kind, _, _, more = case
    base, trainer_class = (DPOConfig, DPOTrainer) if kind == "dpo" else (ORPOConfig, ORPOTrainer)
    config = base(output_dir=folder, per_device_train_batch_size=BATCH, learning_rate=RATE,
                  max_steps=STEPS // more.get("gradient_accumulation_steps", 1), lr_scheduler_type="constant",
                  warmup_steps=0, weight_decay=DECAY, max_grad_norm=CLIP, adam_epsilon=1e-8, optim="adamw_torch",
                  beta=BETA, max_length=64, logging_steps=1, bf16=False, fp16=False, use_cpu=True, report_to=[],
                  save_strategy="no", gradient_checkpointing=False, disable_tqdm=True, **more)
    model, parameters = adapted(case, dtype)
    rows = Dataset.from_list([{"prompt": p, "chosen": c, "rejected": r} for p, c, r in ROWS])
    trainer = in_order(trainer_class)(model=model, args=config, train_dataset=rows, processing_class=byte_tokenizer(),
                                      callbacks=[watch])
    return trainer, parameters


def run(case, dtype):
    """(logs, {name: change}, {name: start}, what the start is worth against the base)."""
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        trainer, parameters = trainer_of(case, dtype, folder, watch)
        start = {n: p.detach().double().numpy().copy() for n, p in parameters.items()}
        trainer.train()
        moved = {n: p.detach().double().numpy() - start[n] for n, p in parameters.items()}
        evaluated = evaluate(case, dtype, folder)
    return watch.logs, moved, start, evaluated


def evaluate(case, dtype, folder):
    """The start's pairs one by one: DPO with the adapter switched off as the reference, ORPO over all rows at once."""
    trainer, _ = trainer_of(case, dtype, folder, Watch())
    dpo = case[0] == "dpo"
    if dpo and "ref" in trainer.model.peft_config:
        trainer.model.delete_adapter("ref")  # the start was copied there; without it TRL switches the adapter off
    trainer.model.eval()
    rows = [trainer.train_dataset[i] for i in range(len(ROWS))]
    losses = []
    with torch.no_grad():
        for batch in ([[row] for row in rows] if dpo else [rows]):
            inputs = trainer.data_collator(batch)
            losses.append(float(trainer.compute_loss(trainer.model, inputs)))
    stored = trainer._metrics["eval"] if dpo else trainer._stored_metrics["train"]
    return {"losses": losses, **{k: float(np.mean(stored[k])) for k in METRICS if k in stored}}


def short(x):
    """Nine digits of every number."""
    if isinstance(x, dict):
        return {k: short(v) for k, v in x.items()}
    if isinstance(x, list):
        return [short(v) for v in x]
    return float(f"{x:.9g}") if isinstance(x, float) else x


def norm(arrays):
    return float(np.sqrt(sum(float(np.sum(np.square(a))) for a in arrays)))


def entry(name, case):
    with make_models_golden.ExactMode():
        torch.set_default_dtype(torch.float64)
        logs, moved, start, evaluated = run(case, torch.float64)
    torch.set_default_dtype(torch.float32)
    near, near_moved, _, _ = run(case, torch.float32)
    distance = {"loss": max(abs(a["loss"] - b["loss"]) for a, b in zip(logs, near)),
                "moved": norm(moved[n] - near_moved[n] for n in moved) / norm(moved.values())}
    kind, model, settings, more = case
    print(f"{name}: {len(logs)} updates, loss {logs[0]['loss']:.4f} -> {logs[-1]['loss']:.4f}, f32 {distance}", file=sys.stderr)
    return {"name": name, "loss": kind, "model": model, "options": {k: v[0] if isinstance(v, list) else v for k, v in more.items()},
            "adapter_config": {"peft_type": "LORA", "base_model_name_or_path": "", **make_adapter_golden.LORA,
                               "target_modules": make_adapter_golden.ALL, **settings},
            "logs": logs, "eval": evaluated, "f32": distance,
            "tensors": [{"name": n, "shape": list(v.shape), **make_models_golden.sample(moved[n], 3)}
                        for n, v in start.items()]}


def main():
    out = Path(sys.argv[1])
    versions = {n: importlib.metadata.version(n) for n in ("trl", "peft", "transformers", "torch")}
    entries = [entry(name, case) for name, case in CASES.items()]
    used = {e["model"] for e in entries}
    text = json.dumps({"made_by": "tools/make_preference_golden.py", **versions, "batch": BATCH, "steps": STEPS,
                       "rate": RATE, "beta": BETA, "rows": ROWS,
                       "models": {n: {"model_type": make_adapter_golden.MODELS[n][0], **make_adapter_golden.MODELS[n][1]}
                                  for n in sorted(used)}, "entries": short(entries)}, separators=(",", ":"))
    (out / "preference.json").write_text(text + "\n")
    print(f"preference.json: {len(text)} bytes")


if __name__ == "__main__":
    main()
