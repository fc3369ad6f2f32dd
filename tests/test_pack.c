/* Packs of an epoch: every row once, no pack too full, as few as best fit gives, the same from the same seed.
 */
#include "data/rows.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ROWS = 700 };

/* Lengths from 0 (no target) to most, most of them short. */
static int32_t *lengths(int64_t count, int64_t most, uint64_t seed) {
    gr_rng rng;
    int32_t *cost = calloc((size_t)count, sizeof *cost);
    assert_non_null(cost);
    gr_rng_seed(&rng, seed, 1);
    for (int64_t i = 0; i < count; i++) {
        double u = gr_rng_uniform(&rng);
        cost[i] = i % 29 ? 1 + (int32_t)(u * u * u * (double)(most - 1)) : 0;
    }
    return cost;
}

static gr_order make(int64_t count, int64_t most, int64_t capacity, bool shuffle, uint64_t seed) {
    gr_order order;
    graft_error err = {0};
    assert_int_equal(gr_order_init(&order, count, shuffle, seed, &err), GRAFT_OK);
    if (gr_order_pack(&order, lengths(count, most, 5), capacity, &err) != GRAFT_OK) fail_msg("%s", err.what);
    return order;
}

/* Every row that costs something is in one pack; none is too full; longer rows come first in a pack. */
static void check_packs(const gr_order *order, int64_t capacity) {
    const gr_packs *p = order->packs;
    int seen[ROWS] = {0};
    int64_t rows = 0, tokens = 0, largest = 0, longest = 0;
    for (int64_t u = 0; u < p->count; u++) {
        int64_t sum = 0, before = capacity;
        for (int64_t k = 0; k < gr_order_unit_rows(order, u); k++) {
            int64_t row = gr_order_row(order, u, k);
            assert_in_range(row, 0, ROWS - 1);
            assert_int_equal(seen[row]++, 0);
            assert_in_range(p->cost[row], 1, before);
            before = p->cost[row];
            sum += before;
            longest = gr_max_i64(longest, before);
            rows++;
        }
        assert_in_range(sum, 1, capacity);
        tokens += sum;
        largest = gr_max_i64(largest, sum);
    }
    for (int64_t i = 0; i < order->count; i++) assert_int_equal(seen[i], p->cost[i] > 0);
    assert_int_equal(rows, p->rows);
    assert_int_equal(tokens, p->tokens);
    assert_int_equal(largest, p->largest);
    /* A pack is opened where no other has room for a row: all but the last have less than the longest left.
     */
    assert_true((p->count - 1) * (capacity - longest + 1) <= tokens);
}

/* Best fit, decreasing, as one would write it down; the room left of each pack, sorted. */
static int64_t plain_best_fit(const int32_t *cost, int64_t count, int64_t capacity, int64_t room[ROWS]) {
    bool done[ROWS] = {false};
    int64_t packs = 0;
    for (;;) {
        int64_t next = -1, best = -1;
        for (int64_t i = 0; i < count; i++)
            if (!done[i] && cost[i] && (next < 0 || cost[i] > cost[next])) next = i;
        if (next < 0) return packs;
        done[next] = true;
        for (int64_t k = 0; k < packs; k++)
            if (room[k] >= cost[next] && (best < 0 || room[k] < room[best])) best = k;
        if (best < 0) room[best = packs++] = capacity;
        room[best] -= cost[next];
    }
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void fills_as_best_fit(void **state) {
    (void)state;
    /* rooms in one word, several, several words of words; rows as long as packs; everything in one pack */
    static const int64_t sizes[][2] = {{60, 60},      {100, 100},      {250, 1000},  {700, 2048},
                                       {9000, 10000}, {50000, 300000}, {40, 1 << 30}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int64_t n = 2; n <= ROWS; n = n * 7 + 4) {
            int64_t capacity = sizes[i][1], room[ROWS], own[ROWS];
            gr_order order = make(n, sizes[i][0], capacity, true, 3);
            const gr_packs *p = order.packs;
            check_packs(&order, capacity);
            assert_int_equal(p->count, plain_best_fit(p->cost, n, capacity, room));
            for (int64_t u = 0; u < p->count; u++) {
                own[u] = capacity;
                for (int64_t k = 0; k < gr_order_unit_rows(&order, u); k++)
                    own[u] -= p->cost[gr_order_row(&order, u, k)];
            }
            qsort(room, (size_t)p->count, sizeof *room, by_value);
            qsort(own, (size_t)p->count, sizeof *own, by_value);
            assert_memory_equal(room, own, (size_t)p->count * sizeof *own);
            gr_order_free(&order);
        }
}

/* Short rows fill packs well: what is left is less than the longest row, in every pack but the last. */
static void packs_are_full(void **state) {
    (void)state;
    gr_order order = make(ROWS, 200, 2048, true, 3);
    const gr_packs *p = order.packs;
    double full = (double)p->tokens / (double)(p->count * 2048);
    int64_t least = (p->tokens + 2047) / 2048;
    assert_in_range(p->count, least, least + 1);
    assert_true(full > 0.9);
    gr_order_free(&order);
}

/* The rows of all packs of an epoch, -1 between packs. */
static int64_t whole_epoch(gr_order *order, int64_t batch, int64_t out[2 * ROWS]) {
    int64_t units[16], n = 0, taken = 0, turns = 0;
    while (taken < gr_order_units(order)) {
        int64_t got = gr_order_take(order, units, batch);
        assert_int_equal(got, gr_min_i64(batch, gr_order_units(order) - taken));
        for (int64_t i = 0; i < got; i++) {
            for (int64_t k = 0; k < gr_order_unit_rows(order, units[i]); k++)
                out[n++] = gr_order_row(order, units[i], k);
            out[n++] = -1;
        }
        taken += got;
        turns++;
    }
    assert_int_equal(turns, gr_order_iterations_per_epoch(gr_order_units(order), batch));
    return n;
}

/* From seed and epoch alone; other epochs have other packs, and as many. */
static void reproducible(void **state) {
    (void)state;
    static int64_t a[3][2 * ROWS], b[2 * ROWS], c[2 * ROWS];
    gr_order one = make(ROWS, 300, 512, true, 9), two = make(ROWS, 300, 512, true, 9),
             other = make(ROWS, 300, 512, true, 10);
    int64_t packs = gr_order_units(&one);
    for (int e = 0; e < 3; e++) {
        int64_t n = whole_epoch(&one, 4, a[e]);
        assert_int_equal(whole_epoch(&two, 7, b), n);
        assert_memory_equal(a[e], b, (size_t)n * sizeof *b);
        assert_int_equal(one.epoch, e);
        assert_int_equal(gr_order_units(&one), packs);
        check_packs(&one, 512);
    }
    assert_memory_not_equal(a[0], a[1], sizeof *b * ROWS);
    whole_epoch(&other, 4, c);
    assert_memory_not_equal(a[0], c, sizeof *b * ROWS);
    graft_error err = {0};
    assert_int_equal(gr_order_seek(&two, 1, 3, &err), GRAFT_OK); /* back from the end, then the rest again */
    int64_t unit, at = 0;
    for (int skipped = 0; skipped < 3; at++) skipped += a[1][at] < 0;
    assert_int_equal(gr_order_take(&two, &unit, 1), 1);
    for (int64_t k = 0; k < gr_order_unit_rows(&two, unit); k++)
        assert_int_equal(gr_order_row(&two, unit, k), a[1][at++]);
    assert_int_equal(gr_order_seek(&two, 1, packs + 1, &err), GRAFT_MISMATCH);
    gr_order_free(&one);
    gr_order_free(&two);
    gr_order_free(&other);
}

/* File order: rows that fill a pack each come as they are in the file, and every epoch is the same. */
static void file_order(void **state) {
    (void)state;
    static int64_t a[2 * ROWS], b[2 * ROWS];
    gr_order order = make(ROWS, 300, 512, false, 9);
    int64_t n = whole_epoch(&order, 4, a);
    assert_int_equal(whole_epoch(&order, 4, b), n);
    assert_memory_equal(a, b, (size_t)n * sizeof *a);
    gr_order_free(&order);
    graft_error err = {0};
    int32_t *cost = calloc(20, sizeof *cost);
    for (int i = 0; i < 20; i++) cost[i] = 6 + i % 3;
    assert_int_equal(gr_order_init(&order, 20, false, 0, &err), GRAFT_OK);
    assert_int_equal(gr_order_pack(&order, cost, 10, &err), GRAFT_OK);
    assert_int_equal(gr_order_units(&order), 20);
    for (int i = 0; i < 20; i++) assert_int_equal(gr_order_row(&order, i, 0), i);
    gr_order_free(&order);
}

/* Shuffling favours no row: in 4000 epochs of ten rows, two a pack, each opens the first pack about as often.
 * binomial with p = 1/5 among the five long ones: standard deviation 25.3; six of them */
static void first_pack_is_fair(void **state) {
    (void)state;
    enum { N = 10, EPOCHS = 4000 };
    int64_t first[N] = {0}, units[N];
    graft_error err = {0};
    gr_order order;
    int32_t *cost = calloc(N, sizeof *cost);
    for (int i = 0; i < N; i++) cost[i] = i % 2 ? 7 : 3;
    assert_int_equal(gr_order_init(&order, N, true, 11, &err), GRAFT_OK);
    assert_int_equal(gr_order_pack(&order, cost, 10, &err), GRAFT_OK);
    assert_int_equal(gr_order_units(&order), N / 2);
    for (int e = 0; e < EPOCHS; e++) {
        assert_int_equal(gr_order_take(&order, units, N), N / 2);
        first[gr_order_row(&order, units[0], 0)]++;
    }
    for (int i = 0; i < N; i++)
        if (i % 2)
            assert_in_range(first[i], 800 - 152, 800 + 152);
        else
            assert_int_equal(first[i], 0); /* the longer row opens */
    gr_order_free(&order);
}

static void refusals(void **state) {
    (void)state;
    gr_packs *packs = NULL;
    graft_error err = {0};
    int32_t *cost = calloc(3, sizeof *cost);
    cost[1] = 11;
    assert_int_equal(gr_packs_new(&packs, cost, 3, 10, &err), GRAFT_RANGE);
    gr_error_clear(&err);
    assert_int_equal(gr_packs_new(&packs, calloc(3, sizeof *cost), 3, 10, &err), GRAFT_RANGE);
    assert_null(packs);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_as_best_fit),  cmocka_unit_test(packs_are_full),
        cmocka_unit_test(reproducible),       cmocka_unit_test(file_order),
        cmocka_unit_test(first_pack_is_fair), cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
