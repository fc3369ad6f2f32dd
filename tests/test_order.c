/* The order of rows: every row once an epoch, reproducible, seekable. */
#include "data/rows.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define ROWS 103

static gr_order make(int64_t count, bool shuffle, uint64_t seed) {
    gr_order order;
    graft_error err = {0};
    assert_int_equal(gr_order_init(&order, count, shuffle, seed, &err), GRAFT_OK);
    return order;
}

/* Takes one whole epoch in batches. */
static void take_epoch(gr_order *order, int64_t batch, int64_t *out) {
    int64_t done = 0, turns = 0;
    while (done < order->count) {
        int64_t n = gr_order_take(order, out + done, batch);
        assert_int_equal(n, gr_min_i64(batch, order->count - done));
        done += n;
        turns++;
    }
    assert_int_equal(turns, gr_order_iterations_per_epoch(order->count, batch));
}

static void assert_permutation(const int64_t *indices) {
    int seen[ROWS] = {0};
    for (int i = 0; i < ROWS; i++) {
        assert_in_range(indices[i], 0, ROWS - 1);
        assert_int_equal(seen[indices[i]]++, 0);
    }
}

static void epochs_are_permutations(void **state) {
    (void)state;
    int64_t a[ROWS], b[ROWS], c[ROWS];
    gr_order order = make(ROWS, true, 7), other = make(ROWS, true, 8);
    take_epoch(&order, 4, a);
    take_epoch(&order, 10, b);
    take_epoch(&other, 4, c);
    assert_permutation(a);
    assert_permutation(b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    assert_int_equal(order.epoch, 1);
    gr_order_free(&order);
    gr_order_free(&other);
}

static void file_order_repeats(void **state) {
    (void)state;
    int64_t a[ROWS];
    gr_order order = make(ROWS, false, 7);
    for (int epoch = 0; epoch < 2; epoch++) {
        take_epoch(&order, 8, a);
        for (int i = 0; i < ROWS; i++) assert_int_equal(a[i], i);
    }
    gr_order_free(&order);
}

static void seeking_continues_exactly(void **state) {
    (void)state;
    int64_t whole[3 * ROWS], rest[16];
    gr_order order = make(ROWS, true, 42);
    for (int e = 0; e < 3; e++) take_epoch(&order, 5, whole + e * ROWS);
    gr_order resumed = make(ROWS, true, 42);
    graft_error err = {0};
    assert_int_equal(gr_order_seek(&resumed, 2, 35, &err), GRAFT_OK);
    assert_int_equal(gr_order_take(&resumed, rest, 16), 16);
    assert_memory_equal(rest, whole + 2 * ROWS + 35, sizeof rest);
    assert_int_equal(gr_order_seek(&resumed, 0, ROWS, &err), GRAFT_OK); /* exactly at the seam */
    assert_int_equal(gr_order_take(&resumed, rest, 16), 16);
    assert_memory_equal(rest, whole + ROWS, sizeof rest);
    assert_int_equal(gr_order_seek(&resumed, 0, ROWS + 1, &err), GRAFT_MISMATCH);
    gr_order_free(&order);
    gr_order_free(&resumed);
}

static void sizes_are_checked(void **state) {
    (void)state;
    gr_order order;
    graft_error err = {0};
    assert_int_equal(gr_order_init(&order, 0, true, 1, &err), GRAFT_RANGE);
    gr_error_clear(&err);
    assert_int_equal(gr_order_init(&order, (int64_t)INT32_MAX + 1, false, 1, &err), GRAFT_RANGE);
    assert_int_equal(gr_order_iterations_per_epoch(8, 4), 2);
    assert_int_equal(gr_order_iterations_per_epoch(9, 4), 3);
    assert_int_equal(gr_order_iterations_per_epoch(1, 4), 1);
    int64_t one[2];
    order = make(1, true, 3);
    assert_int_equal(gr_order_take(&order, one, 2), 1);
    assert_int_equal(gr_order_take(&order, one, 2), 1);
    assert_int_equal(one[0], 0);
    gr_order_free(&order);
}

/* Shuffling must favour no place: over many epochs each row comes first about equally often. */
static void first_place_is_fair(void **state) {
    (void)state;
    enum { N = 8, EPOCHS = 8000 };
    int64_t first[N] = {0}, a[N];
    gr_order order = make(N, true, 11);
    for (int e = 0; e < EPOCHS; e++) {
        take_epoch(&order, N, a);
        first[a[0]]++;
    }
    /* binomial with n = 8000, p = 1/8: standard deviation 29.6; six of them */
    for (int i = 0; i < N; i++) assert_in_range(first[i], 1000 - 178, 1000 + 178);
    gr_order_free(&order);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(epochs_are_permutations),   cmocka_unit_test(file_order_repeats),
        cmocka_unit_test(seeking_continues_exactly), cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(first_place_is_fair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
