/* Small models for tests: weights from a formula that any language can repeat, and a walk over all
 * parameters. */
#include "ref/ref.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t fnv1a(const char *name) {
    uint32_t h = 2166136261u;
    for (; *name != 0; name++) h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

double ref_formula(const char *name, long i) {
    uint32_t x = fnv1a(name) + (uint32_t)i * 0x9E3779B1u;
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    x ^= x >> 16;
    return (x >> 25) / 128.0 - 0.5;
}

typedef struct walk {
    ref_tensor *out;
    int count;
} walk;

static void visit(walk *w, const char *prefix, const char *name, double *p, double *g, long n) {
    if (p == NULL) return;
    if (w->out != NULL) {
        ref_tensor *t = &w->out[w->count];
        *t = (ref_tensor){.p = p, .g = g, .n = n};
        snprintf(t->name, sizeof t->name, "%s%s", prefix, name);
    }
    w->count++;
}

static void visit_linear(walk *w, const char *prefix, const ref_linear *l) {
    long in = l->in, out = l->out, r = l->rank;
    visit(w, prefix, ".weight", l->w, l->dw, in * out);
    visit(w, prefix, ".bias", l->bias, l->dbias, out);
    visit(w, prefix, ".lora_A", l->a, l->da, r * (l->pool > 0 ? in / l->pool : in));
    visit(w, prefix, ".lora_B", l->b, l->db, r * out);
    visit(w, prefix, ".lora_magnitude_vector", l->m, l->dm, out);
}

static void visit_experts(walk *w, const char *prefix, const ref_experts *e) {
    char name[60];
    if (e->count == 0) return;
    snprintf(name, sizeof name, "%smlp.gate", prefix);
    visit_linear(w, name, &e->router);
    for (int i = 0; i < e->count; i++) {
        const ref_linear *each[] = {&e->gate[i], &e->up[i], &e->down[i]};
        for (int k = 0; k < 3; k++) {
            static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
            snprintf(name, sizeof name, "%smlp.experts.%d.%s", prefix, i, names[k]);
            visit_linear(w, name, each[k]);
        }
    }
}

int ref_model_tensors(ref_tensor *out, const ref_model *m) {
    static const char *const fused[REF_LINEARS] = {[REF_Q] = "self_attn.qkv_proj",
                                                   [REF_O] = "self_attn.o_proj",
                                                   [REF_GATE] = "mlp.gate_up_proj",
                                                   [REF_DOWN] = "mlp.down_proj"};
    static const char *const plain[REF_LINEARS] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", NULL,
        "mlp.c_fc",         "mlp.c_proj"};
    static const char *const separate[REF_LINEARS] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    walk w = {.out = out};
    const char *const *names = m->fused ? fused : m->plain ? plain : separate;
    long q_norm = m->head_dim * (m->wide_norm ? m->heads : 1),
         k_norm = m->head_dim * (m->wide_norm ? m->kv_heads : 1);
    visit_linear(&w, "model.embed_tokens", &m->embed);
    for (int i = 0; i < m->layers; i++) {
        const ref_block *b = &m->blocks[i];
        char prefix[32], linear[60];
        snprintf(prefix, sizeof prefix, "model.layers.%d.", i);
        visit(&w, prefix, "input_layernorm.weight", b->norm1, b->d_norm1, m->hidden);
        visit(&w, prefix,
              m->norms_behind ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight",
              b->norm2, b->d_norm2, m->hidden);
        visit(&w, prefix, "post_attention_layernorm.weight", b->behind1, b->d_behind1, m->hidden);
        visit(&w, prefix, "post_feedforward_layernorm.weight", b->behind2, b->d_behind2, m->hidden);
        visit(&w, prefix, "self_attn.q_norm.weight", b->q_norm, b->d_q_norm, q_norm);
        visit(&w, prefix, "self_attn.k_norm.weight", b->k_norm, b->d_k_norm, k_norm);
        visit(&w, prefix, "input_layernorm.bias", b->shift1, b->d_shift1, m->hidden);
        visit(&w, prefix, "post_attention_layernorm.bias", b->shift2, b->d_shift2, m->hidden);
        for (int k = 0; k < REF_LINEARS; k++) {
            if (names[k] == NULL) continue;
            snprintf(linear, sizeof linear, "%s%s", prefix, names[k]);
            visit_linear(&w, linear, &b->linear[k]);
        }
        visit_experts(&w, prefix, &b->experts);
    }
    visit(&w, "", "model.norm.weight", m->norm, m->d_norm, m->hidden);
    visit(&w, "", "model.norm.bias", m->shift, m->d_shift, m->hidden);
    visit_linear(&w, "lm_head", &m->head);
    return w.count;
}

static ref_tensor *tensors_of(const ref_model *m, int *count) {
    *count = ref_model_tensors(NULL, m);
    ref_tensor *all = calloc((size_t)*count, sizeof *all);
    if (all == NULL) abort();
    ref_model_tensors(all, m);
    return all;
}

void ref_zero_gradients(const ref_model *m) {
    int count;
    ref_tensor *all = tensors_of(m, &count);
    for (int k = 0; k < count; k++)
        if (all[k].g != NULL) memset(all[k].g, 0, (size_t)all[k].n * sizeof(double));
    free(all);
}

static double *zeros(bool wanted, long n) {
    if (!wanted) return NULL;
    double *p = calloc((size_t)n, sizeof *p);
    if (p == NULL) abort();
    return p;
}

static ref_linear linear_new(int in, int out, const ref_tiny *spec, int rank, bool bias) {
    bool all = spec->train_all, lora = rank > 0, dora = lora && spec->dora;
    long w = (long)in * out, a = (long)rank * in, b = (long)rank * out;
    return (ref_linear){.in = in,
                        .out = out,
                        .rank = rank,
                        .pool = spec->pool,
                        .scale = spec->scale,
                        .w = zeros(true, w),
                        .bias = zeros(bias, out),
                        .a = zeros(lora, a),
                        .b = zeros(lora, b),
                        .m = zeros(dora, out),
                        .dw = zeros(all, w),
                        .dbias = zeros(all && bias, out),
                        .da = zeros(lora, a),
                        .db = zeros(lora, b),
                        .dm = zeros(dora, out)};
}

/* A linear, or an empty one. */
static ref_linear maybe(bool wanted, int in, int out, const ref_tiny *spec, bool bias) {
    return wanted ? linear_new(in, out, spec, spec->rank, bias) : (ref_linear){0};
}

static ref_experts experts_new(const ref_tiny *c) {
    ref_experts e = {
        .count = c->experts, .used = c->experts_used, .normed = c->experts_normed, .gelu = c->gelu};
    ref_linear **each[] = {&e.gate, &e.up, &e.down};
    if (c->experts == 0) return e;
    e.router = linear_new(c->hidden, c->experts, c, 0, false);
    for (int k = 0; k < 3; k++) {
        *each[k] = calloc((size_t)c->experts, sizeof **each[k]);
        if (*each[k] == NULL) abort();
        for (int i = 0; i < c->experts; i++)
            (*each[k])[i] = linear_new(k == 2 ? c->mlp : c->hidden, k == 2 ? c->hidden : c->mlp, c,
                                       c->expert_rank, false);
    }
    return e;
}

static ref_block block_new(const ref_tiny *c, const ref_model *m, int number) {
    int q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, h = c->hidden;
    int q_norm = c->wide_norm ? q : c->head_dim, k_norm = c->wide_norm ? kv : c->head_dim;
    bool all = c->train_all, norm = c->qk_norm, before = !c->behind, behind = c->behind || c->sandwich;
    bool windowed = c->window > 0 && !(c->pattern > 0 && (number + 1) % c->pattern == 0);
    bool rotates = !(c->rope_interval > 0 && (number + 1) % c->rope_interval == 0);
    bool dense = c->experts == 0;
    int qkv = c->fused ? q + 2 * kv : q, gate_up = c->fused ? 2 * c->mlp : c->mlp;
    bool bias = c->qkv_bias || c->all_bias, layer_norm = c->layer_norm;
    return (ref_block){.linear = {[REF_Q] = linear_new(h, qkv, c, c->rank, bias),
                                  [REF_K] = maybe(!c->fused, h, kv, c, bias),
                                  [REF_V] = maybe(!c->fused, h, kv, c, bias),
                                  [REF_O] = linear_new(q, h, c, c->rank, c->all_bias),
                                  [REF_GATE] = maybe(dense && !c->plain, h, gate_up, c, c->all_bias),
                                  [REF_UP] = maybe(dense && !c->fused, h, c->mlp, c, c->all_bias),
                                  [REF_DOWN] = maybe(dense, c->mlp, h, c, c->all_bias)},
                       .experts = experts_new(c),
                       .shift1 = zeros(layer_norm, h),
                       .shift2 = zeros(layer_norm, h),
                       .d_shift1 = zeros(layer_norm && all, h),
                       .d_shift2 = zeros(layer_norm && all, h),
                       .norm1 = zeros(before, h),
                       .norm2 = zeros(before, h),
                       .d_norm1 = zeros(before && all, h),
                       .d_norm2 = zeros(before && all, h),
                       .behind1 = zeros(behind, h),
                       .behind2 = zeros(behind, h),
                       .d_behind1 = zeros(behind && all, h),
                       .d_behind2 = zeros(behind && all, h),
                       .q_norm = zeros(norm, q_norm),
                       .k_norm = zeros(norm, k_norm),
                       .d_q_norm = zeros(norm && all, q_norm),
                       .d_k_norm = zeros(norm && all, k_norm),
                       .rotary = !rotates                         ? NULL
                                 : windowed && c->local_theta > 0 ? &m->local_rotary
                                                                  : &m->rotary,
                       .window = windowed ? c->window : 0};
}

static void fill(const ref_model *m) {
    int count;
    ref_tensor *all = tensors_of(m, &count);
    for (int k = 0; k < count; k++) {
        const char *name = all[k].name;
        double amplitude = strstr(name, "embed_tokens.weight") ? 2
                           : strstr(name, "norm")              ? 1
                                                               : 0.5,
               offset = 0;
        if (strstr(name, "norm") && strstr(name, ".bias") == NULL) offset = 1;
        if (strstr(name, "lora_B") || strstr(name, "magnitude")) amplitude = 0.25;
        for (long i = 0; i < all[k].n; i++) all[k].p[i] = offset + amplitude * ref_formula(name, i);
    }
    free(all);
}

/* The rows' length of W alone, on top of what the formula put there. */
static void add_row_norms(ref_linear *l) {
    for (int o = 0; o < l->out && l->m != NULL; o++) {
        double sum = 0;
        for (int i = 0; i < l->in; i++) sum += pow(l->w[(size_t)o * l->in + i], 2);
        l->m[o] += sqrt(sum);
    }
}

static double or_else(double x, double otherwise) {
    return x != 0 ? x : otherwise;
}

/* Elements of a head that rotate. */
static int rotated(const ref_tiny *c) {
    return (int)(c->head_dim * or_else(c->partial, 1));
}

static ref_rotary rotary_new(const ref_tiny *c) {
    return (ref_rotary){.inv_freq = zeros(true, c->head_dim / 2),
                        .half = rotated(c) / 2,
                        .magnitude = or_else(c->magnitude, 1)};
}

ref_model *ref_tiny_new(const ref_tiny *c) {
    ref_model *m = calloc(1, sizeof *m);
    ref_block *blocks = calloc((size_t)c->layers, sizeof *blocks);
    if (m == NULL || blocks == NULL) abort();
    bool all = c->train_all;
    ref_tiny ends = *c; /* embedding and head have no magnitudes */
    ends.dora = false;
    ends.pool = 0;
    *m = (ref_model){.vocab = c->vocab,
                     .hidden = c->hidden,
                     .layers = c->layers,
                     .heads = c->heads,
                     .kv_heads = c->kv_heads,
                     .head_dim = c->head_dim,
                     .mlp = c->mlp,
                     .eps = c->eps,
                     .fused = c->fused,
                     .plain = c->plain,
                     .one = c->one_plus ? 1 : 0,
                     .gelu = c->gelu,
                     .wide_norm = c->wide_norm,
                     .norms_behind = c->sandwich || c->behind,
                     .embedding_scale = or_else(c->embedding_scale, 1),
                     .residual_scale = or_else(c->residual_scale, 1),
                     .attention_scale = or_else(c->attention_scale, 1 / sqrt(c->head_dim)),
                     .logit_scale = or_else(c->logit_scale, 1),
                     .attention_cap = c->attention_cap,
                     .logit_cap = c->logit_cap,
                     .rotary = rotary_new(c),
                     .local_rotary = rotary_new(c),
                     .growth = c->growth,
                     .step = c->step,
                     .embed = linear_new(c->hidden, c->vocab, &ends, c->end_rank, false),
                     .blocks = blocks,
                     .norm = zeros(true, c->hidden),
                     .d_norm = zeros(all, c->hidden),
                     .shift = zeros(c->layer_norm, c->hidden),
                     .d_shift = zeros(c->layer_norm && all, c->hidden)};
    if (!c->tied) m->head = linear_new(c->hidden, c->vocab, &ends, c->end_rank, false);
    for (int i = 0; i < c->layers; i++) blocks[i] = block_new(c, m, i);
    if (c->llama3 != NULL)
        ref_rope_llama3(m->rotary.inv_freq, c->head_dim, c->theta, c->llama3);
    else if (c->yarn != NULL)
        ref_rope_yarn(m->rotary.inv_freq, c->head_dim, c->theta, c->yarn);
    else
        ref_rope_default(m->rotary.inv_freq, rotated(c), c->theta);
    for (int j = 0; c->divisor != NULL && j < m->rotary.half; j++) m->rotary.inv_freq[j] /= c->divisor[j];
    ref_rope_default(m->local_rotary.inv_freq, c->head_dim, or_else(c->local_theta, c->theta));
    fill(m);
    for (int i = 0; i < c->layers; i++)
        for (int k = 0; k < REF_LINEARS; k++) add_row_norms(&blocks[i].linear[k]);
    return m;
}

void ref_tiny_free(ref_model *m) {
    if (m == NULL) return;
    int count;
    ref_tensor *all = tensors_of(m, &count);
    for (int k = 0; k < count; k++) {
        free(all[k].p);
        free(all[k].g);
    }
    for (int i = 0; i < m->layers; i++) {
        free(m->blocks[i].experts.gate);
        free(m->blocks[i].experts.up);
        free(m->blocks[i].experts.down);
    }
    free(all);
    free(m->rotary.inv_freq);
    free(m->local_rotary.inv_freq);
    free(m->blocks);
    free(m);
}
