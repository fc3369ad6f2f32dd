#include "layers/rowwise.h"

#define PIECE 16 /* tokens per task: short enough to balance, long enough to be worth a task */

typedef struct pieces {
    void (*body)(void *context, int64_t t0, int64_t t1);
    void *context;
    int64_t tokens;
} pieces;

static void run_piece(void *context, int task, int worker) {
    const pieces *p = context;
    (void)worker;
    p->body(p->context, (int64_t)task * PIECE, gr_min_i64(((int64_t)task + 1) * PIECE, p->tokens));
}

void gr_for_tokens(const gr_compute *c, int64_t tokens, void (*body)(void *context, int64_t t0, int64_t t1),
                   void *context) {
    pieces p = {body, context, tokens};
    gr_pool_run(c->pool, run_piece, &p, (int)((tokens + PIECE - 1) / PIECE));
}

/* gr_for_tokens as a part of the profile that moves `bytes` a token. */
static void run_part(const gr_compute *c, gr_part part, int64_t bytes, int64_t tokens,
                     void (*body)(void *context, int64_t t0, int64_t t1), void *context) {
    gr_part before = gr_part_enter(c->profile, part);
    gr_for_tokens(c, tokens, body, context);
    gr_part_work(c->profile, 0, (double)(tokens * bytes));
    gr_part_enter(c->profile, before);
}

typedef struct norm_job {
    const gr_kernels *k;
    void *y;
    float *rstd, *dx;
    const void *x, *dy;
    const float *weight;
    float eps;
    int64_t n;
} norm_job;

static void norm_piece(void *context, int64_t t0, int64_t t1) {
    const norm_job *j = context;
    size_t row = (size_t)j->n * (size_t)j->k->act_bytes;
    for (int64_t t = t0; t < t1; t++)
        j->k->rmsnorm((char *)j->y + (size_t)t * row, &j->rstd[t], (const char *)j->x + (size_t)t * row,
                      j->weight, j->eps, j->n);
}

void gr_rmsnorm_forward(const gr_compute *c, void *y, float *rstd, const void *x, const float *weight,
                        float eps, int64_t tokens, int64_t n) {
    norm_job j = {.k = c->k, .y = y, .rstd = rstd, .x = x, .weight = weight, .eps = eps, .n = n};
    run_part(c, GR_PART_NORM, 2 * n * c->k->act_bytes, tokens, norm_piece, &j);
}

static void norm_back_piece(void *context, int64_t t0, int64_t t1) {
    const norm_job *j = context;
    size_t row = (size_t)j->n * (size_t)j->k->act_bytes;
    for (int64_t t = t0; t < t1; t++)
        j->k->rmsnorm_back(j->dx + t * j->n, (const char *)j->dy + (size_t)t * row, false,
                           (const char *)j->x + (size_t)t * row, j->rstd[t], j->weight, j->n);
}

void gr_rmsnorm_backward(const gr_compute *c, float *dx, const void *dy, const void *x, const float *rstd,
                         const float *weight, int64_t tokens, int64_t n) {
    norm_job j = {
        .k = c->k, .dx = dx, .dy = dy, .rstd = (float *)(uintptr_t)rstd, .x = x, .weight = weight, .n = n};
    run_part(c, GR_PART_NORM, n * (2 * c->k->act_bytes + 8), tokens, norm_back_piece, &j);
}

typedef struct weight_job {
    const gr_kernels *k;
    float *dw;
    const char *dy, *x;
    const float *rstd;
    bool dy_f32, add;
    int64_t count, n;
} weight_job;

#define COLUMNS 32 /* per task: enough tasks for the norm of a head, and sums in double that stay in L1 */

static void weight_columns(void *context, int task, int worker) {
    const weight_job *j = context;
    int64_t c0 = (int64_t)task * COLUMNS, cols = gr_min_i64(COLUMNS, j->n - c0), b = j->k->act_bytes;
    double sum[COLUMNS] = {0};
    float dy[COLUMNS], x[COLUMNS];
    (void)worker;
    for (int64_t t = 0; t < j->count; t++) {
        int64_t at = t * j->n + c0;
        if (j->dy_f32)
            memcpy(dy, j->dy + at * (int64_t)sizeof *dy, (size_t)cols * sizeof *dy);
        else
            j->k->to_f32(dy, j->dy + at * b, cols);
        j->k->to_f32(x, j->x + at * b, cols);
        for (int64_t i = 0; i < cols; i++) sum[i] += (double)dy[i] * (double)(x[i] * j->rstd[t]);
    }
    for (int64_t i = 0; i < cols; i++) j->dw[c0 + i] = (j->add ? j->dw[c0 + i] : 0) + (float)sum[i];
}

void gr_rmsnorm_weight_sum(const gr_compute *c, float *dw, bool add, const void *dy, bool dy_f32,
                           const void *x, const float *rstd, int64_t count, int64_t n) {
    weight_job j = {c->k, dw, dy, x, rstd, dy_f32, add, count, n};
    gr_pool_run(c->pool, weight_columns, &j, (int)((n + COLUMNS - 1) / COLUMNS));
}

void gr_rmsnorm_weight_backward(const gr_compute *c, const gr_gradients *gradients, int64_t at,
                                const void *dy, bool dy_f32, const void *x, const float *rstd, int64_t heads,
                                int64_t n, const gr_batch *batch) {
    size_t act = (size_t)c->k->act_bytes;
    for (int64_t j = 0; j < batch->nrows; j++) {
        int64_t first = batch->start[j] * heads, count = batch->start[j + 1] * heads - first;
        size_t skip = (size_t)(first * n);
        uint64_t row = batch->first + (uint64_t)j;
        gr_rmsnorm_weight_sum(c, gr_gradients_leaf(gradients, at, row), false,
                              (const char *)dy + skip * (dy_f32 ? sizeof(float) : act), dy_f32,
                              (const char *)x + skip * act, rstd + first, count, n);
        gr_gradients_join(c, gradients, at, row, n);
    }
}

typedef struct rotary_job {
    const gr_kernels *k;
    const gr_rotary *r;
    const gr_batch *batch;
    void *x;
    float *rstd, *dy;
    const void *raw;
} rotary_job;

/* Calls visit for every token of [t0, t1) with its position within its row. */
static void each_position(const gr_batch *b, int64_t t0, int64_t t1,
                          void (*visit)(const rotary_job *, int64_t t, int64_t pos), const rotary_job *j) {
    int64_t row = 0;
    while (b->start[row + 1] <= t0) row++;
    for (int64_t t = t0; t < t1; t++) {
        while (b->start[row + 1] <= t) row++;
        visit(j, t, t - b->start[row]);
    }
}

static void rotary_token(const rotary_job *j, int64_t t, int64_t pos) {
    const gr_rotary *r = j->r;
    int64_t half = r->d / 2;
    for (int64_t h = 0; h < r->heads; h++) {
        size_t at = (size_t)((t * r->heads + h) * r->d) * (size_t)j->k->act_bytes;
        char *x = (char *)j->x + at;
        if (r->norm)
            j->k->rmsnorm(x, &j->rstd[t * r->heads + h], (const char *)j->raw + at, r->norm, r->eps, r->d);
        j->k->rope(x, r->cosine + pos * half, r->sine + pos * half, (int)half, 1);
    }
}

static void rotary_piece(void *context, int64_t t0, int64_t t1) {
    const rotary_job *j = context;
    each_position(j->batch, t0, t1, rotary_token, j);
}

void gr_rotary_forward(const gr_compute *c, const gr_rotary *r, void *x, float *rstd, const void *raw,
                       const gr_batch *batch) {
    rotary_job j = {.k = c->k, .r = r, .batch = batch, .x = x, .rstd = rstd, .raw = raw};
    run_part(c, GR_PART_ROTARY, 2 * r->heads * r->d * c->k->act_bytes, batch->tokens, rotary_piece, &j);
}

static void rotary_back_token(const rotary_job *j, int64_t t, int64_t pos) {
    const gr_rotary *r = j->r;
    int64_t half = r->d / 2;
    float through_norm[GR_MAX_HEAD_DIM];
    for (int64_t h = 0; h < r->heads; h++) {
        int64_t at = (t * r->heads + h) * r->d;
        size_t at_bytes = (size_t)at * (size_t)j->k->act_bytes;
        float *dy = j->dy + at;
        j->k->rope_f32(dy, r->cosine + pos * half, r->sine + pos * half, (int)half, -1);
        if (r->norm) {
            memset(through_norm, 0, (size_t)r->d * sizeof *through_norm);
            j->k->rmsnorm_back(through_norm, dy, true, (const char *)j->raw + at_bytes,
                               j->rstd[t * r->heads + h], r->norm, r->d);
            dy = through_norm;
        }
        j->k->to_act((char *)j->x + at_bytes, dy, r->d);
    }
}

static void rotary_back_piece(void *context, int64_t t0, int64_t t1) {
    const rotary_job *j = context;
    each_position(j->batch, t0, t1, rotary_back_token, j);
}

void gr_rotary_backward(const gr_compute *c, const gr_rotary *r, void *dx, float *dy, const float *rstd,
                        const void *raw, const gr_batch *batch) {
    rotary_job j = {
        .k = c->k, .r = r, .batch = batch, .x = dx, .dy = dy, .rstd = (float *)(uintptr_t)rstd, .raw = raw};
    run_part(c, GR_PART_ROTARY, r->heads * r->d * (c->k->act_bytes + 4), batch->tokens, rotary_back_piece,
             &j);
}

typedef struct swiglu_job {
    const gr_kernels *k;
    void *y, *gate, *up;
    const void *dy;
    int64_t m;
} swiglu_job;

static void swiglu_piece(void *context, int64_t t0, int64_t t1) {
    const swiglu_job *j = context;
    size_t at = (size_t)(t0 * j->m) * (size_t)j->k->act_bytes;
    j->k->swiglu((char *)j->y + at, (char *)j->gate + at, (char *)j->up + at, (t1 - t0) * j->m);
}

void gr_swiglu_forward(const gr_compute *c, void *y, const void *gate, const void *up, int64_t tokens,
                       int64_t m) {
    swiglu_job j = {.k = c->k, .y = y, .gate = (void *)(uintptr_t)gate, .up = (void *)(uintptr_t)up, .m = m};
    run_part(c, GR_PART_SWIGLU, 3 * m * c->k->act_bytes, tokens, swiglu_piece, &j);
}

static void swiglu_back_piece(void *context, int64_t t0, int64_t t1) {
    const swiglu_job *j = context;
    size_t at = (size_t)(t0 * j->m) * (size_t)j->k->act_bytes;
    char *gate = (char *)j->gate + at, *up = (char *)j->up + at;
    j->k->swiglu_back(gate, up, (const char *)j->dy + at, gate, up, (t1 - t0) * j->m);
}

void gr_swiglu_backward(const gr_compute *c, void *gate, void *up, const void *dy, int64_t tokens,
                        int64_t m) {
    swiglu_job j = {.k = c->k, .gate = gate, .up = up, .dy = dy, .m = m};
    run_part(c, GR_PART_SWIGLU, 5 * m * c->k->act_bytes, tokens, swiglu_back_piece, &j);
}

typedef struct round_job {
    const gr_kernels *k;
    void *y;
    const float *x;
    int64_t n;
} round_job;

#define ROUND_PIECE 8192

static void round_task(void *context, int task, int worker) {
    const round_job *j = context;
    int64_t at = (int64_t)task * ROUND_PIECE;
    (void)worker;
    j->k->to_act((char *)j->y + at * j->k->act_bytes, j->x + at, gr_min_i64(ROUND_PIECE, j->n - at));
}

void gr_round_act(const gr_compute *c, void *y, const float *x, int64_t n) {
    round_job j = {c->k, y, x, n};
    gr_part before = gr_part_enter(c->profile, GR_PART_ROUND);
    gr_pool_run(c->pool, round_task, &j, (int)((n + ROUND_PIECE - 1) / ROUND_PIECE));
    gr_part_work(c->profile, 0, (double)(n * (4 + c->k->act_bytes)));
    gr_part_enter(c->profile, before);
}
