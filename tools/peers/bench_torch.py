"""Training speed of PyTorch + PEFT, to set beside `graft bench train`. Prints one JSON line.

usage: bench_torch.py [--model DIR or FILE.gguf] [--data FILE.jsonl] [--seq-length 512] [--batch-size 1] [--steps 5] [--lora-rank 16]
                      [--lora-targets q_proj,k_proj,v_proj,o_proj] [--dtype bfloat16] [--threads 2] [--recompute]

Without --model: random weights of SmolLM2-135M's shape. Without --data: random tokens; with it, its text rows (field
"text", tokenized by --model's tokenizer) joined with EOS and cut into sequences. Speed counts all B*S tokens; the first
step is a warm-up and not counted. One step is forward, backward, clipping and AdamW.
"""
import argparse
import json
import resource
import statistics
import time

import common
import train_torch

SMOLLM2 = dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
               num_key_value_heads=3, head_dim=64, rms_norm_eps=1e-5, tie_word_embeddings=True,
               max_position_embeddings=8192, rope_parameters={"rope_type": "default", "rope_theta": 100000.0})


def build(args, dtype):
    import torch
    import transformers

    if args.model:
        model = common.torch_model(args.model, dtype)
    else:
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**SMOLLM2), dtype=dtype)
    model.set_attn_implementation("sdpa")
    if args.recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return train_torch.adapted(model, args.lora_rank, args.lora_targets.split(","))


def sequences(args, vocab):
    """[steps+1, batch, length] token ids."""
    import torch

    need = (args.steps + 1) * args.batch_size * args.seq_length
    if not args.data:
        ids = torch.randint(0, vocab, (need,), generator=torch.Generator().manual_seed(2))
    else:
        rows = common.read_rows(common.tokenizer(args.model), args.data)
        stream = [i for ids, _ in rows for i in ids]
        ids = torch.tensor((stream * (need // len(stream) + 1))[:need])
    return ids.reshape(args.steps + 1, args.batch_size, args.seq_length)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--seq-length", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--lora-rank", type=int, default=16)
    parser.add_argument("--lora-targets", default="q_proj,k_proj,v_proj,o_proj")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="accepted: the output always is JSON")
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing")
    args = parser.parse_args()
    if args.data and not args.model:
        parser.error("--data needs --model for its tokenizer")

    import torch

    torch.set_num_threads(args.threads)
    model = build(args, getattr(torch, args.dtype)).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.01)
    seconds, losses = [], []
    for ids in sequences(args, model.config.vocab_size):
        start = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    step = statistics.median(seconds[1:])
    print(json.dumps({
        "program": f"torch {torch.__version__} + PEFT", "dtype": args.dtype, "seq_length": args.seq_length,
        "batch_size": args.batch_size, "lora_rank": args.lora_rank, "recompute": args.recompute,
        "threads": args.threads, "tokens_per_second": args.batch_size * args.seq_length / step, "step_seconds": step,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "losses": losses}))


if __name__ == "__main__":
    main()
