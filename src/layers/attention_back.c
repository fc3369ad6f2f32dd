/* layers/attention_back.c - attention's backward pass. A task is one block of keys under every query of its
 * group of heads: dk and dv are its own. dq is added where it lies, blocks of keys in their order: a task
 * waits until the one before it has passed the same queries, which it has unless both began together. */
#include "layers/attention_parts.h"
#include <sched.h>
#include <stdatomic.h>

#define KEYS 192 /* of one block: a multiple of a tile's rows; dk and dv (96 KB at d 64) stay in L2 */
#define LONG                                                                                                 \
    1024         /* tokens of a row whose blocks are twice as long: there balance can do without small ones */
#define STRIP 96 /* keys between scores and softmax: both products (48 KB) stay near L1 */
#define TURNS 1024 /* tasks of one call to the pool, at least */

typedef struct space {
    char *k_t;        /* keys, turned: act [d][keys of a block] */
    char *k, *v;      /* keys and values: act [keys][d] */
    char *q_t, *do_t; /* [panel]: of length d */
    char *q_n, *do_n; /* [panel][d / 64]: of length 64 */
    float *s, *dp;    /* [STRIP][64] */
    char *p, *ds;     /* act [panel][keys + GR_MR][64] */
    char *ds_n;       /* [panel]: of length keys */
    float *dk, *dv;   /* [keys][d64] */
    float *dq;        /* [d][64] */
    atomic_int *turn; /* worker 0's: how far each task is */
    size_t bytes;
} space;

static int64_t round64(int64_t n) {
    return (n + 63) / 64 * 64;
}

/* Keys of a block: a function of the row alone, like every sum. */
static int64_t keys_of(int64_t len) {
    return len >= LONG ? 2 * KEYS : KEYS;
}

/* Bytes of the panels that sum over 64 queries. */
static size_t across_bytes(const gr_kernels *k, int64_t d) {
    return gr_panel_bytes(k, GR_NR) * (size_t)(round64(d) / GR_NR);
}

/* Tasks whose turns there is room for: those of one row at least. */
static int64_t turns(const gr_attention *a) {
    return gr_max_i64(TURNS, (a->longest / KEYS + 2) * a->kv_heads);
}

static space carve(char *base, const gr_kernels *k, const gr_attention *a) {
    space w = {0};
    size_t keys = (size_t)keys_of(a->longest), rows = keys + GR_MR;
    size_t act = (size_t)k->act_bytes, d = (size_t)a->d, d64 = (size_t)round64(a->d);
    size_t along = gr_panel_bytes(k, a->d) * GR_PANELS, across = across_bytes(k, a->d) * GR_PANELS;
    w.k_t = gr_attention_take(base, &w.bytes, d * keys * act);
    w.k = gr_attention_take(base, &w.bytes, d * keys * act);
    w.v = gr_attention_take(base, &w.bytes, d * keys * act);
    w.q_t = gr_attention_take(base, &w.bytes, along);
    w.do_t = gr_attention_take(base, &w.bytes, along);
    w.q_n = gr_attention_take(base, &w.bytes, across);
    w.do_n = gr_attention_take(base, &w.bytes, across);
    w.s = gr_attention_take(base, &w.bytes, sizeof(float) * STRIP * GR_NR);
    w.dp = gr_attention_take(base, &w.bytes, sizeof(float) * STRIP * GR_NR);
    w.p = gr_attention_take(base, &w.bytes, act * rows * GR_QUERIES);
    w.ds = gr_attention_take(base, &w.bytes, act * rows * GR_QUERIES);
    w.ds_n = gr_attention_take(base, &w.bytes, gr_panel_bytes(k, (int64_t)keys) * GR_PANELS);
    w.dk = gr_attention_take(base, &w.bytes, sizeof(float) * keys * d64);
    w.dv = gr_attention_take(base, &w.bytes, sizeof(float) * keys * d64);
    w.dq = gr_attention_take(base, &w.bytes, sizeof(float) * d * GR_NR);
    w.turn = gr_attention_take(base, &w.bytes, sizeof(atomic_int) * (size_t)turns(a));
    return w;
}

size_t gr_attention_back_scratch(const gr_kernels *k, const gr_attention *a) {
    return carve(NULL, k, a).bytes;
}

typedef struct job {
    const gr_compute *c;
    const gr_attention *a;
    const gr_batch *batch;
    const void *q, *k, *v, *out, *dout;
    const float *lse;
    float *delta; /* [heads, T]: out times dout, once for every block of keys */
    float *dq, *dk, *dv;
    atomic_int *turn;
} job;

/* One task. */
typedef struct work {
    const job *j;
    gr_attention_view w;
    space ws;
    int64_t k0, nk, keys; /* first key, their number, and that of a whole block */
    int task;
} work;

/* Up to 128 queries of one head. */
typedef struct step {
    int64_t head, q0, nq;
    int keys[GR_PANELS]; /* that each panel sees: 0 if it is empty */
    float lse[GR_QUERIES], delta[GR_QUERIES];
} step;

static void pack_queries(const work *x, step *t) {
    const job *j = x->j;
    const gr_kernels *k = j->c->k;
    const gr_attention_view *w = &x->w;
    int64_t d = j->a->d;
    for (int p = 0; p * GR_NR < t->nq; p++) {
        int64_t q0 = t->q0 + p * GR_NR;
        int cols = (int)gr_min_i64(GR_NR, t->nq - p * GR_NR);
        const char *q = gr_attention_at(w, j->q, gr_attention_q(w, t->head, q0)),
                   *g = gr_attention_at(w, j->dout, gr_attention_out(w, t->head, q0));
        size_t along = (size_t)p * gr_panel_bytes(k, d), across = (size_t)p * across_bytes(k, d);
        k->panel_both(x->ws.q_t + along, x->ws.q_n + across, q, w->ldq, cols, d);
        k->panel_both(x->ws.do_t + along, x->ws.do_n + across, g, w->ldo, cols, d);
        int64_t row = t->head * j->batch->tokens + w->t0 + q0;
        memcpy(t->lse + p * GR_NR, j->lse + row, (size_t)cols * sizeof *t->lse);
        memcpy(t->delta + p * GR_NR, j->delta + row, (size_t)cols * sizeof *t->delta);
    }
}

/* What this step adds to, and what the next one reads: the queries behind these. */
static gr_attention_ahead look_ahead(const work *x, const step *t) {
    const job *j = x->j;
    const gr_attention_view *w = &x->w;
    int64_t at = gr_attention_out(w, t->head, t->q0), next = at + GR_QUERIES * w->ldo,
            next_q = gr_attention_q(w, t->head, t->q0 + GR_QUERIES), act = j->c->k->act_bytes;
    int64_t rows = gr_min_i64(GR_QUERIES, w->len - t->q0 - GR_QUERIES), bytes = j->a->d * act, tiles = 0;
    gr_attention_ahead h = {0};
    if (x->k0) gr_attention_expect(&h, j->dq + at, w->ldo * 4, t->nq, j->a->d * 4);
    gr_attention_expect(&h, gr_attention_at(w, j->q, next_q), w->ldq * act, rows, bytes);
    gr_attention_expect(&h, gr_attention_at(w, j->dout, next), w->ldo * act, rows, bytes);
    for (int p = 0; p < GR_PANELS; p++) tiles += 2 * t->keys[p] / GR_MR;
    gr_attention_spread(&h, tiles);
    return h;
}

/* p and ds of one panel, in strips: scores and their gradient never leave L1. */
static void panel_weights(const work *x, const step *t, int p, gr_attention_ahead *ahead) {
    const job *j = x->j;
    const gr_kernels *k = j->c->k;
    const space *ws = &x->ws;
    int64_t d = j->a->d;
    int n = t->keys[p], diag = (int)(t->q0 + p * GR_NR - x->k0);
    size_t act = (size_t)k->act_bytes, panel = (size_t)p * gr_panel_bytes(k, d);
    char *weights = ws->p + (size_t)p * (size_t)(x->keys + GR_MR) * GR_NR * act,
         *ds = ws->ds + (size_t)p * (size_t)(x->keys + GR_MR) * GR_NR * act;
    for (int i = 0; i < n; i += STRIP) {
        int rows = n - i < STRIP ? n - i : STRIP;
        gr_term scores = {ws->k + (size_t)(i * d) * act, d, ws->q_t + panel, (int)d};
        gr_term grads = {ws->v + (size_t)(i * d) * act, d, ws->do_t + panel, (int)d};
        gr_attention_product(k, ws->s, GR_NR, rows, scores, false, ahead);
        gr_attention_product(k, ws->dp, GR_NR, rows, grads, false, ahead);
        size_t row = (size_t)i * GR_NR * act;
        if (j->a->cap > 0)
            k->soft_cap_back(ws->s, ws->dp, rows, j->a->scale, j->a->cap, t->delta + p * GR_NR);
        k->softmax_block_back(weights + row, ds + row,
                              ws->ds_n + (size_t)p * gr_panel_bytes(k, x->keys) + gr_panel_bytes(k, i), ws->s,
                              ws->dp, rows, diag - i, (int)j->a->window, gr_attention_scale(j->a),
                              t->lse + p * GR_NR, t->delta + p * GR_NR);
    }
    /* A tile of dk or dv may begin within the last strip and end behind it. */
    int64_t end = gr_min_i64(x->nk, (n + GR_MR - 1) / GR_MR * GR_MR);
    size_t from = (size_t)n * GR_NR * act, bytes = (size_t)(end - n) * GR_NR * act;
    memset(weights + from, 0, bytes);
    memset(ds + from, 0, bytes);
}

/* sum[nk, d] (=, +=) a^T b, where a is p or ds and b the panels of queries. */
static void add_keys(const work *x, const step *t, float *sum, const char *a, const char *b,
                     bool accumulate) {
    const gr_kernels *k = x->j->c->k;
    int64_t d = x->j->a->d, d64 = round64(d);
    size_t panel = gr_panel_bytes(k, GR_NR), act = (size_t)k->act_bytes;
    for (int64_t n = 0; n < d; n += GR_NR, b += panel)
        for (int64_t i = 0; i < x->nk; i += GR_MR) {
            gr_term terms[GR_PANELS];
            int count = 0;
            for (int p = 0; p < GR_PANELS; p++)
                if (t->keys[p] > i)
                    terms[count++] = (gr_term){a + (size_t)(p * (x->keys + GR_MR) + i) * GR_NR * act, GR_NR,
                                               b + (size_t)p * across_bytes(k, d),
                                               (int)gr_min_i64(GR_NR, t->nq - p * GR_NR)};
            if (count || !accumulate)
                k->tile(terms, count, sum + i * d64 + n, d64, (int)gr_min_i64(GR_MR, x->nk - i), accumulate);
        }
}

static inline void relax(int spins) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
    if (spins > 4000) sched_yield(); /* about 20 us: the other thread has lost its processor */
}

/* Waits until the block of keys before this one has passed the queries at `place`. */
static void await_turn(const work *x, int64_t place) {
    const atomic_int *before = &x->j->turn[x->task - x->keys / KEYS * x->j->a->kv_heads];
    for (int spins = 0; atomic_load_explicit(before, memory_order_acquire) <= place; spins++) relax(spins);
}

/* Adds ds k to dq, after the block of keys before this one. */
static void add_queries(const work *x, const step *t, int64_t place) {
    const job *j = x->j;
    const gr_kernels *k = j->c->k;
    const gr_attention *a = j->a;
    bool waited = false;
    for (int p = 0; p < GR_PANELS; p++) {
        if (!t->keys[p]) continue;
        int64_t q0 = t->q0 + p * GR_NR;
        bool more = x->k0 > gr_attention_first(a, q0) / x->keys * x->keys;
        gr_term term = {x->ws.k_t, x->keys, x->ws.ds_n + (size_t)p * gr_panel_bytes(k, x->keys), t->keys[p]};
        gr_attention_product(k, x->ws.dq, GR_NR, a->d, term, false, NULL);
        if (more && !waited) await_turn(x, place), waited = true;
        k->add_transposed(j->dq + gr_attention_out(&x->w, t->head, q0), x->w.ldo, x->ws.dq, (int)a->d,
                          (int)gr_min_i64(GR_NR, t->nq - p * GR_NR), a->scale, more);
    }
    atomic_store_explicit(&j->turn[x->task], (int)place + 1, memory_order_release);
}

/* Every query of the group that sees the block, heads in their order. */
static void walk_queries(const work *x) {
    const gr_attention *a = x->j->a;
    int64_t blocks = (x->w.len + GR_QUERIES - 1) / GR_QUERIES;
    bool begun = false;
    for (int64_t member = 0; member < x->w.group; member++) {
        for (int64_t b = x->k0 / GR_QUERIES; b < blocks; b++) {
            step t = {.head = x->w.kv * x->w.group + member, .q0 = b * GR_QUERIES};
            bool any = false;
            t.nq = gr_min_i64(GR_QUERIES, x->w.len - t.q0);
            for (int p = 0; p * GR_NR < t.nq; p++) {
                t.keys[p] = gr_attention_keys(a, x->k0, x->nk, t.q0 + p * GR_NR);
                any |= t.keys[p] > 0;
            }
            if (!any) continue;
            pack_queries(x, &t);
            gr_attention_ahead ahead = look_ahead(x, &t);
            for (int p = 0; p < GR_PANELS; p++)
                if (t.keys[p]) panel_weights(x, &t, p, &ahead);
            add_keys(x, &t, x->ws.dv, x->ws.p, x->ws.do_n, begun);
            add_keys(x, &t, x->ws.dk, x->ws.ds, x->ws.q_n, begun);
            add_queries(x, &t, member * blocks + b);
            begun = true;
        }
        atomic_store_explicit(&x->j->turn[x->task], (int)((member + 1) * blocks), memory_order_release);
    }
}

static void backward_task(void *context, int task, int worker) {
    const job *j = context;
    const gr_kernels *k = j->c->k;
    int64_t block, d = j->a->d, d64 = round64(d);
    work x = {.j = j, .task = task};
    if (!gr_attention_unit(&x.w, &block, j->c, j->a, j->batch, KEYS, task / j->a->kv_heads,
                           task % j->a->kv_heads))
        return;
    x.keys = keys_of(x.w.len);
    x.k0 = block * KEYS;
    if (x.k0 % x.keys) return; /* part of the unit before it */
    x.nk = gr_min_i64(x.keys, x.w.len - x.k0);
    x.ws = carve(j->c->scratch + (size_t)worker * j->c->scratch_bytes, k, j->a);
    int64_t at = gr_attention_kv(&x.w, x.k0);
    gr_attention_gather(&x.w, x.ws.k, gr_attention_at(&x.w, j->k, at), x.nk);
    gr_attention_gather(&x.w, x.ws.v, gr_attention_at(&x.w, j->v, at), x.nk);
    k->transpose(x.ws.k_t, x.keys, x.ws.k, d, x.nk, d);
    walk_queries(&x);
    at = gr_attention_dkv(&x.w, x.k0);
    for (int64_t i = 0; i < x.nk; i++, at += x.w.ldg) {
        k->scale_f32(x.ws.dk + i * d64, j->a->scale, d);
        memcpy(j->dk + at, x.ws.dk + i * d64, (size_t)d * sizeof(float));
        memcpy(j->dv + at, x.ws.dv + i * d64, (size_t)d * sizeof(float));
    }
}

#define DELTAS 64 /* tokens of a task */

static void delta_task(void *context, int task, int worker) {
    const job *j = context;
    const gr_attention *a = j->a;
    int64_t t0 = (int64_t)task * DELTAS, n = gr_min_i64(DELTAS, j->batch->tokens - t0), ld = a->heads * a->d;
    (void)worker;
    for (int64_t head = 0; head < a->heads; head++) {
        int64_t at = (t0 * ld + head * a->d) * j->c->k->act_bytes;
        j->c->k->dots(j->delta + head * j->batch->tokens + t0, (const char *)j->out + at,
                      (const char *)j->dout + at, ld, n, a->d);
    }
}

void gr_attention_backward(const gr_compute *c, const gr_attention *a, float *dq, float *dk, float *dv,
                           const void *q, const void *k, const void *v, const void *out, const void *dout,
                           const float *lse, float *delta, const gr_batch *batch) {
    gr_batch part = *batch;
    job j = {.c = c,
             .a = a,
             .batch = &part,
             .q = q,
             .k = k,
             .v = v,
             .out = out,
             .dout = dout,
             .lse = lse,
             .delta = delta,
             .dq = dq,
             .dk = dk,
             .dv = dv,
             .turn = carve(c->scratch, c->k, a).turn};
    gr_pool_run(c->pool, delta_task, &j, (int)((batch->tokens + DELTAS - 1) / DELTAS));
    for (int64_t row = 0; row < batch->nrows; row += part.nrows) {
        part.start = batch->start + row;
        part.nrows = 1;
        while (row + part.nrows < batch->nrows) {
            part.nrows++;
            if (gr_attention_units(&part, KEYS) * a->kv_heads > turns(a)) {
                part.nrows--;
                break;
            }
        }
        int tasks = (int)(gr_attention_units(&part, KEYS) * a->kv_heads);
        for (int i = 0; i < tasks; i++) atomic_init(&j.turn[i], 0);
        gr_pool_run(c->pool, backward_task, &j, tasks);
    }
}
