/* base/pool.c: every task of a job runs once before the run ends, at any number of threads, whether workers
 * spin or sleep when it begins. */
#include "base/pool.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST = 60 };

/* Plain counters: each task has its own, and the race detector sees whether a run waits for them. */
typedef struct work {
    int length, runs[MOST];
} work;

static void task(void *context, int number, int worker) {
    work *w = context;
    (void)worker;
    for (volatile int i = 0; i < w->length; i++) {
    }
    w->runs[number]++;
}

static void run_threads(int threads) {
    gr_pool *pool;
    assert_int_equal(gr_pool_new(&pool, threads, NULL), GRAFT_OK);
    for (int round = 0; round < 400; round++) {
        work w = {.length = round * 37 % 1000};
        int count = round * 7 % MOST + 1;
        gr_pool_run(pool, task, &w, count);
        for (int k = 0; k < MOST; k++) assert_int_equal(w.runs[k], k < count);
        if (round % 40 == 0) usleep(500); /* workers fall asleep */
    }
    gr_pool_free(pool);
}

static void runs_each_task_once(void **state) {
    (void)state;
    static const int threads[] = {1, 2, 3, 11}; /* 11: more than most machines' cores */
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) run_threads(threads[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(runs_each_task_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
