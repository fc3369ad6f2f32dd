"""What the checks against other programs share: running graft, reading MLX directories, comparing.

A check is a file check_X.py with

    def checks(ctx):          # ctx: Context below
        yield "what is compared", function_that_raises_AssertionError

Each yielded pair counts as one check; run_all.py runs them. One that raises Skipped counts as skipped. Figures that it
notes (ctx.figure) are printed at the end as tables, those of docs/formats.md. Imports of heavy packages belong inside
functions.
"""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
TOOLS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOOLS))
TIMEOUT = 600  # seconds for one program; what hangs becomes a check that failed


class Skipped(Exception):
    """What is compared with is not there."""


class Context:
    """graft: the binary. cache: holds models/*.gguf, reused between runs. work: scratch of this run. data: a text JSONL
    file given by the user, or None."""

    def __init__(self, graft, cache, work, data=None):
        self.graft, self.cache, self.work = str(graft), Path(cache), Path(work)
        self.data = Path(data) if data else None
        self.work.mkdir(parents=True, exist_ok=True)
        self.tables = {}

    def figure(self, table, row, column, value):
        """Notes a cell; of several numbers for one cell the largest stays."""
        cells = self.tables.setdefault(table, {}).setdefault(row, {})
        both = column in cells and not isinstance(value, str)
        cells[column] = max(cells[column], value) if both else value

    def markdown(self):
        """The tables, with rows and columns in the order of their first figures."""
        for table, rows in self.tables.items():
            columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
            yield f"\n| {table} | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}"
            for row, cells in rows.items():
                shown = (cells.get(column, "-") for column in columns)
                yield f"| {row} | {' | '.join(c if isinstance(c, str) else f'{c:.1e}' for c in shown)} |"

    def run(self, *args, ok=True):
        """Runs graft; with ok, a failure is an AssertionError that shows what it printed."""
        done = subprocess.run([self.graft, *map(str, args)], capture_output=True, text=True, check=False, timeout=TIMEOUT)
        if ok and done.returncode != 0:
            raise AssertionError(f"graft {' '.join(map(str, args))}: exit {done.returncode}: {done.stderr[-2000:]}")
        return done

    def json(self, *args):
        return json.loads(self.run(*args, "--json").stdout)

    def json_lines(self, *args):
        return [json.loads(line) for line in self.run(*args, "--json").stdout.splitlines() if line.strip()]

    def tiny(self, name):
        """Directory of a model of make_tiny_models.py."""
        import make_tiny_models

        return make_tiny_models.make(self.work / "tiny", name)

    def tiny_data(self, kind):
        """Directory with train, valid and test.jsonl; kind text, completions, chat or tools."""
        import make_tiny_data

        return make_tiny_data.write(self.work / "data")[kind]

    def smollm(self):
        """SmolLM2-135M-Instruct as an MLX 4-bit directory made by graft from the cached GGUF; None without the GGUF."""
        gguf = Path(os.environ.get("GRAFT_SMOLLM2") or self.cache / "models" / "smollm2-135m-instruct.gguf")
        if not gguf.exists():
            return None
        folder = self.work / "smollm2-mlx4"
        if not (folder / "config.json").exists():
            self.run("convert", "--model", gguf, "--mlx-path", folder, "-q")
        return folder


def near(what, found, expected, bound):
    """bound is absolute. Returns the largest difference."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, expected {expected.shape}"
    worst = float(np.max(np.abs(found - expected))) if found.size else 0.0
    assert worst <= bound, f"{what}: differs by {worst:.3g}, allowed {bound:.3g}"
    return worst


def relative(found, expected):
    """Relative L2 distance of two lists of arrays, all taken together."""
    diff = sum(float(np.sum((np.float64(a) - np.float64(b)) ** 2)) for a, b in zip(found, expected))
    size = sum(float(np.sum(np.float64(b) ** 2)) for b in expected)
    return (diff / max(size, 1e-300)) ** 0.5


def unpack(words, bits, columns):
    """MLX's packed rows: u32 [rows, columns*bits/32] to codes [rows, columns]. A row is one little-endian bit stream."""
    bytes_ = np.ascontiguousarray(words).view(np.uint8)
    stream = np.unpackbits(bytes_, axis=1, bitorder="little")[:, : columns * bits].reshape(words.shape[0], columns, bits)
    return (stream << np.arange(bits, dtype=np.uint8)).sum(axis=2, dtype=np.uint32)


def dequantize(words, scales, biases, bits, group):
    """scale * code + bias in f32."""
    columns = scales.shape[1] * group
    codes = unpack(words, bits, columns).astype(np.float32).reshape(words.shape[0], -1, group)
    return (scales[..., None] * codes + biases[..., None]).reshape(words.shape[0], columns).astype(np.float32)


def read_tensors(folder):
    """All safetensors of a model directory: u32 as numpy, the rest as float32."""
    import torch
    from safetensors import safe_open

    tensors = {}
    for path in sorted(Path(folder).glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                t = file.get_tensor(name)
                tensors[name] = t.numpy() if t.dtype == torch.uint32 else t.to(torch.float32).numpy()
    return tensors


def read_weights(folder):
    """A model directory's weights, dequantized: {name: float32 array}, and its config without quantization."""
    config = json.loads((Path(folder) / "config.json").read_text())
    quantization = config.pop("quantization", None) or config.pop("quantization_config", None) or {}
    config.pop("quantization_config", None)
    raw, weights = read_tensors(folder), {}
    for name, array in raw.items():
        stem = name.removesuffix(".weight")
        if name.endswith((".scales", ".biases")) and array.ndim > 1:
            continue
        if stem + ".scales" in raw and name.endswith(".weight"):
            here = quantization.get(stem)
            here = {**quantization, **here} if isinstance(here, dict) else quantization
            parts = [array, raw[stem + ".scales"], raw[stem + ".biases"]]
            experts = array.shape[:-2]  # of a mixture
            array = dequantize(*(part.reshape(-1, part.shape[-1]) for part in parts), here["bits"], here["group_size"])
            array = array.reshape(*experts, -1, array.shape[-1])
        weights[name] = array
    return weights, config


def stack_experts(weights):
    """Experts by names of their own, or stacked as MLX has them, become the parameters that transformers has."""
    stacks = {}
    for name in list(weights):
        found = re.fullmatch(r"(.*\.mlp)\.(?:switch_mlp|experts\.(\d+))\.(\w+)\.weight", name)
        if not found:
            continue
        mlp, number, leaf = found.groups()
        array = weights.pop(name)
        each = enumerate(array) if number is None else [(int(number), array)]
        stacks.setdefault(mlp, {}).setdefault(leaf, {}).update(each)
    for mlp, leaves in stacks.items():
        gate, up, down = (np.stack([leaves[leaf][e] for e in sorted(leaves[leaf])])
                          for leaf in ("gate_proj", "up_proj", "down_proj"))
        weights[f"{mlp}.experts.gate_up_proj"] = np.concatenate([gate, up], axis=1)
        weights[f"{mlp}.experts.down_proj"] = down
    return weights


def torch_model(folder, dtype=None):
    """The directory (or GGUF file) as a transformers model with the dequantized weights, f32 unless told."""
    import torch
    import transformers

    if Path(folder).suffix == ".gguf":
        model = transformers.AutoModelForCausalLM.from_pretrained(str(Path(folder).parent), dtype=torch.float32,
                                                                  gguf_file=Path(folder).name)
        return model.to(dtype or torch.float32).eval()
    weights, config = read_weights(folder)
    config = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    weights = stack_experts(weights)
    missing, unexpected = model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
    assert not unexpected, f"tensors transformers does not know: {unexpected}"
    assert set(missing) <= ({"lm_head.weight"} if config.tie_word_embeddings else set()), f"missing: {missing}"
    model.tie_weights()
    return model.to(dtype or torch.float32).eval()


def tokenizer(folder):
    import transformers

    return transformers.AutoTokenizer.from_pretrained(str(folder))


def text_row(tok, text):
    """ids and mask of a text row: special tokens by the post-processor, EOS appended if absent, all but the first train."""
    ids = tok.encode(text)
    if ids[-1] != tok.eos_token_id:
        ids.append(tok.eos_token_id)
    return ids, [0] + [1] * (len(ids) - 1)


def chat_row(tok, messages):
    """ids and mask of a chat row under --mask-prompt: mlx-lm's offset, the length of all but the last message with the
    generation prompt; what follows trains."""
    ids = tok.apply_chat_template(messages, tokenize=True, return_dict=False)
    prompt = tok.apply_chat_template(messages[:-1], tokenize=True, add_generation_prompt=True, return_dict=False)
    return ids, [int(i >= len(prompt) and i > 0) for i in range(len(ids))]


def read_rows(tok, path):
    """(ids, mask) of each line of a JSONL file of text rows or chat rows."""
    rows = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows.append(text_row(tok, row["text"]) if "text" in row else chat_row(tok, row["messages"]))
    return rows
