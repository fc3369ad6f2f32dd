#include "layers/attention.h"
#include <math.h>
#include <sched.h>
#include <stdatomic.h>

#define BLOCK 128 /* queries and keys of one block: S and P (96 KB) stay in L2 beside the panels */

/* Memory of one worker, carved from its scratch. Panels: [number of 64-column panels][k][64]. */
typedef struct space {
    char *kt, *vt, *q_n, *k_n, *v_n,
        *do_n; /* _t: transposed panels of keys; _n: natural panels of 128 rows */
    float *s, *dp, *o, *dkb, *dvb;
    char *p, *ds, *p_t, *ds_t;
    float *delta;
    float *dq, *dk, *dv; /* [longest, d64] */
    size_t bytes;
} space;

/* One (row, head) and its views. Sizes in elements. */
typedef struct view {
    const gr_compute *c;
    const gr_attention *a;
    const char *q, *k, *v, *out, *dout; /* at this head's first element of the row's first token */
    int64_t ldq, ldkv, len, d64;
} view;

static int64_t round64(int64_t n) {
    return (n + 63) / 64 * 64;
}

/* Carves the block at `base` (NULL: only measures). */
static space carve(char *base, const gr_kernels *k, const gr_attention *a, bool backward) {
    space w = {0};
    int64_t len = (a->longest + BLOCK - 1) / BLOCK * BLOCK, d64 = round64(a->d);
    size_t keys = gr_panel_bytes(k, a->d) * (size_t)(len / 64); /* one per 64 keys */
    size_t rows = gr_panel_bytes(k, BLOCK) * (size_t)(d64 / 64) *
                  (size_t)(len / BLOCK); /* one per 128 rows and 64 columns */
    size_t act = (size_t)k->act_bytes * BLOCK * BLOCK, f32 = sizeof(float) * BLOCK * BLOCK;
#define TAKE(field, size)                                                                                    \
    do {                                                                                                     \
        w.field = base ? (void *)(base + w.bytes) : NULL;                                                    \
        w.bytes += gr_round_up(size, 64);                                                                    \
    } while (0)
    TAKE(kt, keys);
    TAKE(s, f32);
    TAKE(p, act);
    if (!backward) {
        TAKE(v_n, rows);
        TAKE(o, sizeof(float) * (size_t)(BLOCK * d64));
        return w;
    }
    TAKE(vt, keys);
    TAKE(q_n, rows);
    TAKE(k_n, rows);
    TAKE(do_n, rows);
    TAKE(dp, f32);
    TAKE(ds, act);
    TAKE(p_t, act);
    TAKE(ds_t, act);
    TAKE(delta, sizeof(float) * (size_t)len);
    TAKE(dq, sizeof(float) * (size_t)(len * d64));
    TAKE(dk, sizeof(float) * (size_t)(len * d64));
    TAKE(dv, sizeof(float) * (size_t)(len * d64));
#undef TAKE
    return w;
}

size_t gr_attention_scratch(const gr_kernels *k, const gr_attention *a, bool backward) {
    return carve(NULL, k, a, backward).bytes;
}

/* c[m, n] (=, +=) a[m, kc] x panels of 64 columns each. */
static void block_product(const gr_kernels *k, float *c, int64_t ldc, int64_t m, int64_t n, const void *a,
                          int64_t lda, const char *panels, int64_t kc, bool accumulate) {
    size_t panel = gr_panel_bytes(k, kc);
    for (int64_t j = 0; j < n; j += GR_NR)
        for (int64_t i = 0; i < m; i += GR_MR) {
            gr_term term = {(const char *)a + i * lda * k->act_bytes, lda,
                            panels + (size_t)(j / GR_NR) * panel, (int)kc};
            k->tile(&term, 1, c + i * ldc + j, ldc, (int)gr_min_i64(GR_MR, m - i), accumulate);
        }
}

/* Panels of x^T: 64 rows of x become the columns of one panel of length d. */
static void pack_keys(const view *w, char *dst, const char *x, int64_t ld) {
    const gr_kernels *k = w->c->k;
    for (int64_t j = 0; j < w->len; j += GR_NR)
        k->panel_act(dst + (size_t)(j / GR_NR) * gr_panel_bytes(k, w->a->d), x + j * ld * k->act_bytes, ld,
                     true, 0, (int)gr_min_i64(GR_NR, w->len - j), 0, (int)w->a->d);
}

/* Panels of x in blocks of 128 rows: block b, columns 64*j.. are panel number b * (d64/64) + j, of length
 * rows(b). */
static void pack_rows(const view *w, char *dst, const char *x, int64_t ld) {
    const gr_kernels *k = w->c->k;
    size_t block = gr_panel_bytes(k, BLOCK) * (size_t)(w->d64 / 64);
    for (int64_t i = 0; i < w->len; i += BLOCK) {
        int64_t rows = gr_min_i64(BLOCK, w->len - i);
        for (int64_t j = 0; j < w->a->d; j += GR_NR)
            k->panel_act(dst + (size_t)(i / BLOCK) * block + (size_t)(j / GR_NR) * gr_panel_bytes(k, rows),
                         x + (i * ld + j) * k->act_bytes, ld, false, 0, (int)gr_min_i64(GR_NR, w->a->d - j),
                         0, (int)rows);
    }
}

static const char *row_panels(const view *w, const char *base, int64_t block) {
    return base + (size_t)block * gr_panel_bytes(w->c->k, BLOCK) * (size_t)(w->d64 / 64);
}

/* First block of keys that some query of block qb sees. */
static int64_t first_block(const gr_attention *a, int64_t qb) {
    int64_t first = a->window ? gr_max_i64(0, qb * BLOCK - a->window + 1) : 0;
    return first / BLOCK;
}

/* Keys [lo, hi) of block kb that query i (within the row) sees. */
static void seen(const gr_attention *a, int64_t i, int64_t kb, int64_t nk, int *lo, int *hi) {
    int64_t from = a->window ? gr_max_i64(0, i - a->window + 1) : 0;
    *lo = (int)gr_max_i64(0, from - kb * BLOCK);
    *hi = (int)gr_min_i64(nk, i + 1 - kb * BLOCK);
}

/* Scores of query block qb against key block kb: s[nq, 128]. */
static void scores(const view *w, float *s, const char *x, int64_t ldx, int64_t nq, int64_t qb,
                   const char *keys, int64_t kb, int64_t nk) {
    const gr_kernels *k = w->c->k;
    block_product(k, s, BLOCK, nq, nk, x + qb * BLOCK * ldx * k->act_bytes, ldx,
                  keys + (size_t)(kb * (BLOCK / GR_NR)) * gr_panel_bytes(k, w->a->d), w->a->d, false);
}

static void forward_query_block(const view *w, space *ws, int64_t qb, char *out, float *lse) {
    const gr_kernels *k = w->c->k;
    const gr_attention *a = w->a;
    int64_t nq = gr_min_i64(BLOCK, w->len - qb * BLOCK), first = first_block(a, qb);
    float max[BLOCK], sum[BLOCK], scale = 1.0f / sqrtf((float)a->d);
    for (int64_t i = 0; i < nq; i++) max[i] = -INFINITY, sum[i] = 0;
    for (int64_t kb = first; kb <= qb; kb++) {
        int64_t nk = gr_min_i64(BLOCK, w->len - kb * BLOCK);
        scores(w, ws->s, w->q, w->ldq, nq, qb, ws->kt, kb, nk);
        for (int64_t i = 0; i < nq; i++) {
            int lo, hi;
            seen(a, qb * BLOCK + i, kb, nk, &lo, &hi);
            float factor = k->softmax_block(ws->p + i * BLOCK * k->act_bytes, ws->s + i * BLOCK, (int)nk, lo,
                                            hi, scale, &max[i], &sum[i]);
            if (kb > first && factor != 1) k->scale_f32(ws->o + i * w->d64, factor, a->d);
        }
        block_product(k, ws->o, w->d64, nq, a->d, ws->p, BLOCK, row_panels(w, ws->v_n, kb), nk, kb > first);
    }
    for (int64_t i = 0; i < nq; i++) {
        k->scale_f32(ws->o + i * w->d64, 1 / sum[i], a->d);
        k->to_act(out + (qb * BLOCK + i) * w->ldq * k->act_bytes, ws->o + i * w->d64, a->d);
        lse[qb * BLOCK + i] = max[i] + logf(sum[i]);
    }
}

typedef struct job {
    const gr_compute *c;
    const gr_attention *a;
    const gr_batch *batch;
    const char *q, *k, *v, *out_saved, *dout;
    char *out;
    float *lse, *dq, *dk, *dv;
    atomic_int *turn; /* [rows * kv_heads]: which head of the group may add next */
} job;

/* Task number -> row and head; heads of one row follow each other. */
static view view_of(const job *j, int task, int64_t *row, int64_t *head) {
    const gr_attention *a = j->a;
    int64_t b = j->c->k->act_bytes;
    *row = task / a->heads;
    *head = task % a->heads;
    int64_t t0 = j->batch->start[*row], kv = *head / (a->heads / a->kv_heads);
    view w = {.c = j->c,
              .a = a,
              .ldq = a->heads * a->d,
              .ldkv = a->kv_heads * a->d,
              .len = j->batch->start[*row + 1] - t0,
              .d64 = round64(a->d)};
    int64_t at_q = (t0 * w.ldq + *head * a->d) * b, at_kv = (t0 * w.ldkv + kv * a->d) * b;
    w.q = j->q + at_q;
    w.k = j->k + at_kv;
    w.v = j->v + at_kv;
    if (j->dout) w.out = j->out_saved + at_q, w.dout = j->dout + at_q;
    return w;
}

static void forward_task(void *context, int task, int worker) {
    const job *j = context;
    int64_t row, head;
    view w = view_of(j, task, &row, &head);
    if (w.len == 0) return;
    space ws = carve(j->c->scratch + (size_t)worker * j->c->scratch_bytes, j->c->k, j->a, false);
    int64_t t0 = j->batch->start[row];
    pack_keys(&w, ws.kt, w.k, w.ldkv);
    pack_rows(&w, ws.v_n, w.v, w.ldkv);
    char *out = j->out + (t0 * w.ldq + head * j->a->d) * j->c->k->act_bytes;
    for (int64_t qb = 0; qb * BLOCK < w.len; qb++)
        forward_query_block(&w, &ws, qb, out, j->lse + head * j->batch->tokens + t0);
}

void gr_attention_forward(const gr_compute *c, const gr_attention *a, void *out, float *lse, const void *q,
                          const void *k, const void *v, const gr_batch *batch) {
    job j = {.c = c, .a = a, .batch = batch, .q = q, .k = k, .v = v, .out = out, .lse = lse};
    gr_pool_run(c->pool, forward_task, &j, (int)(batch->nrows * a->heads));
}

/* One block pair: p and ds from the scores, then dv += p^T dout, dk += ds^T q, dq += ds k. */
static void backward_block(const view *w, space *ws, int64_t qb, int64_t kb, const float *lse) {
    const gr_kernels *k = w->c->k;
    const gr_attention *a = w->a;
    int64_t nq = gr_min_i64(BLOCK, w->len - qb * BLOCK), nk = gr_min_i64(BLOCK, w->len - kb * BLOCK);
    float scale = 1.0f / sqrtf((float)a->d);
    scores(w, ws->s, w->q, w->ldq, nq, qb, ws->kt, kb, nk);
    scores(w, ws->dp, w->dout, w->ldq, nq, qb, ws->vt, kb, nk);
    for (int64_t i = 0; i < nq; i++) {
        int lo, hi;
        int64_t at = qb * BLOCK + i, row = i * BLOCK;
        seen(a, at, kb, nk, &lo, &hi);
        k->softmax_block_back(ws->p + row * k->act_bytes, ws->ds + row * k->act_bytes, ws->s + row,
                              ws->dp + row, (int)nk, lo, hi, scale, lse[at], ws->delta[at]);
    }
    k->transpose(ws->p_t, BLOCK, ws->p, BLOCK, nq, nk);
    k->transpose(ws->ds_t, BLOCK, ws->ds, BLOCK, nq, nk);
    bool more = qb > kb; /* a key block's first query block is its own */
    block_product(k, ws->dv + kb * BLOCK * w->d64, w->d64, nk, a->d, ws->p_t, BLOCK,
                  row_panels(w, ws->do_n, qb), nq, more);
    block_product(k, ws->dk + kb * BLOCK * w->d64, w->d64, nk, a->d, ws->ds_t, BLOCK,
                  row_panels(w, ws->q_n, qb), nq, more);
    block_product(k, ws->dq + qb * BLOCK * w->d64, w->d64, nq, a->d, ws->ds, BLOCK,
                  row_panels(w, ws->k_n, kb), nk, kb > first_block(a, qb));
}

/* This head's dk, dv into the shared sums, when its turn has come. */
static void add_in_turn(const job *j, const view *w, const space *ws, int64_t row, int64_t head) {
    const gr_attention *a = j->a;
    int64_t group = a->heads / a->kv_heads, kv = head / group, member = head % group,
            t0 = j->batch->start[row];
    atomic_int *turn = &j->turn[row * a->kv_heads + kv];
    /* Tasks start in the order of their number, so the heads before this one are running or done. */
    while (atomic_load_explicit(turn, memory_order_acquire) != member) sched_yield();
    for (int64_t t = 0; t < w->len; t++) {
        float *dk = j->dk + (t0 + t) * w->ldkv + kv * a->d, *dv = j->dv + (t0 + t) * w->ldkv + kv * a->d;
        if (member == 0) {
            memcpy(dk, ws->dk + t * w->d64, (size_t)a->d * sizeof *dk);
            memcpy(dv, ws->dv + t * w->d64, (size_t)a->d * sizeof *dv);
        } else {
            j->c->k->add_f32(dk, ws->dk + t * w->d64, a->d);
            j->c->k->add_f32(dv, ws->dv + t * w->d64, a->d);
        }
    }
    atomic_store_explicit(turn, (int)member + 1, memory_order_release);
}

static void backward_task(void *context, int task, int worker) {
    const job *j = context;
    const gr_kernels *k = j->c->k;
    int64_t row, head;
    view w = view_of(j, task, &row, &head);
    if (w.len == 0) return;
    space ws = carve(j->c->scratch + (size_t)worker * j->c->scratch_bytes, k, j->a, true);
    int64_t t0 = j->batch->start[row], blocks = (w.len + BLOCK - 1) / BLOCK;
    pack_keys(&w, ws.kt, w.k, w.ldkv);
    pack_keys(&w, ws.vt, w.v, w.ldkv);
    pack_rows(&w, ws.q_n, w.q, w.ldq);
    pack_rows(&w, ws.k_n, w.k, w.ldkv);
    pack_rows(&w, ws.do_n, w.dout, w.ldq);
    for (int64_t t = 0; t < w.len; t++) {
        int64_t at = t * w.ldq * k->act_bytes;
        ws.delta[t] = k->dot(w.out + at, w.dout + at, j->a->d);
    }
    for (int64_t kb = 0; kb < blocks; kb++)
        for (int64_t qb = kb; qb < blocks && first_block(j->a, qb) <= kb; qb++)
            backward_block(&w, &ws, qb, kb, j->lse + head * j->batch->tokens + t0);
    for (int64_t t = 0; t < w.len; t++)
        memcpy(j->dq + (t0 + t) * w.ldq + head * j->a->d, ws.dq + t * w.d64, (size_t)j->a->d * sizeof(float));
    add_in_turn(j, &w, &ws, row, head);
}

#define TURNS GR_MAX_HEADS /* kv heads of the rows of one call to the pool */

void gr_attention_backward(const gr_compute *c, const gr_attention *a, float *dq, float *dk, float *dv,
                           const void *q, const void *k, const void *v, const void *out, const void *dout,
                           const float *lse, const gr_batch *batch) {
    atomic_int turn[TURNS];
    int64_t at_once = gr_max_i64(1, TURNS / a->kv_heads);
    for (int64_t row = 0; row < batch->nrows; row += at_once) {
        gr_batch part = *batch;
        part.start += row;
        part.nrows = gr_min_i64(at_once, batch->nrows - row);
        for (int i = 0; i < TURNS; i++) atomic_init(&turn[i], 0);
        job j = {.c = c,
                 .a = a,
                 .batch = &part,
                 .q = q,
                 .k = k,
                 .v = v,
                 .out_saved = out,
                 .dout = dout,
                 .lse = (float *)(uintptr_t)lse,
                 .dq = dq,
                 .dk = dk,
                 .dv = dv,
                 .turn = turn};
        gr_pool_run(c->pool, backward_task, &j, (int)(part.nrows * a->heads));
    }
}
