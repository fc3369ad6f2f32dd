#include "infer/decode.h"
#include <math.h>

static void take_vectors(gr_decode *d, gr_arena *a) {
    const gr_model_config *c = &d->rt->model->config;
    size_t act = (size_t)d->rt->kernels.act_bytes;
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    int64_t widest = gr_max_i64(gr_max_i64(q, c->hidden), c->mlp);
    d->cache.k = gr_arena_array(a, c->layers * d->cache.capacity * kv, act);
    d->cache.v = gr_arena_array(a, c->layers * d->cache.capacity * kv, act);
    d->x = gr_arena_array(a, c->hidden, act);
    d->norm = gr_arena_array(a, c->hidden, act);
    d->q = gr_arena_array(a, q, act);
    d->k = gr_arena_array(a, kv, act);
    d->v = gr_arena_array(a, kv, act);
    d->attn = gr_arena_array(a, q, act);
    d->gate = gr_arena_array(a, c->mlp, act);
    d->up = gr_arena_array(a, c->mlp, act);
    d->mlp = gr_arena_array(a, c->mlp, act);
    d->wide = gr_arena_array(a, 2 * widest, sizeof(float));
    d->scores = gr_arena_array(a, c->heads * (d->cache.capacity + c->head_dim), sizeof(float));
    d->rotation = gr_arena_array(a, c->head_dim, sizeof(float));
    d->logits = gr_arena_array(a, c->vocab, sizeof(float));
}

graft_status gr_decode_init(gr_decode *d, gr_runtime *rt, int64_t capacity, graft_error *err) {
    const gr_model_config *c = &rt->model->config;
    gr_arena counting = {0};
    int64_t elements;
    *d = (gr_decode){.rt = rt, .cache = {.capacity = capacity}};
    if (gr_mul_i64(capacity, c->layers * c->kv_heads * c->head_dim, &elements)) take_vectors(d, &counting);
    if (!counting.used || counting.overflow)
        return gr_fail(err, GRAFT_RANGE, "a cache of %lld tokens is larger than memory can be",
                       (long long)capacity);
    GR_TRY(gr_arena_reserve(&d->arena, counting.used, err));
    take_vectors(d, &d->arena);
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
    gr_head_logits(&net->compute, &net->head, net->saved[net->model->config.layers].x, count - 1, 1);
    memcpy(d->logits, net->head.logits, (size_t)net->model->config.vocab * sizeof *d->logits);
}

/* y[out] f32 = gain * (W x + (scale A x) B) + bias of linear i of a group. */
static void apply(gr_decode *d, const gr_linear_group *g, int i, float *y, const void *x,
                  const float *x_f32) {
    const gr_linear *l = &g->linear[i];
    int64_t out = l->w.rows, first = 0;
    gr_matvec(&d->rt->net.compute, y, &l->w, x);
    for (int j = 0; j < i; j++) first += g->linear[j].rank;
    for (int64_t r = 0; r < l->rank; r++) {
        const float *a = g->a + (first + r) * g->in, *b = l->b + r * out;
        float sum = 0;
        for (int64_t k = 0; k < g->in; k++) sum += a[k] * x_f32[k];
        sum *= l->scale;
        for (int64_t o = 0; o < out; o++) y[o] += sum * b[o];
    }
    for (int64_t o = 0; l->dora.gain && o < out; o++) y[o] *= l->dora.gain[o];
    for (int64_t o = 0; l->bias && o < out; o++) y[o] += l->bias[o];
}

/* The group's outputs as act vectors; where y[i] is NULL the last one stays in d->wide, in f32. */
static void group_forward(gr_decode *d, int64_t layer, int number, void *const *y, const void *x) {
    gr_linear_group g = gr_net_group(&d->rt->net, layer, number);
    const gr_kernels *k = &d->rt->kernels;
    const gr_model_config *c = &d->rt->model->config;
    float *wide = d->wide,
          *x_f32 = d->wide + gr_max_i64(gr_max_i64(c->heads * c->head_dim, c->hidden), c->mlp);
    k->to_f32(x_f32, x, g.in);
    for (int i = 0; i < g.count; i++) {
        apply(d, &g, i, wide, x, x_f32);
        if (y[i]) k->to_act(y[i], wide, g.linear[i].w.rows);
    }
}

/* d->x += the linear's output, rounded once as in the batch path. */
static void forward_into_residual(gr_decode *d, int64_t layer, int number, const void *x) {
    const gr_kernels *k = &d->rt->kernels;
    int64_t n = d->rt->model->config.hidden;
    float *before = d->wide + n;
    group_forward(d, layer, number, (void *[]){NULL}, x);
    k->to_f32(before, d->x, n);
    k->add_f32(d->wide, before, n);
    k->to_act(d->x, d->wide, n);
}

/* Per-head norm and rotation of q or k at the current position. */
static void rotate(const gr_decode *d, void *x, int64_t heads, const float *norm) {
    const gr_model_config *c = &d->rt->model->config;
    const gr_kernels *k = &d->rt->kernels;
    for (int64_t h = 0; h < heads; h++) {
        char *head = (char *)x + (size_t)(h * c->head_dim) * (size_t)k->act_bytes;
        float rstd;
        if (norm) k->rmsnorm(head, &rstd, head, norm, (float)c->norm_eps, c->head_dim);
        k->rope(head, d->rotation, d->rotation + c->head_dim / 2, (int)(c->head_dim / 2), 1);
    }
}

typedef struct attend_job {
    const gr_decode *d;
    int64_t layer, window;
} attend_job;

/* One head over all cached keys. */
static void attend_head(void *context, int head, int worker) {
    const attend_job *j = context;
    const gr_decode *d = j->d;
    const gr_model_config *c = &d->rt->model->config;
    const gr_kernels *k = &d->rt->kernels;
    size_t b = (size_t)k->act_bytes;
    int64_t dim = c->head_dim, kv = c->kv_heads * dim, length = d->cache.length;
    int64_t first = j->window ? gr_max_i64(0, length - j->window) : 0,
            kv_head = head / (c->heads / c->kv_heads);
    size_t base = (size_t)(j->layer * d->cache.capacity * kv + kv_head * dim) * b;
    const char *q = (const char *)d->q + (size_t)(head * dim) * b;
    float *s = d->scores + head * (d->cache.capacity + dim), *row = s + d->cache.capacity;
    float scale = 1.0f / sqrtf((float)dim), max = -INFINITY, sum = 0, out[GR_MAX_HEAD_DIM] = {0};
    (void)worker;
    for (int64_t t = first; t < length; t++) {
        s[t] = scale * k->dot(q, d->cache.k + base + (size_t)(t * kv) * b, dim);
        max = fmaxf(max, s[t]);
    }
    for (int64_t t = first; t < length; t++) {
        float p = expf(s[t] - max);
        sum += p;
        k->to_f32(row, d->cache.v + base + (size_t)(t * kv) * b, dim);
        for (int64_t i = 0; i < dim; i++) out[i] += p * row[i];
    }
    for (int64_t i = 0; i < dim; i++) out[i] /= sum;
    k->to_act((char *)d->attn + (size_t)(head * dim) * b, out, dim);
}

static void block(gr_decode *d, int64_t l) {
    const gr_model_config *c = &d->rt->model->config;
    const gr_layer *layer = &d->rt->model->layer[l];
    const gr_net *net = &d->rt->net;
    const gr_kernels *k = &d->rt->kernels;
    size_t row = (size_t)(c->kv_heads * c->head_dim) * (size_t)k->act_bytes;
    size_t at = (size_t)(l * d->cache.capacity + d->cache.length - 1) * row;
    void *qkv[3] = {d->q, d->k, d->v}, *gate_up[2] = {d->gate, d->up};
    float rstd;
    k->rmsnorm(d->norm, &rstd, d->x, gr_net_norm(net, GR_INPUT_LAYERNORM, l), (float)c->norm_eps, c->hidden);
    group_forward(d, l, 0, qkv, d->norm);
    rotate(d, d->q, c->heads, gr_net_norm(net, GR_Q_NORM, l));
    rotate(d, d->k, c->kv_heads, gr_net_norm(net, GR_K_NORM, l));
    memcpy(d->cache.k + at, d->k, row);
    memcpy(d->cache.v + at, d->v, row);
    attend_job job = {d, l, layer->window};
    gr_pool_run(d->rt->pool, attend_head, &job, (int)c->heads);
    forward_into_residual(d, l, 1, d->attn);
    k->rmsnorm(d->norm, &rstd, d->x, gr_net_norm(net, GR_POST_ATTENTION_LAYERNORM, l), (float)c->norm_eps,
               c->hidden);
    group_forward(d, l, 2, gate_up, d->norm);
    k->swiglu(d->mlp, d->gate, d->up, c->mlp);
    forward_into_residual(d, l, 3, d->mlp);
}

/* d->logits += (scale A x) B of d->norm. */
static void add_head_adapter(gr_decode *d) {
    const gr_head *h = &d->rt->net.head;
    if (h->rank) d->rt->kernels.to_f32(d->wide, d->norm, h->hidden);
    for (int64_t r = 0; r < h->rank; r++) {
        const float *a = h->a + r * h->hidden, *b = h->b + r * h->vocab;
        float sum = 0;
        for (int64_t i = 0; i < h->hidden; i++) sum += a[i] * d->wide[i];
        sum *= h->scale;
        for (int64_t v = 0; v < h->vocab; v++) d->logits[v] += sum * b[v];
    }
}

void gr_decode_token(gr_decode *d, int32_t id) {
    const gr_model *m = d->rt->model;
    const gr_net *net = &d->rt->net;
    const gr_model_config *c = &m->config;
    const gr_kernels *k = &d->rt->kernels;
    int64_t half = c->head_dim / 2;
    float rstd;
    for (int64_t i = 0; i < half; i++) {
        double angle = (double)d->cache.length * m->inv_freq[i];
        d->rotation[i] = (float)cos(angle);
        d->rotation[half + i] = (float)sin(angle);
    }
    d->cache.length++;
    gr_embedding_row(&net->embedding, d->wide, id);
    k->to_act(d->x, d->wide, c->hidden);
    for (int64_t l = 0; l < c->layers; l++) block(d, l);
    k->rmsnorm(d->norm, &rstd, d->x, net->head.norm, (float)c->norm_eps, c->hidden);
    gr_matvec(&net->compute, d->logits, net->head.w, d->norm);
    add_head_adapter(d);
}
