/* Learning rates: the formulas of the documentation, and mlx's schedules as mlx-lm joins them. */
#include "optim/schedule_table.h"
#include "options/options.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

static graft_options make(const char *schedule, double peak, int64_t warmup) {
    graft_options o;
    graft_error err = {0};
    graft_options_init(&o);
    assert_int_equal(graft_options_set(&o, GRAFT_VERB_TRAIN, "lr-schedule", schedule, &err), GRAFT_OK);
    o.learning_rate = peak;
    o.warmup = warmup;
    return o;
}

static void near(double a, double b, double tolerance) {
    if (!(fabs(a - b) <= tolerance)) fail_msg("%.17g is not %.17g", a, b);
}

static void own_schedules(void **state) {
    (void)state;
    graft_options o = make("constant", 2e-4, 0);
    for (int k = 1; k <= 5; k++) assert_true(gr_schedule_rate(&o, k, 5) == 2e-4);
    graft_options_free(&o);

    o = make("linear", 1.0, 4); /* K = 14: ten updates from 1 down in tenths */
    for (int k = 1; k <= 4; k++) near(gr_schedule_rate(&o, k, 14), k / 4.0, 1e-15);
    for (int k = 5; k <= 14; k++) near(gr_schedule_rate(&o, k, 14), 1 - (k - 5) / 10.0, 1e-15);
    graft_options_free(&o);

    o = make("cosine", 3e-4, 2);
    near(gr_schedule_rate(&o, 1, 10), 1.5e-4, 1e-18);
    near(gr_schedule_rate(&o, 2, 10), 3e-4, 1e-18);
    near(gr_schedule_rate(&o, 3, 10), 3e-4, 1e-18);
    near(gr_schedule_rate(&o, 7, 10), 1.5e-4, 1e-18); /* half way: cos(pi / 2) */
    near(gr_schedule_rate(&o, 10, 10), 3e-4 * 0.5 * (1 + cos(3.14159265358979323846 * 7 / 8)), 1e-18);
    graft_options_free(&o);
}

static void warmup_longer_than_the_run(void **state) {
    (void)state;
    graft_options o = make("cosine", 1.0, 100);
    near(gr_schedule_rate(&o, 10, 10), 0.1, 1e-15);
    o.warmup = 10;
    near(gr_schedule_rate(&o, 10, 10), 1.0, 1e-15);
    near(gr_schedule_rate(&o, 11, 10), 1.0, 1e-15);
    graft_options_free(&o);
}

/* A run that was resumed with fewer rows to an update makes more of them than were counted: the rate stays at
 * its end, and never climbs or falls below 0. */
static void beyond_the_last_update(void **state) {
    (void)state;
    static const char *const names[] = {"linear", "cosine"};
    for (size_t i = 0; i < 2; i++) {
        graft_options o = make(names[i], 1.0, 2);
        for (int k = 11; k <= 40; k++) near(gr_schedule_rate(&o, k, 10), 0, 1e-15);
        graft_options_free(&o);
    }
}

static void load_case(graft_options *o, const json_t *item) {
    const json_t *arguments = json_object_get(item, "arguments");
    graft_options_init(o);
    o->mlx_schedule = gr_strdup(json_string_value(json_object_get(item, "name")));
    for (size_t i = 0; i < json_array_size(arguments); i++)
        o->mlx_schedule_args[i] = json_number_value(json_array_get(arguments, i));
    o->learning_rate = o->mlx_schedule_args[0];
    o->mlx_warmup = json_integer_value(json_object_get(item, "warmup"));
    o->mlx_warmup_init = json_number_value(json_object_get(item, "warmup_init"));
}

static void mlx_schedules(void **state) {
    (void)state;
    json_t *golden = json_load_file(GRAFT_SOURCE_DIR "/tests/golden/schedule.json", 0, NULL);
    assert_non_null(golden);
    const json_t *cases = json_object_get(golden, "cases");
    assert_int_equal(json_array_size(cases), 8);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        graft_options o;
        graft_error err = {0};
        const json_t *item = json_array_get(cases, i), *rates = json_object_get(item, "rates");
        load_case(&o, item);
        assert_int_equal(gr_schedule_check(&o, &err), GRAFT_OK);
        assert_int_equal(json_array_size(rates), 40);
        for (size_t k = 0; k < json_array_size(rates); k++) {
            double theirs = json_number_value(json_array_get(rates, k));
            /* theirs is f32: a handful of roundings of 6e-8 of the largest value met, 0.1 for the ramp
             * that starts above its peak; the cosine's argument carries pi times as much */
            double largest = fmax(fabs(o.learning_rate), fmax(fabs(theirs), o.mlx_warmup_init));
            near(gr_schedule_rate(&o, (int64_t)k + 1, 40), theirs, 16 * 6e-8 * largest);
        }
        graft_options_free(&o);
    }
    json_decref(golden);
}

static void wrong_arguments(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double arguments[4];
    } cases[] = {{"cosine", {1, 2, NAN, NAN}},          {"cosine_decay", {1, NAN, NAN, NAN}},
                 {"cosine_decay", {1, 0, NAN, NAN}},    {"linear_schedule", {1, 2, NAN, NAN}},
                 {"step_decay", {1, 0.5, 0.5, NAN}},    {"exponential_decay", {1, 0.5, 2, NAN}},
                 {"cosine_decay", {1, 1e300, NAN, NAN}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_options o;
        graft_error err = {0};
        graft_options_init(&o);
        o.mlx_schedule = gr_strdup(cases[i].name);
        memcpy(o.mlx_schedule_args, cases[i].arguments, sizeof cases[i].arguments);
        assert_int_equal(gr_schedule_check(&o, &err), GRAFT_USAGE);
        graft_options_free(&o);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_schedules),
        cmocka_unit_test(beyond_the_last_update),
        cmocka_unit_test(warmup_longer_than_the_run),
        cmocka_unit_test(mlx_schedules),
        cmocka_unit_test(wrong_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
