"""Fine-tuning in PyTorch + PEFT with graft's meaning of batches, accumulation, clipping and schedules.

Rows go through the model one at a time, so there is no padding whose effect would have to be masked.
"""
import math


def rate(schedule, peak, warmup, total, k):
    """Rate of update k = 1..total."""
    if k <= warmup:
        return peak * k / warmup
    p = (k - warmup - 1) / (total - warmup)
    return {"constant": peak, "linear": peak * (1 - p), "cosine": peak * (1 + math.cos(math.pi * p)) / 2}[schedule]


def batches(rows, size, iters):
    """File order; an epoch is every row once, its last batch may be short."""
    done = 0
    while done < iters:
        for start in range(0, len(rows), size):
            if done == iters:
                return
            done += 1
            yield rows[start : start + size]


def adapted(base, rank, targets, dropout=0.0, dora=False):
    import peft

    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules=targets, bias="none",
                             use_dora=dora, task_type="CAUSAL_LM")
    return peft.get_peft_model(base, config)


def make_init(base, folder, rank, targets, seed=3):
    """Saves a fresh adapter as PEFT does (A as PEFT draws it, B zero)."""
    import torch

    torch.manual_seed(seed)
    model = adapted(base, rank, targets)
    model.save_pretrained(folder)
    model.unload()


def row_loss(model, ids, mask):
    """Summed loss of the targets and their number."""
    import torch

    logits = model(input_ids=torch.tensor([ids])).logits[0]
    losses = torch.nn.functional.cross_entropy(logits[:-1].float() if logits.dtype == torch.bfloat16 else logits[:-1],
                                               torch.tensor(ids[1:]), reduction="none")
    wanted = torch.tensor(mask[1:], dtype=torch.bool)
    return losses[wanted].sum(), int(wanted.sum())


def train(model, rows, iters, batch_size, accumulation, lr, schedule="constant", warmup=0, weight_decay=0.01,
          clip=1.0, loraplus_ratio=None, loss_of=lambda model, row: row_loss(model, *row)):
    """Trains what requires a gradient, in place; loss_of(model, row) is a row's loss and number of targets. Returns per iteration (loss per trained token, rate and gradient norm of the update
    that ended there or None)."""
    import torch

    parameters = [p for p in model.parameters() if p.requires_grad]
    kwargs = dict(lr=lr, betas=(0.9, 0.999), eps=1e-8)
    if loraplus_ratio:
        import peft.optimizers

        optimizer = peft.optimizers.create_loraplus_optimizer(model, torch.optim.AdamW, loraplus_weight_decay=weight_decay,
                                                              loraplus_lr_ratio=loraplus_ratio, **kwargs)
    else:
        optimizer = torch.optim.AdamW(parameters, weight_decay=weight_decay, **kwargs)
    peaks = [group["lr"] for group in optimizer.param_groups]
    updates, update, pending, report = -(-iters // accumulation), 0, 0, []
    model.train()
    for iteration, batch in enumerate(batches(rows, batch_size, iters), 1):
        total, count = 0.0, 0
        for row in batch:
            loss, trained = loss_of(model, row)
            loss.backward()
            total, count = total + loss.item(), count + trained
        pending += count
        entry = {"loss": total / count, "rate": None, "grad_norm": None}
        if iteration % accumulation == 0 or iteration == iters:
            update += 1
            for p in parameters:
                p.grad /= pending
            entry["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(parameters, clip))
            entry["rate"] = rate(schedule, lr, warmup, updates, update)
            for group, peak in zip(optimizer.param_groups, peaks):
                group["lr"] = peak * entry["rate"] / lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            pending = 0
        report.append(entry)
    return report


def adapter_tensors(model):
    """{PEFT file name: float array}."""
    import peft

    return {k: v.detach().double().numpy() for k, v in peft.get_peft_model_state_dict(model).items()}
