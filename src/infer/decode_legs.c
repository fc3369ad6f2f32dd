/* infer/decode_legs.c - the legs of one token: per block the linears over x, attention, its output, gate and
 * up, down; then the head. An adapter puts a leg before its group: x A must be whole before any row uses it.
 */
#include "infer/decode_parts.h"

/* Legs of a block at most: q, k, v with their low ranks and norms over the whole width, attention and its
 * join, its output with low rank and a branch; then gate, up and down likewise, or a mixture. */
enum { OF_ATTENTION = 3 + 2 + 3, OF_MLP = 2 + 3, OF_EXPERTS = 6, LEGS = OF_ATTENTION + OF_EXPERTS };
_Static_assert(OF_MLP <= OF_EXPERTS, "LEGS has room for either");

typedef gr_decode_part part;
typedef gr_decode_space space;

static space carve(char *base, const gr_kernels *k, int64_t hidden, size_t panel) {
    space w = {0};
    size_t x = gr_round_up((size_t)(hidden * k->act_bytes), 64), act = 2 * 64 * sizeof(float),
           sums = 64 * sizeof(float);
    if (base)
        w = (space){
            (int64_t *)(void *)base,    base + 64, base + 64 + x, (float *)(void *)(base + 64 + x + act),
            base + 64 + x + act + sums, 0};
    w.bytes = 64 + x + act + sums + panel;
    return w;
}

gr_decode_space gr_decode_space_of(const gr_decode *d, int worker) {
    return carve(d->space + (size_t)worker * d->space_bytes, &d->rt->kernels, d->rt->model->config.hidden, 0);
}

/* ------------------------------------------------------------------ rows of a linear */

const void *gr_decode_input(const part *p, int worker) {
    const gr_decode *d = p->d;
    if (!p->norm.weight) return p->x;
    space w = gr_decode_space_of(d, worker);
    int64_t name = d->cache.length * (GR_GROUPS * (d->rt->model->config.layers + 1)) + p->number;
    float rstd;
    if (*w.normed != name) gr_norm_row(&d->rt->kernels, &p->norm, w.x, &rstd, p->x, p->g.in);
    *w.normed = name;
    return w.x;
}

void gr_decode_add_low_rank(const gr_decode *d, const gr_mat *b, const void *low, float *y, int64_t row0,
                            int64_t n, const space *w) {
    const gr_kernels *k = &d->rt->kernels;
    for (int64_t r = 0; r < b->rows; r += k->kc) {
        int kc = (int)gr_min_i64(k->kc, b->rows - r);
        k->panel(w->panel, b, false, row0, (int)n, r, kc);
        gr_term term = {(const char *)low + r * k->act_bytes, kc, w->panel, kc};
        k->tile(&term, 1, w->sums, GR_NR, 1, false);
        k->add_f32(y, w->sums, n);
    }
}

/* Bytes that are asked for while others still work on the leg before; matvec itself looks ahead from there.
 */
#define AHEAD 16384

/* Rows row0 .. row0 + n of linear number i: y[0 .. n), complete but for what is done to whole vectors. */
static void rows_of(const part *p, int i, float *y, int64_t row0, int64_t n, int worker) {
    const gr_decode *d = p->d;
    const gr_linear *l = &p->g.linear[i];
    const void *x = gr_decode_input(p, worker);
    space w = gr_decode_space_of(d, worker);
    int64_t column = 0;
    for (int j = 0; j < i; j++) column += p->g.linear[j].rank;
    d->rt->kernels.matvec(y - row0, &l->w, x, row0, n);
    const gr_mat b = gr_mat_f32(l->b, l->rank, l->w.rows, 1);
    for (int64_t at = 0; at < n && l->rank && !l->merged; at += GR_NR)
        gr_decode_add_low_rank(d, &b, (const char *)d->xa + column * d->rt->kernels.act_bytes, y + at,
                               row0 + at, gr_min_i64(GR_NR, n - at), &w);
    for (int64_t o = 0; l->dora.gain && o < n; o++) y[o] *= l->dora.gain[row0 + o];
    for (int64_t o = 0; l->bias && o < n; o++) y[o] += l->bias[row0 + o];
}

/* Element `task` of the group's x A; adapters of one group may differ in scale. */
static void low_rank_task(void *context, int task, int worker) {
    const part *p = context;
    const gr_kernels *k = &p->d->rt->kernels;
    int64_t column = 0;
    const gr_linear *l = p->g.linear;
    for (; task >= column + l->rank; l++) column += l->rank;
    gr_mat a = gr_linear_a(&p->g, 0, p->g.ranks, l->scale);
    float sum;
    k->matvec(&sum - task, &a, gr_decode_input(p, worker), task, 1);
    k->to_act((char *)p->d->xa + task * k->act_bytes, &sum, 1);
}

/* ------------------------------------------------------------------ legs */

/* Which linear of q, k, v a task's head belongs to, and which of its heads it is. */
static int head_of(const part *p, int task, int64_t *head) {
    const gr_model_config *c = &p->d->rt->model->config;
    *head = task;
    if (task < c->heads) return 0;
    *head -= c->heads;
    if (*head < c->kv_heads) return 1;
    *head -= c->kv_heads;
    return 2;
}

/* The linear that computes a head, and its first row there: of a fused one heads are rows one after another.
 */
static int rows_of_head(const part *p, int task, int64_t *row0) {
    int64_t head, dim = p->d->rt->model->config.head_dim;
    int i = head_of(p, task, &head);
    *row0 = (p->g.count == 1 ? task : head) * dim;
    return p->g.count == 1 ? 0 : i;
}

static void prefetch_linear(const gr_mat *w, int64_t row) {
    gr_mat_prefetch(w, row, gr_max_i64(1, AHEAD / gr_mat_row_bytes(w)));
}

static void before_heads(void *context, int task, int worker) {
    const part *p = context;
    int64_t row0;
    int i = rows_of_head(p, task, &row0);
    (void)worker;
    prefetch_linear(&p->g.linear[i].w, row0);
}

static void before_rows(void *context, int task, int worker) {
    const part *p = context;
    (void)worker;
    for (int i = 0; i < p->g.count; i++) prefetch_linear(&p->g.linear[i].w, task * p->chunk);
}

static void before_low_rank(void *context, int task, int worker) {
    const part *p = context;
    gr_mat a = gr_linear_a(&p->g, 0, p->g.ranks, 1);
    (void)worker;
    prefetch_linear(&a, task);
}

/* Where a head of k or v is kept. */
static char *cached(const part *p, char *cache, int64_t head) {
    const gr_model_config *c = &p->d->rt->model->config;
    int64_t row = (p->layer->attend.layer * c->kv_heads + head) * p->d->cache.capacity;
    return cache + (row + p->d->cache.length - 1) * c->head_dim * p->d->rt->kernels.act_bytes;
}

/* A head of q or k at the newest position. */
static void rotate(const part *p, char *head, bool query) {
    const gr_decode *d = p->d;
    int rope = gr_rope_of(&d->rt->model->config, p->layer->attend.layer, query);
    int64_t half = p->layer->q.half;
    if (rope == GR_NO_ROPE) return;
    d->rt->kernels.rope(head, d->rotation[rope], d->rotation[rope] + half, (int)half, 1);
}

/* One head of q, k or v: rotated, and where it will be read. */
static void head_task(void *context, int task, int worker) {
    const part *p = context;
    const gr_decode *d = p->d;
    const gr_model_config *c = &d->rt->model->config;
    const gr_kernels *k = &d->rt->kernels;
    int64_t head, row0, dim = c->head_dim;
    int i = head_of(p, task, &head), linear = rows_of_head(p, task, &row0);
    const gr_rotary *r = i ? &p->layer->k : &p->layer->q;
    float *y = d->wide + task * dim, rstd;
    char *to = i == 0    ? (char *)d->q + head * dim * k->act_bytes
               : i == 2  ? cached(p, d->cache.v, head)
               : r->wide ? (char *)d->k_flat + head * dim * k->act_bytes
                         : cached(p, d->cache.k, head);
    rows_of(p, linear, y, row0, dim, worker);
    k->to_act(to, y, dim);
    if (i == 2 || r->wide) return;
    if (r->norm) k->rmsnorm(to, &rstd, to, r->norm, r->eps, dim);
    rotate(p, to, i == 0);
}

/* All heads of q (task 0) or k, where one norm spans them: what head_task left. */
static void wide_norm_task(void *context, int task, int worker) {
    const part *p = context;
    const gr_decode *d = p->d;
    const gr_kernels *k = &d->rt->kernels;
    const gr_rotary *r = task ? &p->layer->k : &p->layer->q;
    char *x = task ? d->k_flat : d->q;
    float rstd;
    (void)worker;
    k->rmsnorm(x, &rstd, x, r->norm, r->eps, r->heads * r->d);
    for (int64_t h = 0; h < r->heads; h++) {
        char *head = x + h * r->d * k->act_bytes;
        rotate(p, head, task == 0);
        if (task) memcpy(cached(p, d->cache.k, h), head, (size_t)(r->d * k->act_bytes));
    }
}

/* Rows of o or down into the residual stream, rounded once as in the batch path. */
static void residual_task(void *context, int task, int worker) {
    const part *p = context;
    const gr_decode *d = p->d;
    const gr_kernels *k = &d->rt->kernels;
    int64_t row0 = task * p->chunk, n = gr_min_i64(p->chunk, p->g.linear[0].w.rows - row0);
    float *y = d->wide + row0, before[GR_NR];
    rows_of(p, 0, y, row0, n, worker);
    for (int64_t at = 0; at < n; at += GR_NR) {
        int64_t m = gr_min_i64(GR_NR, n - at);
        void *x = (char *)d->x + (row0 + at) * k->act_bytes;
        k->to_f32(before, x, m);
        k->add_f32(y + at, before, m);
        k->to_act(x, y + at, m);
    }
}

/* .. or into the branch, which then joins as a whole. */
static void branch_task(void *context, int task, int worker) {
    const part *p = context;
    const gr_decode *d = p->d;
    int64_t row0 = task * p->chunk, n = gr_min_i64(p->chunk, p->g.linear[0].w.rows - row0);
    rows_of(p, 0, d->wide + row0, row0, n, worker);
    d->rt->kernels.to_act((char *)d->branch + row0 * d->rt->kernels.act_bytes, d->wide + row0, n);
}

static void join_task(void *context, int task, int worker) {
    const part *p = context;
    const gr_decode *d = p->d;
    float rstd;
    (void)task;
    (void)worker;
    gr_join_row(&d->rt->kernels, d->x, &rstd, d->x, d->branch, &p->behind,
                (float)d->rt->model->config.residual_scale, d->rt->model->config.hidden, d->join);
}

/* The same rows of gate and up, and what the activation makes of them. */
static void mlp_task(void *context, int task, int worker) {
    const part *p = context;
    const gr_decode *d = p->d;
    const gr_kernels *k = &d->rt->kernels;
    int64_t rows = d->rt->model->config.mlp, row0 = task * p->chunk, n = gr_min_i64(p->chunk, rows - row0);
    bool fused = p->g.count == 1 && p->g.linear[0].w.rows == 2 * rows, plain = p->g.count == 1 && !fused;
    float *gate = d->wide + row0, *up = d->wide + rows + row0;
    bool gelu = d->rt->model->config.activation == GR_GELU_TANH;
    space w = gr_decode_space_of(d, worker);
    char *up_act = (char *)w.act + GR_NR * k->act_bytes;
    if (!plain) rows_of(p, 0, gate, row0, n, worker);
    rows_of(p, plain || fused ? 0 : 1, up, fused ? rows + row0 : row0, n, worker);
    for (int64_t at = 0; at < n; at += GR_NR) {
        int64_t m = gr_min_i64(GR_NR, n - at);
        k->to_act(up_act, up + at, m);
        if (plain) {
            k->gelu((char *)d->mlp + (row0 + at) * k->act_bytes, up_act, m);
            continue;
        }
        k->to_act(w.act, gate + at, m);
        gelu ? k->geglu((char *)d->mlp + (row0 + at) * k->act_bytes, w.act, up_act, m)
             : k->swiglu((char *)d->mlp + (row0 + at) * k->act_bytes, w.act, up_act, m);
    }
}

static void logits_task(void *context, int task, int worker) {
    const part *p = context;
    int64_t row0 = task * p->chunk, n = gr_min_i64(p->chunk, p->g.linear[0].w.rows - row0);
    float cap = p->d->rt->net.head.softmax.cap;
    rows_of(p, 0, p->d->logits + row0, row0, n, worker);
    if (cap > 0) p->d->rt->kernels.soft_cap(p->d->logits + row0, n, 1, cap);
}

/* ------------------------------------------------------------------ layout */

static int64_t most_ranks(const gr_decode *d) {
    const gr_tuning *t = d->rt->tuning;
    const gr_net *net = &d->rt->net;
    int64_t most = net->head.rank, a;
    for (int64_t l = 0; t && l < t->layers; l++)
        for (int g = 0; g < GR_GROUPS; g++) most = gr_max_i64(most, gr_tuning_group(t, l, g, &a));
    return most;
}

void gr_decode_bind_legs(gr_decode *d, gr_arena *arena) {
    const gr_model_config *c = &d->rt->model->config;
    const gr_kernels *k = &d->rt->kernels;
    size_t panel = gr_panel_bytes(k, k->kc), attend = gr_attend_space(k, c->heads, c->kv_heads, c->head_dim);
    d->space_bytes = gr_round_up(carve(NULL, k, c->hidden, panel > attend ? panel : attend).bytes, 4096);
    d->space = gr_arena_array(arena, gr_pool_threads(d->rt->pool), d->space_bytes);
    d->attend.space = d->space ? gr_decode_space_of(d, 0).panel : NULL;
    d->attend.space_bytes = d->space_bytes;
    d->xa = gr_arena_array(arena, most_ranks(d) * gr_max_i64(1, c->experts_used) + 1,
                           (size_t)k->act_bytes);                        /* pairs may look one further */
    d->layers = gr_arena_array(arena, c->layers + 1, sizeof *d->layers); /* the last: head */
    gr_relay_bind(&d->relay, arena, d->rt->pool, c->layers * LEGS + 2);
}

static void add_leg(gr_decode *d, gr_task *task, gr_task *before, void *context, int64_t count) {
    d->relay.legs[d->relay.count++] = (gr_leg){task, context, (int)count, before};
}

int64_t gr_decode_chunk(const gr_decode *d, int64_t all, int64_t cols) {
    int64_t rows = all / (8 * gr_pool_threads(d->rt->pool)) + 1;
    rows = gr_min_i64(rows, (128 << 10) / gr_max_i64(1, cols));
    return gr_max_i64(rows, 1 + (8 << 10) / gr_max_i64(1, cols));
}

static int64_t parts_of(int64_t rows, int64_t chunk) {
    return (rows + chunk - 1) / chunk;
}

static void add_part(gr_decode *d, part *p, gr_task *task) {
    const gr_model_config *c = &d->rt->model->config;
    bool heads = task == head_task;
    if (p->g.ranks) add_leg(d, low_rank_task, before_low_rank, p, p->g.ranks);
    p->chunk = gr_decode_chunk(d, p->g.linear[0].w.rows, p->g.linear[0].w.cols);
    int64_t rows = task == mlp_task ? c->mlp : p->g.linear[0].w.rows, chunks = parts_of(rows, p->chunk);
    add_leg(d, task, heads ? before_heads : before_rows, p, heads ? c->heads + 2 * c->kv_heads : chunks);
}

/* A mixture, in the place of gate, up and down. */
static void add_experts(gr_decode *d, gr_decode_layer *layer, int64_t l) {
    const gr_net *net = &d->rt->net;
    gr_decode_experts *x = &layer->experts;
    *x = (gr_decode_experts){
        .before = &layer->part[GR_GATE_UP], .behind = &layer->part[GR_DOWN], .e = gr_net_experts(net, l)};
    x->before->g.in = x->e.hidden;
    x->before->chunk = gr_decode_chunk(d, x->e.router.rows, x->e.hidden);
    x->behind->chunk = gr_decode_chunk(d, x->e.hidden, x->e.used * x->e.mlp);
    x->chunk = gr_decode_chunk(d, x->e.mlp, x->e.hidden);
    x->chunks = parts_of(x->e.mlp, x->chunk);
    x->ranks = x->e.gate.rank + x->e.up.rank;
    add_leg(d, gr_decode_router, NULL, x, parts_of(x->e.router.rows, x->before->chunk));
    add_leg(d, gr_decode_choose, NULL, x, 1);
    add_leg(d, gr_decode_open_low, NULL, x, x->e.used * x->ranks);
    add_leg(d, gr_decode_experts_open, NULL, x, x->e.used * x->chunks);
    add_leg(d, gr_decode_close_low, NULL, x, x->e.used * x->e.down.rank);
    add_leg(d, gr_decode_experts_close, NULL, x, parts_of(x->e.hidden, x->behind->chunk));
}

static void add_layer(gr_decode *d, int64_t l) {
    const gr_net *net = &d->rt->net;
    gr_decode_layer *x = &d->layers[l];
    static const gr_norm_place before[GR_GROUPS] =
        {[GR_QKV] = GR_BEFORE_ATTENTION, [GR_GATE_UP] = GR_BEFORE_MLP},
                               behind[GR_GROUPS] = {[GR_O] = GR_BEHIND_ATTENTION, [GR_DOWN] = GR_BEHIND_MLP};
    bool joins = gr_net_joins(&net->model->config);
    const void *inputs[GR_GROUPS] = {d->x, d->attn, d->x, d->mlp};
    *x = (gr_decode_layer){.attend = {&d->attend, l, net->model->layer[l].window},
                           .q = gr_net_rotary(net, GR_Q_NORM, l),
                           .k = gr_net_rotary(net, GR_K_NORM, l)};
    for (int g = 0; g < GR_GROUPS; g++)
        x->part[g] = (part){
            .d = d, .layer = x, .g = gr_net_group(net, l, g), .x = inputs[g], .number = l * GR_GROUPS + g};
    for (int g = 0; g < GR_GROUPS; g++) {
        if (g == GR_QKV || g == GR_GATE_UP) x->part[g].norm = gr_net_norm_at(net, before[g], l);
        if (g == GR_O || g == GR_DOWN) x->part[g].behind = gr_net_norm_at(net, behind[g], l);
    }
    add_part(d, &x->part[GR_QKV], head_task);
    if (x->q.wide) add_leg(d, wide_norm_task, NULL, &x->part[GR_QKV], 2);
    x->attend_leg = d->relay.count;
    add_leg(d, gr_attend_task, NULL, &x->attend, 0);
    add_leg(d, gr_attend_join, NULL, &x->attend, 0);
    add_part(d, &x->part[GR_O], joins ? branch_task : residual_task);
    if (joins) add_leg(d, join_task, NULL, &x->part[GR_O], 1);
    if (net->model->config.experts) {
        add_experts(d, x, l);
        return;
    }
    add_part(d, &x->part[GR_GATE_UP], mlp_task);
    add_part(d, &x->part[GR_DOWN], joins ? branch_task : residual_task);
    if (joins) add_leg(d, join_task, NULL, &x->part[GR_DOWN], 1);
}

void gr_decode_legs(gr_decode *d) {
    const gr_head *h = &d->rt->net.head;
    int64_t layers = d->rt->model->config.layers;
    part *head = &d->layers[layers].part[0];
    d->relay.count = 0;
    for (int64_t l = 0; l < layers; l++) add_layer(d, l);
    *head = (part){.d = d, .norm = h->norm, .x = d->x, .number = layers * GR_GROUPS};
    head->g = (gr_linear_group){.count = 1, .in = h->hidden, .ranks = h->rank, .a = h->a};
    head->g.linear[0] = (gr_linear){.w = *h->w, .rank = h->rank, .scale = h->scale, .b = h->b};
    add_part(d, head, logits_task);
    for (int i = 0; i < gr_pool_threads(d->rt->pool); i++) *gr_decode_space_of(d, i).normed = -1;
}

void gr_decode_count(gr_decode *d) {
    for (int64_t l = 0; l < d->rt->model->config.layers; l++) {
        gr_decode_layer *x = &d->layers[l];
        d->relay.legs[x->attend_leg].count = gr_attend_tasks(&x->attend);
        d->relay.legs[x->attend_leg + 1].count = gr_attend_joins(&x->attend);
    }
}
