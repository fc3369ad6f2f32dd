/* model/roles.h - the role of every tensor: one table drives names, quantization, LoRA sets and freezing.
 * May include: base, model/config.h.
 */
#ifndef GR_MODEL_ROLES_H
#define GR_MODEL_ROLES_H
#include "model/config.h"

/* A block's linears first, the others then. */
typedef enum gr_role {
    GR_Q_PROJ,
    GR_K_PROJ,
    GR_V_PROJ,
    GR_O_PROJ,
    GR_GATE_PROJ,
    GR_UP_PROJ,
    GR_DOWN_PROJ,
    GR_QKV_PROJ,     /* q, k and v in one matrix, one after another (Phi-3) */
    GR_GATE_UP_PROJ, /* gate and up */
    GR_C_FC,         /* an MLP without gate: up (StarCoder2) */
    GR_C_PROJ,       /* .. and down */
    GR_ROUTER,       /* which experts a token takes (mixtures) */
    GR_EXPERT_GATE,  /* a mixture's experts, as one matrix whose rows are those of one expert after another */
    GR_EXPERT_UP,
    GR_EXPERT_DOWN,
    GR_EMBED_TOKENS,
    GR_LM_HEAD,
    GR_INPUT_LAYERNORM,
    GR_POST_ATTENTION_LAYERNORM,
    GR_NORM,
    GR_ROTARY_EMB,
    GR_Q_NORM, /* norms of each head; the plan's table counts them under norm */
    GR_K_NORM,
    GR_PRE_FEEDFORWARD_LAYERNORM, /* Gemma; and what OLMo 2 has of it */
    GR_POST_FEEDFORWARD_LAYERNORM,
    GR_ROLES
} gr_role;
#define GR_LINEARS     15 /* roles below this number are linears of a block */
#define GR_GUIDE_TYPES 13
/* The rows of the table of docs/weights.md, in the order that graft plan prints; and the row that a role is
 * counted under. */
extern const gr_role gr_guide_types[GR_GUIDE_TYPES];
int gr_guide_type(gr_role role);

/* LoRA sets as bits. */
enum { GR_SET_STANDARD = 1, GR_SET_EXTENDED = 2, GR_SET_FULL = 4, GR_SET_ALL_LINEAR = 8 };

typedef struct gr_role_row {
    const char *type; /* the row's name, also the last part of the tensor's name */
    const char *path; /* inside the block: "self_attn.q_proj"; whole name for tensors outside blocks */
    bool in_block;
    bool quantize;      /* 4-bit under the policy of docs/weights.md */
    unsigned lora_sets; /* sets that adapt it */
    const char *notes;
    int number; /* in digests and random streams: never another for a role that was released */
} gr_role_row;

extern const gr_role_row gr_role_table[GR_ROLES];

/* Shape [out, in] of a linear (of experts: out of all together), [vocab, hidden] of embedding and head, [n,
 * 0] of norms. */
void gr_role_shape(gr_role role, const gr_model_config *config, int64_t *out, int64_t *in);
/* Does this model have such a tensor? */
bool gr_role_exists(gr_role role, const gr_model_config *config);
/* Is it one matrix of every expert? */
static inline bool gr_role_expert(gr_role role) {
    return role >= GR_EXPERT_GATE && role <= GR_EXPERT_DOWN;
}
#define GR_EXPERT_LINEARS 3 /* such roles, next to each other */
/* Has this model a bias on that linear or, beside the weight, of that norm (LayerNorm)? */
bool gr_role_has_bias(gr_role role, const gr_model_config *config);
/* Matrices [mlp, hidden], or turned, that a block's MLP has, fused or not: 3, or 2 without gate. */
int gr_mlp_matrices(const gr_model_config *config);
/* Numbers of a block's linears that one token is multiplied with: of a mixture's experts those that it takes,
 * without the router. */
double gr_block_weights(const gr_model_config *config);
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
/* The name that an expert has of its own in Hugging Face's files: "model.layers.3.mlp.experts.5.up_proj". */
void gr_expert_name(char *name, size_t size, gr_role role, int64_t layer, int64_t expert);
/* "model.layers.3.self_attn.q_proj" (no .weight); layer is ignored outside blocks. */
void gr_role_name(char *name, size_t size, gr_role role, int64_t layer);

#endif
