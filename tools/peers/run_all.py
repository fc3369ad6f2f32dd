"""Runs every check_*.py beside this file against a built graft.

usage: run_all.py [GRAFT] [--cache DIR] [--work DIR] [--data FILE.jsonl] [--only WORD ...]

One line per check, and `N passed, N failed` at the end; exit 1 when one failed. GRAFT is the program ($GRAFT, or
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
    """None, or what went wrong."""
    try:
        function()
    except AssertionError as error:
        return str(error) or "assertion failed: " + traceback.format_exc().splitlines()[-3].strip()
    except (Exception, SystemExit) as error:  # pylint: disable=broad-except
        return f"{type(error).__name__}: {error} ({traceback.format_exc().splitlines()[-3].strip()})"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graft", nargs="?", default=os.environ.get("GRAFT", "build/graft"))
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parser.add_argument("--cache", default=str(Path(home) / "graft"))
    parser.add_argument("--work", help="scratch directory, kept; default a temporary one, removed")
    parser.add_argument("--data")
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()

    import common

    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="graft-peers-") as scratch:
        ctx = common.Context(Path(args.graft).resolve(), args.cache, args.work or scratch, args.data)
        for file, name, function in gather(ctx):
            if args.only and not any(word in file or word in name for word in args.only):
                continue
            start = time.monotonic()
            problem = run(function)
            print(f"{'ok    ' if problem is None else 'FAILED'} {file}: {name} ({time.monotonic() - start:.1f} s)"
                  + ("" if problem is None else f": {problem}"), flush=True)
            passed, failed = passed + (problem is None), failed + (problem is not None)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
