"""The snippets for other programs on the pages of documentation, run by those programs over the tiny stand-ins of
tests/test_docs.sh: every page that has a block of Python or a command of mlx-lm, from its first command to its last.
"""
import os
import subprocess
import sys
from pathlib import Path

import llama_peer

ROOT = Path(__file__).resolve().parents[2]


def whole_page(ctx, page):
    make_tiny = Path(ctx.graft).parent / "tests" / "make_tiny"
    assert make_tiny.exists(), f"{make_tiny} is not built"
    env = dict(os.environ, GRAFT=ctx.graft, GRAFT_SOURCE_DIR=str(ROOT), MAKE_TINY=str(make_tiny), DOCS_PYTHON=sys.executable)
    if llama_peer.python():
        env["DOCS_LLAMA_PYTHON"] = str(llama_peer.python())
    done = subprocess.run(["bash", "tests/test_docs.sh", page], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-500:]
    if "<!-- python: llama -->" in (ROOT / page).read_text():
        llama_peer.need()  # without it the page's other snippets ran


def checks(ctx):
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text()
        if "```python\n" in text or "<!-- not run: needs mlx-lm -->" in text:
            page = str(path.relative_to(ROOT))
            yield page, lambda page=page: whole_page(ctx, page)
