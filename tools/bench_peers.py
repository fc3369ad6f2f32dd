"""bench/PEERS.md: graft and the programs that people use today, at the same work, in one run on one machine.

usage: bench_peers.py GRAFT MODEL OUT [WORD ...]     (tools/bench_peers.sh calls it; WORDs pick the peers that run)
$GGUF is the model's file for llama.cpp, $GRAFT_LLAMA_PYTHON the Python that has it; without one it is left out.

Every peer is a process of its own that takes graft's batches and initial adapter (`graft bench train --peer`). graft
runs right before and right after each peer; the ratio is to the mean of both. The percentage of the peak counts the
executed operations of the step by graft's formula (recompute counted where the program recomputes), against the bf16
peak that graft measured in the same minutes.
"""
import os
import sys

import bench_runs

LORA = ["--batch-size", "1", "--lora-rank", "16", "--lora-targets", "extended", "--svg", "none", "--json"]
SMALL, BIG = "SmolLM2-135M, 512 tokens", "Llama-3.2-1B shape, 512 tokens"
# work, --peer, steps of graft, steps of the peer, tokens, least ratio
PEERS = [
    (SMALL, "torch", 8, 5, 512, 3.0),
    (SMALL, "torch-compile", 8, 6, 512, 2.0),
    (SMALL, "torch-recompute", 8, 4, 512, None),
    (SMALL, "torch-fp32", 8, 3, 512, None),
    (SMALL, "bnb", 8, 4, 512, 4.0),
    ("SmolLM2-135M, 64 tokens", "mlx", 8, 2, 64, None),
    (BIG, "torch", 4, 3, 512, 1.9),
]
RUNGS = [(SMALL, "none"), (SMALL, "mlp"), (SMALL, "layer"), (BIG, "none"), (BIG, "layer")]


class Bench:
    def __init__(self, graft, model):
        self.graft, self.model = graft, model

    def base(self, work):
        return ["--shape", "llama-3.2-1b"] if work == BIG else ["--model", self.model]

    def train(self, work, length, steps, *more):
        return bench_runs.run([self.graft, "bench", "train", *self.base(work), "--seq-length", length, "--steps", steps,
                               *LORA, *more])

    def rungs(self):
        """{(work, rung): document}"""
        return {(work, rung): self.train(work, 512, 8 if work == SMALL else 4, "--grad-checkpoint", rung)
                for work, rung in RUNGS}

    def peer(self, work, peer, steps, peer_steps, length):
        """(graft's document with "peer" in it, graft's document of right after)."""
        first = self.train(work, length, steps, "--grad-checkpoint", "none", "--peer", peer, "--peer-steps", peer_steps)
        return first, first and self.train(work, length, steps, "--grad-checkpoint", "none")


def flops(document):
    """GFLOP of a token."""
    return document["gflops"] / document["tokens_per_second"]


def mean(a, b, key):
    return (a[key] + b[key]) / 2 if b else a[key]


def graft_rows(rungs):
    for (work, rung), document in rungs.items():
        if document:
            yield [work, f"graft, 4-bit base, `--grad-checkpoint {rung}`",
                   bench_runs.number(document["tokens_per_second"]), f"{document['percent_of_peak']:.0f}",
                   bench_runs.megabytes(document["peak_rss_bytes"]), "", ""]


def peer_row(rungs, row, before, after):
    work, peer, _, _, _, least = row
    other = before["peer"]
    graft = mean(before, after, "tokens_per_second")
    recomputing = rungs.get((work, "layer")) if peer == "torch-recompute" else None
    percent = 100 * other["tokens_per_second"] * flops(recomputing or before) / mean(before, after, "peak_gflops")
    return [work, other["program"], bench_runs.number(other["tokens_per_second"]), f"{percent:.2g}",
            bench_runs.megabytes(other["peak_rss_bytes"]), f"{graft:.0f} / {other['tokens_per_second']:.4g} = "
            f"**{graft / other['tokens_per_second']:.2f}**", f"{least:g}" if least else ""]


def generation(bench):
    """Rows of `graft bench generate --peer llama`."""
    python = os.environ.get("GRAFT_LLAMA_PYTHON")
    if not python:
        print("llama.cpp is left out: tools/peers/setup tools/peers/requirements_llama.txt compiles it",
              file=sys.stderr)
        return []
    os.environ["GRAFT_PEERS_PYTHON"] = python
    document = bench_runs.run([bench.graft, "bench", "generate", "--model", os.environ["GGUF"], "--peer", "llama",
                               "--json"])
    if not document or not document.get("peer"):
        return []
    rows, other = [], document["peer"]
    for name, key, least in (("prompt", "prompt_tokens_per_second", 4.0),
                             ("generated", "generation_tokens_per_second", 1.8)):
        rows.append([name, other["program"], bench_runs.number(document[key]), bench_runs.number(other[key]),
                     f"**{document[key] / other[key]:.2f}**", f"{least:g}"])
    return rows


HEADER = """# graft and other programs
Made by `make bench-peers` on {date} with graft {commit}: {machine}; bf16 peak in this run {peak} GFLOP/s. Everything ran on
this machine within the same minutes, nothing else beside it, each program in a process of its own with all cores.

## A training step
LoRA rank 16 on q, k, v, o, batch 1, the same batches and the same initial adapter; tokens/s is the median step without
the first (which loads, or compiles). graft trains on the 4-bit base, torch on the same weights dequantized, bitsandbytes
on NF4 made from them, mlx on the same 4-bit base computed in float32 (many times as fast there as in 16 bits); the 1B shape
has random weights. "% of peak" counts executed operations; "graft / peer" takes graft (everything kept) right before and
right after that peer.

"""


def main():
    graft, model, out, *words = sys.argv[1:]
    bench = Bench(graft, model)
    rungs = bench.rungs()
    rows, peaks = list(graft_rows(rungs)), [d["peak_gflops"] for d in rungs.values() if d]
    for row in PEERS:
        if words and row[1] not in words:
            continue
        before, after = bench.peer(*row[:5])
        if before:
            rows.append(peer_row(rungs, row, before, after))
            peaks.append(before["peak_gflops"])
        else:
            rows.append([row[0], row[1], "did not run", "", "", "", ""])
    text = HEADER.format(date=bench_runs.today(), commit=bench_runs.commit(), machine=bench_runs.machine(),
                         peak=f"{min(peaks):.0f} to {max(peaks):.0f}" if peaks else "unknown")
    text += bench_runs.table(["work", "program", "tokens/s", "% of peak", "peak RSS", "graft / peer", "target"],
                             sorted(rows, key=lambda r: r[0] == BIG))
    spoken = generation(bench) if not words or "llama" in words else []
    if spoken:
        text += "\n## Generation, SmolLM2-135M (the same GGUF file), tokens/s\n\n"
        text += bench_runs.table(["tokens", "program", "graft", "the other", "graft / peer", "target"], spoken)
    with open(out, "w", encoding="utf-8") as f:
        f.write(text)
    print(text)


if __name__ == "__main__":
    main()
