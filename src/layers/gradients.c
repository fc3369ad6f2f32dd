#include "layers/gradients.h"

/* Rows join one after another: the sum of n of them has a slot for each bit set in n, and the next row adds
 * one where bit 0 is free, else takes over the slot of a sum that it joins. */
int gr_gradients_slots(int64_t rows, bool leaves) {
    int count = 1;
    while ((uint64_t)(leaves ? rows : (rows + 1) / 2) >> count) count++;
    return count;
}

/* Slot of a level: the sums of more rows lie below it. */
static int slot_of(uint64_t rows, int level) {
    return __builtin_popcountll(rows >> level >> 1);
}

void gr_gradients_levels(const gr_gradients *g, uint64_t rows, float *level[GR_TREE_LEVELS]) {
    for (int i = 0; i < GR_TREE_LEVELS; i++) {
        int slot = slot_of(rows, i);
        level[i] = slot < g->count ? g->slots[slot] : NULL;
    }
}

void gr_gradients_add_product(const gr_compute *c, const gr_gradients *g, int64_t at, uint64_t row, int64_t m,
                              int64_t n, const void *left, int64_t ld_left, const void *right, int64_t len) {
    float *slots[GR_TREE_LEVELS];
    gr_gradients_levels(g, row, slots);
    for (int i = 0; i < GR_TREE_LEVELS; i++)
        if (slots[i]) slots[i] += at;
    gr_product p = {.x = left, .ldx = ld_left, .w_act = right, .ld_w = n, .k = len};
    gr_matmul(c, m, n, &p, 1, &(gr_epilogue){.ldy = n, .slots = slots, .row = row});
}

static int level_of(uint64_t row) {
    int level = 0;
    while (row >> level & 1) level++;
    return level;
}

void gr_gradients_add_vector(const gr_compute *c, const gr_gradients *g, int64_t at, uint64_t row, float *v,
                             int64_t n) {
    int level = level_of(row);
    for (int i = 0; i < level; i++) c->k->add_f32(v, g->slots[slot_of(row, i)] + at, n);
    memcpy(g->slots[slot_of(row, level)] + at, v, (size_t)n * sizeof *v);
}

float *gr_gradients_leaf(const gr_gradients *g, int64_t at, uint64_t row) {
    return g->slots[__builtin_popcountll(row)] + at;
}

typedef struct join_job {
    const gr_kernels *k;
    const gr_gradients *g;
    int64_t at, n;
    uint64_t row;
} join_job;

#define JOIN_PIECE 16384 /* floats per task: 64 KB a level, which L2 holds */

static void join_piece(void *context, int task, int worker) {
    const join_job *j = context;
    int64_t i0 = (int64_t)task * JOIN_PIECE, n = gr_min_i64(JOIN_PIECE, j->n - i0);
    (void)worker;
    gr_gradients_add_vector(&(gr_compute){.k = j->k}, j->g, j->at + i0, j->row,
                            gr_gradients_leaf(j->g, j->at + i0, j->row), n);
}

void gr_gradients_join(const gr_compute *c, const gr_gradients *g, int64_t at, uint64_t row, int64_t n) {
    join_job j = {c->k, g, at, n, row};
    if (row & 1) gr_pool_run(c->pool, join_piece, &j, (int)((n + JOIN_PIECE - 1) / JOIN_PIECE));
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
