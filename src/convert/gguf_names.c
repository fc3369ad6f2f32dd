#include "convert/gguf_names.h"

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
