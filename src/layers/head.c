#include "layers/head.h"

#define LOGITS_BYTES ((int64_t)50 << 20)

int64_t gr_head_tile(int64_t vocab) {
    int64_t rows = LOGITS_BYTES / (vocab * (int64_t)sizeof(float)) / GR_MR * GR_MR;
    return gr_max_i64(2 * GR_MR, gr_min_i64(43 * GR_MR, rows));
}

typedef struct tile_job {
    const gr_compute *c;
    const gr_head *h;
    const gr_batch *batch;
    const void *x;
    gr_target *targets;
    float *dx;
} tile_job;

static size_t act_row(const tile_job *j) {
    return (size_t)j->h->hidden * (size_t)j->c->k->act_bytes;
}

/* Gathers and normalizes row number `task` of the tile. */
static void gather_row(void *context, int task, int worker) {
    const tile_job *j = context;
    size_t row = act_row(j);
    char *in = (char *)j->h->x_in + (size_t)task * row;
    (void)worker;
    memcpy(in, (const char *)j->x + (size_t)j->h->at[task] * row, row);
    j->c->k->rmsnorm((char *)j->h->x + (size_t)task * row, &j->h->rstd[task], in, j->h->norm, j->h->eps,
                     j->h->hidden);
}

static bool is_largest(const float *logits, int64_t n, int64_t target) {
    float best = logits[target];
    for (int64_t i = 0; i < target; i++)
        if (logits[i] >= best) return false;
    for (int64_t i = target + 1; i < n; i++)
        if (logits[i] > best) return false;
    return true;
}

static void loss_row(void *context, int task, int worker) {
    const tile_job *j = context;
    float *logits = j->h->logits + task * j->h->vocab;
    int32_t target = j->batch->target[j->h->at[task]];
    (void)worker;
    double lse = j->c->k->logsumexp(logits, j->h->vocab);
    j->targets[task] =
        (gr_target){.loss = lse - (double)logits[target], .correct = is_largest(logits, j->h->vocab, target)};
    if (j->dx) j->c->k->cross_entropy_back(logits, logits, j->h->vocab, target, lse, j->h->weight);
}

/* dx of the tile's rows through the final norm. */
static void scatter_row(void *context, int task, int worker) {
    const tile_job *j = context;
    size_t row = act_row(j);
    (void)worker;
    j->c->k->rmsnorm_back(j->dx + j->h->at[task] * j->h->hidden, (const char *)j->h->dx + (size_t)task * row,
                          false, (const char *)j->h->x_in + (size_t)task * row, j->h->rstd[task], j->h->norm,
                          j->h->hidden);
}

static void logits_of_tile(const tile_job *j, int64_t rows) {
    const gr_head *h = j->h;
    gr_pool_run(j->c->pool, gather_row, (void *)(uintptr_t)j, (int)rows);
    gr_product p = {.x = h->x, .ldx = h->hidden, .w = h->w, .trans = true, .k = h->hidden};
    gr_matmul(j->c, rows, h->vocab, &p, 1, &(gr_epilogue){.y = h->logits, .ldy = h->vocab, .y_f32 = true});
}

static void run_tile(const tile_job *j, int64_t rows) {
    const gr_head *h = j->h;
    logits_of_tile(j, rows);
    gr_pool_run(j->c->pool, loss_row, (void *)(uintptr_t)j, (int)rows);
    if (!j->dx) return;
    /* dlogits are act elements at the start of each row's f32 memory */
    gr_product p = {.x = h->logits,
                    .ldx = h->vocab * (int64_t)sizeof(float) / j->c->k->act_bytes,
                    .w = h->w,
                    .k = h->vocab};
    gr_matmul(j->c, rows, h->hidden, &p, 1, &(gr_epilogue){.y = h->dx, .ldy = h->hidden});
    gr_pool_run(j->c->pool, scatter_row, (void *)(uintptr_t)j, (int)rows);
}

int64_t gr_head_loss(const gr_compute *c, const gr_head *h, gr_target *targets, float *dx, const void *x,
                     const gr_batch *batch) {
    tile_job j = {.c = c, .h = h, .batch = batch, .x = x, .targets = targets, .dx = dx};
    int64_t done = 0, rows = 0;
    for (int64_t t = 0; t < batch->tokens; t++) {
        if (batch->target[t] < 0) continue;
        h->at[rows++] = t;
        if (rows < h->tile) continue;
        j.targets = targets + done;
        run_tile(&j, rows);
        done += rows;
        rows = 0;
    }
    if (rows) {
        j.targets = targets + done;
        run_tile(&j, rows);
    }
    return done + rows;
}

void gr_head_logits(const gr_compute *c, const gr_head *h, const void *x, int64_t t0, int64_t n) {
    tile_job j = {.c = c, .h = h, .x = x};
    for (int64_t i = 0; i < n; i++) h->at[i] = t0 + i;
    logits_of_tile(&j, n);
}
