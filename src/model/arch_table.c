#include "model/config.h"

const gr_arch gr_arch_table[] = {
    {"llama", "LlamaForCausalLM", GR_ARCH_BIAS_OPTION, .about = "Llama 1-3.x, SmolLM2, TinyLlama"},
    {"mistral", "MistralForCausalLM", GR_ARCH_WINDOW, .about = "Mistral", .kv_heads = 8, .window = 4096},
    {"qwen2", "Qwen2ForCausalLM", GR_ARCH_QKV_BIAS | GR_ARCH_LAYER_WINDOW, .about = "Qwen2, Qwen2.5"},
    {"qwen3", "Qwen3ForCausalLM", GR_ARCH_QK_NORM | GR_ARCH_LAYER_WINDOW | GR_ARCH_BIAS_OPTION,
     .about = "Qwen3"},
    {"ministral", "MinistralForCausalLM", GR_ARCH_WINDOW, "Ministral 8B 2410", .kv_heads = 8, .window = 4096},
    {"ministral3", "Ministral3ForCausalLM", GR_ARCH_GROWING_QUERIES | GR_ARCH_WINDOW, "Ministral 3 (text)",
     .theta = 1e6, .head_dim = 128, .kv_heads = 8, .eps = 1e-5},
    {"gemma2", "Gemma2ForCausalLM",
     GR_ARCH_SANDWICH | GR_ARCH_ONE_PLUS | GR_ARCH_GEMMA | GR_ARCH_BIAS_OPTION | GR_ARCH_PATTERN, "Gemma 2",
     .tied = true, .head_dim = 256, .kv_heads = 4, .window = 4096, .pattern = 2, .attention_cap = 50,
     .logit_cap = 30},
    {"gemma3_text", "Gemma3ForCausalLM",
     GR_ARCH_SANDWICH | GR_ARCH_ONE_PLUS | GR_ARCH_GEMMA | GR_ARCH_BIAS_OPTION | GR_ARCH_PATTERN |
         GR_ARCH_QK_NORM | GR_ARCH_LOCAL_ROPE,
     "Gemma 3 (text)", .tied = true, .theta = 1e6, .head_dim = 256, .kv_heads = 4, .window = 4096,
     .pattern = 6},
    {"smollm3", "SmolLM3ForCausalLM", GR_ARCH_SOME_ROPE | GR_ARCH_BIAS_OPTION, "SmolLM3", .tied = true,
     .theta = 2e6, .kv_heads = 4},
    {"granite", "GraniteForCausalLM", GR_ARCH_MULTIPLIERS | GR_ARCH_BIAS_OPTION, .about = "Granite 3"},
    {"olmo2", "Olmo2ForCausalLM", GR_ARCH_NORM_BEHIND | GR_ARCH_WIDE_QK_NORM | GR_ARCH_BIAS_OPTION,
     .about = "OLMo 2", .eps = 1e-5},
    {"phi3", "Phi3ForCausalLM", GR_ARCH_FUSED | GR_ARCH_PARTIAL | GR_ARCH_WINDOW, "Phi-3, Phi-3.5, Phi-4",
     .partial = 1, .original = 4096, .eps = 1e-5},
    {"stablelm", "StableLmForCausalLM", GR_ARCH_LAYER_NORM | GR_ARCH_PARTIAL | GR_ARCH_USE_QKV_BIAS,
     "StableLM", .partial = 0.25, .eps_key = "layer_norm_eps"},
    {"starcoder2", "Starcoder2ForCausalLM",
     GR_ARCH_LAYER_NORM | GR_ARCH_PLAIN_MLP | GR_ARCH_USE_BIAS | GR_ARCH_WINDOW, "StarCoder2", .tied = true,
     .eps_key = "norm_epsilon", .kv_heads = 2},
    {"qwen3_moe", "Qwen3MoeForCausalLM", GR_ARCH_QK_NORM | GR_ARCH_BIAS_OPTION | GR_ARCH_EXPERTS, "Qwen3-MoE",
     .mlp_key = "moe_intermediate_size", .kv_heads = 4},
    {"olmoe", "OlmoeForCausalLM", GR_ARCH_WIDE_QK_NORM | GR_ARCH_BIAS_OPTION | GR_ARCH_EXPERTS, "OLMoE",
     .eps = 1e-5},
    {0},
};

const gr_arch *gr_arch_find(const char *model_type) {
    for (const gr_arch *arch = gr_arch_table; arch->model_type; arch++)
        if (strcmp(arch->model_type, model_type) == 0) return arch;
    return NULL;
}
