"""Measures what graft does not promise: how far runs are apart that differ in more than time and memory.

usage: measure_determinism.py GRAFT MODEL DATA [--rows 4] [--steps 20] [--isa NAME ...]

Trains MODEL on the first rows of DATA/train.jsonl, all of them in each update, and prints a line per way to do it
against the first of its kind: the largest relative difference of the losses, and the relative difference (norm of the
difference over norm) of all A and of all B together, and of the tensor furthest apart. Ways that only save time or
memory must print 0. --isa: the instruction sets, best first; by default those of this processor.
"""
import argparse
import array
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path


def tensors(path):
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        body = file.read()
    return {name: array.array("f", body[t["data_offsets"][0]:t["data_offsets"][1]]) for name, t in header.items()}


def run(args, place, data, options, isa):
    out = place / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [args.graft, "train", "--model", args.model, "--data", str(data), "--adapter-path", str(out), "--iters",
               str(args.steps), "--batch-size", str(args.rows), "--steps-per-report", "1", "--save-every", "1000000",
               "--max-seq-length", "2048", *options]
    env = {**os.environ, **({"GRAFT_ISA": isa} if isa else {})}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr[-500:]}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["train_loss"] for line in lines if "train_loss" in line], tensors(out / "adapter_model.safetensors")


def apart(a, b):
    """Squares of the difference and of b."""
    if a.tobytes() == b.tobytes():
        return 0.0, sum(x * x for x in b)
    return sum((x - y) * (x - y) for x, y in zip(a, b)), sum(y * y for y in b)


def compare(mine, truth):
    losses = max(abs(a - b) / b for a, b in zip(mine[0], truth[0]))
    group, worst = {"A": [0.0, 0.0], "B": [0.0, 0.0]}, 0.0
    for name, values in mine[1].items():
        difference, norm = apart(values, truth[1][name])
        kind = group["A" if "lora_A" in name else "B"]
        kind[0] += difference
        kind[1] += norm
        worst = max(worst, math.sqrt(difference / norm) if norm else 0.0)
    return [losses, *(math.sqrt(d / n) if n else 0.0 for d, n in group.values()), worst]


def sets(graft):
    """Those of this processor, as the error for one that it lacks names them."""
    error = subprocess.run([graft, "bench", "kernels", "--only", "none", "--isa", "none"], capture_output=True, text=True)
    return error.stderr.partition("expected ")[2].partition(", found")[0].split(", ")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("graft")
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--isa", nargs="*")
    args = parser.parse_args()
    isas = args.isa or sets(args.graft)
    place = Path(tempfile.mkdtemp(prefix="graft-determinism-"))
    data = place / "data"
    data.mkdir()
    rows = (Path(args.data) / "train.jsonl").read_text().splitlines()[:args.rows]
    (data / "train.jsonl").write_text("\n".join(rows) + "\n")
    print(f"{args.model}, {args.rows} rows an update, {args.steps} updates")
    print(f"{'':40} {'losses':>9} {'all A':>9} {'all B':>9} {'one tensor':>10}", flush=True)

    def show(name, result, truth):
        print(f"{name:40}", *(f"{x:9.1e}" if x else f"{'0':>9}" for x in compare(result, truth)), flush=True)

    try:
        first = {}
        for compute in ("bf16", "fp32"):
            way = ["--compute", compute]
            best = first[compute] = run(args, place, data, way, isas[0])
            show(f"{compute} {isas[0]} again, 1 thread",
                 run(args, place, data, [*way, "--threads", "1", "--grad-checkpoint", "layer"], isas[0]), best)
            for isa in isas[1:]:
                show(f"{compute} {isa}", run(args, place, data, way, isa), best)
            show(f"{compute} {isas[0]} --pack", run(args, place, data, [*way, "--pack"], isas[0]), best)
            show(f"{compute} {isas[0]} rows in another order",
                 run(args, place, data, [*way, "--no-shuffle"], isas[0]), best)
        show("bf16 against fp32", first["bf16"], first["fp32"])
    finally:
        shutil.rmtree(place)


main()
