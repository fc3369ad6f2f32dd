"""Preferences: rows, steps and measures of graft in f32 against TRL's own trainers in f32, from the same adapter.

Bounds as in check_train.py; a wrong rule shows at 1e-2 or more. TRL's ORPOTrainer appends the end token to rendered chats
and puts a BOS in front that the tokenizer itself would not; its DPOTrainer does neither, and graft follows that: ORPO is
compared on texts, with a tokenizer without BOS.
"""
import contextlib
import io
import json
import random

import numpy as np

import common
import train_torch
from check_train import ALL, GROUP, LOSS, compare_adapters

STEPS, BATCH, RANK, BETA = 12, 2, 8, 0.2
TABLE = "steps as TRL"
METRICS = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected",
           "nll_loss", "log_odds_ratio", "log_odds_chosen")
# name, model, rows, loss, TRL's settings, steps, rate
CASES = [
    ("dpo, texts, llama tied", "llama_tied", "text", "dpo", {}, STEPS, 1e-3),
    ("dpo, chats, qwen3, ipo", "qwen3", "chat", "dpo", {"loss_type": ["ipo"]}, STEPS, 1e-3),
    ("dpo, implicit prompts, gemma2 with a capped head, accumulation", "gemma2", "shared", "dpo",
     {"gradient_accumulation_steps": 2}, STEPS, 1e-3),
    ("dpo, robust, llama 4 bits", "llama_tied_mlx4", "chat", "dpo", {"loss_type": ["robust"], "label_smoothing": 0.1}, STEPS, 1e-3),
    ("orpo, texts, mistral with a window", "mistral_window", "text", "orpo", {}, STEPS, 1e-3),
    ("dpo, chats, SmolLM2 4 bits", "smollm", "chat", "dpo", {}, 2, 2e-4),
]


def rows_of(kind):
    """24 pairs: short answers of uneven length to a question that is in every row's prompt."""
    import make_tiny_data

    rng, rows = random.Random("preferences"), []
    for _ in range(24):
        prompt, good = make_tiny_data.question(rng)
        _, bad = make_tiny_data.question(rng)
        bad = bad if bad != good else bad + " or so"
        ask, right, wrong = ([{"role": role, "content": text}] for role, text in
                             (("user", prompt), ("assistant", good), ("assistant", bad)))
        rows.append({"chat": {"prompt": ask, "chosen": right, "rejected": wrong},
                     "text": {"prompt": prompt + "\n", "chosen": good, "rejected": bad},
                     "shared": {"chosen": ask + right, "rejected": ask + wrong}}[kind])
    return rows


def place_of(ctx, case):
    name, model, kind, *_ = case
    folder = ctx.smollm() if model == "smollm" else ctx.tiny(model)
    assert folder is not None, "no SmolLM2 GGUF in the cache"
    place = ctx.work / "preference" / "".join(c if c.isalnum() else "_" for c in name)
    place.mkdir(parents=True, exist_ok=True)
    data = place / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows_of(kind)))
    return folder, place, data


def trl_trainer(folder, place, case, start="init"):
    """TRL's trainer over the adapter in place/start, made if absent, and where it logs."""
    import peft
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    _, _, kind, loss, more, steps, rate = case
    config_class, base_class = (DPOConfig, DPOTrainer) if loss == "dpo" else (ORPOConfig, ORPOTrainer)
    logs = []

    class Watch(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in logs:
                self.kept.append(logs)

    class InOrder(base_class):
        def _get_train_sampler(self, *args, **kwargs):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    watch = Watch()
    watch.kept = logs
    base = common.torch_model(folder)
    if not (place / start / "adapter_config.json").exists():
        train_torch.make_init(base, place / start, RANK, ALL)
    model = peft.PeftModel.from_pretrained(base, str(place / start), is_trainable=True)
    tokenizer = common.tokenizer(folder)
    if loss == "orpo":
        tokenizer.bos_token = None
    config = config_class(output_dir=str(place / "trl"), per_device_train_batch_size=BATCH, learning_rate=rate,
                          max_steps=steps // more.get("gradient_accumulation_steps", 1), lr_scheduler_type="linear", warmup_steps=0,
                          weight_decay=0.01, max_grad_norm=1.0, optim="adamw_torch", beta=BETA, max_length=512, logging_steps=1,
                          bf16=False, fp16=False, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
                          gradient_checkpointing=False, **more)
    trainer = InOrder(model=model, args=config, train_dataset=Dataset.from_list(rows_of(kind)),
                      processing_class=tokenizer, callbacks=[watch])
    return trainer, logs


def settings(case):
    """graft's flags for the same loss."""
    _, _, _, loss, more, _, _ = case
    flags = ["--loss", loss, "--beta", BETA]
    if "loss_type" in more:
        flags += ["--loss-type", more["loss_type"][0]]
    if "label_smoothing" in more:
        flags += ["--label-smoothing", more["label_smoothing"]]
    return flags


def near_metrics(what, found, expected):
    for key in METRICS:
        if key in expected:
            common.near(f"{key} {what}", found[key], expected[key], 5e-4 * max(1.0, abs(expected[key])))


def steps_alike(ctx, case):
    from safetensors.numpy import load_file

    _, model, _, _, more, steps, rate = case
    folder, place, data = place_of(ctx, case)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer, logs = trl_trainer(folder, place, case)
        trainer.train()
    every = more.get("gradient_accumulation_steps", 1)
    ctx.run("train", "--model", folder, "--data", data, "--adapter-path", place / "graft", "--iters", steps, "--batch-size", BATCH,
            "--grad-accumulation-steps", every, "--learning-rate", rate, "--lr-schedule", "linear", "--compute", "fp32",
            "--no-shuffle", "--steps-per-report", every, "--resume-adapter-file", place / "init", *settings(case))
    lines = [json.loads(line) for line in (place / "graft" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == len(logs) == steps // every, f"{len(lines)} reports, {len(logs)} logs"
    for i, (line, log) in enumerate(zip(lines, logs), 1):
        off = common.near(f"loss of step {i}", line["train_loss"], float(log["loss"]), LOSS * max(1.0, float(log["loss"])))
        ctx.figure(TABLE, case[0], "losses", off)
        common.near(f"norm of step {i}", line["grad_norm"], float(log["grad_norm"]), 5e-3 * float(log["grad_norm"]))
        near_metrics(f"of step {i}", line, {k: float(v) for k, v in log.items() if k in METRICS})
    found = load_file(place / "graft" / "adapter_model.safetensors")
    expected = train_torch.adapter_tensors(trainer.model)
    ctx.figure(TABLE, case[0], "adapter, relative", compare_adapters(found, expected, 1.0))
    start = load_file(place / "init" / "adapter_model.safetensors")
    moved = common.relative([found[n] for n in start], [start[n] for n in start])
    assert moved > 5 * GROUP, f"training moved the adapter by {moved:.3g} only"


def tokens_alike(ctx, kind):
    """`graft tokenize` against the columns that DPOTrainer made."""
    case = ("tokens of " + kind, "llama_tied", kind, "dpo", {}, 1, 1e-3)
    folder, place, data = place_of(ctx, case)
    trainer, _ = trl_trainer(folder, place, case)
    lines = ctx.json_lines("tokenize", "--model", folder, "--data", data, "--loss", "dpo")
    assert len(lines) == 2 * len(trainer.train_dataset)
    for i, row in enumerate(trainer.train_dataset):
        for half, line in zip(("chosen", "rejected"), lines[2 * i : 2 * i + 2]):
            assert line["half"] == half and line["line"] == i + 1
            assert line["ids"] == row["prompt_ids"] + row[half + "_ids"], f"row {i + 1}, {half}"
            assert line["mask"] == [0] * len(row["prompt_ids"]) + [1] * len(row[half + "_ids"])


def measured_alike(ctx):
    """The adapter against the base with the adapter switched off, which is TRL's reference for a new one."""
    import torch

    case = ("measured", "llama_tied", "chat", "dpo", {}, 1, 1e-3)
    folder, place, data = place_of(ctx, case)
    ctx.run("train", "--model", folder, "--data", data, "--adapter-path", place / "trained", "--iters", 8, "--learning-rate", 1e-3,
            "--compute", "fp32", *settings(case))
    trainer, _ = trl_trainer(folder, place, case, "trained")
    trainer.model.delete_adapter("ref")
    trainer.model.eval()
    losses = []
    with torch.no_grad():
        for row in trainer.train_dataset:
            losses.append(float(trainer.compute_loss(trainer.model, trainer.data_collator([row]))))
    means = {k: float(np.mean(v)) for k, v in trainer._metrics["eval"].items()}
    found = ctx.json("eval", "--model", folder, "--data", data, "--adapter-path", place / "trained", "--compute", "fp32", "--per-row",
                     *settings(case))
    common.near("losses", [r["loss"] for r in found["row_losses"]], losses, LOSS)
    near_metrics("of eval", found, means)
    assert np.std(losses) > 10 * LOSS, "the adapter says nothing"


def checks(ctx):
    for kind in ("text", "chat", "shared"):
        yield f"tokens of preferences as TRL: {kind}", lambda kind=kind: tokens_alike(ctx, kind)
    yield "eval of preferences as TRL", lambda: measured_alike(ctx)
    for case in CASES:
        yield f"{case[5]} steps as TRL: {case[0]}", lambda case=case: steps_alike(ctx, case)
