/* base/relay.c: every task of every leg runs once and after all of the leg before it, at any number of
 * threads; legs without tasks are left out; counts may change between runs. */
#include "base/relay.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { LEGS = 9, MOST = 40 };

typedef struct work {
    atomic_int *finished; /* tasks of all legs so far */
    int before;           /* tasks of the legs before this one */
    atomic_int runs[MOST], asked, early;
} work;

static void task(void *context, int number, int worker) {
    work *w = context;
    (void)worker;
    if (atomic_load(w->finished) < w->before) atomic_fetch_add(&w->early, 1);
    for (volatile int i = 0; i < 200 * (number % 3); i++) {
    }
    atomic_fetch_add(&w->runs[number], 1);
    atomic_fetch_add(w->finished, 1);
}

static void ask(void *context, int number, int worker) {
    work *w = context;
    (void)worker;
    atomic_fetch_add(&w->asked, number >= 0 && number < MOST ? 0 : 1);
}

static void run_threads(int threads) {
    graft_error err = {0};
    gr_pool *pool;
    gr_arena counting = {0}, arena = {0};
    gr_relay r;
    work works[LEGS] = {0};
    assert_int_equal(gr_pool_new(&pool, threads, &err), GRAFT_OK);
    gr_relay_bind(&r, &counting, pool, LEGS);
    assert_int_equal(gr_arena_reserve(&arena, counting.used, &err), GRAFT_OK);
    gr_relay_bind(&r, &arena, pool, LEGS);
    for (int round = 0; round < 300; round++) {
        atomic_int finished = 0;
        int before = 0;
        r.count = LEGS - round % 2;
        for (int i = 0; i < r.count; i++) {
            int count = (i * 7 + round) % MOST * (i != 4); /* leg 4 has none */
            works[i].finished = &finished;
            works[i].before = before;
            r.legs[i] = (gr_leg){task, &works[i], count, i % 2 ? ask : NULL};
            before += count;
            for (int k = 0; k < MOST; k++) works[i].runs[k] = 0;
        }
        gr_relay_run(&r, pool);
        assert_int_equal(finished, before);
        for (int i = 0; i < r.count; i++)
            for (int k = 0; k < MOST; k++) assert_int_equal(works[i].runs[k], k < r.legs[i].count);
    }
    for (int i = 0; i < LEGS; i++) assert_int_equal(works[i].early + works[i].asked, 0);
    gr_arena_free(&arena);
    gr_pool_free(pool);
}

static void runs_all_in_order(void **state) {
    (void)state;
    static const int threads[] = {1, 2, 3, 11}; /* 11: more than shares, and than most machines' cores */
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) run_threads(threads[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(runs_all_in_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
