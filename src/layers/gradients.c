#include "layers/gradients.h"

void gr_gradients_add_product(const gr_compute *c, const gr_gradients *g, int64_t at, uint64_t row, int64_t m,
                              int64_t n, const void *left, int64_t ld_left, const void *right, int64_t len) {
    float *slots[GR_TREE_LEVELS];
    for (int s = 0; s < g->count; s++) slots[s] = g->slots[s] + at;
    gr_product p = {.x = left, .ldx = ld_left, .w_act = right, .ld_w = n, .k = len};
    gr_matmul(c, m, n, &p, 1, &(gr_epilogue){.ldy = n, .slots = slots, .row = row});
}

void gr_gradients_add_vector(const gr_compute *c, const gr_gradients *g, int64_t at, uint64_t row, float *v,
                             int64_t n) {
    int level = 0;
    for (; row >> level & 1; level++) c->k->add_f32(v, g->slots[level] + at, n);
    memcpy(g->slots[level] + at, v, (size_t)n * sizeof *v);
}

static int level_of(uint64_t row) {
    int level = 0;
    while (row >> level & 1) level++;
    return level;
}

float *gr_gradients_leaf(const gr_gradients *g, int64_t at, uint64_t row) {
    return g->slots[level_of(row)] + at;
}

typedef struct join_job {
    const gr_kernels *k;
    const gr_gradients *g;
    int64_t at, n;
    int level;
} join_job;

#define JOIN_PIECE 16384 /* floats per task: 64 KB a level, which L2 holds */

static void join_piece(void *context, int task, int worker) {
    const join_job *j = context;
    int64_t i0 = (int64_t)task * JOIN_PIECE, n = gr_min_i64(JOIN_PIECE, j->n - i0);
    (void)worker;
    for (int level = 0; level < j->level; level++)
        j->k->add_f32(j->g->slots[j->level] + j->at + i0, j->g->slots[level] + j->at + i0, n);
}

void gr_gradients_join(const gr_compute *c, const gr_gradients *g, int64_t at, uint64_t row, int64_t n) {
    join_job j = {c->k, g, at, n, level_of(row)};
    if (j.level) gr_pool_run(c->pool, join_piece, &j, (int)((n + JOIN_PIECE - 1) / JOIN_PIECE));
}

typedef struct sum_job {
    const gr_kernels *k;
    float *sum;
    const char *dy, *z;
    int64_t len, n;
} sum_job;

#define COLUMNS 64 /* per task: a cache line or more of every row, and sums in double that stay in L1 */

static void sum_columns(void *context, int task, int worker) {
    const sum_job *j = context;
    int64_t c0 = (int64_t)task * COLUMNS, cols = gr_min_i64(COLUMNS, j->n - c0);
    double sum[COLUMNS] = {0};
    float dy[COLUMNS], z[COLUMNS];
    (void)worker;
    for (int64_t t = 0; t < j->len; t++) {
        int64_t at = (t * j->n + c0) * j->k->act_bytes;
        j->k->to_f32(dy, j->dy + at, cols);
        if (j->z) j->k->to_f32(z, j->z + at, cols);
        for (int64_t i = 0; i < cols; i++) sum[i] += (double)dy[i] * (j->z ? (double)z[i] : 1);
    }
    for (int64_t i = 0; i < cols; i++) j->sum[c0 + i] = (float)sum[i];
}

void gr_column_sums(const gr_compute *c, float *sum, const void *dy, const void *z, int64_t len, int64_t n) {
    sum_job j = {c->k, sum, dy, z, len, n};
    gr_pool_run(c->pool, sum_columns, &j, (int)((n + COLUMNS - 1) / COLUMNS));
}
