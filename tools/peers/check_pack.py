"""20 training steps of graft --pack in f32 against PyTorch + PEFT in f32 on the same packs: one sequence whose position
ids restart with every row and whose mask is block-diagonal. The packs are made here anew, as src/data/pack.h words it.
Bounds: those of check_train.py.
"""
import check_train
import common

CAPACITY = 160
# name, model, data, rate, schedule, warm-up, targets; sliding window
CASES = [
    (("llama tied, prompt masked", "llama_tied", "chat", 1e-3, "cosine", 2, check_train.ALL), None),
    (("llama with llama3 rope", "llama_rope", "text", 1e-3, "linear", 3, check_train.ALL), None),
    (("mistral with a sliding window", "mistral_window", "text", 1e-3, "constant", 0, ["q_proj", "k_proj", "v_proj", "o_proj"]), True),
    (("SmolLM2, MLX 4-bit", "smollm", "text", 2e-4, "cosine", 2, ["q_proj", "k_proj", "v_proj", "o_proj"]), None),
]


def cost(row):
    """Inputs a row needs: up to the one that predicts its last target."""
    return max((i for i, wanted in enumerate(row[1]) if wanted), default=0)


def pack(rows, capacity):
    """Best fit, decreasing: the longest row first, into the pack with the least room for it, the newest of equals."""
    packs = []  # [rows], in the order of opening; room; when the room last changed
    for turn, row in enumerate(sorted((r for r in range(len(rows)) if cost(rows[r])), key=lambda r: -cost(rows[r]))):
        fits = [p for p in packs if p["room"] >= cost(rows[row])]
        best = min(fits, key=lambda p: (p["room"], -p["turn"]), default=None)
        if best is None:
            best = {"rows": [], "room": capacity}
            packs.append(best)
        best["rows"].append(row)
        best["room"] -= cost(rows[row])
        best["turn"] = turn
    return [[rows[r] for r in p["rows"]] for p in sorted(packs, key=lambda p: p["rows"][0])]


def pack_loss(model, rows, window):
    import torch

    ids, positions, segment, targets = [], [], [], []
    for number, (row, mask) in enumerate(rows):
        n = cost((row, mask))
        ids += row[:n]
        positions += range(n)
        segment += [number] * n
        targets += [row[i + 1] if mask[i + 1] else -100 for i in range(n)]
    segment, at = torch.tensor(segment), torch.arange(len(ids))
    seen = (segment[:, None] == segment[None, :]) & (at[:, None] >= at[None, :])
    if window:
        seen &= at[:, None] - at[None, :] < window
    bias = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    logits = model(input_ids=torch.tensor([ids]), position_ids=torch.tensor([positions]),
                   attention_mask=bias[None, None]).logits[0]
    targets = torch.tensor(targets)
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum", ignore_index=-100)
    return loss, int((targets >= 0).sum())


def one(ctx, case, windowed):
    name, model, data, *_ = case
    model_dir = ctx.smollm() if model == "smollm" else ctx.tiny(model)
    assert model_dir is not None, "no SmolLM2 GGUF in the cache"
    window = None
    if windowed:
        window = common.torch_model(model_dir).config.sliding_window
        assert window and window < CAPACITY
    counts = []

    def units(rows):
        packs = pack(rows, CAPACITY)
        counts.extend(len(p) for p in packs)
        return packs

    data_dir = ctx.tiny_data(data)
    place = ctx.work / "pack" / name.replace(" ", "_").replace("/", "_")
    report, expected = check_train.torch_half(model_dir, data_dir, place / "init", case, units=units,
                                              loss_of=lambda model, rows: pack_loss(model, rows, window))
    assert max(counts) > 1, "no two rows share a pack"
    lines, found = check_train.graft_half(ctx, model_dir, data_dir, place / "init", place / "graft", case, "--pack",
                                          "--max-seq-length", CAPACITY)
    strict = 1.0 if model == "smollm" else 0.1
    check_train.compare_reports(lines, report, strict)
    check_train.compare_adapters(found, expected, strict)


def checks(ctx):
    for case, windowed in CASES:
        yield f"20 steps with --pack as PyTorch with a block-diagonal mask: {case[0]}", \
            lambda case=case, windowed=windowed: one(ctx, case, windowed)
