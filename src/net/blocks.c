#include "net/net.h"

/* Everything a block's forward and backward share. */
typedef struct block {
    gr_net *net;
    const gr_batch *batch;
    gr_batch segments; /* the batch as attention sees it */
    const gr_layer *layer;
    gr_saved *s;
    int64_t number;
    gr_norm norm[GR_NORM_PLACES];
    bool joins;  /* branches join by more than a sum */
    float scale; /* of branches */
    gr_attention attention;
    gr_rotary q, k, v;
    gr_linear_group group[GR_GROUPS];
    gr_experts experts;
} block;

bool gr_net_joins(const gr_model_config *c) {
    return c->residual_scale != 1 || gr_norm_role(c, GR_BEHIND_ATTENTION) != GR_ROLES ||
           gr_norm_role(c, GR_BEHIND_MLP) != GR_ROLES;
}

gr_rotary gr_net_rotary(const gr_net *n, gr_role norm, int64_t l) {
    const gr_model_config *c = &n->model->config;
    int rope = gr_rope_of(c, l, norm == GR_Q_NORM);
    gr_rotary r = {.heads = norm == GR_Q_NORM ? c->heads : c->kv_heads,
                   .d = c->head_dim,
                   .half = c->rotary / 2,
                   .norm = c->qk_norm ? gr_net_norm(n, norm, l).weight : NULL,
                   .wide = c->arch->traits & GR_ARCH_WIDE_QK_NORM,
                   .eps = (float)c->norm_eps};
    bool fused = c->arch->traits & GR_ARCH_FUSED;
    r.ld = (fused ? c->heads + 2 * c->kv_heads : r.heads) * r.d;
    if (rope != GR_NO_ROPE && norm != GR_ROLES) r.cosine = n->cosine[rope], r.sine = n->sine[rope];
    return r;
}

int64_t gr_net_gate_ld(const gr_model_config *c) {
    return c->arch->traits & GR_ARCH_FUSED ? 2 * c->mlp : c->mlp;
}

static block block_of(gr_net *n, const gr_batch *batch, int64_t l) {
    const gr_model_config *c = &n->model->config;
    const gr_layer *layer = &n->model->layer[l];
    block b = {.net = n,
               .batch = batch,
               .segments = gr_batch_of_segments(batch),
               .layer = layer,
               .s = &n->saved[l],
               .number = l};
    for (gr_norm_place p = 0; p < GR_NORM_PLACES; p++) b.norm[p] = gr_net_norm_at(n, p, l);
    b.joins = gr_net_joins(c);
    b.scale = (float)c->residual_scale;
    b.q = gr_net_rotary(n, GR_Q_NORM, l);
    b.k = gr_net_rotary(n, GR_K_NORM, l);
    b.v = gr_net_rotary(n, GR_ROLES, l);
    b.attention = (gr_attention){.heads = c->heads,
                                 .kv_heads = c->kv_heads,
                                 .d = c->head_dim,
                                 .window = layer->window,
                                 .longest = n->config.longest,
                                 .scale = (float)c->attention_scale,
                                 .cap = (float)c->attention_cap,
                                 .ldq = b.q.ld,
                                 .ldkv = b.k.ld};
    for (int g = 0; g < GR_GROUPS; g++) b.group[g] = gr_net_group(n, l, g);
    if (c->experts) b.experts = gr_net_experts(n, l);
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

/* What the linears of one half of the block read: x, or its norm in n->norm. */
static const void *normed(block *b, gr_norm_place place, const void *x, float *rstd) {
    gr_net *n = b->net;
    if (!b->norm[place].weight) return x;
    gr_norm_forward(&n->compute, n->norm, rstd, x, &b->norm[place], b->batch->tokens,
                    n->model->config.hidden);
    return n->norm;
}

/* One half's last linear: y = residual + what it makes of x, or of that by the norm behind it and the scale.
 */
static void close_half(block *b, int g, void *y, const void *x, const void *residual) {
    gr_net *n = b->net;
    const gr_compute *c = &n->compute;
    gr_saved *s = b->s;
    int half = g == GR_DOWN;
    const gr_norm *norm = &b->norm[half ? GR_BEHIND_MLP : GR_BEHIND_ATTENTION];
    void *branch = norm->weight ? s->branch[half] : b->joins ? n->norm : y;
    gr_linear_forward(c, &b->group[g], &branch, s->xa[g], x, b->batch, b->joins ? NULL : residual,
                      &n->linear_scratch);
    if (b->joins)
        gr_join_forward(c, y, s->rstd_branch[half], residual, branch, norm, b->scale, b->batch->tokens,
                        n->model->config.hidden);
}

/* x -> q k v -> attention -> x_mid. What backward needs is in b->s afterwards. */
static void forward_attention(block *b) {
    gr_net *n = b->net;
    const gr_compute *c = &n->compute;
    gr_saved *s = b->s;
    bool norm = b->q.norm != NULL;
    void *qkv[3] = {norm ? s->q_raw : s->q, norm ? s->k_raw : s->k, s->v};
    const void *x = normed(b, GR_BEFORE_ATTENTION, s->x, s->rstd_in);
    gr_linear_forward(c, &b->group[GR_QKV], qkv, s->xa[GR_QKV], x, b->batch, NULL, &n->linear_scratch);
    gr_rotary_forward(c, &b->q, s->q, s->q_rstd, s->q_raw, &b->segments);
    gr_rotary_forward(c, &b->k, s->k, s->k_rstd, s->k_raw, &b->segments);
    gr_part before = gr_part_enter(c->profile, GR_PART_ATTENTION);
    gr_attention_forward(c, &b->attention, s->attn, s->lse, s->q, s->k, s->v, &b->segments);
    if (c->profile) gr_part_work(c->profile, 4 * seen_pairs(b), 0);
    gr_part_enter(c->profile, before);
    close_half(b, GR_O, s->x_mid, s->attn, s->x);
}

/* x_mid -> gate, up */
static void forward_gate_up(block *b) {
    gr_net *n = b->net;
    gr_saved *s = b->s;
    void *gate_up[2] = {s->gate ? s->gate : s->up, s->up};
    const void *x = normed(b, GR_BEFORE_MLP, s->x_mid, s->rstd_mid);
    if (n->model->config.experts) {
        gr_experts_open(&n->compute, &b->experts, &s->routing, s->gate, s->up, x, b->batch->tokens,
                        &n->experts);
        return;
    }
    gr_linear_forward(&n->compute, &b->group[GR_GATE_UP], gate_up, s->xa[GR_GATE_UP], x, b->batch, NULL,
                      &n->linear_scratch);
}

static void forward_gate(block *b) {
    gr_net *n = b->net;
    const gr_model_config *c = &n->model->config;
    gr_gate_forward(&n->compute, c->activation, n->act_mlp, b->s->gate, b->s->up, gr_net_gate_ld(c),
                    b->batch->tokens, c->mlp);
}

static void block_forward(block *b, void *out) {
    gr_net *n = b->net;
    gr_saved *s = b->s;
    forward_attention(b);
    forward_gate_up(b);
    if (n->model->config.experts) {
        gr_experts_close(&n->compute, &b->experts, &s->routing, out, s->x_mid, s->gate, s->up,
                         b->batch->tokens, &n->experts);
        return;
    }
    forward_gate(b);
    close_half(b, GR_DOWN, out, n->act_mlp, s->x_mid);
}

/* Keeps a layer's keys and values for the tokens to come. */
typedef struct keep_job {
    const gr_net *n;
    const gr_batch *batch;
    const gr_saved *s;
    int64_t layer, ld; /* of k and v */
} keep_job;

static void keep_piece(void *context, int64_t t0, int64_t t1) {
    const keep_job *j = context;
    int64_t heads = j->n->model->config.kv_heads, row = 0;
    size_t head = (size_t)j->n->model->config.head_dim * (size_t)j->n->compute.k->act_bytes,
           ld = (size_t)j->ld * (size_t)j->n->compute.k->act_bytes;
    for (int64_t t = t0; t < t1; t++) {
        while (j->batch->start[row + 1] <= t) row++;
        const gr_kv_cache *cache = &j->n->cache[row];
        int64_t pos = t - j->batch->start[row];
        for (int64_t h = 0; h < heads; h++) {
            size_t to = (size_t)((j->layer * heads + h) * cache->capacity + pos) * head;
            size_t from = (size_t)t * ld + (size_t)h * head;
            memcpy(cache->k + to, (const char *)j->s->k + from, head);
            memcpy(cache->v + to, (const char *)j->s->v + from, head);
        }
    }
}

void gr_net_forward(gr_net *n, const gr_batch *batch) {
    gr_net_refresh(n);
    gr_embedding_forward(&n->compute, &n->embedding, n->saved[0].x, batch->ids, batch->tokens);
    for (int64_t l = 0; l < n->model->config.layers; l++) {
        if (n->go_on && !n->go_on(n->go_on_context)) break;
        block b = block_of(n, batch, l);
        block_forward(&b, n->saved[l + 1].x);
        keep_job job = {n, batch, b.s, l, b.k.ld};
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

/* What trains of a norm of the block; nothing without one. */
static gr_tuned tuned_norm(const block *b, gr_role role) {
    if (role != GR_ROLES) return *gr_tuning_of(b->net->tuning, role, b->number);
    return (gr_tuned){.weight = GR_NOWHERE, .bias = GR_NOWHERE};
}

static bool norm_trains(const block *b, gr_role role) {
    gr_tuned x = tuned_norm(b, role);
    return x.weight != GR_NOWHERE || x.bias != GR_NOWHERE;
}

/* Gradient of a norm over the whole width. */
static void norm_backward(const block *b, const gr_gradients *gradients, gr_norm_place place, const void *dy,
                          bool dy_f32, const void *x, const float *rstd) {
    gr_tuned t = tuned_norm(b, gr_norm_role(&b->net->model->config, place));
    gr_norm_weight_backward(&b->net->compute, &b->norm[place], gradients, t.weight, t.bias, dy, dy_f32, x,
                            rstd, 1, b->net->model->config.hidden, b->batch);
}

/* dres -> d_hidden, the gradient of one half's last linear. */
static void open_half(const block *b, const gr_gradients *gradients, int g) {
    gr_net *n = b->net;
    int64_t t = b->batch->tokens, h = n->model->config.hidden;
    int half = g == GR_DOWN;
    gr_norm_place place = half ? GR_BEHIND_MLP : GR_BEHIND_ATTENTION;
    const void *branch = b->s->branch[half];
    if (b->joins)
        gr_join_backward(&n->compute, n->d_hidden, n->dres, branch, b->s->rstd_branch[half], &b->norm[place],
                         b->scale, t, h);
    else
        gr_round_act(&n->compute, n->d_hidden, n->dres, t * h);
    norm_backward(b, gradients, place, n->dres, true, branch, b->s->rstd_branch[half]);
}

/* Gradient of the norm of q or k; dy f32, rotated back. */
static void head_norm_backward(const block *b, const gr_gradients *gradients, gr_role role,
                               const gr_rotary *r, const float *dy, const void *raw, const float *rstd) {
    int64_t norms = r->wide ? 1 : r->heads;
    gr_norm norm = {.weight = r->norm};
    gr_norm_weight_backward(&b->net->compute, &norm, gradients, tuned_norm(b, role).weight, GR_NOWHERE, dy,
                            true, raw, rstd, norms, r->heads * r->d / norms, b->batch);
}

/* d_hidden, the gradient of the MLP's output -> that of its input */
static void dense_backward(block *b, const gr_gradients *gradients, bool last) {
    gr_net *n = b->net;
    const gr_compute *c = &n->compute;
    gr_saved *s = b->s;
    int64_t t = b->batch->tokens, m = n->model->config.mlp;
    void *dy[1] = {n->d_hidden}, *d_gate_up[2] = {s->gate ? s->gate : s->up, s->up};
    const void *x = b->norm[GR_BEFORE_MLP].weight ? n->norm : s->x_mid;
    if (gr_linear_needs_input(&b->group[GR_DOWN])) forward_gate(b);
    if (n->config.recompute && !last) /* recompute stopped before down: its x A is missing */
        gr_linear_low_rank(c, &b->group[GR_DOWN], s->xa[GR_DOWN], n->act_mlp, b->batch, &n->linear_scratch);
    gr_linear_backward(c, &b->group[GR_DOWN], n->d_mlp, gradients, dy, n->act_mlp, s->xa[GR_DOWN], b->batch,
                       &n->linear_scratch);
    gr_gate_backward(c, n->model->config.activation, s->gate, s->up, n->d_mlp,
                     gr_net_gate_ld(&n->model->config), t, m);
    if (gr_linear_needs_input(&b->group[GR_GATE_UP])) normed(b, GR_BEFORE_MLP, s->x_mid, s->rstd_mid);
    gr_linear_backward(c, &b->group[GR_GATE_UP], n->d_hidden, gradients, d_gate_up, x, s->xa[GR_GATE_UP],
                       b->batch, &n->linear_scratch);
}

/* Likewise of a mixture. Its input is made again in between, in the place of its output's gradient. */
static void mixture_backward(block *b, const gr_gradients *gradients) {
    gr_net *n = b->net;
    gr_saved *s = b->s;
    const gr_compute *c = &n->compute;
    gr_experts_back_down(c, &b->experts, &s->routing, n->d_hidden, s->gate, s->up, gradients, b->batch,
                         &n->experts);
    const void *x =
        gr_experts_need_input(&b->experts) ? normed(b, GR_BEFORE_MLP, s->x_mid, s->rstd_mid) : NULL;
    gr_experts_back_open(c, &b->experts, &s->routing, n->d_hidden, s->gate, s->up, x, gradients, b->batch,
                         &n->experts);
}

/* dres -> the MLP or the mixture -> dres */
static void mlp_backward(block *b, const gr_gradients *gradients, bool last) {
    gr_net *n = b->net;
    gr_saved *s = b->s;
    int64_t t = b->batch->tokens, h = n->model->config.hidden;
    open_half(b, gradients, GR_DOWN);
    if (n->model->config.experts)
        mixture_backward(b, gradients);
    else
        dense_backward(b, gradients, last);
    norm_backward(b, gradients, GR_BEFORE_MLP, n->d_hidden, false, s->x_mid, s->rstd_mid);
    gr_norm_backward(&n->compute, n->dres, n->d_hidden, s->x_mid, s->rstd_mid, &b->norm[GR_BEFORE_MLP], t, h);
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
    const void *x = b->norm[GR_BEFORE_ATTENTION].weight ? n->norm : s->x;
    bool input = !lowest || norm_trains(b, gr_norm_role(&n->model->config,
                                                        GR_BEFORE_ATTENTION)); /* is q k v's dx needed? */
    bool below = input || gr_linear_trains(&b->group[GR_QKV]) || norm_trains(b, GR_Q_NORM) ||
                 norm_trains(b, GR_K_NORM); /* and dq, dk, dv? */
    open_half(b, gradients, GR_O);
    gr_linear_backward(c, &b->group[GR_O], below ? n->d_attn : NULL, gradients, dy, s->attn, s->xa[GR_O],
                       b->batch, &n->linear_scratch);
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
    if (b->v.ld == kv)
        gr_round_act(c, s->v, n->dv_f32, t * kv);
    else
        gr_rotary_backward(c, &b->v, s->v, n->dv_f32, NULL, NULL, &b->segments);
    if (gr_linear_needs_input(&b->group[GR_QKV])) normed(b, GR_BEFORE_ATTENTION, s->x, s->rstd_in);
    gr_linear_backward(c, &b->group[GR_QKV], input ? n->d_hidden : NULL, gradients, dqkv, x, s->xa[GR_QKV],
                       b->batch, &n->linear_scratch);
    if (input) norm_backward(b, gradients, GR_BEFORE_ATTENTION, n->d_hidden, false, s->x, s->rstd_in);
    if (!lowest)
        gr_norm_backward(c, n->dres, n->d_hidden, s->x, s->rstd_in, &b->norm[GR_BEFORE_ATTENTION], t, h);
}

/* The gradient of the embedding as it is looked up, before its multiplier. */
static void unscale_embedding(gr_net *n, int64_t tokens) {
    int64_t h = n->model->config.hidden;
    for (int64_t t = 0; n->embedding.multiplier != 1 && t < tokens; t++)
        n->compute.k->scale_f32(n->dres + t * h, n->embedding.multiplier, h);
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
        if (n->left) n->left(n->left_context, l);
    }
    if (!n->tuning->embedding_trains) return;
    unscale_embedding(n, batch->tokens);
    gr_embedding_backward(&n->compute, &n->embedding, gradients, n->dres, batch);
}
