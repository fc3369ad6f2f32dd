#include "net/net.h"

/* Everything a block's forward and backward share. */
typedef struct block {
    gr_net *net;
    const gr_batch *batch;
    gr_batch segments; /* the batch as attention sees it */
    const gr_layer *layer;
    gr_saved *s;
    int64_t number;
    const float *input_norm, *post_norm; /* [hidden] */
    gr_attention attention;
    gr_rotary q, k;
    gr_linear_group group[GR_GROUPS];
} block;

enum { QKV, O, GATE_UP, DOWN }; /* order of gr_group_table */

static block block_of(gr_net *n, const gr_batch *batch, int64_t l) {
    const gr_model_config *c = &n->model->config;
    const gr_layer *layer = &n->model->layer[l];
    block b = {.net = n,
               .batch = batch,
               .segments = gr_batch_of_segments(batch),
               .layer = layer,
               .s = &n->saved[l],
               .number = l};
    const float *q_norm = gr_net_norm(n, GR_Q_NORM, l), *k_norm = gr_net_norm(n, GR_K_NORM, l);
    b.input_norm = gr_net_norm(n, GR_INPUT_LAYERNORM, l);
    b.post_norm = gr_net_norm(n, GR_POST_ATTENTION_LAYERNORM, l);
    b.attention = (gr_attention){c->heads, c->kv_heads, c->head_dim, layer->window, n->config.longest};
    b.q = (gr_rotary){n->cosine, n->sine, c->heads, c->head_dim, q_norm, (float)c->norm_eps};
    b.k = (gr_rotary){n->cosine, n->sine, c->kv_heads, c->head_dim, k_norm, (float)c->norm_eps};
    for (int g = 0; g < GR_GROUPS; g++) b.group[g] = gr_net_group(n, l, g);
    return b;
}

/* Multiply-adds of one product over what the queries see of the keys: without window S (S + 1) / 2 a row. */
static double seen_pairs(const block *b) {
    double pairs = 0, w = (double)b->attention.window;
    for (int64_t j = 0; j < b->segments.nrows; j++) {
        double s = (double)(b->segments.start[j + 1] - b->segments.start[j]);
        pairs += w > 0 && w < s ? w * (w + 1) / 2 + (s - w) * w : s * (s + 1) / 2;
    }
    return pairs * (double)(b->attention.heads * b->attention.d);
}

/* x -> q k v -> attention -> x_mid. What backward needs is in b->s afterwards. */
static void forward_attention(block *b) {
    gr_net *n = b->net;
    const gr_compute *c = &n->compute;
    gr_saved *s = b->s;
    int64_t t = b->batch->tokens, h = n->model->config.hidden;
    float eps = (float)n->model->config.norm_eps;
    bool norm = b->q.norm != NULL;
    void *qkv[3] = {norm ? s->q_raw : s->q, norm ? s->k_raw : s->k, s->v};
    gr_rmsnorm_forward(c, n->norm, s->rstd_in, s->x, b->input_norm, eps, t, h);
    gr_linear_forward(c, &b->group[QKV], qkv, s->xa[QKV], n->norm, b->batch, NULL, &n->linear_scratch);
    gr_rotary_forward(c, &b->q, s->q, s->q_rstd, s->q_raw, &b->segments);
    gr_rotary_forward(c, &b->k, s->k, s->k_rstd, s->k_raw, &b->segments);
    gr_part before = gr_part_enter(c->profile, GR_PART_ATTENTION);
    gr_attention_forward(c, &b->attention, s->attn, s->lse, s->q, s->k, s->v, &b->segments);
    if (c->profile) gr_part_work(c->profile, 4 * seen_pairs(b), 0);
    gr_part_enter(c->profile, before);
    gr_linear_forward(c, &b->group[O], &s->x_mid, s->xa[O], s->attn, b->batch, s->x, &n->linear_scratch);
}

/* x_mid -> gate, up */
static void forward_gate_up(block *b) {
    gr_net *n = b->net;
    const gr_compute *c = &n->compute;
    gr_saved *s = b->s;
    void *gate_up[2] = {s->gate, s->up};
    int64_t t = b->batch->tokens, h = n->model->config.hidden;
    float eps = (float)n->model->config.norm_eps;
    gr_rmsnorm_forward(c, n->norm, s->rstd_mid, s->x_mid, b->post_norm, eps, t, h);
    gr_linear_forward(c, &b->group[GATE_UP], gate_up, s->xa[GATE_UP], n->norm, b->batch, NULL,
                      &n->linear_scratch);
}

static void block_forward(block *b, void *out) {
    gr_net *n = b->net;
    gr_saved *s = b->s;
    int64_t t = b->batch->tokens;
    forward_attention(b);
    forward_gate_up(b);
    gr_swiglu_forward(&n->compute, n->act_mlp, s->gate, s->up, t, n->model->config.mlp);
    gr_linear_forward(&n->compute, &b->group[DOWN], &out, s->xa[DOWN], n->act_mlp, b->batch, s->x_mid,
                      &n->linear_scratch);
}

/* Keeps a layer's keys and values for the tokens to come. */
typedef struct keep_job {
    const gr_net *n;
    const gr_batch *batch;
    const gr_saved *s;
    int64_t layer;
} keep_job;

static void keep_piece(void *context, int64_t t0, int64_t t1) {
    const keep_job *j = context;
    int64_t heads = j->n->model->config.kv_heads, row = 0;
    size_t head = (size_t)j->n->model->config.head_dim * (size_t)j->n->compute.k->act_bytes;
    for (int64_t t = t0; t < t1; t++) {
        while (j->batch->start[row + 1] <= t) row++;
        const gr_kv_cache *cache = &j->n->cache[row];
        int64_t pos = t - j->batch->start[row];
        for (int64_t h = 0; h < heads; h++) {
            size_t to = (size_t)((j->layer * heads + h) * cache->capacity + pos) * head;
            size_t from = (size_t)(t * heads + h) * head;
            memcpy(cache->k + to, (const char *)j->s->k + from, head);
            memcpy(cache->v + to, (const char *)j->s->v + from, head);
        }
    }
}

void gr_net_forward(gr_net *n, const gr_batch *batch) {
    gr_net_refresh(n);
    gr_embedding_forward(&n->compute, &n->embedding, n->saved[0].x, batch->ids, batch->tokens);
    for (int64_t l = 0; l < n->model->config.layers; l++) {
        block b = block_of(n, batch, l);
        block_forward(&b, n->saved[l + 1].x);
        keep_job job = {n, batch, b.s, l};
        if (n->cache) gr_for_tokens(&n->compute, batch->tokens, keep_piece, &job);
    }
    for (int64_t j = 0; n->cache && j < batch->nrows; j++)
        n->cache[j].length = batch->start[j + 1] - batch->start[j];
}

int64_t gr_net_loss(gr_net *n, const gr_batch *batch, const gr_gradients *gradients) {
    int64_t layers = n->model->config.layers;
    float *dx = gradients && n->tuning->lowest < layers ? n->dres : NULL;
    if (dx) memset(dx, 0, (size_t)(batch->tokens * n->model->config.hidden) * sizeof *dx);
    return gr_head_loss(&n->compute, &n->head, n->targets, dx, gradients, n->saved[layers].x, batch);
}

/* Place of a norm of the block in the parameters; GR_NOWHERE: frozen. */
static int64_t norm_at(const block *b, gr_role role) {
    return gr_tuning_of(b->net->tuning, role, b->number)->weight;
}

/* Gradient of a norm over the whole width; dy act in d_hidden. */
static void norm_backward(const block *b, const gr_gradients *gradients, gr_role role, const void *x,
                          const float *rstd) {
    int64_t at = norm_at(b, role);
    if (at == GR_NOWHERE) return;
    gr_rmsnorm_weight_backward(&b->net->compute, gradients, at, b->net->d_hidden, false, x, rstd, 1,
                               b->net->model->config.hidden, b->batch);
}

/* Gradient of the norm of each head of q or k; dy f32, rotated back. */
static void head_norm_backward(const block *b, const gr_gradients *gradients, gr_role role,
                               const gr_rotary *r, const float *dy, const void *raw, const float *rstd) {
    int64_t at = norm_at(b, role);
    if (at == GR_NOWHERE) return;
    gr_rmsnorm_weight_backward(&b->net->compute, gradients, at, dy, true, raw, rstd, r->heads, r->d,
                               b->batch);
}

/* dres -> down, swiglu, gate and up -> dres */
static void mlp_backward(block *b, const gr_gradients *gradients, bool last) {
    gr_net *n = b->net;
    const gr_compute *c = &n->compute;
    gr_saved *s = b->s;
    int64_t t = b->batch->tokens, h = n->model->config.hidden, m = n->model->config.mlp;
    void *dy[1] = {n->d_hidden}, *d_gate_up[2] = {s->gate, s->up};
    gr_round_act(c, n->d_hidden, n->dres, t * h);
    if (gr_linear_needs_input(&b->group[DOWN])) gr_swiglu_forward(c, n->act_mlp, s->gate, s->up, t, m);
    if (n->config.recompute && !last) /* recompute stopped before down: its x A is missing */
        gr_linear_low_rank(c, &b->group[DOWN], s->xa[DOWN], n->act_mlp, b->batch, &n->linear_scratch);
    gr_linear_backward(c, &b->group[DOWN], n->d_mlp, gradients, dy, n->act_mlp, s->xa[DOWN], b->batch,
                       &n->linear_scratch);
    gr_swiglu_backward(c, s->gate, s->up, n->d_mlp, t, m);
    if (gr_linear_needs_input(&b->group[GATE_UP]))
        gr_rmsnorm_forward(c, n->norm, s->rstd_mid, s->x_mid, b->post_norm, (float)n->model->config.norm_eps,
                           t, h);
    gr_linear_backward(c, &b->group[GATE_UP], n->d_hidden, gradients, d_gate_up, n->norm, s->xa[GATE_UP],
                       b->batch, &n->linear_scratch);
    norm_backward(b, gradients, GR_POST_ATTENTION_LAYERNORM, s->x_mid, s->rstd_mid);
    gr_rmsnorm_backward(c, n->dres, n->d_hidden, s->x_mid, s->rstd_mid, b->post_norm, t, h);
}

/* dres -> o, attention, q k v -> dres; `lowest`: nothing below needs a gradient. */
static void attention_backward(block *b, const gr_gradients *gradients, bool lowest) {
    gr_net *n = b->net;
    const gr_compute *c = &n->compute;
    gr_saved *s = b->s;
    int64_t t = b->batch->tokens, h = n->model->config.hidden,
            kv = n->model->config.kv_heads * n->model->config.head_dim;
    void *dy[1] = {n->d_hidden},
         *dqkv[3] = {s->q, s->k, s->v}; /* gradients take the place of what they are of */
    bool normed =
        !lowest || norm_at(b, GR_INPUT_LAYERNORM) != GR_NOWHERE; /* does anything need q k v's dx? */
    bool below = normed || gr_linear_trains(&b->group[QKV]) || norm_at(b, GR_Q_NORM) != GR_NOWHERE ||
                 norm_at(b, GR_K_NORM) != GR_NOWHERE; /* and dq, dk, dv? */
    gr_round_act(c, n->d_hidden, n->dres, t * h);
    gr_linear_backward(c, &b->group[O], below ? n->d_attn : NULL, gradients, dy, s->attn, s->xa[O], b->batch,
                       &n->linear_scratch);
    if (!below) return;
    gr_part before = gr_part_enter(c->profile, GR_PART_ATTENTION_BACK);
    gr_attention_backward(c, &b->attention, n->dq_f32, n->dk_f32, n->dv_f32, s->q, s->k, s->v, s->attn,
                          n->d_attn, s->lse, n->delta, &b->segments);
    if (c->profile) gr_part_work(c->profile, 10 * seen_pairs(b), 0);
    gr_part_enter(c->profile, before);
    gr_rotary_backward(c, &b->q, s->q, n->dq_f32, s->q_rstd, s->q_raw, &b->segments);
    gr_rotary_backward(c, &b->k, s->k, n->dk_f32, s->k_rstd, s->k_raw, &b->segments);
    head_norm_backward(b, gradients, GR_Q_NORM, &b->q, n->dq_f32, s->q_raw, s->q_rstd);
    head_norm_backward(b, gradients, GR_K_NORM, &b->k, n->dk_f32, s->k_raw, s->k_rstd);
    gr_round_act(c, s->v, n->dv_f32, t * kv);
    if (gr_linear_needs_input(&b->group[QKV]))
        gr_rmsnorm_forward(c, n->norm, s->rstd_in, s->x, b->input_norm, (float)n->model->config.norm_eps, t,
                           h);
    gr_linear_backward(c, &b->group[QKV], normed ? n->d_hidden : NULL, gradients, dqkv, n->norm, s->xa[QKV],
                       b->batch, &n->linear_scratch);
    if (normed) norm_backward(b, gradients, GR_INPUT_LAYERNORM, s->x, s->rstd_in);
    if (!lowest) gr_rmsnorm_backward(c, n->dres, n->d_hidden, s->x, s->rstd_in, b->input_norm, t, h);
}

void gr_net_backward(gr_net *n, const gr_batch *batch, const gr_gradients *gradients) {
    for (int64_t l = n->model->config.layers - 1; l >= n->tuning->lowest; l--) {
        block b = block_of(n, batch, l);
        if (l + 1 < n->model->config.layers) { /* the last's forward is still in the shared buffers */
            if (n->config.recompute == GR_RECOMPUTE_LAYER) forward_attention(&b);
            if (n->config.recompute) forward_gate_up(&b);
        }
        mlp_backward(&b, gradients, l + 1 == n->model->config.layers);
        attention_backward(&b, gradients, l == n->tuning->lowest && !n->tuning->embedding_trains);
    }
    if (n->tuning->embedding_trains)
        gr_embedding_backward(&n->compute, &n->embedding, gradients, n->dres, batch);
}
