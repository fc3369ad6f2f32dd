/* metrics.jsonl as curves: files that are cut, repeated or hostile; smoothing and axes. */
#include "report/chart.h"
#include "report/run.h"
#include "tests/tiny_dir.h"
#include <math.h>

static graft_error err;

static void parse(gr_metrics *m, const char *text) {
    gr_error_clear(&err);
    if (gr_metrics_parse(m, text, strlen(text), "metrics.jsonl", &err) != GRAFT_OK)
        fail_msg("%s: %s", err.what, err.where);
}

static void metrics_become_curves(void **state) {
    (void)state;
    gr_metrics m;
    double at = -1;
    parse(&m, "{\"iteration\": 0, \"val_loss\": 4.5, \"val_time\": 1}\n"
              "\n"
              "{\"iteration\": 10, \"train_loss\": 3, \"rewards/margins\": 0.5}\r\n"
              "{\"iteration\": 20, \"train_loss\": null}\n"
              "{\"iteration\": 25, \"update\": 25, \"skipped_updates\": 2, \"not_a_number\": \"loss\"}\n"
              "{\"iteration\": 26, \"update\": 26, \"spike\": \"loss\", \"value\": 9, \"usual\": 1}\n"
              "{\"iteration\": 30, \"train_loss\": 2, \"note\": \"text\", \"val_loss\": 4}");
    const gr_metric *loss = gr_metrics_find(&m, "train_loss");
    assert_int_equal(loss->count, 3);
    assert_true(loss->x[2] == 30 && loss->y[2] == 2 && isnan(loss->y[1]));
    assert_true(gr_metric_last(gr_metrics_find(&m, "rewards/margins")) == 0.5);
    assert_true(gr_metric_least(gr_metrics_find(&m, "val_loss"), &at) == 4 && at == 30);
    assert_true(gr_metric_most(gr_metrics_find(&m, "val_loss")) == 4.5);
    assert_null(gr_metrics_find(&m, "update"));
    assert_null(gr_metrics_find(&m, "note"));
    assert_true(m.skipped == 2 && m.spikes == 1 && m.last == 30 && !m.cut && !m.repeated && m.lines == 6);
    assert_true(isnan(gr_metric_last(NULL)) && isnan(gr_metric_least(NULL, NULL)) &&
                isnan(gr_metric_most(NULL)));
    gr_metrics_free(&m);
    parse(&m, "");
    assert_true(m.count == 0 && m.last == -1);
    gr_metrics_free(&m);
}

static void cut_and_repeated(void **state) {
    (void)state;
    gr_metrics m;
    parse(&m, "{\"iteration\": 10, \"train_loss\": 3}\n{\"iteration\": 20, \"train_lo");
    assert_int_equal(m.cut, 2);
    assert_int_equal(gr_metrics_find(&m, "train_loss")->count, 1);
    gr_metrics_free(&m);
    /* a run that went back to 10: the later lines count */
    parse(&m, "{\"iteration\": 10, \"train_loss\": 3}\n{\"iteration\": 20, \"train_loss\": 2}\n"
              "{\"iteration\": 20, \"train_loss\": 2.5}\n{\"iteration\": 15, \"train_loss\": 2.75}\n"
              "{\"train_loss\": 7}\n");
    const gr_metric *loss = gr_metrics_find(&m, "train_loss");
    assert_int_equal(loss->count, 2);
    assert_true(loss->x[1] == 15 && loss->y[1] == 2.75);
    assert_true(m.repeated == 2 && m.without == 1);
    gr_metrics_free(&m);
}

/* What was beyond the iteration that a run went back to never was, in curves of other lines as well. */
static void going_back_cuts_all_curves(void **state) {
    (void)state;
    gr_metrics m;
    double at = -1;
    parse(&m, "{\"iteration\": 10, \"train_loss\": 3}\n{\"iteration\": 10, \"val_loss\": 4}\n"
              "{\"iteration\": 20, \"train_loss\": 2}\n{\"iteration\": 20, \"val_loss\": 1}\n"
              "{\"iteration\": 15, \"train_loss\": 2.75}\n");
    assert_int_equal(gr_metrics_find(&m, "val_loss")->count, 1);
    assert_true(gr_metric_least(gr_metrics_find(&m, "val_loss"), &at) == 4 && at == 10);
    assert_int_equal(gr_metrics_find(&m, "train_loss")->count, 2);
    assert_int_equal(m.repeated, 1);
    gr_metrics_free(&m);
    parse(&m, "{\"iteration\": 20, \"val_loss\": 1}\n{\"iteration\": 12, \"spike\": \"loss\"}\n");
    assert_int_equal(gr_metrics_find(&m, "val_loss")->count, 0);
    assert_true(m.spikes == 1 && m.repeated == 1);
    gr_metrics_free(&m);
}

static void broken_lines_are_named(void **state) {
    (void)state;
    static const char *const texts[] = {"{\"iteration\": 1}\n{broken\n", "{\"iteration\": 1}\n[1]\n",
                                        "{}\n{\"a\":1,\"a\":\n{}\n", "{}\n\xff\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        gr_metrics m;
        gr_error_clear(&err);
        graft_status st = gr_metrics_parse(&m, texts[i], strlen(texts[i]), "metrics.jsonl", &err);
        assert_int_equal(st, GRAFT_CORRUPT);
        assert_non_null(strstr(err.where, "metrics.jsonl, line 2"));
        gr_metrics_free(&m);
    }
}

static void too_many_names(void **state) {
    (void)state;
    gr_metrics m;
    gr_buf text = {0};
    gr_buf_puts(&text, "{\"iteration\": 1");
    for (int i = 0; i < 100; i++) gr_buf_printf(&text, ", \"name%d\": %d", i, i);
    gr_buf_printf(&text, ", \"%0200d\": 1}\n", 0);
    parse(&m, text.data);
    assert_int_equal(m.count, GR_METRICS_NAMES);
    assert_int_equal(m.more, 101 - GR_METRICS_NAMES);
    gr_metrics_free(&m);
    gr_buf_free(&text);
}

static void axes_are_finite(void **state) {
    (void)state;
    static const double ends[][2] = {{0, 5e-324},         {5e-324, 5e-324}, {1e-320, 2e-320},
                                     {-1.7e308, 1.7e308}, {1e308, 1e308},   {1e16, 1e16 + 2}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        gr_axis a = gr_axis_round(ends[i][0], ends[i][1], false);
        assert_true(isfinite(a.step) && a.step > 0 && isfinite(a.low) && isfinite(a.high) && a.high > a.low);
        assert_true((a.high - a.low) / a.step < 50);
    }
}

static void smoothing(void **state) {
    (void)state;
    const double from[] = {4, 4, NAN, 2}, w = GR_SMOOTHING;
    double to[4], sum = ((4 * w + 4) * w + 2) * (1 - w);
    gr_smooth(to, from, 4);
    assert_true(to[0] == 4 && fabs(to[1] - 4) < 1e-12 && isnan(to[2]));
    assert_true(fabs(to[3] - sum / (1 - w * w * w)) < 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_become_curves),
        cmocka_unit_test(cut_and_repeated),
        cmocka_unit_test(going_back_cuts_all_curves),
        cmocka_unit_test(broken_lines_are_named),
        cmocka_unit_test(too_many_names),
        cmocka_unit_test(smoothing),
        cmocka_unit_test(axes_are_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
