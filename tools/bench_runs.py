"""What bench_results.py and bench_peers.py share: running graft, naming the machine, writing tables.

BENCH_PREFIX, if set, is a command put before every measured one (nice, taskset, flock ...).
"""
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
import time


def run(command, quiet=False):
    """The JSON document that a measured command prints; None (and its reason on stderr) where it failed."""
    command = [str(word) for word in command]
    start = time.monotonic()
    done = subprocess.run(shlex.split(os.environ.get("BENCH_PREFIX", "")) + command, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)
    name = " ".join(["graft", *command[1:]])
    print(f"{time.monotonic() - start:6.1f} s  {name}", file=sys.stderr, flush=True)
    if done.returncode == 0:
        return json.loads(done.stdout)
    if not quiet:
        print("  failed: " + "\n  ".join(done.stderr.strip().splitlines()[-4:]), file=sys.stderr, flush=True)
    return None


def cpuinfo():
    found = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            for line in f:
                key, _, value = line.partition(":")
                found.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    return found


def cache_sizes():
    """"L2 1 MB, L3 32 MB" of the first core."""
    sizes = []
    for index in range(6):
        folder = f"/sys/devices/system/cpu/cpu0/cache/index{index}/"
        try:
            level, kind, size = (open(folder + name, encoding="ascii").read().strip()
                                 for name in ("level", "type", "size"))
        except OSError:
            continue
        if level != "1" and kind != "Instruction":
            kilobytes = int(size.rstrip("K"))
            sizes.append(f"L{level} " + (f"{kilobytes >> 10} MB" if kilobytes >> 10 else f"{kilobytes} kB"))
    return ", ".join(sizes)


def machine():
    """Kind of processor, cores, caches: one line without the machine's name."""
    info = cpuinfo()
    kind = info.get("model name", platform.machine())
    if "cpu family" in info:
        kind += f" (family {info['cpu family']}, model {info.get('model', '?')})"
    caches = cache_sizes()
    return f"{kind}, {os.cpu_count()} cores" + (f", {caches}" if caches else "")


def today():
    return datetime.date.today().isoformat()


def commit():
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def table(header, rows):
    """Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


def megabytes(count):
    if not count:
        return "-"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def number(value, digits=3):
    """Three digits, but whole numbers stay whole."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.{digits}g}"
