#include "infer/decode_batch.h"
#include "base/os.h"

static int64_t most_ranks(const gr_tuning *t) {
    int64_t most = 0, a;
    for (int64_t l = 0; t && l < t->layers; l++)
        for (int g = 0; g < GR_GROUPS; g++) most = gr_max_i64(most, gr_tuning_group(t, l, g, &a));
    return most;
}

gr_kv_cache gr_decode_batch_cache(gr_arena *a, const gr_runtime *rt, int64_t capacity) {
    const gr_model_config *c = &rt->model->config;
    gr_kv_cache cache = {.capacity = capacity};
    cache.k =
        gr_arena_array(a, c->layers * capacity * c->kv_heads * c->head_dim, (size_t)rt->kernels.act_bytes);
    cache.v =
        gr_arena_array(a, c->layers * capacity * c->kv_heads * c->head_dim, (size_t)rt->kernels.act_bytes);
    return cache;
}

static void take_vectors(gr_decode_batch *d, gr_arena *a, int64_t caches, int64_t capacity) {
    const gr_model_config *c = &d->rt->model->config;
    const gr_kernels *k = &d->rt->kernels;
    size_t act = (size_t)k->act_bytes;
    int64_t n = d->most, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    int64_t ranges = gr_attend_ranges(capacity);
    d->cache = gr_arena_array(a, n, sizeof *d->cache);
    for (int64_t i = 0; i < caches; i++) {
        gr_kv_cache cache = gr_decode_batch_cache(a, d->rt, capacity);
        if (d->cache) d->cache[i] = cache;
    }
    void **wide[] = {&d->x, &d->x_mid, &d->norm, &d->q,   &d->attn, &d->k,
                     &d->v, &d->gate,  &d->up,   &d->mlp, &d->xa};
    bool fused = c->arch->traits & GR_ARCH_FUSED, plain = c->arch->traits & GR_ARCH_PLAIN_MLP;
    const int64_t widths[] = {c->hidden,
                              c->hidden,
                              c->hidden,
                              fused ? q + 2 * kv : q,
                              q,
                              fused ? 0 : kv,
                              fused ? 0 : kv,
                              fused   ? 2 * c->mlp
                              : plain ? 0
                                      : gr_mlp_width(c),
                              fused ? 0 : gr_mlp_width(c),
                              gr_mlp_width(c),
                              most_ranks(d->rt->tuning)};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        *wide[i] = widths[i] ? gr_arena_array(a, n * widths[i], act) : NULL;
    if (fused && d->q) {
        d->k = (char *)d->q + (size_t)q * act;
        d->v = (char *)d->q + (size_t)(q + kv) * act;
        d->up = (char *)d->gate + (size_t)c->mlp * act;
    }
    if (c->experts) {
        gr_routing_bind(&d->routing, a, c->experts, c->experts_used, n);
        d->experts.act = d->mlp;
        d->experts.wide = gr_arena_array(a, n * c->experts_used * c->hidden, act);
        d->routing.xa = gr_arena_array(a, n * c->experts_used * most_ranks(d->rt->tuning), act);
        d->experts.xa = gr_arena_array(a, n * c->experts_used * most_ranks(d->rt->tuning), act);
    }
    d->rotation = gr_arena_array(a, gr_rope_count(c) * n * c->head_dim, sizeof(float));
    d->logits = gr_arena_array(a, n * c->vocab, sizeof(float));
    d->start = gr_arena_array(a, n + 1, sizeof *d->start);
    d->attend = gr_attend_of(k, c);
    d->attend.cache = d->cache;
    d->attend.q = d->q, d->attend.ldq = fused ? q + 2 * kv : q, d->attend.out = d->attn;
    d->attend.ranges_most = ranges;
    d->attend.parts = gr_arena_array(a, n * ranges * c->heads, sizeof(float) * (size_t)(c->head_dim + 2));
    d->attend.space_bytes = gr_round_up(gr_attend_space(k, c->heads, c->kv_heads, c->head_dim), 4096);
    d->attend.space = gr_arena_array(a, gr_pool_threads(d->rt->pool), d->attend.space_bytes);
}

graft_status gr_decode_batch_init(gr_decode_batch *d, gr_runtime *rt, int64_t most, int64_t caches,
                                  int64_t capacity, graft_error *err) {
    const gr_model_config *c = &rt->model->config;
    gr_arena counting = {0};
    int64_t elements;
    *d = (gr_decode_batch){.rt = rt, .most = most};
    GR_TRY(gr_runtime_row_fits(rt->model, capacity, err));
    if (gr_mul_i64(capacity, c->layers * c->kv_heads * c->head_dim, &elements))
        take_vectors(d, &counting, caches, capacity);
    if (!counting.used || counting.overflow)
        return gr_fail(err, GRAFT_RANGE, "caches of %lld tokens for %lld rows are larger than memory can be",
                       (long long)capacity, (long long)most);
    if (gr_memory_fits(counting.used, gr_memory_available(), err,
                       "the caches of %lld rows of %lld tokens take", (long long)most,
                       (long long)capacity) != GRAFT_OK)
        return gr_hint(err, "a smaller --batch-size or --max-tokens takes less");
    GR_TRY(gr_arena_reserve(&d->arena, counting.used, err));
    take_vectors(d, &d->arena, caches, capacity);
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
    gr_rotary q, k;
} rotate_job;

/* The cosines of a row's newest position; its sines follow. */
static float *angles_of(const gr_decode_batch *d, int rope, int64_t row) {
    return d->rotation + (rope * d->most + row) * d->rt->model->config.head_dim;
}

static void rotate(const rotate_job *j, int64_t row, void *x, const gr_rotary *r) {
    const gr_kernels *k = &j->d->rt->kernels;
    int rope = gr_rope_of(&j->d->rt->model->config, j->layer, r == &j->q);
    int64_t all = r->heads * r->d, n = r->wide ? all : r->d, act = k->act_bytes;
    char *at = (char *)x + row * r->ld * act;
    float rstd;
    for (int64_t i = 0; r->norm && i < all; i += n)
        k->rmsnorm(at + i * act, &rstd, at + i * act, r->norm, r->eps, n);
    for (int64_t h = 0; rope != GR_NO_ROPE && h < r->heads; h++) {
        const float *angle = angles_of(j->d, rope, row);
        k->rope(at + h * r->d * act, angle, angle + r->half, (int)r->half, 1);
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
    rotate(j, task, d->q, &j->q);
    rotate(j, task, d->k, &j->k);
    for (int64_t h = 0; h < c->kv_heads; h++) {
        size_t to = (size_t)((j->layer * c->kv_heads + h) * cache->capacity + cache->length - 1) * head;
        size_t from = (size_t)(task * j->k.ld * d->rt->kernels.act_bytes) + (size_t)h * head;
        memcpy(cache->k + to, (const char *)d->k + from, head);
        memcpy(cache->v + to, (const char *)d->v + from, head);
    }
}

/* What the linears of one half of the block read. */
static const void *normed(gr_decode_batch *d, gr_norm_place place, int64_t l, const void *x) {
    const gr_net *net = &d->rt->net;
    gr_norm norm = gr_net_norm_at(net, place, l);
    float rstd[GR_DECODE_BATCH_MOST];
    if (!norm.weight) return x;
    gr_norm_forward(&net->compute, d->norm, rstd, x, &norm, d->rows, net->model->config.hidden);
    return d->norm;
}

/* One half's last linear and what joins its result to the residual stream: y = residual + .. */
static void close_half(gr_decode_batch *d, const gr_linear_group *group, gr_norm_place place, int64_t l,
                       void *y, const void *x, const void *residual, const gr_batch *batch) {
    gr_net *net = &d->rt->net;
    const gr_model_config *c = &net->model->config;
    float rstd[GR_DECODE_BATCH_MOST];
    bool joins = gr_net_joins(c);
    gr_norm norm = gr_net_norm_at(net, place, l);
    void *branch = joins ? d->norm : y;
    gr_linear_forward(&net->compute, group, &branch, d->xa, x, batch, joins ? NULL : residual,
                      &net->linear_scratch);
    if (joins)
        gr_join_forward(&net->compute, y, rstd, residual, branch, &norm, (float)c->residual_scale, d->rows,
                        c->hidden);
}

static void block(gr_decode_batch *d, int64_t l, const gr_batch *batch) {
    gr_net *net = &d->rt->net;
    const gr_compute *c = &net->compute;
    const gr_model_config *config = &net->model->config;
    int64_t n = d->rows;
    gr_linear_group group[GR_GROUPS];
    void *qkv[3] = {d->q, d->k, d->v}, *gate_up[2] = {d->gate ? d->gate : d->up, d->up};
    rotate_job rotation = {d, l, gr_net_rotary(net, GR_Q_NORM, l), gr_net_rotary(net, GR_K_NORM, l)};
    gr_attend_layer attend = {&d->attend, l, net->model->layer[l].window};
    for (int g = 0; g < GR_GROUPS; g++) group[g] = gr_net_group(net, l, g);
    const void *x = normed(d, GR_BEFORE_ATTENTION, l, d->x);
    gr_linear_forward(c, &group[GR_QKV], qkv, d->xa, x, batch, NULL, &net->linear_scratch);
    gr_pool_run(c->pool, rotate_row, &rotation, (int)n);
    gr_pool_run(c->pool, gr_attend_task, &attend, gr_attend_tasks(&attend));
    gr_pool_run(c->pool, gr_attend_join, &attend, gr_attend_joins(&attend));
    close_half(d, &group[GR_O], GR_BEHIND_ATTENTION, l, d->x_mid, d->attn, d->x, batch);
    x = normed(d, GR_BEFORE_MLP, l, d->x_mid);
    if (config->experts) {
        gr_experts e = gr_net_experts(net, l);
        gr_experts_open(c, &e, &d->routing, d->gate, d->up, x, n, &d->experts);
        gr_experts_close(c, &e, &d->routing, d->x, d->x_mid, d->gate, d->up, n, &d->experts);
        return;
    }
    gr_linear_forward(c, &group[GR_GATE_UP], gate_up, d->xa, x, batch, NULL, &net->linear_scratch);
    gr_gate_forward(c, config->activation, d->mlp, d->gate, d->up, gr_net_gate_ld(config), n, config->mlp);
    close_half(d, &group[GR_DOWN], GR_BEHIND_MLP, l, d->x, d->mlp, d->x_mid, batch);
}

/* One more token of every row through the blocks, into d->x. False where it was given up on the way. */
static bool layers(gr_decode_batch *d, const int32_t *ids) {
    gr_net *net = &d->rt->net;
    const gr_model *m = net->model;
    int64_t half = m->config.rotary / 2;
    for (int64_t r = 0; r < d->rows; r++) {
        for (int i = 0; i < gr_rope_count(&m->config); i++)
            gr_model_angles(angles_of(d, i, r), angles_of(d, i, r) + half, m, i, d->cache[r].length);
        d->cache[r].length++;
    }
    for (int64_t r = 0; r <= d->rows; r++) d->start[r] = r;
    gr_batch batch = {.ids = ids, .start = d->start, .nrows = d->rows, .tokens = d->rows};
    d->attend.rows = d->rows;
    gr_embedding_forward(&net->compute, &net->embedding, d->x, ids, d->rows);
    for (int64_t l = 0; l < m->config.layers; l++) {
        if (net->go_on && !net->go_on(net->go_on_context)) return false;
        block(d, l, &batch);
    }
    return true;
}

void gr_decode_batch_step(gr_decode_batch *d, const int32_t *ids) {
    (void)layers(d, ids); /* nobody gives up a token */
    logits_of(d, d->x, d->start, 0, d->rows);
}

/* The rows are one cache seen at different lengths: a layer's keys are all there before any row attends, and
 * each looks at its own length of them. */
bool gr_decode_batch_extend(gr_decode_batch *d, gr_kv_cache *cache, const int32_t *ids, int64_t count) {
    bool whole = true;
    for (int64_t at = 0; whole && at < count; at += d->rows) {
        d->rows = gr_min_i64(d->most, count - at);
        for (int64_t i = 0; i < d->rows; i++) {
            d->cache[i] = *cache;
            d->cache[i].length += i;
        }
        whole = layers(d, ids + at);
        if (whole) cache->length += d->rows;
    }
    if (whole && d->rows) logits_of(d, d->x, &(int64_t){d->rows - 1}, 0, 1);
    d->rows = 0;
    return whole;
}

void gr_decode_batch_drop(gr_decode_batch *d, int64_t i) {
    int64_t last = --d->rows, vocab = d->rt->model->config.vocab;
    gr_kv_cache cache = d->cache[i];
    if (i == last) return;
    d->cache[i] = d->cache[last];
    d->cache[last] = cache;
    memcpy(d->logits + i * vocab, d->logits + last * vocab, (size_t)vocab * sizeof *d->logits);
}
