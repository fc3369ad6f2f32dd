/* The decoder of Llama and its relatives: what differs between them is data in ref_model. */
#include "ref/ref.h"
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static double *zeros(long n) {
    double *p = calloc((size_t)n + 1, sizeof *p);
    if (p == NULL) abort();
    return p;
}

static void add(double *y, const double *x, long n) {
    for (long i = 0; i < n; i++) y[i] += x[i];
}

static void copy(double *y, const double *x, long n) {
    memcpy(y, x, (size_t)n * sizeof *y);
}

int ref_targets(int *target, const int *ids, const int *mask, const int *cu_seqlens, int rows) {
    int count = 0;
    for (int b = 0; b < rows; b++)
        for (int t = cu_seqlens[b]; t < cu_seqlens[b + 1]; t++) {
            bool trained = t + 1 < cu_seqlens[b + 1] && mask[t + 1];
            target[t] = trained ? ids[t + 1] : -1;
            count += trained;
        }
    return count;
}

ref_run *ref_run_new(const ref_model *m, int tokens) {
    ref_run *run = calloc(1, sizeof *run);
    ref_saved *saved = calloc((size_t)m->layers + 1, sizeof *saved);
    int *pos = calloc((size_t)tokens + 1, sizeof *pos);
    if (run == NULL || saved == NULL || pos == NULL) abort();
    long T = tokens, h = T * m->hidden, q = T * m->heads * m->head_dim, kv = T * m->kv_heads * m->head_dim;
    for (int i = 0; i < m->layers; i++) {
        ref_saved *s = &saved[i];
        s->x = zeros(h), s->norm1 = zeros(h), s->x_mid = zeros(h), s->norm2 = zeros(h);
        s->q_raw = zeros(q), s->q = zeros(q), s->attn = zeros(q);
        s->k_raw = zeros(kv), s->k = zeros(kv), s->v = zeros(kv);
        s->branch1 = zeros(h), s->branch2 = zeros(h);
        s->gate = zeros(T * m->mlp), s->up = zeros(T * m->mlp), s->act = zeros(T * m->mlp);
        for (int k = 0; k < REF_LINEARS; k++) s->xa[k] = zeros(T * m->blocks[i].linear[k].rank);
    }
    *run = (ref_run){.layers = m->layers,
                     .tokens = tokens,
                     .saved = saved,
                     .pos = pos,
                     .x_last = zeros(h),
                     .norm_last = zeros(h),
                     .logits = zeros(T * m->vocab),
                     .head_xa = zeros(T * (m->head.in > 0 ? m->head.rank : m->embed.rank))};
    return run;
}

void ref_run_free(ref_run *run) {
    if (run == NULL) return;
    for (int i = 0; i < run->layers; i++) {
        ref_saved *s = &run->saved[i];
        double *all[] = {s->x,     s->norm1, s->q_raw, s->k_raw, s->q,   s->k,       s->v,      s->attn,
                         s->x_mid, s->norm2, s->gate,  s->up,    s->act, s->branch1, s->branch2};
        for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) free(all[k]);
        for (int k = 0; k < REF_LINEARS; k++) free(s->xa[k]);
    }
    free(run->saved);
    free(run->x_last);
    free(run->norm_last);
    free(run->logits);
    free(run->head_xa);
    free(run->pos);
    free(run);
}

static ref_attention attention_of(const ref_model *m, const ref_block *b, const ref_batch *batch) {
    return (ref_attention){.heads = m->heads,
                           .kv_heads = m->kv_heads,
                           .head_dim = m->head_dim,
                           .window = b->window,
                           .rows = batch->rows,
                           .cu_seqlens = batch->cu_seqlens,
                           .scale = m->attention_scale,
                           .cap = m->attention_cap};
}

/* A norm over the whole width; w NULL: none, a copy; b: LayerNorm's bias, NULL: RMSNorm. */
static void norm_forward(double *y, const double *x, const double *w, const double *b, const ref_model *m,
                         int T) {
    if (b != NULL)
        ref_layernorm_forward(y, x, w, b, m->eps, T, m->hidden);
    else if (w != NULL)
        ref_rmsnorm_forward(y, x, w, m->one, m->eps, T, m->hidden);
    else
        copy(y, x, (long)T * m->hidden);
}

static void norm_backward(double *dx, double *dw, double *db, const double *dy, const double *x,
                          const double *w, const double *b, const ref_model *m, int T) {
    if (b != NULL)
        ref_layernorm_backward(dx, dw, db, dy, x, w, m->eps, T, m->hidden);
    else if (w != NULL)
        ref_rmsnorm_backward(dx, dw, dy, x, w, m->one, m->eps, T, m->hidden);
    else
        add(dx, dy, (long)T * m->hidden);
}

/* x += residual_scale * norm(branch) */
static void join(double *x, const double *branch, const double *w, const ref_model *m, int T) {
    long h = (long)T * m->hidden;
    double *y = zeros(h);
    norm_forward(y, branch, w, NULL, m, T);
    for (long i = 0; i < h; i++) x[i] += m->residual_scale * y[i];
    free(y);
}

/* Its backward: the branch's gradient, to be freed. */
static double *branch_gradient(const double *dx, double *dw, const double *branch, const double *w,
                               const ref_model *m, int T) {
    long h = (long)T * m->hidden;
    double *dy = zeros(h), *d = zeros(h);
    for (long i = 0; i < h; i++) dy[i] = m->residual_scale * dx[i];
    norm_backward(d, dw, NULL, dy, branch, w, NULL, m, T);
    free(dy);
    return d;
}

/* Norm of q or k: of each head, or of all as one. */
static void qk_norm_forward(double *y, const double *x, const double *w, const ref_model *m, int T,
                            int heads) {
    int wide = m->wide_norm ? heads : 1;
    if (w != NULL) ref_rmsnorm_forward(y, x, w, m->one, m->eps, T * heads / wide, m->head_dim * wide);
}

/* The tied head is the embedding seen as a linear layer; its gradients land in the embedding's. */
static ref_linear head_of(const ref_model *m) {
    return m->head.in > 0 ? m->head : m->embed;
}

/* Columns of a fused linear's y [T, all]: part [T, n] = y[.., first + ..], or adds there with `back`. */
static void part_of(double *part, double *y, int all, int first, int n, int T, bool back) {
    for (int t = 0; t < T; t++)
        for (int i = 0; i < n; i++) {
            double *whole = &y[(long)t * all + first + i], *own = &part[(long)t * n + i];
            if (back)
                *whole = *own;
            else
                *own = *whole;
        }
}

static void qkv_forward(ref_saved *s, const ref_model *m, const ref_linear *l, int T) {
    int q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim, all = q + 2 * kv;
    if (!m->fused) {
        ref_linear_forward(s->q_raw, s->xa[REF_Q], s->norm1, &l[REF_Q], T);
        ref_linear_forward(s->k_raw, s->xa[REF_K], s->norm1, &l[REF_K], T);
        ref_linear_forward(s->v, s->xa[REF_V], s->norm1, &l[REF_V], T);
        return;
    }
    double *y = zeros((long)T * all);
    ref_linear_forward(y, s->xa[REF_Q], s->norm1, &l[REF_Q], T);
    part_of(s->q_raw, y, all, 0, q, T, false);
    part_of(s->k_raw, y, all, q, kv, T, false);
    part_of(s->v, y, all, q + kv, kv, T, false);
    free(y);
}

static void qkv_backward(double *dnorm, double *dq, double *dk, double *dv, const ref_saved *s,
                         const ref_model *m, const ref_linear *l, int T) {
    int q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim, all = q + 2 * kv;
    if (!m->fused) {
        ref_linear_backward(dnorm, dv, s->norm1, s->xa[REF_V], &l[REF_V], T);
        ref_linear_backward(dnorm, dk, s->norm1, s->xa[REF_K], &l[REF_K], T);
        ref_linear_backward(dnorm, dq, s->norm1, s->xa[REF_Q], &l[REF_Q], T);
        return;
    }
    double *dy = zeros((long)T * all);
    part_of(dq, dy, all, 0, q, T, true);
    part_of(dk, dy, all, q, kv, T, true);
    part_of(dv, dy, all, q + kv, kv, T, true);
    ref_linear_backward(dnorm, dy, s->norm1, s->xa[REF_Q], &l[REF_Q], T);
    free(dy);
}

/* Without gate up's own activation stands for it, times one. */
static void gate_up_forward(ref_saved *s, const ref_model *m, const ref_linear *l, int T) {
    int mlp = m->mlp;
    if (m->fused) {
        double *y = zeros((long)T * 2 * mlp);
        ref_linear_forward(y, s->xa[REF_GATE], s->norm2, &l[REF_GATE], T);
        part_of(s->gate, y, 2 * mlp, 0, mlp, T, false);
        part_of(s->up, y, 2 * mlp, mlp, mlp, T, false);
        free(y);
    } else if (m->plain) {
        ref_linear_forward(s->gate, s->xa[REF_UP], s->norm2, &l[REF_UP], T);
        for (long i = 0; i < (long)T * mlp; i++) s->up[i] = 1;
    } else {
        ref_linear_forward(s->gate, s->xa[REF_GATE], s->norm2, &l[REF_GATE], T);
        ref_linear_forward(s->up, s->xa[REF_UP], s->norm2, &l[REF_UP], T);
    }
}

static void gate_up_backward(double *dnorm, double *dgate, double *dup, const ref_saved *s,
                             const ref_model *m, const ref_linear *l, int T) {
    if (m->fused) {
        double *dy = zeros((long)T * 2 * m->mlp);
        part_of(dgate, dy, 2 * m->mlp, 0, m->mlp, T, true);
        part_of(dup, dy, 2 * m->mlp, m->mlp, m->mlp, T, true);
        ref_linear_backward(dnorm, dy, s->norm2, s->xa[REF_GATE], &l[REF_GATE], T);
        free(dy);
    } else if (m->plain) {
        ref_linear_backward(dnorm, dgate, s->norm2, s->xa[REF_UP], &l[REF_UP], T);
    } else {
        ref_linear_backward(dnorm, dup, s->norm2, s->xa[REF_UP], &l[REF_UP], T);
        ref_linear_backward(dnorm, dgate, s->norm2, s->xa[REF_GATE], &l[REF_GATE], T);
    }
}

/* x [T,hidden] in and out. */
static void block_forward(double *x, ref_saved *s, const ref_model *m, const ref_block *b,
                          const ref_batch *batch, const int *pos) {
    int T = batch->tokens, d = m->head_dim;
    long h = (long)T * m->hidden;
    const ref_linear *l = b->linear;
    ref_attention at = attention_of(m, b, batch);

    copy(s->x, x, h);
    norm_forward(s->norm1, x, b->norm1, b->shift1, m, T);
    qkv_forward(s, m, l, T);
    copy(s->q, s->q_raw, (long)T * m->heads * d);
    copy(s->k, s->k_raw, (long)T * m->kv_heads * d);
    qk_norm_forward(s->q, s->q_raw, b->q_norm, m, T, m->heads);
    qk_norm_forward(s->k, s->k_raw, b->k_norm, m, T, m->kv_heads);
    if (b->rotary != NULL) ref_rope(s->q, pos, b->rotary, T, m->heads, d, 1);
    ref_grow(s->q, pos, m->growth, m->step, T, m->heads * d);
    if (b->rotary != NULL) ref_rope(s->k, pos, b->rotary, T, m->kv_heads, d, 1);
    ref_attention_forward(s->attn, s->q, s->k, s->v, &at);
    ref_linear_forward(s->branch1, s->xa[REF_O], s->attn, &l[REF_O], T);
    join(x, s->branch1, b->behind1, m, T);

    copy(s->x_mid, x, h);
    norm_forward(s->norm2, x, b->norm2, b->shift2, m, T);
    if (b->experts.count > 0) {
        ref_experts_forward(s->branch2, s->norm2, &b->experts, T);
    } else {
        gate_up_forward(s, m, l, T);
        (m->gelu ? ref_geglu_forward : ref_swiglu_forward)(s->act, s->gate, s->up, (long)T * m->mlp);
        ref_linear_forward(s->branch2, s->xa[REF_DOWN], s->act, &l[REF_DOWN], T);
    }
    join(x, s->branch2, b->behind2, m, T);
}

/* x += down(act(norm2(x))), backward: dx in and out. */
static void mlp_backward(double *dx, const ref_saved *s, const ref_model *m, const ref_block *b, int T) {
    const ref_linear *l = b->linear;
    long n = (long)T * m->mlp;
    double *dact = zeros(n), *dgate = zeros(n), *dup = zeros(n), *dnorm = zeros((long)T * m->hidden),
           *dbranch = branch_gradient(dx, b->d_behind2, s->branch2, b->behind2, m, T);
    if (b->experts.count > 0) {
        ref_experts_backward(dnorm, dbranch, s->norm2, &b->experts, T);
    } else {
        ref_linear_backward(dact, dbranch, s->act, s->xa[REF_DOWN], &l[REF_DOWN], T);
        (m->gelu ? ref_geglu_backward : ref_swiglu_backward)(dgate, dup, dact, s->gate, s->up, n);
        gate_up_backward(dnorm, dgate, dup, s, m, l, T);
    }
    norm_backward(dx, b->d_norm2, b->d_shift2, dnorm, s->x_mid, b->norm2, b->shift2, m, T);
    free(dbranch);
    free(dact);
    free(dgate);
    free(dup);
    free(dnorm);
}

/* Gradient through rope and the optional norm of q or k: d (after) becomes d (before). */
static void rotated_backward(double *d, double *dw, const double *raw, const double *w, const ref_model *m,
                             const ref_rotary *rotary, const int *pos, int T, int heads) {
    long n = (long)T * heads * m->head_dim;
    int wide = m->wide_norm ? heads : 1;
    if (rotary != NULL) ref_rope(d, pos, rotary, T, heads, m->head_dim, -1);
    if (w == NULL) return;
    double *before = zeros(n);
    ref_rmsnorm_backward(before, dw, d, raw, w, m->one, m->eps, T * heads / wide, m->head_dim * wide);
    copy(d, before, n);
    free(before);
}

/* x += o(attention(norm1(x))), backward: dx in and out. */
static void attention_half_backward(double *dx, const ref_saved *s, const ref_model *m, const ref_block *b,
                                    const ref_batch *batch, const int *pos) {
    int T = batch->tokens;
    const ref_linear *l = b->linear;
    ref_attention at = attention_of(m, b, batch);
    long q = (long)T * m->heads * m->head_dim, kv = (long)T * m->kv_heads * m->head_dim;
    double *dattn = zeros(q), *dq = zeros(q), *dk = zeros(kv), *dv = zeros(kv),
           *dnorm = zeros((long)T * m->hidden),
           *dbranch = branch_gradient(dx, b->d_behind1, s->branch1, b->behind1, m, T);
    ref_linear_backward(dattn, dbranch, s->attn, s->xa[REF_O], &l[REF_O], T);
    ref_attention_backward(dq, dk, dv, dattn, s->q, s->k, s->v, &at);
    ref_grow(dq, pos, m->growth, m->step, T, m->heads * m->head_dim);
    rotated_backward(dq, b->d_q_norm, s->q_raw, b->q_norm, m, b->rotary, pos, T, m->heads);
    rotated_backward(dk, b->d_k_norm, s->k_raw, b->k_norm, m, b->rotary, pos, T, m->kv_heads);
    qkv_backward(dnorm, dq, dk, dv, s, m, l, T);
    norm_backward(dx, b->d_norm1, b->d_shift1, dnorm, s->x, b->norm1, b->shift1, m, T);
    free(dbranch);
    free(dattn);
    free(dq);
    free(dk);
    free(dv);
    free(dnorm);
}

/* Logits as the loss sees them: scaled, and capped. */
static void finish_logits(double *logits, const ref_model *m, long n) {
    for (long i = 0; i < n; i++) {
        logits[i] *= m->logit_scale;
        if (m->logit_cap > 0) logits[i] = m->logit_cap * tanh(logits[i] / m->logit_cap);
    }
}

/* dlogits of the finished logits becomes that of the head's own. */
static void finish_logits_backward(double *dlogits, const double *logits, const ref_model *m, long n) {
    for (long i = 0; i < n; i++) {
        if (m->logit_cap > 0) dlogits[i] *= 1 - pow(logits[i] / m->logit_cap, 2);
        dlogits[i] *= m->logit_scale;
    }
}

static void scale(double *x, double factor, long n) {
    for (long i = 0; i < n; i++) x[i] *= factor;
}

double ref_model_forward(ref_run *run, const ref_model *m, const ref_batch *batch) {
    int T = batch->tokens;
    ref_linear head = head_of(m);
    for (int b = 0; b < batch->rows; b++)
        for (int t = batch->cu_seqlens[b]; t < batch->cu_seqlens[b + 1]; t++)
            run->pos[t] = t - batch->cu_seqlens[b];
    double *x = run->x_last;
    ref_embed_forward(x, &m->embed, batch->ids, T);
    scale(x, m->embedding_scale, (long)T * m->hidden);
    for (int i = 0; i < m->layers; i++) block_forward(x, &run->saved[i], m, &m->blocks[i], batch, run->pos);
    norm_forward(run->norm_last, x, m->norm, m->shift, m, T);
    ref_linear_forward(run->logits, run->head_xa, run->norm_last, &head, T);
    finish_logits(run->logits, m, (long)T * m->vocab);
    return ref_cross_entropy(NULL, run->logits, batch->target, T, m->vocab);
}

void ref_model_backward(const ref_run *run, const ref_model *m, const ref_batch *batch) {
    int T = batch->tokens;
    long h = (long)T * m->hidden;
    ref_linear head = head_of(m);
    double *dlogits = zeros((long)T * m->vocab), *dnorm = zeros(h), *dx = zeros(h);
    ref_cross_entropy(dlogits, run->logits, batch->target, T, m->vocab);
    finish_logits_backward(dlogits, run->logits, m, (long)T * m->vocab);
    ref_linear_backward(dnorm, dlogits, run->norm_last, run->head_xa, &head, T);
    norm_backward(dx, m->d_norm, m->d_shift, dnorm, run->x_last, m->norm, m->shift, m, T);
    for (int i = m->layers - 1; i >= 0; i--) {
        mlp_backward(dx, &run->saved[i], m, &m->blocks[i], T);
        attention_half_backward(dx, &run->saved[i], m, &m->blocks[i], batch, run->pos);
    }
    scale(dx, m->embedding_scale, h);
    ref_embed_backward(dx, &m->embed, batch->ids, T);
    free(dlogits);
    free(dnorm);
    free(dx);
}
