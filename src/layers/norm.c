#include "layers/norm.h"
#include "layers/rowwise.h"

typedef struct norm_job {
    const gr_kernels *k;
    const gr_norm *norm;
    char *y;
    float *rstd, *dx;
    const char *x, *dy;
    int64_t n;
} norm_job;

static void norm_piece(void *context, int64_t t0, int64_t t1) {
    const norm_job *j = context;
    int64_t row = j->n * j->k->act_bytes;
    for (int64_t t = t0; t < t1; t++)
        gr_norm_row(j->k, j->norm, j->y + t * row, &j->rstd[t], j->x + t * row, j->n);
}

void gr_norm_forward(const gr_compute *c, void *y, float *rstd, const void *x, const gr_norm *norm,
                     int64_t tokens, int64_t n) {
    norm_job j = {.k = c->k, .norm = norm, .y = y, .rstd = rstd, .x = x, .n = n};
    gr_run_part(c, GR_PART_NORM, 2 * n * c->k->act_bytes, tokens, norm_piece, &j);
}

#define BLOCK 64 /* numbers that are converted at a time */

static void add_act(const gr_kernels *k, float *y, const char *x, int64_t n) {
    float v[BLOCK];
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = gr_min_i64(BLOCK, n - i);
        k->to_f32(v, x + i * k->act_bytes, m);
        k->add_f32(y + i, v, m);
    }
}

static void norm_back_piece(void *context, int64_t t0, int64_t t1) {
    const norm_job *j = context;
    int64_t row = j->n * j->k->act_bytes;
    for (int64_t t = t0; t < t1; t++)
        if (j->norm->weight)
            gr_norm_row_back(j->k, j->norm, j->dx + t * j->n, j->dy + t * row, false, j->x + t * row,
                             j->rstd[t], j->n);
        else
            add_act(j->k, j->dx + t * j->n, j->dy + t * row, j->n);
}

void gr_norm_backward(const gr_compute *c, float *dx, const void *dy, const void *x, const float *rstd,
                      const gr_norm *norm, int64_t tokens, int64_t n) {
    norm_job j = {
        .k = c->k, .norm = norm, .dx = dx, .dy = dy, .rstd = (float *)(uintptr_t)rstd, .x = x, .n = n};
    gr_run_part(c, GR_PART_NORM, n * (2 * c->k->act_bytes + 8), tokens, norm_back_piece, &j);
}

/* ------------------------------------------------------------------ a branch joins */

void gr_join_row(const gr_kernels *k, void *y, float *rstd, const void *x, const void *branch,
                 const gr_norm *norm, float scale, int64_t n, float *space) {
    float *sum = space, *normed = space + n;
    k->to_f32(sum, x, n);
    if (norm->weight) {
        gr_norm_row(k, norm, normed, rstd, branch, n); /* act, in the room of f32 */
        branch = normed;
    }
    for (int64_t i = 0; i < n; i += BLOCK) {
        float v[BLOCK];
        int64_t m = gr_min_i64(BLOCK, n - i);
        k->to_f32(v, (const char *)branch + i * k->act_bytes, m);
        if (scale != 1) k->scale_f32(v, scale, m);
        k->add_f32(sum + i, v, m);
    }
    k->to_act(y, sum, n);
}

typedef struct join_job {
    const gr_compute *c;
    const gr_norm *norm;
    float scale;
    char *y;
    float *rstd;
    const char *x, *branch;
    const float *dy;
    int64_t tokens, n;
} join_job;

#define PIECE 16 /* tokens per task, as rowwise.c has them */

static float *space_of(const join_job *j, int worker) {
    return (float *)(void *)(j->c->scratch + (size_t)worker * j->c->scratch_bytes);
}

static void join_task(void *context, int task, int worker) {
    const join_job *j = context;
    int64_t row = j->n * j->c->k->act_bytes, t1 = gr_min_i64(((int64_t)task + 1) * PIECE, j->tokens);
    for (int64_t t = (int64_t)task * PIECE; t < t1; t++)
        gr_join_row(j->c->k, j->y + t * row, j->rstd ? &j->rstd[t] : NULL, j->x + t * row,
                    j->branch + t * row, j->norm, j->scale, j->n, space_of(j, worker));
}

static void join_back_task(void *context, int task, int worker) {
    const join_job *j = context;
    const gr_kernels *k = j->c->k;
    int64_t row = j->n * k->act_bytes, t1 = gr_min_i64(((int64_t)task + 1) * PIECE, j->tokens);
    float *d = space_of(j, worker);
    for (int64_t t = (int64_t)task * PIECE; t < t1; t++) {
        if (j->norm->weight) {
            memset(d, 0, (size_t)j->n * sizeof *d);
            gr_norm_row_back(k, j->norm, d, j->dy + t * j->n, true, j->branch + t * row, j->rstd[t], j->n);
        } else {
            memcpy(d, j->dy + t * j->n, (size_t)j->n * sizeof *d);
        }
        if (j->scale != 1) k->scale_f32(d, j->scale, j->n);
        k->to_act(j->y + t * row, d, j->n);
    }
}

static void run_join(const join_job *j, void (*task)(void *context, int task, int worker), int64_t bytes) {
    gr_part before = gr_part_enter(j->c->profile, GR_PART_NORM);
    gr_pool_run(j->c->pool, task, (void *)(uintptr_t)j, (int)((j->tokens + PIECE - 1) / PIECE));
    gr_part_work(j->c->profile, 0, (double)(j->tokens * bytes));
    gr_part_enter(j->c->profile, before);
}

void gr_join_forward(const gr_compute *c, void *y, float *rstd, const void *x, const void *branch,
                     const gr_norm *norm, float scale, int64_t tokens, int64_t n) {
    join_job j = {.c = c,
                  .norm = norm,
                  .scale = scale,
                  .y = y,
                  .rstd = rstd,
                  .x = x,
                  .branch = branch,
                  .tokens = tokens,
                  .n = n};
    run_join(&j, join_task, 3 * n * c->k->act_bytes);
}

void gr_join_backward(const gr_compute *c, void *dbranch, const float *dy, const void *branch,
                      const float *rstd, const gr_norm *norm, float scale, int64_t tokens, int64_t n) {
    join_job j = {.c = c,
                  .norm = norm,
                  .scale = scale,
                  .y = dbranch,
                  .rstd = (float *)(uintptr_t)rstd,
                  .branch = branch,
                  .dy = dy,
                  .tokens = tokens,
                  .n = n};
    run_join(&j, join_back_task, n * (2 * c->k->act_bytes + 4));
}

/* ------------------------------------------------------------------ weights */

typedef struct weight_job {
    const gr_kernels *k;
    gr_norm_sums to;
    const char *dy, *x;
    const float *rstd;
    float *mean; /* [count]: LayerNorm's; NULL: 0 */
    bool dy_f32, add;
    int64_t count, n;
} weight_job;

#define COLUMNS 32 /* per task: enough tasks for the norm of a head, and sums in double that stay in L1 */

static void store_sum(float *to, const double *sum, int64_t n, bool add) {
    for (int64_t i = 0; to && i < n; i++) to[i] = (add ? to[i] : 0) + (float)sum[i];
}

static void weight_columns(void *context, int task, int worker) {
    const weight_job *j = context;
    int64_t c0 = (int64_t)task * COLUMNS, cols = gr_min_i64(COLUMNS, j->n - c0), b = j->k->act_bytes;
    double sum[COLUMNS] = {0}, shift[COLUMNS] = {0};
    float dy[COLUMNS], x[COLUMNS];
    (void)worker;
    for (int64_t t = 0; t < j->count; t++) {
        int64_t at = t * j->n + c0;
        float mean = j->mean ? j->mean[t] : 0;
        if (j->dy_f32)
            memcpy(dy, j->dy + at * (int64_t)sizeof *dy, (size_t)cols * sizeof *dy);
        else
            j->k->to_f32(dy, j->dy + at * b, cols);
        j->k->to_f32(x, j->x + at * b, cols);
        for (int64_t i = 0; i < cols; i++) sum[i] += (double)dy[i] * (double)((x[i] - mean) * j->rstd[t]);
        for (int64_t i = 0; j->to.db && i < cols; i++) shift[i] += (double)dy[i];
    }
    store_sum(j->to.dw ? j->to.dw + c0 : NULL, sum, cols, j->add);
    store_sum(j->to.db ? j->to.db + c0 : NULL, shift, cols, j->add);
}

static void mean_piece(void *context, int64_t t0, int64_t t1) {
    const weight_job *j = context;
    float v[BLOCK];
    for (int64_t t = t0; t < t1; t++) {
        double sum = 0;
        for (int64_t i = 0; i < j->n; i += BLOCK) {
            int64_t m = gr_min_i64(BLOCK, j->n - i);
            j->k->to_f32(v, j->x + (t * j->n + i) * j->k->act_bytes, m);
            for (int64_t e = 0; e < m; e++) sum += (double)v[e];
        }
        j->mean[t] = (float)(sum / (double)j->n);
    }
}

/* Vectors whose means are in the first worker's scratch at one time: it is larger than that many floats. */
#define AT_ONCE 4096

void gr_norm_weight_sum(const gr_compute *c, const gr_norm *norm, gr_norm_sums to, bool add, const void *dy,
                        bool dy_f32, const void *x, const float *rstd, int64_t count, int64_t n) {
    weight_job j = {
        .k = c->k, .to = to, .dy = dy, .x = x, .rstd = rstd, .dy_f32 = dy_f32, .add = add, .n = n};
    int64_t step = norm->bias ? AT_ONCE : gr_max_i64(count, 1), act = c->k->act_bytes;
    if (norm->bias) j.mean = (float *)(void *)c->scratch;
    for (int64_t t = 0; t == 0 || t < count; t += step) {
        j.count = gr_min_i64(step, count - t);
        j.dy = (const char *)dy + t * n * (dy_f32 ? (int64_t)sizeof(float) : act);
        j.x = (const char *)x + t * n * act;
        j.rstd = rstd + t;
        j.add = add || t > 0;
        if (j.mean) gr_for_tokens(c, j.count, mean_piece, &j);
        gr_pool_run(c->pool, weight_columns, &j, (int)((n + COLUMNS - 1) / COLUMNS));
    }
}

static float *leaf_at(const gr_gradients *gradients, int64_t at, uint64_t row) {
    return at == GR_NOWHERE ? NULL : gr_gradients_leaf(gradients, at, row);
}

void gr_norm_weight_backward(const gr_compute *c, const gr_norm *norm, const gr_gradients *gradients,
                             int64_t weight_at, int64_t bias_at, const void *dy, bool dy_f32, const void *x,
                             const float *rstd, int64_t heads, int64_t n, const gr_batch *batch) {
    size_t act = (size_t)c->k->act_bytes;
    if (weight_at == GR_NOWHERE && bias_at == GR_NOWHERE) return;
    for (int64_t j = 0; j < batch->nrows; j++) {
        int64_t first = batch->start[j] * heads, count = batch->start[j + 1] * heads - first;
        size_t skip = (size_t)(first * n);
        uint64_t row = batch->first + (uint64_t)j;
        gr_norm_sums to = {leaf_at(gradients, weight_at, row), leaf_at(gradients, bias_at, row)};
        gr_norm_weight_sum(c, norm, to, false, (const char *)dy + skip * (dy_f32 ? sizeof(float) : act),
                           dy_f32, (const char *)x + skip * act, rstd + first, count, n);
        if (to.dw) gr_gradients_join(c, gradients, weight_at, row, n);
        if (to.db) gr_gradients_join(c, gradients, bias_at, row, n);
    }
}
