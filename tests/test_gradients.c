/* layers/gradients.c: rows sum as one tree, in no more slots than that takes, however a gradient comes. */
#include "layers/gradients.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { N = 7, ROWS = 40, LEVELS = 8 };

static float value(int64_t row, int64_t i) {
    return 1.0f / (float)(3 + row * 5 + i); /* sums round, so that their order shows */
}

/* The definition: a slot for every level. */
static void define(float sum[N], int64_t rows) {
    float level[LEVELS][N];
    bool first = true;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < N; i++) {
            float v = value(row, i);
            int l = 0;
            for (; row >> l & 1; l++) v = level[l][i] + v;
            level[l][i] = v;
        }
    for (int l = 0; l < LEVELS; l++) {
        if (!(rows >> l & 1)) continue;
        for (int64_t i = 0; i < N; i++) sum[i] = first ? level[l][i] : level[l][i] + sum[i];
        first = false;
    }
}

typedef enum way { PRODUCT, VECTOR, LEAF } way;

static void add(const gr_compute *c, const gr_gradients *g, int64_t row, way how) {
    float v[N], one = 1;
    for (int64_t i = 0; i < N; i++) v[i] = value(row, i);
    if (how == PRODUCT) gr_gradients_add_product(c, g, 1, (uint64_t)row, 1, N, &one, 1, v, 1);
    if (how == VECTOR) gr_gradients_add_vector(c, g, 1, (uint64_t)row, v, N);
    if (how == LEAF) {
        memcpy(gr_gradients_leaf(g, 1, (uint64_t)row), v, sizeof v);
        gr_gradients_join(c, g, 1, (uint64_t)row, N);
    }
}

static void sums_as_defined(const gr_compute *c, int64_t rows, way how) {
    float *memory[LEVELS], *level[GR_TREE_LEVELS], expected[N];
    gr_gradients g = {.count = gr_gradients_slots(rows, how == LEAF)};
    assert_true(g.count <= LEVELS);
    for (int i = 0; i < g.count; i++) g.slots[i] = memory[i] = calloc(N + 1, sizeof(float));
    for (int64_t row = 0; row < rows; row++) add(c, &g, row, how);
    gr_gradients_levels(&g, (uint64_t)rows, level);
    define(expected, rows);
    for (int64_t i = 0; i < N; i++) {
        float sum = 0;
        bool first = true;
        for (int l = 0; l < LEVELS; l++)
            if (rows >> l & 1) sum = first ? level[l][1 + i] : level[l][1 + i] + sum, first = false;
        assert_memory_equal(&sum, &expected[i], sizeof sum);
    }
    for (int i = 0; i < g.count; i++) free(memory[i]);
}

static void every_number_of_rows(void **state) {
    gr_kernels k;
    gr_pool *pool;
    graft_error err = {0};
    (void)state;
    assert_int_equal(gr_kernels_init(&k, NULL, true, &err), GRAFT_OK);
    assert_int_equal(gr_pool_new(&pool, 1, &err), GRAFT_OK);
    gr_compute c = {.k = &k, .pool = pool, .scratch_bytes = gr_matmul_scratch(&k)};
    c.scratch = aligned_alloc(64, c.scratch_bytes);
    for (int64_t rows = 1; rows <= ROWS; rows++)
        for (way w = PRODUCT; w <= LEAF; w++) sums_as_defined(&c, rows, w);
    free(c.scratch);
    gr_pool_free(pool);
}

/* One vector for up to two rows, two for up to six. */
static void slots(void **state) {
    (void)state;
    static const int none[] = {1, 1, 2, 2, 2, 2, 3, 3}, leaves[] = {1, 2, 2, 3, 3, 3, 3, 4};
    for (int64_t rows = 1; rows <= 8; rows++) {
        assert_int_equal(gr_gradients_slots(rows, false), none[rows - 1]);
        assert_int_equal(gr_gradients_slots(rows, true), leaves[rows - 1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_number_of_rows), cmocka_unit_test(slots)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
