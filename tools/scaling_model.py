#!/usr/bin/env python3
"""Speed-up of data-parallel training by number of machines and network: a formula, and a simulation of the messages
that src/dist sends, with packs (90 to 100 % full) and with rows of uneven length. Prints the tables of docs/scaling.md. Nothing but the standard library.

The simulation follows src/dist/reduce.c: a rank computes its rows; in the backward pass of its last slice each chunk
goes to the owners of its pieces as soon as it is complete; owners add; results of rows travel; then the sum comes back.
A rank sends, and receives, one byte after the other at the link's rate; a message costs `MESSAGE` of its sender and
receiver and `LATENCY` on the way.
"""
import random

LATENCY = 100e-6   # seconds from machine to machine, with the sleeps of the thread that looks for messages
MESSAGE = 10e-6    # seconds of a processor for each message
ROWS = 4           # rows of an iteration on each rank
SLICE = 2048       # tokens of a slice: the last one's backward hides messages
BACKWARD = 2 / 3   # of a step's time
# name, bytes of the gradient (LoRA r16, f32), blocks, tokens a second of one machine
MODELS = [("SmolLM2-135M, q k v o", 7.4e6, 30, 500), ("1B shape, all linears", 45e6, 16, 185),
          ("8B shape, all linears", 168e6, 32, 25)]
RANKS = [2, 4, 8, 16, 64, 256, 1000]
GBITS = [1, 10, 100]


def chunks_of(size, blocks, n):
    """Chunks: blocks, small ones together, so that a piece has at least 16 KB."""
    return max(1, min(blocks, int(size / n / 16384)))


def formula(size, blocks, speed, n, rate):
    """Seconds of an iteration with rows of one length."""
    tokens = ROWS * 512
    compute = tokens / speed
    count = chunks_of(size, blocks, n)
    one_way = size * (n - 1) / n / rate + count * (n - 1) * MESSAGE
    hidden = BACKWARD * min(tokens, SLICE) / speed * (1 - 1 / count)
    return compute + max(one_way - hidden, one_way / count) + one_way + 3 * LATENCY + (n - 1) * MESSAGE


def simulated(size, blocks, speed, n, rate, draw, turns):
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
                ready[c] = max(ready[c], out + LATENCY)
            last = max(last, end)
        arrived = 0.0
        for c in range(count):
            arrived = max(ready[c], arrived + piece)
        results = last + LATENCY + (n - 1) * MESSAGE
        seconds += max(arrived, results) + count * piece + LATENCY
    return seconds / turns, tokens / turns


def main():
    chance = random.Random(1)

    def uneven():
        return min(2048, max(32, int(chance.lognormvariate(6.0, 0.6))))

    def packed():
        return chance.randint(480, 512)

    for name, size, blocks, speed in MODELS:
        print(f"\n{name}: {size / 1e6:.0f} MB a gradient, {speed} tokens/s a machine, {ROWS} rows on each\n")
        print("| machines | " + " | ".join(f"{g} Gbit/s" for g in GBITS) + " |")
        print("|---|" + "---|" * len(GBITS))
        for n in RANKS:
            cells = []
            for g in GBITS:
                rate = g * 1e9 / 8
                paper = n * (ROWS * 512 / speed) / formula(size, blocks, speed, n, rate)
                cells.append(f"{paper:.3g}")
                for draw in packed, uneven:
                    seconds, tokens = simulated(size, blocks, speed, n, rate, draw, max(5, 500 // n))
                    cells[-1] += f" / {tokens / speed / seconds:.3g}"
            print(f"| {n} | " + " | ".join(cells) + " |")


main()
