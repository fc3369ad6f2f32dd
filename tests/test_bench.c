/* fit/: bench runs what the options say and stops when it is told to; plan needs no weights. */
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

static void keep_note(void *user, const graft_event *e) {
    if (e->kind == GRAFT_EVENT_NOTE) snprintf(user, 200, "%.199s", e->text);
}

/* config.json is enough for a plan, which says that it is all there was. */
static void plans_without_weights(void **state) {
    (void)state;
    char *dir = tiny_subdir(root, "config"), note[200] = "";
    graft_options o;
    graft_error err = {0};
    graft_plan plan;
    graft_hooks hooks = {.user = note, .event = keep_note};
    tiny_config_write(dir, &(tiny_spec){.bits = 4});
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_PLAN, (const char *const[]){"model", dir, "threads", "1", NULL});
    if (graft_plan_make(&o, &hooks, &plan, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    assert_true(plan.memory.mapped > 0);
    assert_non_null(strstr(note, "no weights"));
    graft_plan_free(&plan);
    graft_options_free(&o);
    memset(&plan, 0x55, sizeof plan); /* a failure leaves an empty plan */
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_PLAN, (const char *const[]){"model", "/nonexistent", NULL});
    assert_int_equal(graft_plan_make(&o, NULL, &plan, &err), GRAFT_NOT_FOUND);
    assert_null(plan.model);
    assert_null(plan.tensors_list);
    graft_options_free(&o);
    tiny_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(takes_the_optimizer), cmocka_unit_test(stops),
                                       cmocka_unit_test(plans_without_weights)};
    return cmocka_run_group_tests_name("bench", tests, setup, teardown);
}
