#include "model/config.h"

const gr_arch gr_arch_table[] = {
    {"llama", "LlamaForCausalLM", GR_ARCH_BIAS_OPTION, "Llama 1-3.x, SmolLM2, TinyLlama"},
    {"mistral", "MistralForCausalLM", GR_ARCH_WINDOW, "Mistral"},
    {"qwen2", "Qwen2ForCausalLM", GR_ARCH_QKV_BIAS | GR_ARCH_LAYER_WINDOW, "Qwen2, Qwen2.5"},
    {"qwen3", "Qwen3ForCausalLM", GR_ARCH_QK_NORM | GR_ARCH_LAYER_WINDOW | GR_ARCH_BIAS_OPTION, "Qwen3"},
    {0},
};

const gr_arch *gr_arch_find(const char *model_type) {
    for (const gr_arch *arch = gr_arch_table; arch->model_type; arch++)
        if (strcmp(arch->model_type, model_type) == 0) return arch;
    return NULL;
}
