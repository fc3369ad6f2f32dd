#include "infer/decode_batch.h"
#include "base/os.h"
#include <math.h>

enum { QKV, O, GATE_UP, DOWN }; /* order of gr_group_table */

static int64_t most_ranks(const gr_tuning *t) {
    int64_t most = 0, a;
    for (int64_t l = 0; t && l < t->layers; l++)
        for (int g = 0; g < GR_GROUPS; g++) most = gr_max_i64(most, gr_tuning_group(t, l, g, &a));
    return most;
}

static void take_vectors(gr_decode_batch *d, gr_arena *a, int64_t capacity) {
    const gr_model_config *c = &d->rt->model->config;
    const gr_kernels *k = &d->rt->kernels;
    size_t act = (size_t)k->act_bytes;
    int64_t n = d->most, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    int64_t ranges = gr_attend_ranges(capacity);
    d->cache = gr_arena_array(a, n, sizeof *d->cache);
    for (int64_t i = 0; i < n; i++) {
        gr_kv_cache cache = {.capacity = capacity};
        cache.k = gr_arena_array(a, c->layers * capacity * kv, act);
        cache.v = gr_arena_array(a, c->layers * capacity * kv, act);
        if (d->cache) d->cache[i] = cache;
    }
    void **wide[] = {&d->x, &d->x_mid, &d->norm, &d->q,   &d->attn, &d->k,
                     &d->v, &d->gate,  &d->up,   &d->mlp, &d->xa};
    const int64_t widths[] = {
        c->hidden, c->hidden, c->hidden, q, q, kv, kv, c->mlp, c->mlp, c->mlp, most_ranks(d->rt->tuning)};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) *wide[i] = gr_arena_array(a, n * widths[i], act);
    d->rotation = gr_arena_array(a, n * c->head_dim, sizeof(float));
    d->logits = gr_arena_array(a, n * c->vocab, sizeof(float));
    d->start = gr_arena_array(a, n + 1, sizeof *d->start);
    d->attend = (gr_attend){.k = k,
                            .heads = c->heads,
                            .kv_heads = c->kv_heads,
                            .d = c->head_dim,
                            .cache = d->cache,
                            .q = d->q,
                            .out = d->attn,
                            .ranges_most = ranges};
    d->attend.parts = gr_arena_array(a, n * ranges * c->heads, sizeof(float) * (size_t)(c->head_dim + 2));
    d->attend.space_bytes = gr_round_up(gr_attend_space(k, c->heads, c->kv_heads, c->head_dim), 4096);
    d->attend.space = gr_arena_array(a, gr_pool_threads(d->rt->pool), d->attend.space_bytes);
}

graft_status gr_decode_batch_init(gr_decode_batch *d, gr_runtime *rt, int64_t most, int64_t capacity,
                                  graft_error *err) {
    const gr_model_config *c = &rt->model->config;
    gr_arena counting = {0};
    int64_t elements;
    *d = (gr_decode_batch){.rt = rt, .most = most};
    if (gr_mul_i64(capacity, c->layers * c->kv_heads * c->head_dim, &elements))
        take_vectors(d, &counting, capacity);
    if (!counting.used || counting.overflow)
        return gr_fail(err, GRAFT_RANGE, "caches of %lld tokens for %lld rows are larger than memory can be",
                       (long long)capacity, (long long)most);
    uint64_t available = gr_memory_available();
    if (available && counting.used > available) {
        gr_fail(err, GRAFT_RANGE, "the caches of %lld rows of %lld tokens take more memory than there is",
                (long long)most, (long long)capacity);
        gr_expected(err, "at most %llu MB", (unsigned long long)(available >> 20));
        gr_found(err, "%llu MB", (unsigned long long)(counting.used >> 20));
        return gr_hint(err, "a smaller --batch-size or --max-tokens takes less");
    }
    GR_TRY(gr_arena_reserve(&d->arena, counting.used, err));
    take_vectors(d, &d->arena, capacity);
    return GRAFT_OK;
}

void gr_decode_batch_free(gr_decode_batch *d) {
    gr_arena_free(&d->arena);
    *d = (gr_decode_batch){0};
}

/* Logits of x's token at[i] into row first + i of d->logits; tokens next to each other go through the head
 * together. */
static void logits_of(gr_decode_batch *d, const void *x, const int64_t *at, int64_t first, int64_t count) {
    const gr_net *net = &d->rt->net;
    for (int64_t i = 0, run; i < count; i += run) {
        for (run = 1; i + run < count && at[i + run] == at[i] + run && run < net->head.tile;) run++;
        gr_head_logits(&net->compute, &net->head, d->logits + (first + i) * net->model->config.vocab, x,
                       at[i], run);
    }
}

void gr_decode_batch_prompts(gr_decode_batch *d, const gr_batch *prompts) {
    gr_net *net = &d->rt->net;
    net->cache = d->cache + d->rows;
    gr_net_forward(net, prompts);
    net->cache = NULL;
    for (int64_t i = 0; i < prompts->nrows; i++) d->start[i] = prompts->start[i + 1] - 1;
    logits_of(d, net->saved[net->model->config.layers].x, d->start, d->rows, prompts->nrows);
    d->rows += prompts->nrows;
}

/* ------------------------------------------------------------------ one token of every row */

typedef struct rotate_job {
    gr_decode_batch *d;
    int64_t layer;
    const float *q_norm, *k_norm;
} rotate_job;

static void rotate(const rotate_job *j, int64_t row, void *x, int64_t heads, const float *norm) {
    const gr_model_config *c = &j->d->rt->model->config;
    const gr_kernels *k = &j->d->rt->kernels;
    const float *angle = j->d->rotation + row * c->head_dim;
    for (int64_t h = 0; h < heads; h++) {
        char *head = (char *)x + (row * heads + h) * c->head_dim * k->act_bytes;
        float rstd;
        if (norm) k->rmsnorm(head, &rstd, head, norm, (float)c->norm_eps, c->head_dim);
        k->rope(head, angle, angle + c->head_dim / 2, (int)(c->head_dim / 2), 1);
    }
}

/* Rotates q and k of row `task` and puts k and v where attention reads them. */
static void rotate_row(void *context, int task, int worker) {
    const rotate_job *j = context;
    const gr_decode_batch *d = j->d;
    const gr_model_config *c = &d->rt->model->config;
    const gr_kv_cache *cache = &d->cache[task];
    size_t head = (size_t)(c->head_dim * d->rt->kernels.act_bytes);
    (void)worker;
    rotate(j, task, d->q, c->heads, j->q_norm);
    rotate(j, task, d->k, c->kv_heads, j->k_norm);
    for (int64_t h = 0; h < c->kv_heads; h++) {
        size_t to = (size_t)((j->layer * c->kv_heads + h) * cache->capacity + cache->length - 1) * head;
        size_t from = (size_t)(task * c->kv_heads + h) * head;
        memcpy(cache->k + to, (const char *)d->k + from, head);
        memcpy(cache->v + to, (const char *)d->v + from, head);
    }
}

static void block(gr_decode_batch *d, int64_t l, const gr_batch *batch) {
    gr_net *net = &d->rt->net;
    const gr_compute *c = &net->compute;
    float eps = (float)net->model->config.norm_eps, rstd[GR_DECODE_BATCH_MOST];
    int64_t n = d->rows, hidden = net->model->config.hidden;
    gr_linear_group group[GR_GROUPS];
    void *qkv[3] = {d->q, d->k, d->v}, *gate_up[2] = {d->gate, d->up};
    rotate_job rotation = {d, l, gr_net_norm(net, GR_Q_NORM, l), gr_net_norm(net, GR_K_NORM, l)};
    gr_attend_layer attend = {&d->attend, l, net->model->layer[l].window};
    for (int g = 0; g < GR_GROUPS; g++) group[g] = gr_net_group(net, l, g);
    gr_rmsnorm_forward(c, d->norm, rstd, d->x, gr_net_norm(net, GR_INPUT_LAYERNORM, l), eps, n, hidden);
    gr_linear_forward(c, &group[QKV], qkv, d->xa, d->norm, batch, NULL, &net->linear_scratch);
    gr_pool_run(c->pool, rotate_row, &rotation, (int)n);
    gr_pool_run(c->pool, gr_attend_task, &attend, gr_attend_tasks(&attend));
    gr_pool_run(c->pool, gr_attend_join, &attend, gr_attend_joins(&attend));
    gr_linear_forward(c, &group[O], &d->x_mid, d->xa, d->attn, batch, d->x, &net->linear_scratch);
    gr_rmsnorm_forward(c, d->norm, rstd, d->x_mid, gr_net_norm(net, GR_POST_ATTENTION_LAYERNORM, l), eps, n,
                       hidden);
    gr_linear_forward(c, &group[GATE_UP], gate_up, d->xa, d->norm, batch, NULL, &net->linear_scratch);
    gr_swiglu_forward(c, d->mlp, d->gate, d->up, n, net->model->config.mlp);
    gr_linear_forward(c, &group[DOWN], &d->x, d->xa, d->mlp, batch, d->x_mid, &net->linear_scratch);
}

void gr_decode_batch_step(gr_decode_batch *d, const int32_t *ids) {
    gr_net *net = &d->rt->net;
    const gr_model *m = net->model;
    int64_t half = m->config.head_dim / 2;
    for (int64_t r = 0; r < d->rows; r++) {
        float *angles = d->rotation + r * m->config.head_dim;
        for (int64_t i = 0; i < half; i++) {
            double angle = (double)d->cache[r].length * m->inv_freq[i];
            angles[i] = (float)cos(angle);
            angles[half + i] = (float)sin(angle);
        }
        d->cache[r].length++;
    }
    for (int64_t r = 0; r <= d->rows; r++) d->start[r] = r;
    gr_batch batch = {.ids = ids, .start = d->start, .nrows = d->rows, .tokens = d->rows};
    d->attend.rows = d->rows;
    gr_embedding_forward(&net->compute, &net->embedding, d->x, ids, d->rows);
    for (int64_t l = 0; l < m->config.layers; l++) block(d, l, &batch);
    logits_of(d, d->x, d->start, 0, d->rows);
}

void gr_decode_batch_drop(gr_decode_batch *d, int64_t i) {
    int64_t last = --d->rows, vocab = d->rt->model->config.vocab;
    gr_kv_cache cache = d->cache[i];
    if (i == last) return;
    d->cache[i] = d->cache[last];
    d->cache[last] = cache;
    memcpy(d->logits + i * vocab, d->logits + last * vocab, (size_t)vocab * sizeof *d->logits);
}
