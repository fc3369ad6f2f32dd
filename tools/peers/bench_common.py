"""The work that `graft bench train --peer` hands over, and the line that goes back.

graft writes a folder: run.json (settings; "model" is a directory, or null and "config" a shape's), batches.safetensors
(ids and targets, [steps * grad_accumulation_steps, rows, tokens]) and adapter/ (the initial A and B for mlx-lm and
PEFT). A script bench_X.py gets that folder as its argument and prints one JSON line: program, tokens_per_second,
step_seconds, peak_rss_bytes, losses (one per step, of the weights before it), dtype.
"""
import ctypes
import json
import statistics
import sys
import time
from pathlib import Path


class Run:
    def __init__(self, folder=None):
        from safetensors.numpy import load_file

        self.folder = Path(folder or sys.argv[1])
        self.settings = json.loads((self.folder / "run.json").read_text())
        self.adapter = str(self.folder / "adapter")
        batches = load_file(self.folder / "batches.safetensors")
        self.ids, self.targets = batches["ids"], batches["targets"]

    def __getitem__(self, key):
        return self.settings[key]

    def batches(self, step):
        """(ids, targets) of each batch of a step counted from 0."""
        each = self["grad_accumulation_steps"]
        return zip(self.ids[step * each:(step + 1) * each], self.targets[step * each:(step + 1) * each])


def reset_peak():
    """What loading needed for a moment is no part of training: the peak starts anew."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError):
        pass


def peak_bytes():
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(run, step, program, dtype):
    """Runs step(k) -> loss for every step and prints the line. The time is graft's: the median without the first."""
    reset_peak()
    seconds, losses = [], []
    for k in range(run["steps"]):
        start = time.perf_counter()
        losses.append(step(k))
        seconds.append(time.perf_counter() - start)
        print(f"step {k + 1} of {run['steps']}: loss {losses[-1]:.5f}, {seconds[-1]:.2f} s", file=sys.stderr, flush=True)
    median = statistics.median_high(seconds[1:] if len(seconds) > 2 else seconds)
    tokens = run["batch_size"] * run["seq_length"] * run["grad_accumulation_steps"]
    print(json.dumps({"program": program, "dtype": dtype, "tokens_per_second": tokens / median, "step_seconds": median,
                      "peak_rss_bytes": peak_bytes(), "losses": losses}), flush=True)
