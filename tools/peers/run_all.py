"""Runs every check_*.py beside this file against a built graft.

usage: run_all.py [GRAFT] [--cache DIR] [--work DIR] [--data FILE.jsonl] [--only WORD ...]

One line per check; then the figures that they noted as tables, the slowest checks, how many were skipped because the
other program is not there, and `N passed, N failed`; exit 1 when one failed. GRAFT is the program ($GRAFT, or
build/graft). --cache holds models/smollm2-135m-instruct.gguf, or $GRAFT_SMOLLM2 names it (checks on SmolLM2 fail without
it); --data is a JSONL file of text rows for the perplexity on SmolLM2; --only runs the files and checks whose name contains one of the words.
The convention of a check file is written in common.py.
"""
import argparse
import importlib
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import common  # noqa: E402


def gather(ctx):
    """(file, check name, function) of all check files; a file that cannot be read is a failing check."""
    for path in sorted(HERE.glob("check_*.py")):
        try:
            module = importlib.import_module(path.stem)
            if not hasattr(module, "checks"):
                raise AssertionError("has no checks(ctx), see common.py")
            for name, function in module.checks(ctx):
                yield path.stem, name, function
        except (Exception, SystemExit) as error:  # pylint: disable=broad-except
            def fail(error=error):
                raise error
            yield path.stem, f"{path.name} loads", fail


def run(function):
    """"ok" and nothing, or "skipped" or "FAILED" and why."""
    try:
        function()
    except common.Skipped as reason:
        return "skipped", str(reason)
    except AssertionError as error:
        return "FAILED", str(error) or "assertion failed: " + traceback.format_exc().splitlines()[-3].strip()
    except (Exception, SystemExit) as error:  # pylint: disable=broad-except
        return "FAILED", f"{type(error).__name__}: {error} ({traceback.format_exc().splitlines()[-3].strip()})"
    return "ok", ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graft", nargs="?", default=os.environ.get("GRAFT", "build/graft"))
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parser.add_argument("--cache", default=str(Path(home) / "graft"))
    parser.add_argument("--work", help="scratch directory, kept; default a temporary one, removed")
    parser.add_argument("--data")
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()

    counts, slowest = {"ok": 0, "FAILED": 0, "skipped": 0}, []
    with tempfile.TemporaryDirectory(prefix="graft-peers-") as scratch:
        ctx = common.Context(Path(args.graft).resolve(), args.cache, args.work or scratch, args.data)
        for file, name, function in gather(ctx):
            if args.only and not any(word in file or word in name for word in args.only):
                continue
            start = time.monotonic()
            state, problem = run(function)
            seconds = time.monotonic() - start
            print(f"{state:<8}{file}: {name} ({seconds:.1f} s){': ' if problem else ''}{problem}", flush=True)
            counts[state] += 1
            slowest.append((seconds, file, name))
        print("\n".join(ctx.markdown()))
    total = sum(seconds for seconds, _, _ in slowest)
    print(f"\n{total:.0f} s in all, of these the slowest ten:")
    for seconds, file, name in sorted(slowest, reverse=True)[:10]:
        print(f"{seconds:8.1f} s  {file}: {name}")
    if counts["skipped"]:
        print(f"{counts['skipped']} skipped: the other program is not there")
    print(f"{counts['ok']} passed, {counts['FAILED']} failed")
    sys.exit(1 if counts["FAILED"] or not counts["ok"] else 0)


if __name__ == "__main__":
    main()
