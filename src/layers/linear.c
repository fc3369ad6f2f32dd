#include "layers/linear.h"

/* An adapter's matrix as an operand. */
static gr_mat lora_mat(const float *data, int64_t rows, int64_t cols, float alpha) {
    return (gr_mat){.layout = GR_DENSE,
                    .dtype = GR_F32,
                    .rows = rows,
                    .cols = cols,
                    .ld = cols,
                    .data = data,
                    .alpha = alpha};
}

static const char *act_at(const gr_compute *c, const void *base, int64_t element) {
    return base ? (const char *)base + element * c->k->act_bytes : NULL; /* no adapter: no buffer */
}

void gr_linear_forward(const gr_compute *c, const gr_linear_group *g, void *const *y, void *xa, const void *x,
                       int64_t tokens, const void *residual) {
    if (g->ranks) {
        gr_mat a = lora_mat(g->a, g->ranks, g->in, g->scale);
        gr_product p = {.x = x, .ldx = g->in, .w = &a, .trans = true, .k = g->in};
        gr_matmul(c, tokens, g->ranks, &p, 1, &(gr_epilogue){.y = xa, .ldy = g->ranks});
    }
    int64_t column = 0;
    for (int i = 0; i < g->count; i++) {
        const gr_linear *l = &g->linear[i];
        int64_t out = l->w->rows;
        gr_mat b = lora_mat(l->b, l->rank, out, 1);
        gr_product p[2] = {
            {.x = x, .ldx = g->in, .w = l->w, .trans = true, .k = g->in},
            {.x = act_at(c, xa, column), .ldx = g->ranks, .w = &b, .k = l->rank},
        };
        gr_epilogue e = {.y = y[i], .ldy = out, .bias = l->bias};
        if (i == 0 && residual) e.residual = residual, e.ld_residual = out;
        gr_matmul(c, tokens, out, p, l->rank ? 2 : 1, &e);
        column += l->rank;
    }
}

/* dxa[T, ranks] = scale * dy_i B_i^T, side by side. */
static void backward_low_rank(const gr_compute *c, const gr_linear_group *g, void *dxa, const void *const *dy,
                              int64_t tokens) {
    int64_t column = 0;
    for (int i = 0; i < g->count; i++) {
        const gr_linear *l = &g->linear[i];
        int64_t out = l->w->rows;
        if (!l->rank) continue;
        gr_mat b = lora_mat(l->b, l->rank, out, g->scale);
        gr_product p = {.x = dy[i], .ldx = out, .w = &b, .trans = true, .k = out};
        gr_matmul(c, tokens, l->rank, &p, 1,
                  &(gr_epilogue){.y = (char *)dxa + column * c->k->act_bytes, .ldy = g->ranks});
        column += l->rank;
    }
}

/* dA = dxa^T x and dB = xa^T dy, row by row: each row's gradient is complete before it joins the tree. */
static void backward_parameters(const gr_compute *c, const gr_linear_group *g, const gr_gradients *gradients,
                                const void *const *dy, const void *x, const void *xa, const gr_batch *batch,
                                const gr_linear_scratch *scratch) {
    int64_t tokens = batch->tokens;
    c->k->transpose(scratch->dxa_t, tokens, scratch->dxa, g->ranks, tokens, g->ranks);
    c->k->transpose(scratch->xa_t, tokens, xa, g->ranks, tokens, g->ranks);
    for (int64_t j = 0; j < batch->nrows; j++) {
        int64_t t0 = batch->start[j], len = batch->start[j + 1] - t0, column = 0;
        uint64_t row = batch->first + (uint64_t)j;
        gr_gradients_add_product(c, gradients, g->a_at, row, g->ranks, g->in, act_at(c, scratch->dxa_t, t0),
                                 tokens, act_at(c, x, t0 * g->in), len);
        for (int i = 0; i < g->count; i++) {
            const gr_linear *l = &g->linear[i];
            int64_t out = l->w->rows;
            if (!l->rank) continue;
            gr_gradients_add_product(c, gradients, l->b_at, row, l->rank, out,
                                     act_at(c, scratch->xa_t, column * tokens + t0), tokens,
                                     act_at(c, dy[i], t0 * out), len);
            column += l->rank;
        }
    }
}

void gr_linear_backward(const gr_compute *c, const gr_linear_group *g, void *dx,
                        const gr_gradients *gradients, const void *const *dy, const void *x, const void *xa,
                        const gr_batch *batch, const gr_linear_scratch *scratch) {
    if (g->ranks) {
        backward_low_rank(c, g, scratch->dxa, dy, batch->tokens);
        backward_parameters(c, g, gradients, dy, x, xa, batch, scratch);
    }
    if (!dx) return;
    gr_product p[GR_GROUP_MOST + 1];
    int n = 0;
    for (int i = 0; i < g->count; i++) {
        int64_t out = g->linear[i].w->rows;
        p[n++] = (gr_product){.x = dy[i], .ldx = out, .w = g->linear[i].w, .k = out};
    }
    gr_mat a = lora_mat(g->a, g->ranks, g->in, 1);
    if (g->ranks) p[n++] = (gr_product){.x = scratch->dxa, .ldx = g->ranks, .w = &a, .k = g->ranks};
    gr_matmul(c, batch->tokens, g->in, p, n, &(gr_epilogue){.y = dx, .ldy = g->in});
}
