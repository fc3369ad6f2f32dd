#include "adapters/adapter_parts.h"
#include "base/digest.h"
#include "convert/gguf_names.h"
#include <stdio.h>

/* source: mlx-lm 0.32 tuner/lora.py, dora.py, utils.py load_adapters; PEFT 0.21 save_and_load.py; llama.cpp
 * convert_lora_to_gguf.py, llama-adapter.cpp. An embedding is read by rows, a head by columns: in all
 * programs its pair has the roles of A and B exchanged. */
const gr_adapter_format gr_adapter_format_table[GR_ADAPTER_FORMATS + 1] = {
    {"mlx",
     "mlx-lm",
     "adapters.safetensors",
     "",
     true,
     false,
     9,
     {{GR_PARAM_A, GR_ON_LINEAR, ".lora_a", true, false},
      {GR_PARAM_B, GR_ON_LINEAR, ".lora_b", false, true},
      {GR_PARAM_A, GR_ON_EXPERTS, ".lora_a", false, false},
      {GR_PARAM_B, GR_ON_EXPERTS, ".lora_b", true, true},
      {GR_PARAM_A, GR_ON_EMBEDDING, ".lora_b", false, true},
      {GR_PARAM_B, GR_ON_EMBEDDING, ".lora_a", true, false},
      {GR_PARAM_MAGNITUDE, GR_ON_LINEAR, ".m", false, false},
      {GR_PARAM_BIAS, GR_ON_ANY, ".bias", false, false},
      {GR_PARAM_WEIGHT, GR_ON_ANY, ".weight", false, false}}},
    {"peft",
     "PEFT",
     "adapter_model.safetensors",
     "base_model.model.",
     false,
     false,
     13,
     {{GR_PARAM_A, GR_ON_LINEAR, ".lora_A.weight", false, false},
      {GR_PARAM_B, GR_ON_LINEAR, ".lora_B.weight", true, false},
      {GR_PARAM_A, GR_ON_EXPERTS, ".lora_A.weight", false, false},
      {GR_PARAM_B, GR_ON_EXPERTS, ".lora_B.weight", true, false},
      {GR_PARAM_A, GR_ON_EMBEDDING, ".lora_embedding_B", true, false},
      {GR_PARAM_B, GR_ON_EMBEDDING, ".lora_embedding_A", false, false},
      {GR_PARAM_A, GR_ON_TIED_HEAD, ".lora_A.weight", false, false},
      {GR_PARAM_B, GR_ON_TIED_HEAD, ".lora_B.weight", true, false},
      {GR_PARAM_MAGNITUDE, GR_ON_LINEAR, ".lora_magnitude_vector", false, false},
      {GR_PARAM_BIAS, GR_ON_ADAPTED, ".base_layer.bias", false, false},
      {GR_PARAM_BIAS, GR_ON_PLAIN, ".bias", false, false},
      {GR_PARAM_WEIGHT, GR_ON_ANY, ".weight", false, false},
      {GR_PARAM_WEIGHT, GR_ON_TIED_HEAD, ".weight", false, false}}},
    {"gguf",
     "llama.cpp",
     "adapter.gguf",
     "",
     false,
     true,
     6,
     {{GR_PARAM_A, GR_ON_LINEAR, ".weight.lora_a", false, false},
      {GR_PARAM_B, GR_ON_LINEAR, ".weight.lora_b", true, true},
      {GR_PARAM_A, GR_ON_EXPERTS, ".weight.lora_a", false, false},
      {GR_PARAM_B, GR_ON_EXPERTS, ".weight.lora_b", true, true},
      {GR_PARAM_A, GR_ON_EMBEDDING, ".weight.lora_b", true, true},
      {GR_PARAM_B, GR_ON_EMBEDDING, ".weight.lora_a", true, false}}},
    {0},
};

bool gr_adapter_slot_on(const gr_adapter_slot *slot, gr_role role, bool adapted, const gr_model_config *c) {
    bool experts = gr_role_expert(role), linear = (role < GR_LINEARS && !experts) || role == GR_LM_HEAD;
    switch (slot->on) {
    case GR_ON_ANY: return true;
    case GR_ON_LINEAR: return linear;
    case GR_ON_EXPERTS: return experts;
    case GR_ON_EMBEDDING: return role == GR_EMBED_TOKENS;
    case GR_ON_TIED_HEAD: return role == GR_EMBED_TOKENS && c->tied;
    case GR_ON_ADAPTED: return linear && adapted;
    case GR_ON_PLAIN: return (linear || gr_role_has_bias(role, c)) && !adapted;
    }
    return false;
}

bool gr_adapter_slot_name(char *name, size_t size, const gr_adapter_format *f, const gr_adapter_slot *slot,
                          gr_role role, int64_t layer) {
    char path[200], other[200];
    gr_role_name(path, sizeof path, slot->on == GR_ON_TIED_HEAD ? GR_LM_HEAD : role, layer);
    if (f->gguf && !gr_gguf_name_of_hf(other, sizeof other, path)) return false;
    snprintf(name, size, "%s%s%s", f->prefix, f->gguf ? other : path, slot->suffix);
    return true;
}

int64_t gr_adapter_pairs(const gr_adapter_format *f, const gr_model_config *c, gr_role role,
                         gr_param_kind kind) {
    const gr_gguf_arch *arch = f->gguf ? gr_gguf_arch_of(c->arch->model_type) : NULL;
    bool rotated = role == GR_Q_PROJ || role == GR_K_PROJ;
    return arch && arch->pairs && rotated && kind == GR_PARAM_B ? c->head_dim : 0;
}

const char *gr_adapter_file_name(int format) {
    return format < GR_ADAPTER_FORMATS ? gr_adapter_format_table[format].file : NULL;
}

const char *gr_adapter_program(const char *file_name) {
    for (const gr_adapter_format *f = gr_adapter_format_table; f->name; f++)
        if (strcmp(f->file, file_name) == 0) return f->program;
    return "";
}

void gr_adapter_digest(char text[17], const float *params, int64_t count) {
    static const char digits[] = "0123456789abcdef";
    uint64_t h = GR_DIGEST_START;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &params[i], 4);
        h = gr_digest_step(h, bits);
    }
    for (int i = 0; i < 16; i++) text[i] = digits[h >> (60 - 4 * i) & 15];
    text[16] = 0;
}
