#!/usr/bin/env python3
"""Speed-up of data-parallel training by number of machines and network: a formula, and a simulation of the messages
that src/dist sends, with packs (90 to 100 % full) and with rows of uneven length. Prints the tables of docs/scaling.md. Nothing but the standard library.

The simulation follows src/dist/reduce.c: a rank computes its rows; in the backward pass of its last slice each chunk
goes to the owners of its pieces as soon as it is complete; owners add; results of rows travel; then the sum comes back.
A rank sends, and receives, one byte after the other at the link's rate; a message costs `MESSAGE` of its sender and
receiver and the latency on the way.

`--bandwidth` (GB/s) and `--latency` (us) are those of the first column: of one's own network, as `tools/bench_ranks.sh`
measures it. The defaults are what it measured over the loopback of one quiet machine.
"""
import argparse
import random

LATENCY = 100      # us from machine to machine, with the sleeps of the thread that looks for messages
MESSAGE = 10e-6    # seconds of a processor for each message
ROWS = 4           # rows of an iteration on each rank
SLICE = 2048       # tokens of a slice: the last one's backward hides messages
BACKWARD = 2 / 3   # of a step's time
# name, bytes of the gradient (LoRA r16, f32), blocks, tokens a second of one machine
MODELS = [("SmolLM2-135M, q k v o", 7.4e6, 30, 500), ("1B shape, all linears", 45e6, 16, 185),
          ("8B shape, all linears", 168e6, 32, 25)]
RANKS = [2, 4, 8, 16, 64, 256, 1000]
GBITS = [1, 10, 100]  # other columns, all with LATENCY


def chunks_of(size, blocks, n):
    """Chunks: blocks, small ones together, so that a piece has at least 16 KB."""
    return max(1, min(blocks, int(size / n / 16384)))


def formula(size, blocks, speed, n, rate, latency):
    """Seconds of an iteration with rows of one length."""
    tokens = ROWS * 512
    compute = tokens / speed
    count = chunks_of(size, blocks, n)
    one_way = size * (n - 1) / n / rate + count * (n - 1) * MESSAGE
    hidden = BACKWARD * min(tokens, SLICE) / speed * (1 - 1 / count)
    return compute + max(one_way - hidden, one_way / count) + one_way + 3 * latency + (n - 1) * MESSAGE


def simulated(size, blocks, speed, n, rate, latency, draw, turns):
    """(seconds of an iteration, tokens of it) on average."""
    count = chunks_of(size, blocks, n)
    piece = (n - 1) * (size / count / n / rate + MESSAGE)  # all pieces of a chunk, out or in
    seconds = tokens = 0
    for _ in range(turns):
        ready = [0.0] * count
        last = 0.0
        for _ in range(n):
            rows = [draw() for _ in range(ROWS)]
            tokens += sum(rows)
            end = sum(rows) / speed
            backward = BACKWARD * min(sum(rows), SLICE) / speed
            out = 0.0
            for c in range(count):
                out = max(out, end - backward * (1 - (c + 1) / count)) + piece
                ready[c] = max(ready[c], out + latency)
            last = max(last, end)
        arrived = 0.0
        for c in range(count):
            arrived = max(ready[c], arrived + piece)
        results = last + latency + (n - 1) * MESSAGE
        seconds += max(arrived, results) + count * piece + latency
    return seconds / turns, tokens / turns


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--bandwidth", type=float, default=3.1, help="GB/s")
    options.add_argument("--latency", type=float, default=18, help="us")
    given = options.parse_args()
    chance = random.Random(1)

    def uneven():
        return min(2048, max(32, int(chance.lognormvariate(6.0, 0.6))))

    def packed():
        return chance.randint(480, 512)

    networks = [(f"{given.bandwidth:g} GB/s, {given.latency:g} us", given.bandwidth * 1e9, given.latency / 1e6)]
    networks += [(f"{g} Gbit/s", g * 1e9 / 8, LATENCY / 1e6) for g in GBITS]
    for name, size, blocks, speed in MODELS:
        print(f"\n{name}: {size / 1e6:.0f} MB a gradient, {speed} tokens/s a machine, {ROWS} rows on each\n")
        print("| machines | " + " | ".join(name for name, _, _ in networks) + " |")
        print("|---|" + "---|" * len(networks))
        for n in RANKS:
            cells = []
            for _, rate, latency in networks:
                paper = n * (ROWS * 512 / speed) / formula(size, blocks, speed, n, rate, latency)
                cells.append(f"{paper:.3g}")
                for draw in packed, uneven:
                    seconds, tokens = simulated(size, blocks, speed, n, rate, latency, draw, max(5, 500 // n))
                    cells[-1] += f" / {tokens / speed / seconds:.3g}"
            print(f"| {n} | " + " | ".join(cells) + " |")


main()
