#include "convert/gguf_names.h"
#include <stdio.h>

static const gr_gguf_arch archs[] = {{"llama", "llama", true},
                                     {"mistral", "llama", true},
                                     {"qwen2", "qwen2", false},
                                     {"qwen3", "qwen3", false},
                                     {"gemma2", "gemma2", false},
                                     {"gemma3_text", "gemma3", false},
                                     {"smollm3", "smollm3", true},
                                     {"granite", "granite", true},
                                     {"olmo2", "olmo2", false},
                                     {"ministral3", "mistral3", true},
                                     {0}};

const gr_gguf_arch *gr_gguf_arch_of(const char *model_type) {
    for (const gr_gguf_arch *arch = archs; arch->model_type; arch++)
        if (strcmp(arch->model_type, model_type) == 0) return arch;
    return NULL;
}

typedef struct name_row {
    const char *gguf, *hf;
} name_row;

static const name_row globals[] = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}, {NULL, NULL}};

/* Behind blk.N. and model.layers.N. */
static const name_row in_block[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},       {NULL, NULL}};

static const char *find(const name_row *rows, const char *name, size_t len) {
    for (; rows->gguf; rows++)
        if (strlen(rows->gguf) == len && memcmp(rows->gguf, name, len) == 0) return rows->hf;
    return NULL;
}

bool gr_gguf_name_to_hf(gr_buf *hf, const char *name) {
    const char *suffix = strrchr(name, '.'), *prefix = "model.layers.", *found;
    if (!suffix || (strcmp(suffix, ".weight") != 0 && strcmp(suffix, ".bias") != 0)) return false;
    if (strncmp(name, "blk.", 4) != 0) {
        found = find(globals, name, (size_t)(suffix - name));
        if (found) gr_buf_printf(hf, "%s%s", found, suffix);
        return found != NULL;
    }
    const char *number = name + 4;
    size_t digits = strspn(number, "0123456789");
    if (!digits || digits > 4 || (digits > 1 && number[0] == '0') || number[digits] != '.') return false;
    const char *part = number + digits + 1;
    if (part >= suffix) return false;
    found = find(in_block, part, (size_t)(suffix - part));
    if (found) gr_buf_printf(hf, "%s%.*s.%s%s", prefix, (int)digits, number, found, suffix);
    return found != NULL;
}

static const char *find_hf(const name_row *rows, const char *hf) {
    for (; rows->gguf; rows++)
        if (strcmp(rows->hf, hf) == 0) return rows->gguf;
    return NULL;
}

bool gr_gguf_name_of_hf(char *name, size_t size, const char *hf) {
    static const char prefix[] = "model.layers.";
    size_t n = sizeof prefix - 1, digits;
    const char *found = find_hf(globals, hf);
    if (found) return snprintf(name, size, "%s", found) < (int)size;
    if (strncmp(hf, prefix, n) != 0) return false;
    digits = strspn(hf + n, "0123456789");
    if (!digits || hf[n + digits] != '.') return false;
    found = find_hf(in_block, hf + n + digits + 1);
    return found && snprintf(name, size, "blk.%.*s.%s", (int)digits, hf + n, found) < (int)size;
}
