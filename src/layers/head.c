#include "layers/head.h"
#include "layers/rowwise.h"
#include <math.h>

#define SOFTMAX_BYTES ((int64_t)54000000)

/* Two bytes of each logit and 8 of each panel. */
int64_t gr_head_tile(int64_t vocab) {
    int64_t rows = SOFTMAX_BYTES / (2 * vocab + vocab / 8) / GR_MR * GR_MR;
    return gr_max_i64(GR_HEAD_TILE_LEAST, gr_min_i64(GR_MBLK, rows));
}

int64_t gr_head_even_tile(int64_t tile, int64_t targets) {
    int64_t tiles = gr_max_i64(1, (targets + tile - 1) / tile), rows = (targets + tiles - 1) / tiles;
    return gr_max_i64(1, gr_min_i64(tile, (rows + GR_MR - 1) / GR_MR * GR_MR));
}

typedef struct tile_job {
    const gr_compute *c;
    const gr_head *h;
    const gr_batch *batch;
    const void *x;
    gr_target *targets;
    float *dx;
    const gr_gradients *gradients; /* NULL: no backward */
    int64_t next;                  /* first row of data whose gradients are not complete */
} tile_job;

static size_t act_row(const tile_job *j) {
    return (size_t)j->h->hidden * (size_t)j->c->k->act_bytes;
}

static bool drops(const tile_job *j) {
    return j->h->rank && j->batch && j->batch->dropout;
}

/* Masks row `task` of a [tile, hidden] array as the token it belongs to; y may be x. */
static void drop_row(const tile_job *j, void *y, const void *x, int task) {
    const gr_batch *b = j->batch;
    int64_t at = j->h->at[task], r = 0;
    size_t skip = (size_t)task * act_row(j);
    while (b->start[r + 1] <= at) r++;
    uint32_t site = gr_dropout_site(b->dropout, b->first + (uint64_t)r, j->h->layer, 0);
    j->c->k->drop((char *)y + skip, (const char *)x + skip, j->h->hidden,
                  gr_dropout_token(site, at - b->start[r]), gr_dropout_threshold(b->dropout));
}

/* What A is applied to, and the scale of the adapter, with dropout's 1 / (1 - p). */
static const void *low_rank_input(const tile_job *j) {
    return drops(j) ? j->h->dropped : j->h->x;
}
static float low_rank_scale(const tile_job *j) {
    return gr_dropout_scale(drops(j) ? j->batch->dropout : NULL, j->h->scale);
}

/* Gathers and normalizes row number `task` of the tile. */
static void gather_row(void *context, int task, int worker) {
    const tile_job *j = context;
    size_t row = act_row(j);
    char *in = (char *)j->h->x_in + (size_t)task * row;
    (void)worker;
    memcpy(in, (const char *)j->x + (size_t)j->h->at[task] * row, row);
    gr_norm_row(j->c->k, &j->h->norm, (char *)j->h->x + (size_t)task * row, &j->h->rstd[task], in,
                j->h->hidden);
    if (drops(j)) drop_row(j, j->h->dropped, j->h->x, task);
}

static void drop_low_row(void *context, int task, int worker) {
    const tile_job *j = context;
    (void)worker;
    drop_row(j, j->h->low, j->h->low, task);
}

/* Does the target's logit lead all panels: its own, and by their largest the others? */
static bool is_largest(const gr_softmax *s, const float *top, int64_t row) {
    int64_t own = s->target[row] / GR_NR;
    float best = s->target_logit[row];
    if (!s->leads[row]) return false;
    for (int64_t i = 0; i < s->panels; i++)
        if (i < own ? top[i] >= best : i > own && top[i] > best) return false;
    return true;
}

/* What the gradient of the tile row's loss is multiplied by. */
static float weight_of(const tile_job *j, int task) {
    const float *weight = j->batch->weight;
    return weight ? j->h->weight * weight[j->h->at[task]] : j->h->weight;
}

/* The loss of a row; what is left of it in top are the factors of its panels, in target_logit the gradient at
 * the target. */
static void loss_row(void *context, int task, int worker) {
    const tile_job *j = context;
    const gr_softmax *s = &j->h->softmax;
    float *top = s->top + task * s->panels, logit = s->target_logit[task], weight = weight_of(j, task);
    (void)worker;
    double lse = j->c->k->softmax_join(top, s->sum + task * s->panels, s->panels);
    j->targets[task] = (gr_target){.loss = lse - (double)logit, .correct = is_largest(s, top, task)};
    if (!j->gradients) return;
    j->c->k->softmax_factors(top, top, s->panels, lse, weight);
    s->target_logit[task] = (float)expm1((double)logit - lse) * weight;
    if (!(s->cap > 0)) return;
    j->h->lse[task] = (float)lse;
    s->target_logit[task] *= 1 - logit / s->cap * (logit / s->cap);
}

/* dx of the tile's rows through the final norm. */
static void scatter_row(void *context, int task, int worker) {
    const tile_job *j = context;
    const gr_head *h = j->h;
    (void)worker;
    gr_norm_row_back(j->c->k, &h->norm, j->dx + h->at[task] * h->hidden, h->dx + task * h->hidden, true,
                     (const char *)h->x_in + (size_t)task * act_row(j), h->rstd[task], h->hidden);
}

/* The tile's logits into wherever the epilogue says. */
static void logits_of_tile(const tile_job *j, int64_t rows, const gr_epilogue *e) {
    const gr_head *h = j->h;
    gr_pool_run(j->c->pool, gather_row, (void *)(uintptr_t)j, (int)rows);
    gr_mat a = gr_mat_f32(h->a, h->rank, h->hidden, low_rank_scale(j)),
           b = gr_mat_f32(h->b, h->rank, h->vocab, 1);
    if (h->rank) {
        gr_product p = {.x = low_rank_input(j), .ldx = h->hidden, .w = &a, .trans = true, .k = h->hidden};
        gr_matmul(j->c, rows, h->rank, &p, 1, &(gr_epilogue){.y = h->xa, .ldy = h->rank});
    }
    gr_product p[2] = {{.x = h->x, .ldx = h->hidden, .w = h->w, .trans = true, .k = h->hidden},
                       {.x = h->xa, .ldx = h->rank, .w = &b, .k = h->rank}};
    gr_matmul(j->c, rows, h->vocab, p, h->rank ? 2 : 1, e);
}

/* The tile's rows that belong to one row of data. */
typedef struct segment {
    int64_t i0, count;
    int64_t row;      /* of the batch */
    bool first, last; /* of the pieces that the row of data is cut into */
} segment;

static bool has_target(const gr_batch *b, int64_t t0, int64_t t1) {
    for (int64_t t = t0; t < t1; t++)
        if (b->target[t] >= 0) return true;
    return false;
}

/* The segment that starts at tile row i0. */
static segment segment_at(const tile_job *j, int64_t i0, int64_t rows) {
    const gr_batch *b = j->batch;
    const int64_t *at = j->h->at;
    int64_t r = 0, i1 = i0;
    while (b->start[r + 1] <= at[i0]) r++;
    while (i1 < rows && at[i1] < b->start[r + 1]) i1++;
    return (segment){.i0 = i0,
                     .count = i1 - i0,
                     .row = r,
                     .first = !has_target(b, b->start[r], at[i0]),
                     .last = !has_target(b, at[i1 - 1] + 1, b->start[r + 1])};
}

/* left[m, count] times right[count, n] into the leaf of the segment's row. */
static void add_product(const tile_job *j, const segment *s, int64_t at, int64_t m, int64_t n,
                        const void *left, const void *right, int64_t ld_right) {
    int64_t act = j->c->k->act_bytes;
    uint64_t leaf = j->batch->first + (uint64_t)s->row;
    gr_product p = {.x = (const char *)left + s->i0 * act,
                    .ldx = j->h->tile,
                    .w_act = (const char *)right + s->i0 * ld_right * act,
                    .ld_w = ld_right,
                    .k = s->count};
    gr_matmul(j->c, m, n, &p, 1,
              &(gr_epilogue){.y = gr_gradients_leaf(j->gradients, at, leaf),
                             .ldy = n,
                             .y_f32 = true,
                             .accumulate = !s->first});
    if (s->last && !j->h->shared) gr_gradients_join(j->c, j->gradients, at, leaf, m * n);
}

static float *norm_leaf(const tile_job *j, int64_t at, uint64_t leaf) {
    return at == GR_NOWHERE ? NULL : gr_gradients_leaf(j->gradients, at, leaf);
}

static void add_norm(const tile_job *j, const segment *s) {
    const gr_head *h = j->h;
    size_t skip = (size_t)s->i0 * act_row(j);
    uint64_t leaf = j->batch->first + (uint64_t)s->row;
    gr_norm_sums to = {norm_leaf(j, h->norm_at, leaf), norm_leaf(j, h->norm_bias_at, leaf)};
    gr_norm_weight_sum(j->c, &h->norm, to, !s->first, h->dx + s->i0 * h->hidden, true,
                       (const char *)h->x_in + skip, h->rstd + s->i0, s->count, h->hidden);
    if (!s->last) return;
    if (to.dw && h->norm_factor != 1) j->c->k->scale_f32(to.dw, h->norm_factor, h->hidden);
    if (to.dw) gr_gradients_join(j->c, j->gradients, h->norm_at, leaf, h->hidden);
    if (to.db) gr_gradients_join(j->c, j->gradients, h->norm_bias_at, leaf, h->hidden);
}

static bool norm_trains(const gr_head *h) {
    return h->norm_at != GR_NOWHERE || h->norm_bias_at != GR_NOWHERE;
}

static void add_segment(const tile_job *j, const segment *s) {
    const gr_head *h = j->h;
    if (h->w_at != GR_NOWHERE) add_product(j, s, h->w_at, h->vocab, h->hidden, h->dlogits_t, h->x, h->hidden);
    if (h->rank) {
        add_product(j, s, h->a_at, h->rank, h->hidden, h->dxa_t, low_rank_input(j), h->hidden);
        add_product(j, s, h->b_at, h->rank, h->vocab, h->xa_t, h->softmax.p, h->vocab);
    }
    if (norm_trains(h)) add_norm(j, s);
}

/* Rows of data without a target get zeros: each row is a leaf. */
static void pass_rows(tile_job *j, int64_t until) {
    for (; j->next < until; j->next++)
        add_segment(j, &(segment){.row = j->next, .first = true, .last = true});
}

typedef struct transpose_job {
    const tile_job *tile;
    int64_t rows;
} transpose_job;

#define TRANSPOSED 1024 /* columns of dlogits per task */

static void transpose_task(void *context, int task, int worker) {
    const transpose_job *j = context;
    const gr_head *h = j->tile->h;
    int64_t v0 = (int64_t)task * TRANSPOSED, act = j->tile->c->k->act_bytes;
    (void)worker;
    j->tile->c->k->transpose((char *)h->dlogits_t + v0 * h->tile * act, h->tile,
                             (const char *)h->softmax.p + v0 * act, h->vocab, j->rows,
                             gr_min_i64(TRANSPOSED, h->vocab - v0));
}

/* Gradients of head, adapter and final norm from dlogits, dxa and dx of the tile. */
static void add_gradients(tile_job *j, int64_t rows) {
    const gr_head *h = j->h;
    if (h->w_at != GR_NOWHERE)
        gr_pool_run(j->c->pool, transpose_task, &(transpose_job){j, rows},
                    (int)((h->vocab + TRANSPOSED - 1) / TRANSPOSED));
    if (h->rank) {
        j->c->k->transpose(h->xa_t, h->tile, h->xa, h->rank, rows, h->rank);
        j->c->k->transpose(h->dxa_t, h->tile, h->dxa, h->rank, rows, h->rank);
    }
    for (int64_t i = 0; i < rows;) {
        segment s = segment_at(j, i, rows);
        pass_rows(j, s.row);
        add_segment(j, &s);
        j->next = s.row + s.last;
        i += s.count;
    }
}

static bool trains(const gr_head *h) {
    return h->rank || h->w_at != GR_NOWHERE || norm_trains(h);
}

/* Columns of dlogits at a time: what a tile has of them stays in the cache between its scaling and the
 * product, which reads it once for every 64 columns of dx. */
#define CHUNK 4096

typedef struct chunk_job {
    const tile_job *tile;
    int64_t v0, n; /* columns */
} chunk_job;

/* dlogits = (p - [target]) * weight: the panels of row `task` by their factors. */
static void scale_row(void *context, int task, int worker) {
    const chunk_job *j = context;
    const gr_softmax *s = &j->tile->h->softmax;
    const gr_kernels *k = j->tile->c->k;
    char *row = (char *)s->p + ((int64_t)task * s->ldp + j->v0) * k->act_bytes;
    int64_t hit = s->target[task] - j->v0;
    (void)worker;
    k->softmax_scale(row, j->n, s->top + task * s->panels + j->v0 / GR_NR);
    if (s->cap > 0) {
        float weight = weight_of(j->tile, task);
        k->softmax_uncap(row, j->n, j->tile->h->lse[task], weight != 0 ? 1 / weight : 0, s->cap);
    }
    if (hit >= 0 && hit < j->n) k->to_act(row + hit * k->act_bytes, &s->target_logit[task], 1);
}

/* What beside dlogits W belongs to dx: none, a product, or masked already. Returns the products. */
static int low_rank_part(const tile_job *j, int64_t rows, gr_product *low, const gr_mat *a, gr_epilogue *e) {
    const gr_head *h = j->h;
    *low = (gr_product){.x = h->dxa, .ldx = h->rank, .w = a, .k = h->rank};
    if (!drops(j)) return 1;
    gr_matmul(j->c, rows, h->hidden, low, 1, &(gr_epilogue){.y = h->low, .ldy = h->hidden});
    gr_pool_run(j->c->pool, drop_low_row, (void *)(uintptr_t)j, (int)rows);
    e->residual = h->low;
    e->ld_residual = h->hidden;
    return 0;
}

/* dlogits in chunks and, `wanted`, dx from each; dxa needs all of them and joins the last. */
static void backward_chunks(const tile_job *j, int64_t rows, bool wanted) {
    const gr_head *h = j->h;
    gr_mat a = gr_mat_f32(h->a, h->rank, h->hidden, 1),
           b = gr_mat_f32(h->b, h->rank, h->vocab, low_rank_scale(j));
    for (int64_t v0 = 0; v0 < h->vocab; v0 += CHUNK) {
        chunk_job chunk = {j, v0, gr_min_i64(CHUNK, h->vocab - v0)};
        gr_epilogue e = {.y = h->dx, .ldy = h->hidden, .y_f32 = true, .accumulate = v0 > 0};
        gr_product p[2] = {{.x = (const char *)h->softmax.p + v0 * j->c->k->act_bytes,
                            .ldx = h->vocab,
                            .w = h->w,
                            .k = chunk.n,
                            .k_first = v0}};
        int more = 0;
        gr_pool_run(j->c->pool, scale_row, &chunk, (int)rows);
        if (h->rank && v0 + CHUNK >= h->vocab) {
            gr_product q = {.x = h->softmax.p, .ldx = h->vocab, .w = &b, .trans = true, .k = h->vocab};
            gr_matmul(j->c, rows, h->rank, &q, 1, &(gr_epilogue){.y = h->dxa, .ldy = h->rank});
            if (wanted) more = low_rank_part(j, rows, &p[1], &a, &e);
        }
        if (wanted) gr_matmul(j->c, rows, h->hidden, p, 1 + more, &e);
    }
}

/* From the softmax to dx and to the gradients of what trains. */
static void backward_of_tile(tile_job *j, int64_t rows) {
    backward_chunks(j, rows, j->dx || norm_trains(j->h));
    if (j->dx) gr_pool_run(j->c->pool, scatter_row, (void *)(uintptr_t)j, (int)rows);
    if (trains(j->h)) add_gradients(j, rows);
}

static void run_tile(tile_job *j, int64_t rows) {
    const gr_head *h = j->h;
    gr_profile *profile = j->c->profile;
    gr_part before = gr_part_enter(profile, GR_PART_HEAD);
    gr_softmax softmax = h->softmax;
    if (!j->gradients) softmax.p = NULL;
    for (int64_t i = 0; i < rows; i++) h->target[i] = j->batch->target[h->at[i]];
    logits_of_tile(j, rows, &(gr_epilogue){.softmax = &softmax});
    gr_part_enter(profile, GR_PART_HEAD_LOSS);
    gr_pool_run(j->c->pool, loss_row, (void *)(uintptr_t)j, (int)rows);
    gr_part_work(profile, 0, (double)(rows * softmax.panels * 8));
    gr_part_enter(profile, GR_PART_HEAD_DX);
    if (j->gradients) backward_of_tile(j, rows);
    gr_part_enter(profile, before);
}

/* Does the row of data that starts at token t0 fit what is left of the tile? */
static bool fits(const gr_head *h, const gr_batch *batch, int64_t t0, int64_t rows) {
    int64_t r = 0, n = 0;
    while (batch->start[r] < t0) r++;
    for (int64_t t = t0; t < batch->start[r + 1]; t++) n += batch->target[t] >= 0;
    return rows + n <= h->tile;
}

static bool starts_row(const gr_batch *batch, int64_t t) {
    for (int64_t r = 0; r < batch->nrows; r++)
        if (batch->start[r] == t) return true;
    return false;
}

static int64_t even_tile(const gr_head *h, const gr_batch *batch) {
    int64_t targets = 0;
    for (int64_t t = 0; t < batch->tokens; t++) targets += batch->target[t] >= 0;
    return gr_head_even_tile(h->tile, targets);
}

int64_t gr_head_loss(const gr_compute *c, const gr_head *h, gr_target *targets, float *dx,
                     const gr_gradients *gradients, const void *x, const gr_batch *batch) {
    tile_job j = {
        .c = c, .h = h, .batch = batch, .x = x, .targets = targets, .dx = dx, .gradients = gradients};
    int64_t done = 0, rows = 0, tile = even_tile(h, batch);
    /* How a row of data is cut must not depend on the others: the sums of its pieces would. */
    bool whole_rows = gradients && trains(h);
    if (whole_rows) tile = h->tile;
    for (int64_t t = 0; t < batch->tokens; t++) {
        bool full = rows == tile;
        if (whole_rows && rows && !full) full = starts_row(batch, t) && !fits(h, batch, t, rows);
        if (full) {
            run_tile(&j, rows);
            done += rows;
            rows = 0;
            j.targets = targets + done;
        }
        if (batch->target[t] >= 0) h->at[rows++] = t;
    }
    if (rows) run_tile(&j, rows);
    if (whole_rows) pass_rows(&j, batch->nrows);
    return done + rows;
}

void gr_head_logits(const gr_compute *c, const gr_head *h, float *logits, const void *x, int64_t t0,
                    int64_t n) {
    tile_job j = {.c = c, .h = h, .x = x};
    for (int64_t i = 0; i < n; i++) h->at[i] = t0 + i;
    logits_of_tile(&j, n, &(gr_epilogue){.y = logits, .ldy = h->vocab, .y_f32 = true});
    if (h->softmax.cap > 0) c->k->soft_cap(logits, n * h->vocab, 1, h->softmax.cap);
}
