/* The decoder of Llama, Mistral, Qwen2 and Qwen3: what differs between them is data in ref_model. */
#include "ref/ref.h"
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
        double *all[] = {s->x,    s->norm1, s->q_raw, s->k_raw, s->q,  s->k,  s->v,
                         s->attn, s->x_mid, s->norm2, s->gate,  s->up, s->act};
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
                           .cu_seqlens = batch->cu_seqlens};
}

/* The tied head is the embedding seen as a linear layer; its gradients land in the embedding's. */
static ref_linear head_of(const ref_model *m) {
    return m->head.in > 0 ? m->head : m->embed;
}

/* x [T,hidden] in and out. */
static void block_forward(double *x, ref_saved *s, const ref_model *m, const ref_block *b,
                          const ref_batch *batch, const int *pos) {
    int T = batch->tokens, d = m->head_dim;
    long h = (long)T * m->hidden;
    const ref_linear *l = b->linear;
    ref_attention at = attention_of(m, b, batch);
    double *y = zeros(h);

    copy(s->x, x, h);
    ref_rmsnorm_forward(s->norm1, x, b->norm1, m->eps, T, m->hidden);
    ref_linear_forward(s->q_raw, s->xa[REF_Q], s->norm1, &l[REF_Q], T);
    ref_linear_forward(s->k_raw, s->xa[REF_K], s->norm1, &l[REF_K], T);
    ref_linear_forward(s->v, s->xa[REF_V], s->norm1, &l[REF_V], T);
    copy(s->q, s->q_raw, (long)T * m->heads * d);
    copy(s->k, s->k_raw, (long)T * m->kv_heads * d);
    if (b->q_norm != NULL) ref_rmsnorm_forward(s->q, s->q_raw, b->q_norm, m->eps, T * m->heads, d);
    if (b->k_norm != NULL) ref_rmsnorm_forward(s->k, s->k_raw, b->k_norm, m->eps, T * m->kv_heads, d);
    ref_rope(s->q, pos, m->inv_freq, T, m->heads, d, 1);
    ref_rope(s->k, pos, m->inv_freq, T, m->kv_heads, d, 1);
    ref_attention_forward(s->attn, s->q, s->k, s->v, &at);
    ref_linear_forward(y, s->xa[REF_O], s->attn, &l[REF_O], T);
    add(x, y, h);

    copy(s->x_mid, x, h);
    ref_rmsnorm_forward(s->norm2, x, b->norm2, m->eps, T, m->hidden);
    ref_linear_forward(s->gate, s->xa[REF_GATE], s->norm2, &l[REF_GATE], T);
    ref_linear_forward(s->up, s->xa[REF_UP], s->norm2, &l[REF_UP], T);
    ref_swiglu_forward(s->act, s->gate, s->up, (long)T * m->mlp);
    ref_linear_forward(y, s->xa[REF_DOWN], s->act, &l[REF_DOWN], T);
    add(x, y, h);
    free(y);
}

/* x += down(act(norm2(x))), backward: dx in and out. */
static void mlp_backward(double *dx, const ref_saved *s, const ref_model *m, const ref_block *b, int T) {
    const ref_linear *l = b->linear;
    long n = (long)T * m->mlp;
    double *dact = zeros(n), *dgate = zeros(n), *dup = zeros(n), *dnorm = zeros((long)T * m->hidden);
    ref_linear_backward(dact, dx, s->act, s->xa[REF_DOWN], &l[REF_DOWN], T);
    ref_swiglu_backward(dgate, dup, dact, s->gate, s->up, n);
    ref_linear_backward(dnorm, dup, s->norm2, s->xa[REF_UP], &l[REF_UP], T);
    ref_linear_backward(dnorm, dgate, s->norm2, s->xa[REF_GATE], &l[REF_GATE], T);
    ref_rmsnorm_backward(dx, b->d_norm2, dnorm, s->x_mid, b->norm2, m->eps, T, m->hidden);
    free(dact);
    free(dgate);
    free(dup);
    free(dnorm);
}

/* Gradient through rope and the optional norm of q or k: d (after) becomes d (before). */
static void rotated_backward(double *d, double *dw, const double *raw, const double *w, const ref_model *m,
                             const int *pos, int T, int heads) {
    long n = (long)T * heads * m->head_dim;
    ref_rope(d, pos, m->inv_freq, T, heads, m->head_dim, -1);
    if (w == NULL) return;
    double *before = zeros(n);
    ref_rmsnorm_backward(before, dw, d, raw, w, m->eps, T * heads, m->head_dim);
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
           *dnorm = zeros((long)T * m->hidden);
    ref_linear_backward(dattn, dx, s->attn, s->xa[REF_O], &l[REF_O], T);
    ref_attention_backward(dq, dk, dv, dattn, s->q, s->k, s->v, &at);
    rotated_backward(dq, b->d_q_norm, s->q_raw, b->q_norm, m, pos, T, m->heads);
    rotated_backward(dk, b->d_k_norm, s->k_raw, b->k_norm, m, pos, T, m->kv_heads);
    ref_linear_backward(dnorm, dv, s->norm1, s->xa[REF_V], &l[REF_V], T);
    ref_linear_backward(dnorm, dk, s->norm1, s->xa[REF_K], &l[REF_K], T);
    ref_linear_backward(dnorm, dq, s->norm1, s->xa[REF_Q], &l[REF_Q], T);
    ref_rmsnorm_backward(dx, b->d_norm1, dnorm, s->x, b->norm1, m->eps, T, m->hidden);
    free(dattn);
    free(dq);
    free(dk);
    free(dv);
    free(dnorm);
}

double ref_model_forward(ref_run *run, const ref_model *m, const ref_batch *batch) {
    int T = batch->tokens;
    ref_linear head = head_of(m);
    for (int b = 0; b < batch->rows; b++)
        for (int t = batch->cu_seqlens[b]; t < batch->cu_seqlens[b + 1]; t++)
            run->pos[t] = t - batch->cu_seqlens[b];
    double *x = run->x_last;
    ref_embed_forward(x, &m->embed, batch->ids, T);
    for (int i = 0; i < m->layers; i++) block_forward(x, &run->saved[i], m, &m->blocks[i], batch, run->pos);
    ref_rmsnorm_forward(run->norm_last, x, m->norm, m->eps, T, m->hidden);
    ref_linear_forward(run->logits, run->head_xa, run->norm_last, &head, T);
    return ref_cross_entropy(NULL, run->logits, batch->target, T, m->vocab);
}

void ref_model_backward(const ref_run *run, const ref_model *m, const ref_batch *batch) {
    int T = batch->tokens;
    long h = (long)T * m->hidden;
    ref_linear head = head_of(m);
    double *dlogits = zeros((long)T * m->vocab), *dnorm = zeros(h), *dx = zeros(h);
    ref_cross_entropy(dlogits, run->logits, batch->target, T, m->vocab);
    ref_linear_backward(dnorm, dlogits, run->norm_last, run->head_xa, &head, T);
    ref_rmsnorm_backward(dx, m->d_norm, dnorm, run->x_last, m->norm, m->eps, T, m->hidden);
    for (int i = m->layers - 1; i >= 0; i--) {
        mlp_backward(dx, &run->saved[i], m, &m->blocks[i], T);
        attention_half_backward(dx, &run->saved[i], m, &m->blocks[i], batch, run->pos);
    }
    ref_embed_backward(dx, &m->embed, batch->ids, T);
    free(dlogits);
    free(dnorm);
    free(dx);
}
