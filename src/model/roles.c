#include "model/roles.h"
#include <stdio.h>

#define ATTENTION (GR_SET_EXTENDED | GR_SET_FULL | GR_SET_ALL_LINEAR)
#define MLP       (GR_SET_FULL | GR_SET_ALL_LINEAR)

const gr_role_row gr_role_table[GR_ROLES] = {
    [GR_Q_PROJ] = {"q_proj", "self_attn.q_proj", true, true, ATTENTION | GR_SET_STANDARD, ""},
    [GR_K_PROJ] = {"k_proj", "self_attn.k_proj", true, true, ATTENTION, ""},
    [GR_V_PROJ] = {"v_proj", "self_attn.v_proj", true, true, ATTENTION | GR_SET_STANDARD, ""},
    [GR_O_PROJ] = {"o_proj", "self_attn.o_proj", true, true, ATTENTION, ""},
    [GR_GATE_PROJ] = {"gate_proj", "mlp.gate_proj", true, true, MLP, ""},
    [GR_UP_PROJ] = {"up_proj", "mlp.up_proj", true, true, MLP, ""},
    [GR_DOWN_PROJ] = {"down_proj", "mlp.down_proj", true, true, MLP, ""},
    [GR_EMBED_TOKENS] = {"embed_tokens", "model.embed_tokens", false, false, 0, ""},
    [GR_LM_HEAD] = {"lm_head", "lm_head", false, false, 0, ""},
    [GR_INPUT_LAYERNORM] = {"input_layernorm", "input_layernorm", true, false, 0, ""},
    [GR_POST_ATTENTION_LAYERNORM] = {"post_attention_layernorm", "post_attention_layernorm", true, false, 0,
                                     ""},
    [GR_NORM] = {"norm", "model.norm", false, false, 0, ""},
    [GR_ROTARY_EMB] = {"rotary_emb", "rotary_emb", true, false, 0, "computed, no tensor"},
    [GR_Q_NORM] = {"q_norm", "self_attn.q_norm", true, false, 0, ""},
    [GR_K_NORM] = {"k_norm", "self_attn.k_norm", true, false, 0, ""},
    [GR_PRE_FEEDFORWARD_LAYERNORM] = {"pre_feedforward_layernorm", "pre_feedforward_layernorm", true, false,
                                      0, ""},
    [GR_POST_FEEDFORWARD_LAYERNORM] = {"post_feedforward_layernorm", "post_feedforward_layernorm", true,
                                       false, 0, ""},
};

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
    case GR_DOWN_PROJ: *out = c->hidden, *in = c->mlp; break;
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
    switch (role) {
    case GR_INPUT_LAYERNORM:
    case GR_POST_ATTENTION_LAYERNORM:
    case GR_PRE_FEEDFORWARD_LAYERNORM:
    case GR_POST_FEEDFORWARD_LAYERNORM: return has_block_norm(role, c);
    case GR_LM_HEAD: return !c->tied;
    case GR_Q_NORM:
    case GR_K_NORM: return c->qk_norm;
    case GR_ROTARY_EMB:
    case GR_ROLES: return false;
    default: return true;
    }
}

bool gr_role_has_bias(gr_role role, const gr_model_config *c) {
    switch (role) {
    case GR_Q_PROJ:
    case GR_K_PROJ:
    case GR_V_PROJ: return c->qkv_bias;
    case GR_O_PROJ: return c->o_bias;
    case GR_GATE_PROJ:
    case GR_UP_PROJ:
    case GR_DOWN_PROJ: return c->mlp_bias;
    default: return false;
    }
}

void gr_role_name(char *name, size_t size, gr_role role, int64_t layer) {
    const gr_role_row *row = &gr_role_table[role];
    if (row->in_block)
        snprintf(name, size, "model.layers.%lld.%s", (long long)layer, row->path);
    else
        snprintf(name, size, "%s", row->path);
}
