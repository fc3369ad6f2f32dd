#include "convert/gguf_names.h"
#include <stdio.h>

static const gr_gguf_arch archs[] = {
    {"llama", "llama", true, false, false},         {"mistral", "llama", true, false, false},
    {"qwen2", "qwen2", false, false, false},        {"qwen3", "qwen3", false, false, false},
    {"gemma2", "gemma2", false, true, false},       {"gemma3_text", "gemma3", false, true, false},
    {"smollm3", "smollm3", true, false, false},     {"granite", "granite", true, false, false},
    {"olmo2", "olmo2", false, false, false},        {"phi3", "phi3", false, false, false},
    {"stablelm", "stablelm", false, false, false},  {"starcoder2", "starcoder2", false, false, false},
    {"qwen3_moe", "qwen3moe", false, false, false}, {"olmoe", "olmoe", false, false, false},
    {"ministral3", "mistral3", true, false, true},  {0}};

const gr_gguf_arch *gr_gguf_arch_of(const char *model_type) {
    for (const gr_gguf_arch *arch = archs; arch->model_type; arch++)
        if (strcmp(arch->model_type, model_type) == 0) return arch;
    return NULL;
}

const gr_gguf_arch *gr_gguf_arch_by_name(const char *name, size_t len) {
    for (const gr_gguf_arch *arch = archs; arch->model_type; arch++)
        if (strlen(arch->gguf) == len && memcmp(arch->gguf, name, len) == 0) return arch;
    return NULL;
}

void gr_gguf_arch_list(gr_buf *names) {
    for (const gr_gguf_arch *arch = archs; arch->model_type; arch++)
        if (gr_gguf_arch_by_name(arch->gguf, strlen(arch->gguf)) == arch && !arch->only_adapters)
            gr_buf_printf(names, "%s%s", names->len ? ", " : "", arch->gguf);
}

/* only: the one architecture that has this name; NULL: all, unless a row before it says otherwise */
typedef struct name_row {
    const char *gguf, *hf, *only;
} name_row;

static const name_row globals[] = {{"token_embd", "model.embed_tokens", NULL},
                                   {"output_norm", "model.norm", NULL},
                                   {"output", "lm_head", NULL},
                                   {NULL, NULL, NULL}};

#define MIXTURE(arch)                                                                                        \
    {"ffn_gate_inp", "mlp.gate", arch}, {"ffn_gate_exps", "mlp.switch_mlp.gate_proj", arch},                 \
        {"ffn_up_exps", "mlp.switch_mlp.up_proj", arch}, {                                                   \
        "ffn_down_exps", "mlp.switch_mlp.down_proj", arch                                                    \
    }

/* Behind blk.N. and model.layers.N. */
static const name_row in_block[] = {MIXTURE("qwen3moe"),
                                    MIXTURE("olmoe"),
                                    {"ffn_norm", "pre_feedforward_layernorm", "gemma2"},
                                    {"ffn_norm", "pre_feedforward_layernorm", "gemma3"},
                                    {"ffn_up", "mlp.gate_up_proj", "phi3"},
                                    {"ffn_up", "mlp.c_fc", "starcoder2"},
                                    {"ffn_down", "mlp.c_proj", "starcoder2"},
                                    {"post_attention_norm", "post_attention_layernorm", "gemma2"},
                                    {"post_attention_norm", "post_attention_layernorm", "gemma3"},
                                    {"post_attention_norm", "post_attention_layernorm", "olmo2"},
                                    {"attn_norm", "input_layernorm", NULL},
                                    {"attn_q", "self_attn.q_proj", NULL},
                                    {"attn_k", "self_attn.k_proj", NULL},
                                    {"attn_v", "self_attn.v_proj", NULL},
                                    {"attn_qkv", "self_attn.qkv_proj", NULL},
                                    {"attn_output", "self_attn.o_proj", NULL},
                                    {"attn_q_norm", "self_attn.q_norm", NULL},
                                    {"attn_k_norm", "self_attn.k_norm", NULL},
                                    {"ffn_norm", "post_attention_layernorm", NULL},
                                    {"post_ffw_norm", "post_feedforward_layernorm", NULL},
                                    {"ffn_gate", "mlp.gate_proj", NULL},
                                    {"ffn_up", "mlp.up_proj", NULL},
                                    {"ffn_down", "mlp.down_proj", NULL},
                                    {NULL, NULL, NULL}};

static const char *find(const name_row *rows, const gr_gguf_arch *arch, const char *name, size_t len) {
    for (; rows->gguf; rows++)
        if ((!rows->only || strcmp(rows->only, arch->gguf) == 0) && strlen(rows->gguf) == len &&
            memcmp(rows->gguf, name, len) == 0)
            return rows->hf;
    return NULL;
}

bool gr_gguf_name_to_hf(gr_buf *hf, const gr_gguf_arch *arch, const char *name) {
    const char *suffix = strrchr(name, '.'), *prefix = "model.layers.", *found;
    if (!suffix || (strcmp(suffix, ".weight") != 0 && strcmp(suffix, ".bias") != 0)) return false;
    if (strncmp(name, "blk.", 4) != 0) {
        found = find(globals, arch, name, (size_t)(suffix - name));
        if (found) gr_buf_printf(hf, "%s%s", found, suffix);
        return found != NULL;
    }
    const char *number = name + 4;
    size_t digits = strspn(number, "0123456789");
    if (!digits || digits > 4 || (digits > 1 && number[0] == '0') || number[digits] != '.') return false;
    const char *part = number + digits + 1;
    if (part >= suffix) return false;
    found = find(in_block, arch, part, (size_t)(suffix - part));
    if (found) gr_buf_printf(hf, "%s%.*s.%s%s", prefix, (int)digits, number, found, suffix);
    return found != NULL;
}

/* Names that all architectures share before those that only one has. */
static const char *find_hf(const name_row *rows, const char *hf) {
    const char *found = NULL;
    for (; rows->gguf; rows++)
        if (strcmp(rows->hf, hf) == 0 && (!found || !rows->only)) found = rows->gguf;
    return found;
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
