/* What a training step costs as one setting grows: `bench train` again and again. */
#include "base/number.h"
#include "bench/bench.h"
#include <stdio.h>

static const struct setting {
    const char *name, *values; /* by default */
} settings[] = {{"seq-length", "256,512,1024,2048,4096"},
                {"batch-size", "1,2,4,8"},
                {"lora-rank", "4,8,16,32,64,128"},
                {"threads", NULL}}; /* 1, 2, 4 .. up to all cores */

/* "1,2,4" into points. */
static graft_status parse(graft_bench_point *points, size_t *count, const char *text, graft_error *err) {
    *count = 0;
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, ",");
        char part[24] = "";
        int64_t value = 0;
        if (n < sizeof part) memcpy(part, at, n);
        if (!gr_parse_int(part, &value) || value < 1 || value > INT64_C(1) << 30 ||
            *count == GRAFT_BENCH_POINTS || (at[n] == ',' && !at[n + 1])) {
            gr_fail(err, GRAFT_USAGE, "--values is no list of numbers");
            gr_expected(err, "up to %d numbers from 1 with commas between them", GRAFT_BENCH_POINTS);
            return gr_found(err, "%s", text);
        }
        points[(*count)++].value = value;
        at += n + (at[n] == ',');
    }
    return *count ? GRAFT_OK : gr_fail(err, GRAFT_USAGE, "--values is empty");
}

static void powers_of_two(graft_bench_point *points, size_t *count, int most) {
    *count = 0;
    for (int n = 1; n < most && *count + 1 < GRAFT_BENCH_POINTS; n *= 2) points[(*count)++].value = n;
    points[(*count)++].value = most;
}

static void set(graft_options *o, const char *name, int64_t value) {
    if (strcmp(name, "seq-length") == 0) o->seq_length = value;
    if (strcmp(name, "batch-size") == 0) o->batch_size = value;
    if (strcmp(name, "lora-rank") == 0) o->lora_rank = value;
    if (strcmp(name, "threads") == 0) o->threads = (int)value;
}

static graft_status one(const char *dir, graft_options *o, const graft_hooks *hooks, const char *rung,
                        graft_bench_cost *cost, graft_error *err) {
    graft_bench_result r;
    char name[8];
    snprintf(name, sizeof name, "%s", rung);
    o->grad_checkpoint = name;
    GR_TRY(gr_bench_train(dir, o, hooks, &r, err));
    /* the fastest step: what disturbs a machine only makes it slower */
    cost->tokens_per_second = r.tokens_per_second * r.step_seconds / r.fastest_step_seconds;
    cost->percent_of_peak = r.percent_of_peak;
    cost->peak_rss_bytes = r.peak_rss_bytes;
    cost->forecast_bytes = r.forecast_bytes;
    graft_bench_result_free(&r);
    return GRAFT_OK;
}

static graft_status begin(const graft_options *o, graft_bench_curves_result *r, graft_error *err) {
    const char *over = o->over ? o->over : settings[0].name, *values = o->values;
    memset(r, 0, sizeof *r);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        if (strcmp(settings[i].name, over) != 0) continue;
        r->over = settings[i].name;
        if (!values) values = settings[i].values;
    }
    if (values) return parse(r->points, &r->npoints, values, err);
    powers_of_two(r->points, &r->npoints, gr_processors());
    return GRAFT_OK;
}

graft_status gr_bench_curves(const char *dir, const graft_options *options, const graft_hooks *hooks,
                             graft_bench_curves_result *r, graft_error *err) {
    graft_options o = *options; /* its texts stay the caller's */
    GR_TRY(begin(options, r, err));
    if (!gr_options_given(&o, "steps")) o.steps = 4;
    if (!gr_options_given(&o, "batch-size")) o.batch_size = 1;
    for (size_t i = 0; i < r->npoints; i++) {
        set(&o, r->over, r->points[i].value);
        GR_TRY(one(dir, &o, hooks, "layer", &r->points[i].layer, err)); /* the smaller peak first */
        GR_TRY(one(dir, &o, hooks, "none", &r->points[i].none, err));
    }
    return GRAFT_OK;
}
