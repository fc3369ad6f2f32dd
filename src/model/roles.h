/* model/roles.h - the role of every tensor: one table drives names, quantization, LoRA sets and freezing.
 * May include: base, model/config.h.
 */
#ifndef GR_MODEL_ROLES_H
#define GR_MODEL_ROLES_H
#include "model/config.h"

/* The guide's 13 layer types, in its order, the first seven a block's linears; then what it does not list. */
typedef enum gr_role {
    GR_Q_PROJ,
    GR_K_PROJ,
    GR_V_PROJ,
    GR_O_PROJ,
    GR_GATE_PROJ,
    GR_UP_PROJ,
    GR_DOWN_PROJ,
    GR_EMBED_TOKENS,
    GR_LM_HEAD,
    GR_INPUT_LAYERNORM,
    GR_POST_ATTENTION_LAYERNORM,
    GR_NORM,
    GR_ROTARY_EMB,
    GR_Q_NORM, /* norms of each head; the guide's table counts them under norm */
    GR_K_NORM,
    GR_PRE_FEEDFORWARD_LAYERNORM, /* Gemma; and what OLMo 2 has of it */
    GR_POST_FEEDFORWARD_LAYERNORM,
    GR_ROLES
} gr_role;
#define GR_GUIDE_TYPES GR_Q_NORM /* roles below this number are rows of the guide's table */
#define GR_LINEARS     7         /* roles below this number are linears of a block */

/* LoRA sets as bits. */
enum { GR_SET_STANDARD = 1, GR_SET_EXTENDED = 2, GR_SET_FULL = 4, GR_SET_ALL_LINEAR = 8 };

typedef struct gr_role_row {
    const char *type; /* the guide's name, also the last part of the tensor's name */
    const char *path; /* inside the block: "self_attn.q_proj"; whole name for tensors outside blocks */
    bool in_block;
    bool quantize;      /* 4-bit under the guide's policy */
    unsigned lora_sets; /* sets that adapt it */
    const char *notes;
} gr_role_row;

extern const gr_role_row gr_role_table[GR_ROLES];

/* Shape [out, in] of a linear, [vocab, hidden] of embedding and head, [n, 0] of norms. */
void gr_role_shape(gr_role role, const gr_model_config *config, int64_t *out, int64_t *in);
/* Does this model have such a tensor? Always, but for a tied head, the norms of q and k, and rotary_emb. */
bool gr_role_exists(gr_role role, const gr_model_config *config);
/* Has this model a bias on that linear? */
bool gr_role_has_bias(gr_role role, const gr_model_config *config);
/* Where a block can have a norm over the whole width. */
typedef enum gr_norm_place {
    GR_BEFORE_ATTENTION,
    GR_BEHIND_ATTENTION, /* of its output, before it joins the residual stream */
    GR_BEFORE_MLP,
    GR_BEHIND_MLP,
    GR_NORM_PLACES
} gr_norm_place;
/* The norm there; GR_ROLES: none. One name, post_attention_layernorm, is before the MLP in Llama and behind
 * attention in Gemma. */
gr_role gr_norm_role(const gr_model_config *config, gr_norm_place place);
/* "model.layers.3.self_attn.q_proj" (no .weight); layer is ignored outside blocks. */
void gr_role_name(char *name, size_t size, gr_role role, int64_t layer);

#endif
