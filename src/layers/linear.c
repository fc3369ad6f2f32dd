#include "layers/linear.h"

static char *act_at(const gr_compute *c, const void *base, int64_t element) {
    return base ? (char *)(uintptr_t)base + element * c->k->act_bytes : NULL; /* no adapter: no buffer */
}

bool gr_linear_needs_input(const gr_linear_group *g) {
    bool needs = g->ranks > 0;
    for (int i = 0; i < g->count; i++) needs |= g->linear[i].weight_at != GR_NOWHERE;
    return needs;
}

bool gr_linear_trains(const gr_linear_group *g) {
    bool trains = gr_linear_needs_input(g);
    for (int i = 0; i < g->count; i++) trains |= g->linear[i].bias_at != GR_NOWHERE;
    return trains;
}

/* What A is applied to. */
static const void *low_rank_input(const gr_compute *c, const gr_linear_group *g, const void *x,
                                  const gr_batch *batch, const gr_linear_scratch *scratch) {
    if (!batch->dropout || !g->ranks) return x;
    gr_dropout_rows(c, batch->dropout, g->layer, g->number, scratch->dropped, x, g->in, batch->start,
                    batch->nrows, batch->first);
    return scratch->dropped;
}

/* A pooled A is a matrix in affine groups whose codes and scales are all zero: its numbers are the biases. */
gr_mat gr_linear_a(const gr_linear_group *g, int64_t first, int64_t ranks, float alpha) {
    if (!g->pool) return gr_mat_f32(g->a + first * g->in, ranks, g->in, alpha);
    return (gr_mat){.layout = GR_AFFINE,
                    .dtype = GR_F32,
                    .bits = 2,
                    .group = (int)g->pool,
                    .rows = ranks,
                    .cols = g->in,
                    .data = g->zeros,
                    .scales = g->zeros,
                    .biases = g->a + first * (g->in / g->pool),
                    .alpha = alpha};
}

/* Have all adapters of the group one scale? */
static bool one_scale(const gr_linear_group *g) {
    const gr_linear *first = NULL;
    for (int i = 0; i < g->count; i++) {
        if (!g->linear[i].rank) continue;
        if (first && first->scale != g->linear[i].scale) return false;
        if (!first) first = &g->linear[i];
    }
    return true;
}

void gr_linear_low_rank(const gr_compute *c, const gr_linear_group *g, void *xa, const void *x,
                        const gr_batch *batch, const gr_linear_scratch *scratch) {
    bool together = one_scale(g); /* as a rule: one product for the whole group */
    int64_t column = 0;
    if (g->ranks) x = low_rank_input(c, g, x, batch, scratch);
    for (int i = 0; i < g->count && column < g->ranks; i++) {
        const gr_linear *l = &g->linear[i];
        int64_t ranks = together ? g->ranks : l->rank;
        if (!l->rank) continue;
        gr_mat a = gr_linear_a(g, column, ranks, gr_dropout_scale(batch->dropout, l->scale));
        gr_product p = {.x = x, .ldx = g->in, .w = &a, .trans = true, .k = g->in};
        gr_matmul(c, batch->tokens, ranks, &p, 1,
                  &(gr_epilogue){.y = act_at(c, xa, column), .ldy = g->ranks});
        column += ranks;
    }
}

void gr_linear_forward(const gr_compute *c, const gr_linear_group *g, void *const *y, void *xa, const void *x,
                       const gr_batch *batch, const void *residual, const gr_linear_scratch *scratch) {
    int64_t column = 0;
    gr_part before = gr_part_enter(c->profile, GR_PART_LOW_RANK);
    gr_linear_low_rank(c, g, xa, x, batch, scratch);
    gr_part_enter(c->profile, GR_PART_LINEAR);
    for (int i = 0; i < g->count; i++) {
        const gr_linear *l = &g->linear[i];
        int64_t out = l->w.rows;
        gr_mat b = gr_mat_f32(l->b, l->rank, out, 1);
        gr_product p[2] = {
            {.x = x, .ldx = g->in, .w = &l->w, .trans = true, .k = g->in},
            {.x = act_at(c, xa, column), .ldx = g->ranks, .w = &b, .k = l->rank},
        };
        gr_epilogue e = {.y = y[i], .ldy = out, .column_scale = l->dora.gain, .bias = l->bias};
        if (i == 0 && residual) e.residual = residual, e.ld_residual = out;
        gr_matmul(c, batch->tokens, out, p, l->rank && !l->merged ? 2 : 1, &e);
        column += l->rank;
    }
    gr_part_enter(c->profile, before);
}

/* ------------------------------------------------------------------ backward */

/* What one linear's backward reads. */
typedef struct side {
    const gr_compute *c;
    const gr_linear_group *g;
    const gr_linear *l;
    const gr_gradients *gradients;
    void *dy;
    const void *x, *xa;
    int64_t column; /* of the linear in xa */
    const gr_batch *batch;
    const gr_linear_scratch *scratch;
} side;

/* Number, first token and length of row j of the batch. */
static uint64_t row_of(const gr_batch *batch, int64_t j, int64_t *t0, int64_t *len) {
    *t0 = batch->start[j];
    *len = batch->start[j + 1] - *t0;
    return batch->first + (uint64_t)j;
}

static void bias_gradient(const side *s) {
    int64_t out = s->l->w.rows, t0, len;
    for (int64_t j = 0; j < s->batch->nrows; j++) {
        uint64_t row = row_of(s->batch, j, &t0, &len);
        gr_column_sums(s->c, s->scratch->sums, act_at(s->c, s->dy, t0 * out), NULL, len, out);
        gr_gradients_add_vector(s->c, s->gradients, s->l->bias_at, row, s->scratch->sums, out);
    }
}

/* d magnitude = sum of dy z / norm, z = x W^T + scale (x A^T) B: forward kept gain z + bias, rounded, from
 * which a gain of 0 would not give z back. */
static void magnitude_gradient(const side *s) {
    const gr_linear *l = s->l;
    int64_t out = l->w.rows, t0, len;
    gr_mat b = gr_mat_f32(l->b, l->rank, out, 1);
    gr_product p[2] = {
        {.x = s->x, .ldx = s->g->in, .w = &l->w, .trans = true, .k = s->g->in},
        {.x = act_at(s->c, s->xa, s->column), .ldx = s->g->ranks, .w = &b, .k = l->rank},
    };
    gr_matmul(s->c, s->batch->tokens, out, p, 2,
              &(gr_epilogue){.y = s->scratch->wide, .ldy = out, .column_scale = l->dora.inv_norm});
    for (int64_t j = 0; j < s->batch->nrows; j++) {
        uint64_t row = row_of(s->batch, j, &t0, &len);
        gr_column_sums(s->c, s->scratch->sums, act_at(s->c, s->dy, t0 * out),
                       act_at(s->c, s->scratch->wide, t0 * out), len, out);
        gr_gradients_add_vector(s->c, s->gradients, l->magnitude_at, row, s->scratch->sums, out);
    }
}

#define BLOCK 64 /* rows of a transposed block, and of a task that scales */

static void scale_rows(void *context, int task, int worker) {
    const side *s = context;
    int64_t out = s->l->w.rows, end = gr_min_i64(((int64_t)task + 1) * BLOCK, s->batch->tokens);
    float v[BLOCK];
    (void)worker;
    for (int64_t t = (int64_t)task * BLOCK; t < end; t++)
        for (int64_t o = 0; o < out; o += BLOCK) {
            int64_t n = gr_min_i64(BLOCK, out - o);
            void *dy = act_at(s->c, s->dy, t * out + o);
            s->c->k->to_f32(v, dy, n);
            for (int64_t i = 0; i < n; i++) v[i] *= s->l->dora.gain[o + i];
            s->c->k->to_act(dy, v, n);
        }
}

static void transpose_columns(void *context, int task, int worker) {
    const side *s = context;
    int64_t out = s->l->w.rows, o = (int64_t)task * BLOCK, tokens = s->batch->tokens;
    (void)worker;
    s->c->k->transpose(act_at(s->c, s->scratch->wide, o * tokens), tokens, act_at(s->c, s->dy, o), out,
                       tokens, gr_min_i64(BLOCK, out - o));
}

static int blocks(int64_t n) {
    return (int)((n + BLOCK - 1) / BLOCK);
}

/* dW = dy^T x */
static void weight_gradient(side *s) {
    int64_t out = s->l->w.rows, tokens = s->batch->tokens, t0, len;
    gr_pool_run(s->c->pool, transpose_columns, s, blocks(out));
    for (int64_t j = 0; j < s->batch->nrows; j++) {
        uint64_t row = row_of(s->batch, j, &t0, &len);
        gr_gradients_add_product(s->c, s->gradients, s->l->weight_at, row, out, s->g->in,
                                 act_at(s->c, s->scratch->wide, t0), tokens,
                                 act_at(s->c, s->x, t0 * s->g->in), len);
    }
}

/* Everything of a linear that trains beside A and B; afterwards dy has DoRA's gain in it. */
static void backward_direct(const gr_compute *c, const gr_linear_group *g, const gr_gradients *gradients,
                            void *const *dy, const void *x, const void *xa, const gr_batch *batch,
                            const gr_linear_scratch *scratch) {
    int64_t column = 0;
    for (int i = 0; i < g->count; i++) {
        side s = {c, g, &g->linear[i], gradients, dy[i], x, xa, column, batch, scratch};
        if (s.l->bias_at != GR_NOWHERE) bias_gradient(&s);
        if (s.l->magnitude_at != GR_NOWHERE) magnitude_gradient(&s);
        if (s.l->dora.gain) gr_pool_run(c->pool, scale_rows, &s, blocks(batch->tokens));
        if (s.l->weight_at != GR_NOWHERE) weight_gradient(&s);
        column += s.l->rank;
    }
}

/* dxa[T, ranks] = scale * dy_i B_i^T, side by side. */
static void backward_low_rank(const gr_compute *c, const gr_linear_group *g, void *dxa, void *const *dy,
                              const gr_batch *batch) {
    int64_t column = 0;
    for (int i = 0; i < g->count; i++) {
        const gr_linear *l = &g->linear[i];
        int64_t out = l->w.rows;
        if (!l->rank) continue;
        gr_mat b = gr_mat_f32(l->b, l->rank, out, gr_dropout_scale(batch->dropout, l->scale));
        gr_product p = {.x = dy[i], .ldx = out, .w = &b, .trans = true, .k = out};
        gr_matmul(c, batch->tokens, l->rank, &p, 1,
                  &(gr_epilogue){.y = act_at(c, dxa, column), .ldy = g->ranks});
        column += l->rank;
    }
}

typedef struct low_rank_job {
    const gr_compute *c;
    const gr_linear_scratch *scratch;
    const void *xa;
    int64_t tokens, ranks;
} low_rank_job;

/* dxa and x A of BLOCK tokens as columns. */
static void transpose_low_rank(void *context, int task, int worker) {
    const low_rank_job *j = context;
    int64_t t0 = (int64_t)task * BLOCK, n = gr_min_i64(BLOCK, j->tokens - t0);
    (void)worker;
    j->c->k->transpose(act_at(j->c, j->scratch->dxa_t, t0), j->tokens,
                       act_at(j->c, j->scratch->dxa, t0 * j->ranks), j->ranks, n, j->ranks);
    j->c->k->transpose(act_at(j->c, j->scratch->xa_t, t0), j->tokens, act_at(j->c, j->xa, t0 * j->ranks),
                       j->ranks, n, j->ranks);
}

typedef struct pool_job {
    const gr_compute *c;
    char *y;
    const void *x;
    int64_t tokens, in, pool;
} pool_job;

/* Sums of each `pool` elements, of BLOCK tokens. */
static void pool_rows(void *context, int task, int worker) {
    const pool_job *j = context;
    const int64_t groups = j->in / j->pool, end = gr_min_i64(((int64_t)task + 1) * BLOCK, j->tokens);
    float v[128];
    (void)worker;
    for (int64_t t = (int64_t)task * BLOCK; t < end; t++)
        for (int64_t g = 0; g < groups; g++) {
            float sum = 0;
            j->c->k->to_f32(v, act_at(j->c, j->x, t * j->in + g * j->pool), j->pool);
            for (int64_t i = 0; i < j->pool; i++) sum += v[i];
            j->c->k->to_act(act_at(j->c, j->y, t * groups + g), &sum, 1);
        }
}

/* What the gradient of A is taken from. */
static const void *pooled(const gr_compute *c, const gr_linear_group *g, const void *x, int64_t tokens,
                          const gr_linear_scratch *scratch) {
    if (!g->pool) return x;
    pool_job job = {c, scratch->pooled, x, tokens, g->in, g->pool};
    gr_pool_run(c->pool, pool_rows, &job, blocks(tokens));
    return scratch->pooled;
}

/* dA = dxa^T drop(x) and dB = xa^T dy, row by row: each row's gradient is complete before it joins the tree.
 */
static void backward_pair(const gr_compute *c, const gr_linear_group *g, const gr_gradients *gradients,
                          void *const *dy, const void *x, const void *xa, const gr_batch *batch,
                          const gr_linear_scratch *scratch) {
    const int64_t tokens = batch->tokens, width = g->pool ? g->in / g->pool : g->in;
    int64_t t0, len;
    x = pooled(c, g, low_rank_input(c, g, x, batch, scratch), tokens, scratch);
    low_rank_job job = {c, scratch, xa, tokens, g->ranks};
    gr_pool_run(c->pool, transpose_low_rank, &job, blocks(tokens));
    for (int64_t j = 0; j < batch->nrows; j++) {
        uint64_t row = row_of(batch, j, &t0, &len);
        int64_t column = 0;
        gr_gradients_add_product(c, gradients, g->a_at, row, g->ranks, width, act_at(c, scratch->dxa_t, t0),
                                 tokens, act_at(c, x, t0 * width), len);
        for (int i = 0; i < g->count; i++) {
            const gr_linear *l = &g->linear[i];
            int64_t out = l->w.rows;
            if (!l->rank) continue;
            gr_gradients_add_product(c, gradients, l->b_at, row, l->rank, out,
                                     act_at(c, scratch->xa_t, column * tokens + t0), tokens,
                                     act_at(c, dy[i], t0 * out), len);
            column += l->rank;
        }
    }
}

/* dx = sum of dy_i W_i + drop(dxa A); last, since dx may take the place of x. Dropped, the low-rank part
 * cannot ride in the sum: it is masked first and joins as a residual. */
static void backward_input(const gr_compute *c, const gr_linear_group *g, void *dx, void *const *dy,
                           const gr_batch *batch, const gr_linear_scratch *scratch) {
    gr_product p[GR_GROUP_MOST + 1];
    gr_epilogue e = {.y = dx, .ldy = g->in};
    int n = 0;
    for (int i = 0; i < g->count; i++) {
        int64_t out = g->linear[i].w.rows;
        p[n++] = (gr_product){.x = dy[i], .ldx = out, .w = &g->linear[i].w, .k = out};
    }
    gr_mat a = gr_linear_a(g, 0, g->ranks, 1);
    gr_product low = {.x = scratch->dxa, .ldx = g->ranks, .w = &a, .k = g->ranks};
    if (g->merged) { /* W has it */
        gr_matmul(c, batch->tokens, g->in, p, n, &e);
        return;
    }
    if (g->ranks && batch->dropout) {
        gr_matmul(c, batch->tokens, g->in, &low, 1, &(gr_epilogue){.y = scratch->dropped, .ldy = g->in});
        e.residual = low_rank_input(c, g, scratch->dropped, batch, scratch);
        e.ld_residual = g->in;
    } else if (g->ranks) {
        p[n++] = low;
    }
    gr_matmul(c, batch->tokens, g->in, p, n, &e);
}

void gr_linear_backward(const gr_compute *c, const gr_linear_group *g, void *dx,
                        const gr_gradients *gradients, void *const *dy, const void *x, const void *xa,
                        const gr_batch *batch, const gr_linear_scratch *scratch) {
    gr_part before = gr_part_enter(c->profile, GR_PART_TRAINED);
    backward_direct(c, g, gradients, dy, x, xa, batch, scratch);
    if (g->ranks) {
        gr_part_enter(c->profile, GR_PART_LOW_RANK_DX);
        backward_low_rank(c, g, scratch->dxa, dy, batch);
        gr_part_enter(c->profile, GR_PART_LOW_RANK_GRADIENT);
        backward_pair(c, g, gradients, dy, x, xa, batch, scratch);
    }
    gr_part_enter(c->profile, GR_PART_LINEAR_DX);
    if (dx) backward_input(c, g, dx, dy, batch, scratch);
    gr_part_enter(c->profile, before);
}
