"""bench/RESULTS.md: what graft reaches on this machine, beside what it is meant to reach.

usage: bench_results.py GRAFT MODEL OUT     (tools/bench.sh calls it)

Percentages are of the peak, or of the read bandwidth, that the same command measured right before and after; operations
are the executed ones. A target that the lowest of several lines misses is missed.
"""
import statistics
import sys

import bench_runs

LORA = ["--batch-size", "1", "--lora-rank", "16", "--lora-targets", "extended", "--svg", "none"]


class Bench:
    def __init__(self, graft, model):
        self.graft, self.models = graft, {"small": ["--model", model], "1b": ["--shape", "llama-3.2-1b"]}
        self.rows, self.lines = [], []

    def run(self, *words):
        return bench_runs.run([self.graft, "bench", *words, "--json"])

    def kernels(self, only, *more):
        document = self.run("kernels", "--only", only, *more)
        lines = [k for k in document["kernels"] if k["percent"]] if document else []
        self.lines += lines
        return lines

    def train(self, model, length, steps, *more):
        return self.run("train", *self.models[model], "--seq-length", length, "--steps", steps, *LORA, *more)

    def row(self, work, target, stretch, values, note="", unit="", digits=1):
        """One row: the lowest and, of several, the median."""
        values = [v for v in values if v is not None]
        if not values:
            self.rows.append([work, target, stretch, "not measured", "", note])
            return
        low = min(values)
        shown = f"{low:.{digits}f}{unit}"
        if len(values) > 1:
            shown += f" (median of {len(values)}: {statistics.median(values):.{digits}f}{unit})"
        reached = "stretch" if low >= stretch else "yes" if low >= target else f"{100 * low / target:.0f} %"
        self.rows.append([work, f"{target:g}{unit}", f"{stretch:g}{unit}", shown, reached, note])


def percents(lines, *words):
    return [k["percent"] for k in lines if all(word in k["name"] for word in words)]


def whole(lines, *words):
    """Forward and backward as one piece of work: operations over seconds, percent of their mean limit."""
    chosen = [k for k in lines if all(word in k["name"] for word in words)]
    if len(chosen) < 2:
        return None
    seconds = sum(k["seconds"] for k in chosen)
    return 100 * sum(k["rate"] * k["seconds"] for k in chosen) / seconds / statistics.mean(k["limit"] for k in chosen)


def fused(bench, isa):
    lines = bench.kernels("matmul,4-bit g64,T512", *isa) + bench.kernels("matmul,4-bit g64,T2048", *isa)
    big = percents(lines, "2048x2048") + percents(lines, "8192x2048") + percents(lines, "2048x8192")
    small = percents(lines, "576x576") + percents(lines, "1536x576") + percents(lines, "576x1536")
    bench.row("fused 4-bit forward and dX, dims >= 2048, T >= 512", 90, 95, big, "shapes x T x directions")
    bench.row("the same at 576 / 1536, T >= 512", 85, 95, small, "shapes x T x directions")
    return [k["speedup"] for k in lines if k.get("speedup")]


def steps(bench):
    """Rows of training; the document of SmolLM2 at 512."""
    first = None
    for model, name, length, count, target, stretch in (
            ("1b", "1B shape, S 512", 512, 4, 85, 92), ("1b", "1B shape, S 2048", 2048, 3, 85, 92),
            ("small", "SmolLM2, S 512", 512, 10, 72, 80), ("small", "SmolLM2, S 2048", 2048, 5, 74, 82)):
        document = bench.train(model, length, count)
        if model == "small" and length == 512:
            first = document
        note = document and (f"{bench_runs.number(document['tokens_per_second'])} tokens/s, peak memory "
                             f"{bench_runs.megabytes(document['peak_rss_bytes'])}, forecast "
                             f"{bench_runs.megabytes(document['forecast_bytes'])}")
        bench.row(f"training step, {name}, r16 q,k,v,o", target, stretch, [document and document["percent_of_peak"]],
                  note or "")
    return first


def attention(bench, isa):
    lines = bench.kernels("attention,S2048", *isa)
    bench.row("flash attention forward + backward, S 2048, d 64 and 128", 75, 85,
              [whole(lines, "d64"), whole(lines, "d128")])


def single(bench):
    """Arithmetic in f32 on every instruction set that has it."""
    lines = bench.kernels("matmul,4-bit g64,2048x2048,T512", "--compute", "fp32")
    for isa in dict.fromkeys(k["isa"] for k in lines):
        if isa != "portable":
            bench.row(f"fp32 compute, fused, {isa}, of its fp32 peak", 65, 75,
                      [k["percent"] for k in lines if k["isa"] == isa])


def generation(bench):
    document = bench.run("generate", *bench.models["small"])
    document = document or {}
    bench.row("generate one token, of read bandwidth", 85, 95, [document.get("generation_percent_of_bandwidth")],
              document and f"{bench_runs.number(document.get('generation_tokens_per_second'))} tokens/s" or "")
    bench.row("prompt, T >= 512", 75, 85, [document.get("prompt_percent_of_peak")],
              document and f"{bench_runs.number(document.get('prompt_tokens_per_second'))} tokens/s" or "")


def threads(bench, first, kernels):
    one = bench.train("small", 512, 5, "--threads", 1)
    ratio = first and one and first["tokens_per_second"] / one["tokens_per_second"]
    bench.row("1 -> 2 threads: training step, SmolLM2, S 512", 1.9, 1.95, [ratio], unit="x", digits=2)
    bench.row("1 -> 2 threads: fused 4-bit products", 1.9, 1.95, kernels, unit="x", digits=2)


HEADER = """# What graft reaches on this machine
Made by `make bench` on {date} with graft {commit}: {machine}; instruction set {isa}, bf16 peak {peak:.0f} GFLOP/s.
Percentages are of the peak (or of the read bandwidth) that the same command measured right before and after, with all
cores; the operations are the executed ones. Of several lines the lowest counts. "reached" below the target is the share of it
that was reached; what limits each is in `bench/LOG.md` and `docs/performance.md`.

"""


def main():
    graft, model, out = sys.argv[1:]
    bench = Bench(graft, model)
    probe = bench.kernels("tile")
    isa = ["--isa", probe[0]["isa"]] if probe else []
    speedups = fused(bench, isa)
    first = steps(bench)
    attention(bench, isa)
    single(bench)
    generation(bench)
    threads(bench, first, speedups)
    order = sorted(bench.lines, key=lambda k: k["isa"])
    text = HEADER.format(date=bench_runs.today(), commit=bench_runs.commit(), machine=bench_runs.machine(),
                         isa=isa[1] if isa else "unknown", peak=first["peak_gflops"] if first else float("nan"))
    text += bench_runs.table(["work", "target", "stretch", "measured", "reached", ""], bench.rows)
    text += "\n## The kernels behind it\n\n" + bench_runs.table(
        ["kernel", "instruction set", "rate", "limit", "%", "1 -> 2 threads"],
        [[k["name"], k["isa"], f"{bench_runs.number(k['rate'])} {k['unit']}", bench_runs.number(k["limit"]),
          f"{k['percent']:.1f}", f"{k['speedup']:.2f}" if k.get("speedup") else "-"] for k in order])
    with open(out, "w", encoding="utf-8") as f:
        f.write(text)
    print(text)


if __name__ == "__main__":
    main()
