#include "infer/decode.h"

static void take_vectors(gr_decode *d, gr_arena *a, bool lent) {
    const gr_model_config *c = &d->rt->model->config;
    const gr_kernels *k = &d->rt->kernels;
    size_t act = (size_t)k->act_bytes;
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, capacity = d->cache.capacity;
    int64_t ranges = gr_attend_ranges(capacity);
    if (!lent) d->cache.k = gr_arena_array(a, c->layers * capacity * kv, act);
    if (!lent) d->cache.v = gr_arena_array(a, c->layers * capacity * kv, act);
    d->x = gr_arena_array(a, c->hidden, act);
    d->q = gr_arena_array(a, q, act);
    d->attn = gr_arena_array(a, q, act);
    d->mlp = gr_arena_array(a, gr_mlp_width(c), act);
    d->wide = gr_arena_array(a, gr_max_i64(gr_max_i64(q + 2 * kv, 2 * gr_mlp_width(c)), 2 * c->hidden),
                             sizeof(float));
    if (c->experts) {
        d->scores = gr_arena_array(a, c->experts, sizeof *d->scores);
        d->picks = gr_arena_array(a, c->experts_used, sizeof *d->picks);
        d->weights = gr_arena_array(a, c->experts_used, sizeof *d->weights);
    }
    for (int i = 0; i < gr_rope_count(c); i++) d->rotation[i] = gr_arena_array(a, c->head_dim, sizeof(float));
    if (gr_net_joins(c)) {
        d->branch = gr_arena_array(a, c->hidden, act);
        d->join = gr_arena_array(a, 1, gr_join_scratch(c->hidden));
    }
    if (c->arch->traits & GR_ARCH_WIDE_QK_NORM) d->k_flat = gr_arena_array(a, kv, act);
    d->logits = gr_arena_array(a, c->vocab, sizeof(float));
    d->attend = gr_attend_of(k, c);
    d->attend.cache = &d->cache, d->attend.rows = 1;
    d->attend.q = d->q, d->attend.ldq = q, d->attend.out = d->attn;
    d->attend.ranges_most = ranges;
    d->attend.parts = gr_arena_array(a, ranges * c->heads, sizeof(float) * (size_t)(c->head_dim + 2));
    gr_decode_bind_legs(d, a);
}

graft_status gr_decode_init(gr_decode *d, gr_runtime *rt, int64_t capacity, bool lent, graft_error *err) {
    const gr_model_config *c = &rt->model->config;
    gr_arena counting = {0};
    int64_t elements;
    *d = (gr_decode){.rt = rt, .cache = {.capacity = capacity}};
    GR_TRY(gr_runtime_row_fits(rt->model, capacity, err));
    if (gr_mul_i64(capacity, c->layers * c->kv_heads * c->head_dim, &elements))
        take_vectors(d, &counting, lent);
    if (!counting.used || counting.overflow)
        return gr_fail(err, GRAFT_RANGE, "a cache of %lld tokens is larger than memory can be",
                       (long long)capacity);
    GR_TRY(gr_arena_reserve(&d->arena, counting.used, err));
    take_vectors(d, &d->arena, lent);
    return GRAFT_OK;
}

void gr_decode_free(gr_decode *d) {
    gr_arena_free(&d->arena);
    *d = (gr_decode){0};
}

void gr_decode_prompt(gr_decode *d, const int32_t *ids, int64_t count) {
    gr_net *net = &d->rt->net;
    int64_t start[2] = {0, count};
    gr_batch batch = {.ids = ids, .start = start, .nrows = 1, .tokens = count};
    net->cache = &d->cache;
    gr_net_forward(net, &batch);
    net->cache = NULL;
    gr_head_logits(&net->compute, &net->head, d->logits, net->saved[net->model->config.layers].x, count - 1,
                   1);
    gr_decode_legs(d);
}

void gr_decode_token(gr_decode *d, int32_t id) {
    const gr_model *m = d->rt->model;
    const gr_net *net = &d->rt->net;
    int64_t half = m->config.rotary / 2;
    for (int i = 0; i < gr_rope_count(&m->config); i++)
        gr_model_angles(d->rotation[i], d->rotation[i] + half, m, i, d->cache.length);
    d->cache.length++;
    gr_embedding_row(&net->embedding, d->wide, id);
    d->rt->kernels.to_act(d->x, d->wide, m->config.hidden);
    gr_decode_count(d);
    gr_relay_run(&d->relay, d->rt->pool);
}
