"""Writes tests/golden/loraplus.txt: the groups of PEFT's create_loraplus_optimizer for everything that can train.

usage: make_loraplus_golden.py OUTPUT_DIR

One line per trained tensor of a tiny Qwen2 model: its name in PEFT, the factor of its rate (ratio 16; the embedding's
fixed rate 1e-6 as a share of the rate 1e-3) and whether it decays.
"""
import re
import sys
from pathlib import Path

import peft
import torch
import transformers
from peft.optimizers import create_loraplus_optimizer

RATE, RATIO = 1e-3, 16


def groups(**lora):
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=32,
        tie_word_embeddings=False,
    )
    model = peft.get_peft_model(transformers.Qwen2ForCausalLM(config), peft.LoraConfig(r=2, **lora))
    optimizer = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=RATIO, loraplus_weight_decay=0.5
    )
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            name = re.sub(r"^base_model\.model\.|\.default|model\.layers\.0\.", "", names[id(p)])
            found[name] = (group["lr"] / RATE, group["weight_decay"] > 0)
    return found


def main():
    every = {}
    every |= groups(target_modules=["q_proj", "down_proj", "embed_tokens", "lm_head"], bias="all")
    every |= groups(target_modules=["v_proj"], use_dora=True)
    saved = ["embed_tokens", "lm_head", "norm", "input_layernorm", "k_proj"]
    every |= groups(target_modules=["v_proj"], modules_to_save=saved)
    lines = [f"# tools/make_loraplus_golden.py: peft {peft.__version__}, torch {torch.__version__}"]
    lines += [f"{name} {rate:g} {int(decays)}" for name, (rate, decays) in every.items()]
    (Path(sys.argv[1]) / "loraplus.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
