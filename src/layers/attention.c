/* layers/attention.c - attention's forward pass. A task is 128 queries of up to four heads that share keys
 * (256 of one or two): each block of values is turned once for all of them. */
#include "layers/attention_parts.h"
#include <math.h>

#define KEYS  192 /* of one block: a multiple of a tile's rows; scores (48 KB) stay near L1 */
#define HEADS 4   /* of one task, at most: their queries and sums share L2 with the block */

/* Of one task and head: more where a block is turned for one head or two. */
static int64_t queries_of(const gr_attention *a) {
    return a->heads <= 2 * a->kv_heads ? 2 * GR_QUERIES : GR_QUERIES;
}

typedef struct space {
    char *q;          /* panels of queries [head][panel] */
    float *o;         /* sums of values, turned: [head][panel][d][64] */
    float *s;         /* scores [KEYS][64] */
    char *p;          /* their weights as a panel */
    char *k, *v;      /* keys: act [KEYS][d]; values, turned: act [d][KEYS] */
    float *max, *sum; /* [head][panel][64] */
    size_t bytes;
} space;

static space carve(char *base, const gr_kernels *k, const gr_attention *a) {
    space w = {0};
    size_t d = (size_t)a->d, heads = (size_t)gr_min_i64(HEADS, a->heads / a->kv_heads),
           panels = heads * (size_t)queries_of(a) / GR_NR;
    w.q = gr_attention_take(base, &w.bytes, panels * gr_panel_bytes(k, a->d));
    w.o = gr_attention_take(base, &w.bytes, panels * d * GR_NR * sizeof(float));
    w.s = gr_attention_take(base, &w.bytes, (size_t)KEYS * GR_NR * sizeof(float));
    w.p = k->pair ? gr_attention_take(base, &w.bytes, gr_panel_bytes(k, KEYS)) : (char *)w.s;
    w.k = gr_attention_take(base, &w.bytes, d * KEYS * (size_t)k->act_bytes);
    w.v = gr_attention_take(base, &w.bytes, d * KEYS * (size_t)k->act_bytes);
    w.max = gr_attention_take(base, &w.bytes, panels * GR_NR * sizeof(float));
    w.sum = gr_attention_take(base, &w.bytes, panels * GR_NR * sizeof(float));
    return w;
}

size_t gr_attention_scratch(const gr_kernels *k, const gr_attention *a, bool backward) {
    size_t forward = carve(NULL, k, a).bytes, back = backward ? gr_attention_back_scratch(k, a) : 0;
    return back > forward ? back : forward;
}

typedef struct job {
    const gr_compute *c;
    const gr_attention *a;
    const gr_batch *batch;
    const void *q, *k, *v;
    char *out;
    float *lse;
    int64_t parts; /* tasks that the heads of a group are split into */
} job;

/* One panel of queries from q0 on against the keys [k0, k0 + n) whose values lie turned in ws->v. */
static void panel_step(const job *j, const space *ws, int64_t panel, int64_t q0, int64_t k0, int n,
                       bool first, gr_attention_ahead *ahead) {
    const gr_kernels *k = j->c->k;
    int64_t d = j->a->d;
    float factor[GR_NR], *o = ws->o + panel * d * GR_NR;
    gr_term scores = {ws->k, d, ws->q + (size_t)panel * gr_panel_bytes(k, d), (int)d};
    gr_attention_product(k, ws->s, GR_NR, n, scores, false, ahead);
    if (j->a->cap > 0) k->soft_cap(ws->s, (int64_t)n * GR_NR, j->a->scale, j->a->cap);
    bool moved =
        k->softmax_block(ws->p, ws->s, n, (int)(q0 - k0), (int)j->a->window, gr_attention_scale(j->a),
                         ws->max + panel * GR_NR, ws->sum + panel * GR_NR, factor);
    if (moved && !first) k->weigh_columns(o, true, o, factor, d);
    gr_term values = {ws->v, KEYS, ws->p, n};
    gr_attention_product(k, o, GR_NR, d, values, !first, ahead);
}

/* Divides the sums of one panel's `cols` queries from q0 on, and stores them and their lse. */
static void finish_panel(const job *j, const gr_attention_view *w, const space *ws, int64_t panel,
                         int64_t head, int64_t q0, int64_t cols) {
    const gr_kernels *k = j->c->k;
    int64_t d = j->a->d;
    const float *max = ws->max + panel * GR_NR, *sum = ws->sum + panel * GR_NR;
    float inverse[GR_NR] = {0}, *o = ws->o + panel * d * GR_NR;
    float *lse = j->lse + head * j->batch->tokens + w->t0 + q0;
    for (int64_t i = 0; i < cols; i++) {
        inverse[i] = 1 / sum[i];
        lse[i] = max[i] + logf(sum[i]);
    }
    k->weigh_columns(o, false, o, inverse, d);
    k->transpose(j->out + gr_attention_out(w, head, q0) * k->act_bytes, w->ldo, o, GR_NR, d, cols);
}

static void forward_task(void *context, int task, int worker) {
    const job *j = context;
    const gr_kernels *k = j->c->k;
    gr_attention_view w;
    int64_t queries = queries_of(j->a), block, per_unit = j->a->kv_heads * j->parts, part = task % j->parts;
    if (!gr_attention_unit(&w, &block, j->c, j->a, j->batch, queries, task / per_unit,
                           task % per_unit / j->parts))
        return;
    block = (w.len - 1) / queries - block; /* the long ones first */
    space ws = carve(j->c->scratch + (size_t)worker * j->c->scratch_bytes, k, j->a);
    int64_t head0 = w.kv * w.group + w.group * part / j->parts,
            heads = w.kv * w.group + w.group * (part + 1) / j->parts - head0;
    int64_t q0 = block * queries, nq = gr_min_i64(queries, w.len - q0), panels = (nq + GR_NR - 1) / GR_NR;
    bool begun[HEADS * GR_PANELS] = {0};
    for (int64_t i = 0; i < heads * panels; i++) {
        int64_t at = q0 + i % panels * GR_NR;
        k->panel_act(ws.q + (size_t)i * gr_panel_bytes(k, j->a->d),
                     gr_attention_at(&w, j->q, gr_attention_q(&w, head0 + i / panels, at)), w.ldq, true, 0,
                     (int)gr_min_i64(GR_NR, w.len - at), 0, (int)j->a->d);
        for (int c = 0; c < GR_NR; c++) ws.max[i * GR_NR + c] = -INFINITY, ws.sum[i * GR_NR + c] = 0;
    }
    int64_t first = gr_attention_first(j->a, q0) / KEYS * KEYS;
    for (int64_t k0 = first; k0 < q0 + nq; k0 += KEYS) {
        int64_t nk = gr_min_i64(KEYS, q0 + nq - k0);
        int64_t at_k = gr_attention_kv(&w, k0), step = w.ldkv * k->act_bytes, bytes = j->a->d * k->act_bytes;
        int64_t next = gr_min_i64(KEYS, q0 + nq - k0 - KEYS);
        gr_attention_ahead ahead = {0};
        gr_attention_gather(&w, ws.k, gr_attention_at(&w, j->k, at_k), nk);
        k->transpose(ws.v, KEYS, gr_attention_at(&w, j->v, at_k), w.ldkv, nk, j->a->d);
        gr_attention_expect(&ahead, gr_attention_at(&w, j->k, at_k + KEYS * w.ldkv), step, next, bytes);
        gr_attention_expect(&ahead, gr_attention_at(&w, j->v, at_k + KEYS * w.ldkv), step, next, bytes);
        gr_attention_spread(&ahead, heads * panels * (KEYS + j->a->d) / GR_MR);
        for (int64_t i = 0; i < heads * panels; i++) {
            int64_t at = q0 + i % panels * GR_NR;
            int n = gr_attention_keys(j->a, k0, nk, at);
            if (!n) continue;
            panel_step(j, &ws, i, at, k0, n, !begun[i], &ahead);
            begun[i] = true;
        }
    }
    for (int64_t i = 0; i < heads * panels; i++) {
        int64_t at = q0 + i % panels * GR_NR;
        finish_panel(j, &w, &ws, i, head0 + i / panels, at, gr_min_i64(GR_NR, w.len - at));
    }
}

void gr_attention_forward(const gr_compute *c, const gr_attention *a, void *out, float *lse, const void *q,
                          const void *k, const void *v, const gr_batch *batch) {
    job j = {.c = c, .a = a, .batch = batch, .q = q, .k = k, .v = v, .out = out, .lse = lse};
    j.parts = (a->heads / a->kv_heads + HEADS - 1) / HEADS;
    gr_pool_run(c->pool, forward_task, &j,
                (int)(gr_attention_units(batch, queries_of(a)) * a->kv_heads * j.parts));
}
