"""The event files of graft train --report-to tensorboard, read back by TensorBoard itself: every number of metrics.jsonl
at its step, also where a run was stopped behind its checkpoint and went on, and nothing of what it had to do again twice.
"""
import json
import shutil

OPTIONS = ["--report-to", "tensorboard", "--lora-rank", 4, "--steps-per-report", 2, "--steps-per-eval", 4, "--save-every", 5,
           "--batch-size", 2, "--threads", 1]
TAGS = {"train_loss": "train/loss", "learning_rate": "train/learning_rate", "grad_norm": "train/grad_norm",
        "iterations_per_second": "speed/iterations_per_second", "tokens_per_second": "speed/tokens_per_second",
        "trained_tokens": "train/trained_tokens", "peak_memory_bytes": "memory/peak_bytes", "val_loss": "valid/loss",
        "val_time": "valid/seconds"}


def scalars(folder):
    """{tag: {step: value}}; a step that stands there twice is a failure."""
    from tensorboard.backend.event_processing import event_accumulator

    events = event_accumulator.EventAccumulator(str(folder), size_guidance={event_accumulator.SCALARS: 0})
    events.Reload()
    found = {}
    for tag in events.Tags()["scalars"]:
        steps = [e.step for e in events.Scalars(tag)]
        assert steps == sorted(set(steps)), f"{tag}: steps {steps}"
        found[tag] = {e.step: e.value for e in events.Scalars(tag)}
    return found


def compare(place):
    import numpy as np

    expected = {}
    for line in (place / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for key, value in row.items():
            if key != "iteration" and value is not None:
                expected.setdefault(TAGS.get(key, key), {})[row["iteration"]] = float(np.float32(value))
    assert expected["train/loss"] and expected["valid/loss"]
    found = scalars(place / "logs")
    assert found == expected, f"TensorBoard read {found}, metrics.jsonl has {expected}"


def whole(ctx):
    place = ctx.work / "tensorboard" / "whole"
    ctx.run("train", "--model", ctx.tiny("llama_tied"), "--data", ctx.tiny_data("text"), "--adapter-path", place, *OPTIONS, "--iters", 12)
    compare(place)
    # a new run in the same place is a new story
    ctx.run("train", "--model", ctx.tiny("llama_tied"), "--data", ctx.tiny_data("text"), "--adapter-path", place, *OPTIONS, "--iters", 4)
    compare(place)


def resumed(ctx):
    """Iterations 6 to 8 are in the first file, and the checkpoint is of 5: they are done again."""
    place = ctx.work / "tensorboard" / "part"
    command = ["train", "--model", ctx.tiny("llama_tied"), "--data", ctx.tiny_data("text"), "--adapter-path", place, *OPTIONS]
    ctx.run(*command, "--iters", 8, "--save-every", 5)
    for path in (place / "checkpoints").iterdir():
        if "5" not in path.name:
            path.unlink()
    first = scalars(place / "logs")
    assert max(first["train/loss"]) == 8
    shutil.rmtree(place / "best", ignore_errors=True)
    ctx.run(*command, "--iters", 12, "--resume", "--allow-changes", "iters")
    assert len(list((place / "logs").iterdir())) == 2
    compare(place)
    assert max(scalars(place / "logs")["train/loss"]) == 12


def checks(ctx):
    yield "TensorBoard reads every number of a run", lambda: whole(ctx)
    yield "TensorBoard reads a run that went on once", lambda: resumed(ctx)
