/* fit/bench: it runs what the options say, and stops when it is told to. */
#include "tests/tiny_dir.h"

static char *root, *model;

static int setup(void **state) {
    (void)state;
    root = tiny_temp();
    model = tiny_model_dir(root, "base", &(tiny_spec){0});
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(model);
    tiny_remove(root);
    return 0;
}

static graft_status bench(const char *optimizer, const graft_hooks *hooks, graft_bench_result *r) {
    graft_options o;
    graft_error err = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_BENCH,
             (const char *const[]){"model", model, "steps", "4", "seq-length", "8", "batch-size", "2",
                                   "lora-rank", "4", "learning-rate", "0.5", "threads", "1", "optimizer",
                                   optimizer, NULL});
    graft_status st = graft_bench_train(&o, hooks, r, &err);
    graft_options_free(&o);
    return st;
}

static void takes_the_optimizer(void **state) {
    (void)state;
    graft_bench_result adamw, again, sgd;
    assert_int_equal(bench("adamw", NULL, &adamw), GRAFT_OK);
    assert_int_equal(bench("adamw", NULL, &again), GRAFT_OK);
    assert_int_equal(bench("sgd", NULL, &sgd), GRAFT_OK);
    assert_int_equal(adamw.nlosses, 4);
    assert_memory_equal(adamw.losses, again.losses, 4 * sizeof *adamw.losses);
    assert_true(adamw.losses[0] == sgd.losses[0]); /* before the first update */
    assert_true(adamw.losses[3] != sgd.losses[3]);
    graft_bench_result_free(&adamw);
    graft_bench_result_free(&again);
    graft_bench_result_free(&sgd);
}

static void stop_after_two(void *user, const graft_event *e) {
    if (e->kind == GRAFT_EVENT_PROGRESS && e->done == 2) *(volatile int *)user = 1;
}

static void stops(void **state) {
    (void)state;
    volatile int stop = 0;
    graft_hooks hooks = {.user = (void *)(uintptr_t)&stop, .event = stop_after_two, .stop = &stop};
    graft_bench_result r;
    memset(&r, 0x55, sizeof r);
    assert_int_equal(bench("adamw", &hooks, &r), GRAFT_INTERRUPTED);
    assert_null(r.losses);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(takes_the_optimizer), cmocka_unit_test(stops)};
    return cmocka_run_group_tests_name("bench", tests, setup, teardown);
}
