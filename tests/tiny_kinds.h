/* tests/tiny_kinds.h - the small models of tests/tiny_net.h with each architecture's traits, batches of rows,
 * and every kind of training that a linear can have. */
#ifndef TINY_KINDS_H
#define TINY_KINDS_H
#include "layers/merge.h"
#include "tests/each_isa.h"
#include "tests/tiny_net.h"

static const ref_rope_llama3_scaling llama3 = {8, 1, 4, 32};

static inline ref_tiny llama(void) {
    return (ref_tiny){.vocab = 130,
                      .hidden = 64,
                      .layers = 2,
                      .heads = 4,
                      .kv_heads = 2,
                      .head_dim = 16,
                      .mlp = 128,
                      .rank = 4,
                      .scale = 2,
                      .eps = 1e-5,
                      .theta = 10000};
}

/* Whole families of traits, as their models have them. */
enum {
    FAMILIES = 10,
    GEMMA2 = FAMILIES,
    GEMMA3,
    SMOLLM3,
    GRANITE,
    OLMO2,
    YARN,
    PHI,
    STABLELM,
    STARCODER2,
    QWEN3_MOE,
    OLMOE,
    EVERY_EXPERT, /* takes part of each token */
    FAMILIES_END,
    /* one does, with all of the weight: of equals bf16 may take another than f32, so that it is computed in
     * f32 alone */
    ONE_EXPERT = FAMILIES_END
};

static inline void family(ref_tiny *s, int which) {
    bool gemma = which == GEMMA2 || which == GEMMA3;
    s->tied = gemma;
    s->one_plus = s->gelu = s->sandwich = gemma;
    if (gemma) {
        s->layers = 3, s->window = 5, s->pattern = 2, s->head_dim = 32;
        s->embedding_scale = 16, s->attention_scale = 1 / sqrt(24);
    }
    if (which == GEMMA2) s->attention_cap = 4, s->logit_cap = 8;
    if (which == GEMMA3) s->qk_norm = true, s->local_theta = 100;
    if (which == SMOLLM3) s->rope_interval = 2;
    if (which == GRANITE)
        s->embedding_scale = 6, s->residual_scale = 0.25, s->attention_scale = 0.125, s->logit_scale = 0.25;
    if (which == OLMO2) s->behind = s->wide_norm = s->qk_norm = true;
    if (which == YARN) s->magnitude = 1.1, s->growth = 0.2, s->step = 5;
    if (which == PHI) s->fused = true, s->partial = 0.75, s->window = 5, s->kv_heads = 1;
    if (which == STABLELM) s->layer_norm = s->qkv_bias = true, s->partial = 0.25;
    if (which == QWEN3_MOE) {
        s->qk_norm = s->experts_normed = true, s->head_dim = 32;
        s->experts = 6, s->experts_used = 3, s->mlp = 64, s->expert_rank = 3;
    }
    /* .. and one whose experts have no adapters */
    if (which == OLMOE) s->wide_norm = s->qk_norm = true, s->experts = 9, s->experts_used = 2, s->mlp = 64;
    if (which == EVERY_EXPERT) {
        s->wide_norm = s->qk_norm = true;
        s->experts = s->experts_used = 4, s->mlp = 64, s->expert_rank = 2;
    }
    if (which == ONE_EXPERT) {
        s->qk_norm = s->experts_normed = true, s->head_dim = 32;
        s->experts = 5, s->experts_used = 1, s->mlp = 64, s->expert_rank = 2;
    }
    if (which == STARCODER2) s->layer_norm = s->plain = s->gelu = s->all_bias = s->tied = true;
}

static inline ref_tiny traits(int which) {
    ref_tiny s = llama();
    if (which == 1) s.tied = true, s.llama3 = &llama3;
    if (which == 2) s.window = 5;
    if (which == 3) s.qkv_bias = true, s.kv_heads = 1;
    if (which == 4) s.qk_norm = true, s.head_dim = 32;
    if (which == 5) s.window = 150, s.head_dim = 80, s.heads = 2;
    if (which >= FAMILIES) family(&s, which);
    return s;
}

enum { MAX = 400 };
typedef struct rows {
    int cu[8], ids[MAX], mask[MAX], target[MAX];
    ref_batch batch;
} rows;

static inline void make_rows(rows *r, const int *lengths, int count, int vocab) {
    uint32_t x = 12345;
    r->cu[0] = 0;
    for (int i = 0; i < count; i++) r->cu[i + 1] = r->cu[i] + lengths[i];
    for (int t = 0; t < r->cu[count]; t++) {
        x = x * 1664525 + 1013904223;
        r->ids[t] = (int)((x >> 8) % (uint32_t)vocab);
        r->mask[t] = (x >> 4) % 4 != 0;
    }
    ref_targets(r->target, r->ids, r->mask, r->cu, count);
    r->batch = (ref_batch){
        .rows = count, .tokens = r->cu[count], .cu_seqlens = r->cu, .ids = r->ids, .target = r->target};
}

static inline double distance(const double *truth, const float *found, long n, double *norm) {
    double d = 0, w = 0;
    for (long i = 0; i < n; i++) {
        d += (truth[i] - (double)found[i]) * (truth[i] - (double)found[i]);
        w += truth[i] * truth[i];
    }
    *norm = sqrt(w);
    return sqrt(d);
}

/* Every trained tensor within `limit` of its own norm. Of the gradient of k's bias, what all keys of a query
 * have in common cancels, but not the rounding of each. */
static inline void compare_gradients(const tiny_net *n, const float *grad, double limit, const char *what) {
    const gr_tuning *t = n->rt.tuning;
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        double all = 0, off = 0;
        for (int64_t e = 0; e < p->stack; e++) { /* some experts see a token or two: all together count */
            ref_tensor r = tiny_ref_part(n, p, e);
            double norm, d = distance(r.g, grad + p->at + e * r.n, r.n, &norm);
            all = hypot(all, norm), off = hypot(off, d);
        }
        bool cancels = p->kind == GR_PARAM_BIAS && p->role == GR_K_PROJ;
        if (!(off <= (cancels ? 4 * limit : limit) * all) || all == 0)
            fail_msg("%s: %s: off by %.2e of %.2e", what, tiny_ref_part(n, p, 0).name, off, all);
    }
}

/* More blocks round more often, and so does each norm behind a branch, twice a block there and back; the
 * errors add as a random walk. 1 for two plain blocks. */
static inline double rounding_growth(const ref_tiny *s) {
    return sqrt(s->layers * (s->sandwich || s->behind ? 16 : 12) / 24.0);
}

/* Loss and gradients of one step against ref's. fp32: a value passes L*12 roundings of products of length K;
 * relative error of a tensor's norm about sqrt(K) * 2^-24 * depth = 1e-5 for K 128 and depth 60; 1e-4 leaves
 * room for cancellation. bf16: storage rounds each activation by 2^-9 relative; about 12 roundings per block
 * in both directions, two blocks: sqrt(48) * 2^-9 = 1.4e-2 of a tensor's norm; 6e-2 leaves room for the
 * adapters' small products. A wrong formula shows at 1e-1 or more. */
static inline void compare_step(tiny_net *n, const rows *r, bool fp32, const char *what) {
    ref_run *run = ref_run_new(n->ref, r->batch.tokens);
    double truth = ref_model_forward(run, n->ref, &r->batch);
    ref_model_backward(run, n->ref, &r->batch);
    float *grad = tiny_keep(n, (size_t)n->rt.tuning->parameters * sizeof *grad);
    int at_once = gr_net_one_row(&n->rt.model->config, n->rt.tuning) ? 1 : r->batch.rows;
    double loss = tiny_step(n, &r->batch, at_once, GR_RECOMPUTE_NONE, grad),
           limit = fp32 ? 1e-4 : 6e-2 * rounding_growth(&n->spec);
    if (!(fabs(loss - truth) <= (fp32 ? 2e-6 : 2e-3) * truth))
        fail_msg("%s: loss %.9g, ref %.9g", what, loss, truth);
    compare_gradients(n, grad, limit, what);
    ref_run_free(run);
}

/* ---- kinds of training */

enum { RANKS, DORA, BIASES, WEIGHTS, DROPOUT, EVERYTHING, POOLED, QAT, KINDS };
enum { POOL = 32 };
static const gr_dropout drop = {.p = 0.3, .seed = 0x1234567890ABCDEFu, .update = 3};

static inline uint32_t fold(uint32_t h, uint32_t v) {
    uint32_t x = (h ^ v) + 0x9E3779B9u;
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

/* The mask as layers/dropout.h defines it, for ref: a pack counts as one row. */
static inline void set_mask(tiny_net *n, const rows *r, int l, int group, ref_linear *to) {
    double *mask = tiny_keep(n, (size_t)(r->batch.tokens * to->in) * sizeof *mask);
    for (int j = 0; j < r->batch.rows; j++) {
        uint32_t site = fold(fold(0, (uint32_t)drop.seed), (uint32_t)(drop.seed >> 32));
        int pack = j / tiny_per_pack, first = r->cu[pack * tiny_per_pack];
        site = fold(fold(fold(site, (uint32_t)drop.update), (uint32_t)pack), (uint32_t)(4 * l + group));
        for (int t = r->cu[j]; t < r->cu[j + 1]; t++)
            for (int i = 0; i < to->in; i++)
                mask[t * to->in + i] =
                    fold(fold(site, (uint32_t)(t - first)), (uint32_t)i) < (uint32_t)(drop.p * 4294967296.0)
                        ? 0
                        : 1 / (1 - drop.p);
    }
    to->drop = mask;
}

/* What trains of linear i of layer l under that kind. */
static inline void wish(gr_tuned *x, int kind, int l, int i) {
    static const int ranks[7] = {4, 2, 3, 0, 4, 1, 2};
    x->rank = kind == RANKS || kind == EVERYTHING ? ranks[i]
              : kind == BIASES                    ? i == 6
              : kind == WEIGHTS                   ? 0
              : kind == POOLED                    ? 8
                                                  : 4;
    x->scale = kind == RANKS || kind == EVERYTHING ? 2 + 0.5f * (float)i : 2;
    x->pool = kind == POOLED ? POOL : 0;
    if (x->pool) x->scale /= 4; /* sums are large: less for roundings to be multiplied by */
    x->dora = kind == DORA || (kind == EVERYTHING && i % 2 == 0);
    x->train_bias = kind == BIASES || kind == EVERYTHING;
    x->train_weight = kind == WEIGHTS || (kind == EVERYTHING && i == 3);
    if (kind == BIASES && l == 1) x->rank = 0; /* a block whose only gradients are biases' */
}

/* With straight-through gradients everything is as if the base were W_q - B A: then W_q is what forward sees,
 * and A and B have LoRA's gradients. */
static inline void quantized_sums(tiny_net *n) {
    n->rt.tuning->qat = true;
    for (int l = 0; l < n->spec.layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            const gr_mat *w = &n->rt.model->layer[l].linear[role];
            const gr_tuned *x = &n->rt.tuning->block[l][role];
            if (w->layout != GR_AFFINE || !x->rank) continue;
            ref_linear *to = tiny_linear(&n->ref->blocks[l], role);
            const gr_merge merge = {.a = n->params + x->a,
                                    .b = n->params + x->b,
                                    .rank = x->rank,
                                    .in = w->cols,
                                    .out = w->rows,
                                    .scale = x->scale};
            float row[512], zero[512];
            uint8_t codes[512];
            float scales[16], biases[16];
            assert_in_range(w->cols, 1, 512);
            memset(zero, 0xff, sizeof zero); /* differs from every row */
            for (int64_t o = 0; o < w->rows; o++) {
                gr_mat_row(row, w, o, 0, w->cols);
                gr_merge_row(row, &merge, o);
                gr_affine_requantize(codes, scales, biases, row, zero, w->cols, w->bits, w->group, GR_F32);
                gr_affine_dequantize(row, codes, scales, biases, 1, w->cols, w->bits, w->group, GR_F32);
                for (int64_t c = 0; c < w->cols; c++) {
                    double delta = 0;
                    for (int64_t r = 0; r < x->rank; r++)
                        delta += to->b[r * w->rows + o] * to->a[r * w->cols + c];
                    to->w[o * w->cols + c] = (double)row[c] - to->scale * delta;
                }
            }
        }
}

/* A model with those traits under that kind of training. */
static inline void open_traits(tiny_net *n, rows *r, const int *lengths, int count, int which, int kind,
                               int bits, const char *isa, bool fp32, int threads) {
    ref_tiny spec = traits(which);
    spec.train_all = true;
    spec.dora = kind == DORA || kind == EVERYTHING;
    spec.expert_rank = 0; /* other kinds of training are not theirs */
    /* Where two probabilities are nearer than bf16 can tell, another expert is picked than in ref, and all
     * that follows differs: picking is compared in fp32, and here every expert works. */
    if (!fp32 && spec.experts) spec.experts_used = spec.experts;
    if (kind == POOLED) spec.pool = POOL, spec.rank = 8; /* fewer numbers may be next to zero as a whole */
    tiny_start(n, spec, bits, 64, isa, fp32, threads);
    make_rows(r, lengths, count, spec.vocab);
    for (int l = 0; l < spec.layers; l++)
        for (int g = 0; g < GR_GROUPS; g++)
            for (int k = 0; k < gr_group_table[g].count; k++) {
                gr_role role = gr_group_table[g].role[k];
                int i = gr_role_table[role].number;
                gr_tuned *x = &n->rt.tuning->block[l][role];
                ref_linear *to = tiny_linear(&n->ref->blocks[l], role);
                if (!gr_role_exists(role, &n->rt.model->config) || gr_role_expert(role)) continue;
                wish(x, kind, l, i);
                to->rank = (int)x->rank;
                to->scale = (double)x->scale;
                if (!x->dora) free(to->m), free(to->dm), to->m = to->dm = NULL;
                if (kind == DROPOUT || kind == EVERYTHING || kind == POOLED) set_mask(n, r, l, g, to);
            }
    n->rt.tuning->pool = spec.pool;
    if (kind == DROPOUT || kind == EVERYTHING || kind == POOLED)
        n->rt.tuning->dropout = drop.p, n->dropout = &drop;
    tiny_place(n);
    if (kind == QAT) quantized_sums(n);
}

static inline void open_kind(tiny_net *n, rows *r, const int *lengths, int count, int kind, int bits,
                             const char *isa, bool fp32, int threads) {
    int which = kind == BIASES || kind == EVERYTHING ? 3 : 0; /* which has biases */
    open_traits(n, r, lengths, count, which, kind, bits, isa, fp32, threads);
}

/* A way of computing a step that changes no bit of it. */
typedef struct step_way {
    int threads, at_once;
    gr_recompute recompute;
} step_way;

static inline void same_bits_each_way(const int *lengths, int count, int kind, int bits, const char *isa,
                                      bool fp32, const step_way *ways, size_t nways) {
    float *first = NULL;
    double first_loss = 0;
    for (size_t w = 0; w < nways; w++) {
        tiny_net n;
        rows r;
        open_kind(&n, &r, lengths, count, kind, bits, isa, fp32, ways[w].threads);
        size_t bytes = (size_t)n.rt.tuning->parameters * sizeof(float);
        float *grad = malloc(bytes);
        assert_non_null(grad);
        double loss = tiny_step(&n, &r.batch, ways[w].at_once, ways[w].recompute, grad);
        if (w == 0) first = grad, first_loss = loss;
        if (w && (memcmp(first, grad, bytes) != 0 || loss != first_loss))
            fail_msg("%s fp32 %d, kind %d: way %zu gives other bits", isa, fp32, kind, w);
        if (w) free(grad);
        tiny_close(&n);
    }
    free(first);
}

#endif
