"""llama.cpp with adapters that graft trained over the same GGUF file: SmolLM2 as it comes, and as Q4_K_M.

llama.cpp rounds activations to 8 bits, graft does not. So greedy continuations of several prompts agree up to the first
token whose lead is under GAP; the losses of tokens differ by no more than SHARE of what the adapter moves them by (both as
roots of mean squares); and their mean, so the perplexity, by no more than four standard errors of that difference. SHARE:
at most 1/254 of the largest of a block of numbers, in each of SmolLM2's 60 additions to the residual stream, as the root of
their number. The training is in f32: in bf16 the adapter would be another one on every processor. Skipped where llama.cpp is
not installed (llama_peer.py)."""
import json
import os
from pathlib import Path

import numpy as np

import common
import llama_peer

GAP, SHARE, GREEDY = 0.5, 60**0.5 / 254, 24
PROMPTS, SURE = 4, 4  # rows whose questions are answered; the least number of sure tokens of each
Q4_K_M = 15  # llama_ftype
ROWS = [f"table: {i}-{7 * i}\ncolumns: Player, No., Position, Team\nQ: {q}\nA: SELECT {c} FROM {i}-{7 * i} WHERE {w}"
        for i, (q, c, w) in enumerate([
            ("What is the number of Ada?", "No.", "Player = 'Ada'"), ("Which team has the guard?", "Team", "Position = 'Guard'"),
            ("How many players wear 7?", "COUNT Player", "No. = '7'"), ("What does Boris play?", "Position", "Player = 'Boris'"),
            ("Who plays for Oslo?", "Player", "Team = 'Oslo'"), ("Name the team of number 3.", "Team", "No. = '3'"),
            ("Who is the center of Lima?", "Player", "Position = 'Center' AND Team = 'Lima'"),
            ("What is the highest number of Kyoto?", "MAX No.", "Team = 'Kyoto'")])]


def smollm(ctx):
    path = Path(os.environ.get("GRAFT_SMOLLM2") or ctx.cache / "models" / "smollm2-135m-instruct.gguf")
    assert path.exists(), "no SmolLM2 GGUF in the cache"
    return path


def q4_k_m(ctx):
    path = ctx.work / "smollm2.Q4_K_M.gguf"
    if not path.exists():
        llama_peer.quantize(ctx, smollm(ctx), path, Q4_K_M)
    types = {t["dtype"] for t in ctx.json("info", path)["tensors"]}
    assert {"Q4_K", "Q6_K"} <= types, f"nothing of it is in K blocks: {types}"
    return path


def nll(logits, ids):
    """Of each token but the first; the logits after the last are not needed."""
    z = logits[:len(ids) - 1].astype(np.float64)
    top = z.max(axis=1, keepdims=True)
    log_z = top[:, 0] + np.log(np.exp(z - top).sum(axis=1))
    return log_z - z[np.arange(len(ids) - 1), ids[1:]]


def graft_nll(ctx, model, rows, *adapter):
    """nll of each row's text."""
    out, all_rows = ctx.work / "graft-logits.npy", []
    for text, ids in zip(ROWS, rows):
        ctx.run("generate", "--model", model, *adapter, "--prompt", text, "--ignore-chat-template", "--max-tokens", 1,
                "--compute", "fp32", "--logits", out)
        logits = np.load(out)
        assert len(logits) == len(ids) - 1, f"other tokens: {len(logits)}, {len(ids) - 1}"
        all_rows.append(nll(logits, ids))
    return all_rows


def rms(x):
    return float(np.mean(x**2)) ** 0.5


def compare(ctx, find, name):
    llama_peer.need()
    model = find(ctx)
    work = ctx.work / "llama" / name
    data = work / "data"
    data.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"text": row}) + "\n" for row in ROWS)
    (data / "train.jsonl").write_text(lines)
    (data / "test.jsonl").write_text(lines)
    adapter = work / "adapter"
    ctx.run("train", "--model", model, "--data", data, "--adapter-path", adapter, "--iters", 48, "--batch-size", 1,
            "--lora-rank", 8, "--lora-targets", "all-linear", "--learning-rate", 1e-3, "--compute", "fp32", "--gguf", "--seed", 1)
    lora = adapter / "adapter.gguf"
    rows = [line["ids"] for line in ctx.json_lines("tokenize", "--model", model, "--data", data / "test.jsonl")]
    prompts = [row.split(" SELECT")[0] for row in ROWS[:PROMPTS]]
    for prompt in prompts:
        rows.append(ctx.json_lines("tokenize", "--model", model, "--text", prompt)[0]["ids"][:-1])  # without the end of a row
    logits, after, gaps = llama_peer.answers(ctx, model, rows, lora, PROMPTS, GREEDY)
    theirs = [nll(z, np.array(ids)) for z, ids in zip(logits[:-PROMPTS], rows)]
    own, before = graft_nll(ctx, model, rows[:-PROMPTS], "--adapter-path", lora), graft_nll(ctx, model, rows[:-PROMPTS])
    off, moved = np.concatenate(theirs) - np.concatenate(own), np.concatenate(before) - np.concatenate(own)
    count = sum(len(ids) - 1 for ids in rows[:-PROMPTS])
    ours = ctx.json("eval", "--model", model, "--adapter-path", lora, "--data", data / "test.jsonl", "--compute", "fp32")
    base = ctx.json("eval", "--model", model, "--data", data / "test.jsonl")
    assert ours["tokens"] == count, f"graft counts {ours['tokens']} tokens, llama.cpp {count}"
    ratio = float(np.exp(np.sum(np.concatenate(theirs)) / count)) / ours["perplexity"]
    noise, share = float(np.std(off)) / count**0.5, rms(off) / rms(moved)
    sure = [same_answer(ctx, model, lora, *of) for of in zip(prompts, logits[-PROMPTS:], after, gaps)]
    for column, value in (("perplexity, base", f"{base['perplexity']:.2f}"), ("with the adapter", f"{ours['perplexity']:.4f}"),
                          ("in llama.cpp", f"{100 * (ratio - 1):+.2f} %"),
                          ("limit", f"{400 * noise:.2f} %"), ("of what the adapter moves", f"{100 * share:.1f} %"),
                          ("sure tokens, of each prompt", ", ".join(map(str, sure)))):
        ctx.figure("adapter over a GGUF file", name, column, value)
    assert ours["perplexity"] < 0.8 * base["perplexity"], "the adapter has learned nothing"
    assert share <= SHARE, f"losses in llama.cpp differ by {share:.4f} of what the adapter moves, allowed {SHARE:.4f}"
    assert abs(np.log(ratio)) <= 4 * noise, f"llama.cpp's perplexity is {ratio:.5f} of graft's, give or take {noise:.5f}"


def same_answer(ctx, model, lora, prompt, logits, after, gaps):
    """How many tokens llama.cpp is sure of from the first on; graft must answer with these."""
    out = ctx.work / "graft-logits.npy"
    answer = ctx.json("generate", "--model", model, "--adapter-path", lora, "--prompt", prompt, "--ignore-chat-template",
                      "--max-tokens", GREEDY, "--temp", 0, "--compute", "fp32", "--logits", out)
    assert np.load(out).shape == logits.shape, f"other tokens: {np.load(out).shape}, {logits.shape}"
    tok = common.tokenizer(ctx.smollm())
    until = next((i for i, (token, gap) in enumerate(zip(after, gaps)) if gap < GAP or token == tok.eos_token_id), GREEDY)
    sure = tok.decode(after[:until])
    assert until >= SURE, f"only {until} sure tokens, {sure!r}: this proves little"
    assert answer["text"].startswith(sure.rstrip()), f"graft goes on with {answer['text']!r}, llama.cpp with {tok.decode(after)!r}"
    return until


def checks(ctx):
    yield "llama.cpp with graft's adapter: SmolLM2", lambda: compare(ctx, smollm, "SmolLM2")
    yield "llama.cpp with graft's adapter: SmolLM2 as Q4_K_M", lambda: compare(ctx, q4_k_m, "SmolLM2-Q4_K_M")
