"""Writes small seeded models as real transformers and mlx-lm save them, for checks of graft against both.

usage: make_tiny_models.py DIR [NAME ...]

Each DIR/NAME is a Hugging Face directory: f32 model.safetensors, config.json, a byte-level BPE tokenizer trained on the
rows of make_tiny_data.py, and a chat template. llama_tied has config.json in the old style (rope_theta, torch_dtype),
the others in the style of transformers 5 (rope_parameters, dtype). llama_tied_mlx4 is llama_tied after
mlx_lm.convert to 4 bits in groups of 64.
"""
import json
import random
import sys
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import make_tiny_data

VOCAB = 384
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
            "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
BASE = dict(vocab_size=VOCAB, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, intermediate_size=192, rms_norm_eps=1e-5, max_position_embeddings=512, bos_token_id=0,
            eos_token_id=2, pad_token_id=0, tie_word_embeddings=False)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "original_max_position_embeddings": 24,
        "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}
NO_HEAD_DIM = {k: v for k, v in BASE.items() if k != "head_dim"}
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
        "short_factor": [1.0, 1.1, 1.2, 1.5, 2.0, 3.0], "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
MODELS = {
    "llama_rope": ("llama", {**BASE, "rope_parameters": LLAMA3}),
    "llama_tied": ("llama", {**BASE, "tie_word_embeddings": True, "rope_parameters": DEFAULT}),
    "mistral_window": ("mistral", {**BASE, "sliding_window": 8, "rope_parameters": DEFAULT}),
    "qwen2": ("qwen2", {**BASE, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
                        "rope_parameters": {**DEFAULT, "rope_theta": 1000000.0}}),
    "qwen3": ("qwen3", {**BASE, "rms_norm_eps": 1e-6, "head_dim": 32,
                        "rope_parameters": {**DEFAULT, "rope_theta": 1000000.0}}),
    "gemma2": ("gemma2", {**BASE, "num_hidden_layers": 4, "head_dim": 32, "tie_word_embeddings": True, "sliding_window": 8,
                          "query_pre_attn_scalar": 24, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 10.0,
                          "rope_parameters": DEFAULT}),
    "gemma3": ("gemma3_text", {**BASE, "num_hidden_layers": 4, "head_dim": 32, "tie_word_embeddings": True,
                               "sliding_window": 8, "sliding_window_pattern": 3, "query_pre_attn_scalar": 24,
                               "rope_parameters": {"full_attention": {**DEFAULT, "rope_theta": 1000000.0},
                                                   "sliding_attention": DEFAULT}}),
    "smollm3": ("smollm3", {**BASE, "num_hidden_layers": 4, "tie_word_embeddings": True,
                            "rope_parameters": {**DEFAULT, "rope_theta": 2000000.0}}),
    "granite": ("granite", {**BASE, "embedding_multiplier": 6.0, "residual_multiplier": 0.25, "tie_word_embeddings": True,
                            "attention_multiplier": 0.125, "logits_scaling": 4.0, "rope_parameters": DEFAULT}),
    "olmo2": ("olmo2", {**NO_HEAD_DIM, "rope_parameters": DEFAULT}),
    "ministral": ("ministral", {**BASE, "sliding_window": 8, "rope_parameters": DEFAULT,
                                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
    "phi3": ("phi3", {**NO_HEAD_DIM, "sliding_window": 20, "rope_parameters": DEFAULT}),
    "phi4": ("phi3", {**NO_HEAD_DIM, "tie_word_embeddings": True, "max_position_embeddings": 4096,
                      "original_max_position_embeddings": 256, "rope_parameters": LONG}),
    "stablelm": ("stablelm", {**NO_HEAD_DIM, "layer_norm_eps": 1e-5, "use_qkv_bias": True,
                              "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.25}}),
    "starcoder2": ("starcoder2", {**NO_HEAD_DIM, "norm_epsilon": 1e-5, "tie_word_embeddings": True,
                                  "sliding_window": 20, "rope_parameters": DEFAULT}),
    "qwen3_moe": ("qwen3_moe", {**BASE, "rms_norm_eps": 1e-6, "head_dim": 32, "num_experts": 8, "num_experts_per_tok": 3,
                                "moe_intermediate_size": 64, "norm_topk_prob": True,
                                "rope_parameters": {**DEFAULT, "rope_theta": 1000000.0}}),
    "olmoe": ("olmoe", {**NO_HEAD_DIM, "intermediate_size": 64, "num_experts": 6, "num_experts_per_tok": 2,
                        "rope_parameters": DEFAULT}),
    "ministral3": ("ministral3", {**BASE, "max_position_embeddings": 4096, "rope_parameters": YARN}),
    # as llama.cpp knows these two: a window in five of six blocks, and as many heads of keys as of queries
    "gemma3_six": ("gemma3_text", {**BASE, "num_hidden_layers": 7, "head_dim": 32, "tie_word_embeddings": True,
                                   "sliding_window": 8, "sliding_window_pattern": 6, "query_pre_attn_scalar": 32,
                                   "rope_parameters": {"full_attention": {**DEFAULT, "rope_theta": 1000000.0},
                                                       "sliding_attention": DEFAULT}}),
    "olmoe_heads": ("olmoe", {**NO_HEAD_DIM, "intermediate_size": 64, "num_experts": 6, "num_experts_per_tok": 2,
                              "num_key_value_heads": 4, "rope_parameters": DEFAULT}),
}
NAMES = [*MODELS, "llama_tied_mlx4"]


def corpus():
    rng = random.Random("tokenizer")
    for _ in range(200):
        yield make_tiny_data.text_row(rng)["text"]
        prompt, completion = make_tiny_data.question(rng)
        yield prompt + " " + completion


def tokenizer():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<|endoftext|>",
                                                eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                                chat_template=TEMPLATE)


def randomize(model, seed):
    """Weights with the spread of a trained model, so that losses and gradients are far from symmetric."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if "norm" in name and not name.endswith("bias"):
            p.data = (0 if "gemma" in model.config.model_type else 1) + 0.2 * noise
        elif name.endswith("bias"):
            p.data = 0.2 * noise
        elif "embed" in name:
            p.data = 0.5 * noise
        else:
            p.data = noise / p.shape[-1] ** 0.5
    model.tie_weights()


def old_style(folder):
    config = json.loads((folder / "config.json").read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype", "float32")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def make(root, name):
    """Returns the directory; keeps one that is there."""
    folder = Path(root) / name
    if (folder / "config.json").exists():
        return folder
    if name.endswith("_mlx4"):
        import mlx_lm

        base = make(root, name[: -len("_mlx4")])
        mlx_lm.convert(str(base), mlx_path=str(folder), quantize=True, q_group_size=64, q_bits=4)
        return folder
    model_type, settings = MODELS[name]
    config = transformers.AutoConfig.for_model(model_type, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomize(model, seed=1 + list(MODELS).index(name))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    if name == "llama_tied":
        old_style(folder)
    return folder


def main():
    for name in sys.argv[2:] or NAMES:
        print(make(sys.argv[1], name))


if __name__ == "__main__":
    main()
