/* tests/tiny_net.h - a small model of ref/ as graft's own: the same weights in f32 or quantized, the same
 * adapter, the same batch, so that both can be run and compared. */
#ifndef TINY_NET_H
#define TINY_NET_H
#include "model/model.h"
#include "net/runtime.h"
#include "ref/ref.h"
#include "weights/affine.h"

/* Rows that share a pack, the last one may have fewer; 1: none do. */
static int tiny_per_pack = 1;

typedef struct tiny_net {
    ref_tiny spec;
    ref_model *ref;
    gr_runtime rt;
    float *params;
    gr_gradients gradients;
    const gr_dropout *dropout;
    void *owned[2048]; /* weights' memory */
    int count;
} tiny_net;

static inline void *tiny_keep(tiny_net *n, size_t bytes) {
    void *p = calloc(1, bytes + 64);
    assert_non_null(p);
    assert_in_range(n->count, 0, 2047);
    return n->owned[n->count++] = p;
}

static inline float *tiny_floats(tiny_net *n, const double *x, long count) {
    if (!x) return NULL;
    float *f = tiny_keep(n, (size_t)count * sizeof *f);
    for (long i = 0; i < count; i++) f[i] = (float)x[i];
    return f;
}

/* bits 0: f32. Quantized: the reference then gets the dequantized values, so that both have the same weights.
 */
static inline gr_mat tiny_mat(tiny_net *n, double *w, int rows, int cols, int bits, int group) {
    float *f = tiny_floats(n, w, (long)rows * cols);
    gr_mat m = {
        .layout = GR_DENSE, .dtype = GR_F32, .rows = rows, .cols = cols, .ld = cols, .data = f, .alpha = 1};
    if (!bits) return m;
    size_t row = (size_t)gr_affine_row_bytes(cols, bits), groups = (size_t)(rows * (cols / group));
    uint8_t *codes = tiny_keep(n, row * (size_t)rows);
    float *scales = tiny_keep(n, groups * sizeof(float)), *biases = tiny_keep(n, groups * sizeof(float));
    gr_affine_quantize(codes, scales, biases, f, rows, cols, bits, group, GR_F32);
    gr_affine_dequantize(f, codes, scales, biases, rows, cols, bits, group, GR_F32);
    for (long i = 0; i < (long)rows * cols; i++) w[i] = (double)f[i];
    return (gr_mat){.layout = GR_AFFINE,
                    .dtype = GR_F32,
                    .bits = bits,
                    .group = group,
                    .rows = rows,
                    .cols = cols,
                    .data = codes,
                    .scales = scales,
                    .biases = biases,
                    .alpha = 1};
}

/* A row of the table with those traits of it that code asks for by their bit. */
static inline const char *tiny_arch(const ref_tiny *s) {
    if (s->sandwich) return s->qk_norm ? "gemma3_text" : "gemma2";
    if (s->behind) return "olmo2";
    if (s->fused) return "phi3";
    if (s->experts) return s->wide_norm ? "olmoe" : "qwen3_moe";
    if (s->layer_norm) return s->plain ? "starcoder2" : "stablelm";
    return s->qk_norm ? "qwen3" : s->qkv_bias ? "qwen2" : "llama";
}

static inline const float *tiny_used(tiny_net *n, const gr_model *m, gr_role role, const float *norm) {
    int64_t count, none;
    if (!gr_norm_differs(&m->config)) return norm;
    gr_role_shape(role, &m->config, &count, &none);
    float *used = tiny_keep(n, (size_t)count * sizeof *used);
    gr_norm_used(used, norm, &m->config, role);
    return used;
}

static inline void tiny_norm(tiny_net *n, gr_model *m, int layer, gr_role role, const double *norm) {
    int64_t count, none;
    if (!norm) return;
    gr_role_shape(role, &m->config, &count, &none);
    m->layer[layer].norm[role] = tiny_floats(n, norm, (long)count);
    m->layer[layer].used_norm[role] = tiny_used(n, m, role, m->layer[layer].norm[role]);
}

/* ref's linear of that role; what stands in another's place is under its number. */
static inline ref_linear *tiny_linear(ref_block *b, gr_role role) {
    return &b->linear[gr_role_table[role].number];
}

/* A mixture's router, and its experts: each alone, or where they are quantized, in one matrix. */
static inline void tiny_experts(tiny_net *n, gr_model *m, int l, int bits, int group) {
    ref_experts *e = &n->ref->blocks[l].experts;
    ref_linear *each[GR_EXPERT_LINEARS] = {e->gate, e->up, e->down};
    if (!e->count) return;
    m->layer[l].linear[GR_ROUTER] = tiny_mat(n, e->router.w, e->count, n->spec.hidden, 0, 0);
    for (int k = 0; k < GR_EXPERT_LINEARS; k++) {
        int out = each[k]->out, in = each[k]->in;
        long own = (long)out * in;
        double *all = calloc((size_t)(own * e->count), sizeof *all);
        const void **at = tiny_keep(n, (size_t)e->count * sizeof *at);
        assert_non_null(all);
        for (int i = 0; i < e->count; i++) memcpy(all + i * own, each[k][i].w, (size_t)own * sizeof *all);
        gr_mat mat = tiny_mat(n, all, out * e->count, in, bits, group);
        for (int i = 0; i < e->count; i++) {
            memcpy(each[k][i].w, all + i * own, (size_t)own * sizeof *all);
            at[i] = (const float *)mat.data + i * own;
        }
        if (!bits) mat.data = NULL, m->layer[l].expert[k] = at;
        m->layer[l].linear[GR_EXPERT_GATE + k] = mat;
        free(all);
    }
}

static inline gr_model *tiny_model(tiny_net *n, int bits, int group) {
    const ref_tiny *s = &n->spec;
    gr_model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->config = (gr_model_config){.arch = gr_arch_find(tiny_arch(s)),
                                  .hidden = s->hidden,
                                  .layers = s->layers,
                                  .heads = s->heads,
                                  .kv_heads = s->kv_heads,
                                  .head_dim = s->head_dim,
                                  .mlp = s->mlp,
                                  .vocab = s->vocab,
                                  .norm_eps = s->eps,
                                  .tied = s->tied,
                                  .experts = s->experts,
                                  .experts_used = s->experts_used,
                                  .experts_normed = s->experts_normed,
                                  .qkv_bias = s->qkv_bias || s->all_bias,
                                  .qk_norm = s->qk_norm,
                                  .o_bias = s->all_bias,
                                  .mlp_bias = s->all_bias,
                                  .rotary = 2 * n->ref->rotary.half,
                                  .activation = s->gelu ? GR_GELU_TANH : GR_SILU,
                                  .embedding_scale = n->ref->embedding_scale,
                                  .residual_scale = n->ref->residual_scale,
                                  .attention_scale = n->ref->attention_scale,
                                  .logit_scale = n->ref->logit_scale,
                                  .attention_cap = s->attention_cap,
                                  .logit_cap = s->logit_cap};
    m->layer = calloc((size_t)s->layers, sizeof *m->layer);
    for (int i = 0; i < GR_ROPES; i++) {
        const ref_rotary *r = i && !(s->growth > 0) ? &n->ref->local_rotary : &n->ref->rotary;
        m->config.rope[i].magnitude = r->magnitude;
        if (i) m->config.rope[i].growth = s->growth, m->config.rope[i].step = s->step;
        m->inv_freq[i] = calloc((size_t)r->half, sizeof(double));
        memcpy(m->inv_freq[i], r->inv_freq, (size_t)r->half * sizeof(double));
    }
    for (int l = 0; l < s->layers; l++) {
        ref_block *b = &n->ref->blocks[l];
        gr_layer *layer = &m->layer[l];
        layer->window = b->window;
        m->config.rope_of[l] = (int8_t)(!b->rotary ? GR_NO_ROPE : b->rotary == &n->ref->local_rotary ? 1 : 0);
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            if (!gr_role_exists(role, &m->config) || role >= GR_ROUTER) continue;
            ref_linear *from = tiny_linear(b, role);
            layer->linear[role] = tiny_mat(n, from->w, from->out, from->in, bits, group);
            layer->bias[role] = tiny_floats(n, from->bias, from->out);
        }
        tiny_experts(n, m, l, bits, group);
        layer->bias[GR_INPUT_LAYERNORM] = tiny_floats(n, b->shift1, s->hidden);
        layer->bias[GR_POST_ATTENTION_LAYERNORM] = tiny_floats(n, b->shift2, s->hidden);
        const double *norms[GR_NORM_PLACES] = {b->norm1, b->behind1, b->norm2, b->behind2};
        for (gr_norm_place p = 0; p < GR_NORM_PLACES; p++)
            tiny_norm(n, m, l, gr_norm_role(&m->config, p), norms[p]);
        tiny_norm(n, m, l, GR_Q_NORM, b->q_norm);
        tiny_norm(n, m, l, GR_K_NORM, b->k_norm);
    }
    m->embed = tiny_mat(n, n->ref->embed.w, s->vocab, s->hidden, 0, 0);
    m->head = s->tied ? m->embed : tiny_mat(n, n->ref->head.w, s->vocab, s->hidden, 0, 0);
    m->final_norm = tiny_floats(n, n->ref->norm, s->hidden);
    m->final_bias = tiny_floats(n, n->ref->shift, s->hidden);
    m->used_final_norm = tiny_used(n, m, GR_NORM, m->final_norm);
    return m;
}

/* What ref calls a trained tensor; its memory. */
static inline ref_tensor tiny_ref_part(const tiny_net *n, const gr_param *p, int64_t expert) {
    static ref_tensor all[512];
    char name[128];
    int count = ref_model_tensors(NULL, n->ref);
    assert_in_range(count, 1, 512);
    ref_model_tensors(all, n->ref);
    gr_param_name(name, sizeof name, p);
    if (gr_role_expert(p->role)) { /* ref names each */
        gr_expert_name(name, sizeof name, p->role, p->layer, expert);
        strcat(name, p->kind == GR_PARAM_A ? ".lora_A" : ".lora_B");
    }
    char *magnitude = strstr(name, ".magnitude");
    if (magnitude) strcpy(magnitude, ".lora_magnitude_vector");
    for (int i = 0; i < count; i++)
        if (strcmp(all[i].name, name) == 0) {
            assert_int_equal(all[i].n, gr_param_count(p) / p->stack);
            return all[i];
        }
    fail_msg("ref has no %s", name);
    return all[0];
}

static inline ref_tensor tiny_ref_tensor(const tiny_net *n, const gr_param *p) {
    assert_int_equal(p->stack, 1);
    return tiny_ref_part(n, p, 0);
}

/* Copies what trains from ref into graft's parameter vector. What takes the place of a tensor of the base
 * gets other values than that: whoever reads the base's is found out. */
static inline void tiny_params(tiny_net *n) {
    const gr_tuning *tuning = n->rt.tuning;
    for (size_t i = 0; i < tuning->param_count; i++) {
        const gr_param *p = &tuning->params[i];
        for (int64_t e = 0; e < p->stack; e++) {
            ref_tensor t = tiny_ref_part(n, p, e);
            bool instead = p->kind == GR_PARAM_WEIGHT || p->kind == GR_PARAM_BIAS;
            for (long k = 0; instead && k < t.n; k += 3) t.p[k] /= 2; /* exact in every format */
            for (long k = 0; k < t.n; k++) n->params[p->at + e * t.n + k] = (float)t.p[k];
        }
    }
}

/* What trains. Where tensors train themselves the spec has train_all. */
enum {
    TINY_LINEARS = 1, /* adapters on the blocks' linears, of spec.rank; on experts of spec.expert_rank */
    TINY_ENDS = 2,    /* on embedding and head, of spec.end_rank */
    TINY_NORMS = 4,
    TINY_EMBED = 8, /* the embedding itself */
    TINY_HEAD = 16,
    TINY_LAST = 32 /* of the blocks, only the last */
};

static inline bool tiny_trains_itself(gr_role role, int what) {
    switch (role) {
    case GR_EMBED_TOKENS: return what & TINY_EMBED;
    case GR_LM_HEAD: return what & TINY_HEAD;
    case GR_NORM:
    case GR_INPUT_LAYERNORM:
    case GR_POST_ATTENTION_LAYERNORM:
    case GR_PRE_FEEDFORWARD_LAYERNORM:
    case GR_POST_FEEDFORWARD_LAYERNORM:
    case GR_Q_NORM:
    case GR_K_NORM: return what & TINY_NORMS;
    default: return false;
    }
}

static inline void tiny_choose(tiny_net *n, int what) {
    const gr_model_config *config = &n->rt.model->config;
    for (gr_role role = 0; role < GR_ROLES; role++)
        for (int64_t l = 0; l < (gr_role_table[role].in_block ? config->layers : 1); l++) {
            gr_tuned *x = gr_tuning_at(n->rt.tuning, role, l);
            if (!gr_role_exists(role, config)) continue;
            if (what & TINY_LAST && gr_role_table[role].in_block && l + 1 < config->layers) continue;
            if (role < GR_ROUTER && what & TINY_LINEARS) x->rank = n->spec.rank;
            if (gr_role_expert(role) && what & TINY_LINEARS) x->rank = n->spec.expert_rank;
            if ((role == GR_EMBED_TOKENS || role == GR_LM_HEAD) && what & TINY_ENDS)
                x->rank = n->spec.end_rank;
            x->train_weight = tiny_trains_itself(role, what);
            x->train_bias = role >= GR_LINEARS && x->train_weight;
            x->scale = (float)n->spec.scale;
        }
}

/* The model with a tuning that trains nothing yet. */
static inline void tiny_start(tiny_net *n, ref_tiny spec, int bits, int group, const char *isa, bool fp32,
                              int threads) {
    graft_error err = {0};
    memset(n, 0, sizeof *n);
    n->spec = spec;
    n->ref = ref_tiny_new(&spec);
    setenv("GRAFT_ISA", isa, 1);
    if (gr_runtime_init(&n->rt, tiny_model(n, bits, group), threads, fp32, &err) != GRAFT_OK)
        fail_msg("%s", err.what);
    assert_int_equal(gr_tuning_new(&n->rt.tuning, &n->rt.model->config, &err), GRAFT_OK);
    n->rt.tuning->scale = spec.scale;
}

/* Lays out what the tuning's wishes say, with ref's values. */
static inline void tiny_place(tiny_net *n) {
    graft_error err = {0};
    assert_int_equal(gr_tuning_place(n->rt.tuning, &n->rt.model->config, &err), GRAFT_OK);
    size_t bytes = (size_t)n->rt.tuning->parameters * sizeof(float);
    n->params = tiny_keep(n, bytes);
    n->gradients.count = 8;
    for (int i = 0; i < 8; i++) n->gradients.slots[i] = tiny_keep(n, bytes);
    tiny_params(n);
    n->rt.params = n->params;
}

static inline void tiny_open_with(tiny_net *n, ref_tiny spec, int bits, int group, const char *isa, bool fp32,
                                  int threads, int what) {
    tiny_start(n, spec, bits, group, isa, fp32, threads);
    tiny_choose(n, what);
    tiny_place(n);
}

static inline void tiny_open(tiny_net *n, ref_tiny spec, int bits, int group, const char *isa, bool fp32,
                             int threads) {
    tiny_open_with(n, spec, bits, group, isa, fp32, threads, TINY_LINEARS);
}

static inline void tiny_close(tiny_net *n) {
    gr_model *m = n->rt.model;
    n->rt.model = NULL; /* made by hand: not gr_model_free's */
    gr_runtime_free(&n->rt);
    free(m->layer);
    for (int i = 0; i < GR_ROPES; i++) free(m->inv_freq[i]);
    free(m);
    ref_tiny_free(n->ref);
    for (int i = 0; i < n->count; i++) free(n->owned[i]);
}

/* Forward, loss and backward of the batch cut into slices of `at_once` packs (of tiny_per_pack rows);
 * gradient sum into `grad`. */
static inline double tiny_step(tiny_net *n, const ref_batch *b, int at_once, gr_recompute recompute,
                               float *grad) {
    graft_error err = {0};
    int longest = 0, per = tiny_per_pack, packs = (b->rows + per - 1) / per;
    double loss = 0;
    for (int r = 0; r < b->rows; r++)
        longest = (int)gr_max_i64(longest, b->cu_seqlens[r + 1] - b->cu_seqlens[r]);
    gr_net_config config = {
        .tokens = b->tokens, .longest = longest, .training = true, .recompute = recompute};
    assert_int_equal(gr_runtime_bind(&n->rt, &config, &err), GRAFT_OK);
    for (int p = 0; p < packs; p += at_once) {
        int count = (int)gr_min_i64(at_once, packs - p), r = p * per,
            rows = (int)gr_min_i64(count * per, b->rows - r);
        int64_t start[16], segment[16];
        for (int i = 0; i <= rows; i++) segment[i] = b->cu_seqlens[r + i] - b->cu_seqlens[r];
        for (int i = 0; i <= count; i++) start[i] = segment[gr_min_i64(i * per, rows)];
        gr_batch batch = {.ids = (const int32_t *)b->ids + b->cu_seqlens[r],
                          .target = (const int32_t *)b->target + b->cu_seqlens[r],
                          .start = start,
                          .nrows = count,
                          .tokens = segment[rows],
                          .first = (uint64_t)p,
                          .segment = per > 1 ? segment : NULL,
                          .nsegments = per > 1 ? rows : 0,
                          .dropout = n->dropout};
        gr_net_forward(&n->rt.net, &batch);
        int64_t targets = gr_net_loss(&n->rt.net, &batch, &n->gradients);
        for (int64_t i = 0; i < targets; i++) loss += n->rt.net.targets[i].loss;
        gr_net_backward(&n->rt.net, &batch, &n->gradients);
    }
    float *at[GR_TREE_LEVELS];
    gr_gradients_levels(&n->gradients, (uint64_t)packs, at);
    for (int64_t i = 0; i < n->rt.tuning->parameters; i++) {
        float sum = 0;
        bool first = true;
        for (int level = 0; packs >> level; level++)
            if (packs >> level & 1) {
                sum = first ? at[level][i] : at[level][i] + sum;
                first = false;
            }
        grad[i] = sum;
    }
    return loss;
}

#endif
