#include "layers/dropout.h"

static uint32_t fold(uint32_t h, uint32_t v) {
    uint32_t x = (h ^ v) + 0x9E3779B9u;
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}

uint32_t gr_dropout_site(const gr_dropout *d, uint64_t row, int64_t layer, int group) {
    uint32_t h = fold(0, (uint32_t)d->seed);
    h = fold(h, (uint32_t)(d->seed >> 32));
    h = fold(h, (uint32_t)d->update);
    h = fold(h, (uint32_t)(d->skip + row));
    return fold(h, (uint32_t)(layer * 4 + group));
}

uint32_t gr_dropout_token(uint32_t site, int64_t position) {
    return fold(site, (uint32_t)position);
}

uint32_t gr_dropout_threshold(const gr_dropout *d) {
    return (uint32_t)(d->p * 4294967296.0);
}

typedef struct drop_job {
    const gr_kernels *k;
    uint32_t site, threshold;
    char *y;
    const char *x; /* of the row's first token */
    int64_t n;
    int64_t tokens;
} drop_job;

#define PIECE 16 /* tokens per task */

static void drop_piece(void *context, int task, int worker) {
    const drop_job *j = context;
    int64_t end = gr_min_i64(((int64_t)task + 1) * PIECE, j->tokens);
    (void)worker;
    for (int64_t t = (int64_t)task * PIECE; t < end; t++)
        j->k->drop(j->y + t * j->n * j->k->act_bytes, j->x + t * j->n * j->k->act_bytes, j->n,
                   gr_dropout_token(j->site, t), j->threshold);
}

void gr_dropout_rows(const gr_compute *c, const gr_dropout *d, int64_t layer, int group, void *y,
                     const void *x, int64_t n, const int64_t *start, int64_t nrows, uint64_t first) {
    for (int64_t row = 0; row < nrows; row++) {
        int64_t at = start[row] * n * c->k->act_bytes;
        drop_job j = {c->k,
                      gr_dropout_site(d, first + (uint64_t)row, layer, group),
                      gr_dropout_threshold(d),
                      (char *)y + at,
                      (const char *)x + at,
                      n,
                      start[row + 1] - start[row]};
        gr_pool_run(c->pool, drop_piece, &j, (int)((j.tokens + PIECE - 1) / PIECE));
    }
}
