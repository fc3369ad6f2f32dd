#include "model/roles.h"
#include <stdio.h>

#define ATTENTION (GR_SET_EXTENDED | GR_SET_FULL | GR_SET_ALL_LINEAR)
#define MLP       (GR_SET_FULL | GR_SET_ALL_LINEAR)

const gr_role_row gr_role_table[GR_ROLES] = {
    [GR_Q_PROJ] = {"q_proj", "self_attn.q_proj", true, true, ATTENTION | GR_SET_STANDARD, "", 0},
    [GR_K_PROJ] = {"k_proj", "self_attn.k_proj", true, true, ATTENTION, "", 1},
    [GR_V_PROJ] = {"v_proj", "self_attn.v_proj", true, true, ATTENTION | GR_SET_STANDARD, "", 2},
    [GR_O_PROJ] = {"o_proj", "self_attn.o_proj", true, true, ATTENTION, "", 3},
    [GR_GATE_PROJ] = {"gate_proj", "mlp.gate_proj", true, true, MLP, "", 4},
    [GR_UP_PROJ] = {"up_proj", "mlp.up_proj", true, true, MLP, "", 5},
    [GR_DOWN_PROJ] = {"down_proj", "mlp.down_proj", true, true, MLP, "", 6},
    /* numbers of what they take the place of: no model has both */
    [GR_QKV_PROJ] = {"qkv_proj", "self_attn.qkv_proj", true, true, ATTENTION | GR_SET_STANDARD, "", 0},
    [GR_GATE_UP_PROJ] = {"gate_up_proj", "mlp.gate_up_proj", true, true, MLP, "", 4},
    [GR_C_FC] = {"c_fc", "mlp.c_fc", true, true, MLP, "", 5},
    [GR_C_PROJ] = {"c_proj", "mlp.c_proj", true, true, MLP, "", 6},
    [GR_ROUTER] = {"gate", "mlp.gate", true, false, 0, "", 17},
    [GR_EXPERT_GATE] = {"gate_proj", "mlp.switch_mlp.gate_proj", true, true, MLP, "", 4},
    [GR_EXPERT_UP] = {"up_proj", "mlp.switch_mlp.up_proj", true, true, MLP, "", 5},
    [GR_EXPERT_DOWN] = {"down_proj", "mlp.switch_mlp.down_proj", true, true, MLP, "", 6},
    [GR_EMBED_TOKENS] = {"embed_tokens", "model.embed_tokens", false, false, 0, "", 7},
    [GR_LM_HEAD] = {"lm_head", "lm_head", false, false, 0, "", 8},
    [GR_INPUT_LAYERNORM] = {"input_layernorm", "input_layernorm", true, false, 0, "", 9},
    [GR_POST_ATTENTION_LAYERNORM] = {"post_attention_layernorm", "post_attention_layernorm", true, false, 0,
                                     "", 10},
    [GR_NORM] = {"norm", "model.norm", false, false, 0, "", 11},
    [GR_ROTARY_EMB] = {"rotary_emb", "rotary_emb", true, false, 0, "computed, no tensor", 12},
    [GR_Q_NORM] = {"q_norm", "self_attn.q_norm", true, false, 0, "", 13},
    [GR_K_NORM] = {"k_norm", "self_attn.k_norm", true, false, 0, "", 14},
    [GR_PRE_FEEDFORWARD_LAYERNORM] = {"pre_feedforward_layernorm", "pre_feedforward_layernorm", true, false,
                                      0, "", 15},
    [GR_POST_FEEDFORWARD_LAYERNORM] = {"post_feedforward_layernorm", "post_feedforward_layernorm", true,
                                       false, 0, "", 16},
};

const gr_role gr_guide_types[GR_GUIDE_TYPES] = {GR_Q_PROJ,
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
                                                GR_ROTARY_EMB};

int gr_guide_type(gr_role role) {
    static const gr_role stands_for[][2] = {{GR_QKV_PROJ, GR_Q_PROJ},   {GR_GATE_UP_PROJ, GR_GATE_PROJ},
                                            {GR_C_FC, GR_UP_PROJ},      {GR_C_PROJ, GR_DOWN_PROJ},
                                            {GR_ROUTER, GR_GATE_PROJ},  {GR_EXPERT_GATE, GR_GATE_PROJ},
                                            {GR_EXPERT_UP, GR_UP_PROJ}, {GR_EXPERT_DOWN, GR_DOWN_PROJ}};
    for (size_t i = 0; i < sizeof stands_for / sizeof *stands_for; i++)
        if (stands_for[i][0] == role) role = stands_for[i][1];
    for (int i = 0; i < GR_GUIDE_TYPES; i++)
        if (gr_guide_types[i] == role) return i;
    return 11; /* norm: one row for all but those that have one of their own */
}

void gr_role_shape(gr_role role, const gr_model_config *c, int64_t *out, int64_t *in) {
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    bool wide = c->arch->traits & GR_ARCH_WIDE_QK_NORM;
    *in = c->hidden;
    switch (role) {
    case GR_Q_PROJ: *out = q; break;
    case GR_K_PROJ:
    case GR_V_PROJ: *out = kv; break;
    case GR_O_PROJ: *out = c->hidden, *in = q; break;
    case GR_GATE_PROJ:
    case GR_UP_PROJ: *out = c->mlp; break;
    case GR_C_PROJ:
    case GR_DOWN_PROJ: *out = c->hidden, *in = c->mlp; break;
    case GR_QKV_PROJ: *out = q + 2 * kv; break;
    case GR_GATE_UP_PROJ: *out = 2 * c->mlp; break;
    case GR_C_FC: *out = c->mlp; break;
    case GR_ROUTER: *out = c->experts; break;
    case GR_EXPERT_GATE:
    case GR_EXPERT_UP: *out = c->experts * c->mlp; break;
    case GR_EXPERT_DOWN: *out = c->experts * c->hidden, *in = c->mlp; break;
    case GR_EMBED_TOKENS:
    case GR_LM_HEAD: *out = c->vocab; break;
    case GR_INPUT_LAYERNORM:
    case GR_POST_ATTENTION_LAYERNORM:
    case GR_PRE_FEEDFORWARD_LAYERNORM:
    case GR_POST_FEEDFORWARD_LAYERNORM:
    case GR_NORM: *out = c->hidden, *in = 0; break;
    case GR_Q_NORM: *out = wide ? q : c->head_dim, *in = 0; break;
    case GR_K_NORM: *out = wide ? kv : c->head_dim, *in = 0; break;
    case GR_ROTARY_EMB:
    case GR_ROLES: *out = *in = 0; break;
    }
}

gr_role gr_norm_role(const gr_model_config *c, gr_norm_place place) {
    static const gr_role plain[GR_NORM_PLACES] = {GR_INPUT_LAYERNORM, GR_ROLES, GR_POST_ATTENTION_LAYERNORM,
                                                  GR_ROLES},
                         sandwich[GR_NORM_PLACES] = {GR_INPUT_LAYERNORM, GR_POST_ATTENTION_LAYERNORM,
                                                     GR_PRE_FEEDFORWARD_LAYERNORM,
                                                     GR_POST_FEEDFORWARD_LAYERNORM},
                         behind[GR_NORM_PLACES] = {GR_ROLES, GR_POST_ATTENTION_LAYERNORM, GR_ROLES,
                                                   GR_POST_FEEDFORWARD_LAYERNORM};
    if (c->arch->traits & GR_ARCH_SANDWICH) return sandwich[place];
    return c->arch->traits & GR_ARCH_NORM_BEHIND ? behind[place] : plain[place];
}

static bool has_block_norm(gr_role role, const gr_model_config *c) {
    for (gr_norm_place p = 0; p < GR_NORM_PLACES; p++)
        if (gr_norm_role(c, p) == role) return true;
    return false;
}

bool gr_role_exists(gr_role role, const gr_model_config *c) {
    bool fused = c->arch->traits & GR_ARCH_FUSED, plain = c->arch->traits & GR_ARCH_PLAIN_MLP,
         mixture = c->arch->traits & GR_ARCH_EXPERTS;
    switch (role) {
    case GR_INPUT_LAYERNORM:
    case GR_POST_ATTENTION_LAYERNORM:
    case GR_PRE_FEEDFORWARD_LAYERNORM:
    case GR_POST_FEEDFORWARD_LAYERNORM: return has_block_norm(role, c);
    case GR_Q_PROJ:
    case GR_K_PROJ:
    case GR_V_PROJ: return !fused;
    case GR_GATE_PROJ:
    case GR_UP_PROJ: return !fused && !plain && !mixture;
    case GR_DOWN_PROJ: return !plain && !mixture;
    case GR_ROUTER:
    case GR_EXPERT_GATE:
    case GR_EXPERT_UP:
    case GR_EXPERT_DOWN: return mixture;
    case GR_QKV_PROJ:
    case GR_GATE_UP_PROJ: return fused;
    case GR_C_FC:
    case GR_C_PROJ: return plain;
    case GR_LM_HEAD: return !c->tied;
    case GR_Q_NORM:
    case GR_K_NORM: return c->qk_norm;
    case GR_ROTARY_EMB:
    case GR_ROLES: return false;
    default: return true;
    }
}

int gr_mlp_matrices(const gr_model_config *c) {
    return c->arch->traits & GR_ARCH_PLAIN_MLP ? 2 : 3;
}

double gr_block_weights(const gr_model_config *c) {
    double q = (double)(c->heads * c->head_dim), kv = (double)(c->kv_heads * c->head_dim);
    return (double)c->hidden * (2 * q + 2 * kv + (double)gr_mlp_matrices(c) * (double)gr_mlp_width(c));
}

bool gr_role_has_bias(gr_role role, const gr_model_config *c) {
    if (!gr_role_exists(role, c)) return false;
    switch (role) {
    case GR_INPUT_LAYERNORM:
    case GR_POST_ATTENTION_LAYERNORM:
    case GR_NORM: return c->arch->traits & GR_ARCH_LAYER_NORM;
    case GR_Q_PROJ:
    case GR_K_PROJ:
    case GR_V_PROJ: return c->qkv_bias;
    case GR_O_PROJ: return c->o_bias;
    case GR_GATE_PROJ:
    case GR_UP_PROJ:
    case GR_C_FC:
    case GR_C_PROJ:
    case GR_DOWN_PROJ: return c->mlp_bias;
    default: return false;
    }
}

void gr_expert_name(char *name, size_t size, gr_role role, int64_t layer, int64_t expert) {
    snprintf(name, size, "model.layers.%lld.mlp.experts.%lld.%s", (long long)layer, (long long)expert,
             gr_role_table[role].type);
}

void gr_role_name(char *name, size_t size, gr_role role, int64_t layer) {
    const gr_role_row *row = &gr_role_table[role];
    if (row->in_block)
        snprintf(name, size, "model.layers.%lld.%s", (long long)layer, row->path);
    else
        snprintf(name, size, "%s", row->path);
}
