#include "bench/bench.h"
#include "bench/bench_run.h"
#include <math.h>
#include <stdio.h>

/* What the text that docs/weights.md calls the guide states: 20, 35, 50, 65 % of the memory saved, 10, 15,
 * 20, 25 % slower. */
static const struct stated {
    int64_t length;
    double saved, slower;
} stated[] = {{512, 20, 10}, {1024, 35, 15}, {2048, 50, 20}, {4096, 65, 25}};

#define LENGTHS     "512,1024,2048,4096"
#define LENGTHS_MAX 64

/* "512,1024" into lengths; how many. */
static graft_status parse_lengths(int64_t lengths[LENGTHS_MAX], size_t *count, const char *text,
                                  graft_error *err) {
    *count = 0;
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, ",");
        char part[32];
        int64_t value;
        snprintf(part, sizeof part, "%.*s", (int)(n < 31 ? n : 31), at);
        if (n == 0 || n > 31 || !gr_parse_int(part, &value) || value < 2 || value > INT64_C(1) << 30 ||
            *count == LENGTHS_MAX || (at[n] == ',' && !at[n + 1])) {
            gr_fail(err, GRAFT_USAGE, "--seq-lengths is no list of lengths");
            gr_expected(err, "numbers from 2 with commas between them, such as " LENGTHS);
            return gr_found(err, "%s", text);
        }
        lengths[(*count)++] = value;
        at += n + (at[n] == ',');
    }
    if (*count) return GRAFT_OK;
    return gr_fail(err, GRAFT_USAGE, "--seq-lengths is empty");
}

/* One way of running one length. */
typedef struct measure {
    graft_memory forecast;
    double flops; /* per token */
    uint64_t peak;
    double step;
    double *losses; /* [steps] */
} measure;

/* Only the forecast. */
static graft_status plan(const char *dir, const graft_options *o, const graft_hooks *hooks, measure *m,
                         graft_error *err) {
    gr_bench_run run;
    gr_peak_rss_reset(); /* a forecast is never below what the process has needed so far */
    GR_TRY(gr_bench_run_open(&run, dir, o, hooks, GR_TRAINER_PLAN, err));
    m->forecast = run.t.forecast;
    m->flops = gr_train_flops(&run.t.rt.model->config, run.t.rt.tuning, o->seq_length, run.t.recompute, 1);
    gr_bench_run_close(&run);
    return GRAFT_OK;
}

/* The fastest of the steps but the first counts: what disturbs a machine only makes it slower. */
static graft_status run_one(const char *dir, const graft_options *o, const graft_hooks *hooks, measure *m,
                            graft_error *err) {
    gr_bench_run run;
    bool fresh = gr_peak_rss_reset();
    uint64_t before = gr_peak_rss();
    GR_TRY(gr_bench_run_open(&run, dir, o, hooks, GR_TRAINER_RUN, err));
    m->forecast = run.t.forecast;
    graft_status st = GRAFT_OK;
    for (int64_t i = 0; st == GRAFT_OK && i < o->steps; i++) {
        double start = gr_clock();
        m->losses[i] = gr_bench_run_step(&run);
        double took = gr_clock() - start;
        if (i < 2 || took < m->step) m->step = took;
        gr_trainer_event(&run.t, &(graft_event){.kind = GRAFT_EVENT_PROGRESS,
                                                .phase = o->grad_checkpoint,
                                                .done = i + 1,
                                                .total = o->steps});
        st = gr_bench_run_stopped(&run, err);
    }
    m->peak = gr_peak_rss();
    if (!fresh && m->peak == before) m->peak = 0; /* an earlier, larger run's */
    gr_bench_run_close(&run);
    return st;
}

static double percent_less(double from, double to) {
    return from > 0 && to > 0 ? 100 * (1 - to / from) : NAN;
}

static double percent_more(double from, double to) {
    return from > 0 && to > 0 ? 100 * (to / from - 1) : NAN;
}

static bool same_losses(const measure *a, const measure *b, int64_t steps) {
    return memcmp(a->losses, b->losses, (size_t)steps * sizeof *a->losses) == 0;
}

static void summarize_mlp(graft_bench_length *x, const measure *none, const measure *mlp) {
    x->forecast_mlp = mlp->forecast.total;
    x->activations_mlp = mlp->forecast.saved + mlp->forecast.scratch;
    x->peak_mlp = mlp->peak;
    x->step_mlp = mlp->step;
    x->mlp_forecast_saved_percent = percent_less((double)x->forecast_none, (double)x->forecast_mlp);
    x->mlp_saved_percent = percent_less((double)x->peak_none, (double)x->peak_mlp);
    x->mlp_activations_saved_percent = percent_less((double)x->activations_none, (double)x->activations_mlp);
    x->mlp_forecast_slower_percent = percent_more(none->flops, mlp->flops);
    x->mlp_slower_percent = percent_more(none->step, mlp->step);
}

static void summarize(graft_bench_length *x, const measure *none, const measure *mlp, const measure *layer,
                      int64_t steps) {
    x->forecast_none = none->forecast.total;
    x->forecast_layer = layer->forecast.total;
    x->activations_none = none->forecast.saved + none->forecast.scratch;
    x->activations_layer = layer->forecast.saved + layer->forecast.scratch;
    x->peak_none = none->peak;
    x->peak_layer = layer->peak;
    x->step_none = none->step;
    x->step_layer = layer->step;
    x->forecast_saved_percent = percent_less((double)x->forecast_none, (double)x->forecast_layer);
    x->saved_percent = percent_less((double)x->peak_none, (double)x->peak_layer);
    x->activations_saved_percent = percent_less((double)x->activations_none, (double)x->activations_layer);
    x->forecast_slower_percent = percent_more(none->flops, layer->flops);
    x->slower_percent = percent_more(none->step, layer->step);
    x->stated_saved_percent = x->stated_slower_percent = NAN;
    for (size_t i = 0; i < sizeof stated / sizeof *stated; i++)
        if (stated[i].length == x->seq_length)
            x->stated_saved_percent = stated[i].saved, x->stated_slower_percent = stated[i].slower;
    x->same_losses = none->step > 0 && layer->step > 0 && same_losses(none, layer, steps) &&
                     (mlp->step <= 0 || same_losses(none, mlp, steps));
    summarize_mlp(x, none, mlp);
}

/* A run that would not fit is forecast only. */
static bool fits(const measure *m) {
    uint64_t available = gr_memory_available();
    return available == 0 || m->forecast.total < available / 10 * 9;
}

static graft_status one_length(const char *dir, graft_options *o, const graft_hooks *hooks,
                               graft_bench_length *x, double *losses, graft_error *err) {
    measure way[GR_RECOMPUTES] = {0};
    o->seq_length = x->seq_length;
    for (int r = GR_RECOMPUTES - 1; r >= 0; r--) { /* the smallest peak first */
        char name[8];
        snprintf(name, sizeof name, "%s", gr_recompute_name[r]);
        o->grad_checkpoint = name;
        way[r].losses = losses + r * o->steps;
        GR_TRY(plan(dir, o, hooks, &way[r], err));
        if (fits(&way[r])) GR_TRY(run_one(dir, o, hooks, &way[r], err));
    }
    summarize(x, &way[GR_RECOMPUTE_NONE], &way[GR_RECOMPUTE_MLP], &way[GR_RECOMPUTE_LAYER], o->steps);
    return GRAFT_OK;
}

graft_status gr_bench_checkpoint(const char *dir, const graft_options *options, const graft_hooks *hooks,
                                 graft_bench_checkpoint_result *r, graft_error *err) {
    int64_t lengths[LENGTHS_MAX];
    size_t count;
    memset(r, 0, sizeof *r);
    GR_TRY(parse_lengths(lengths, &count, options->seq_lengths ? options->seq_lengths : LENGTHS, err));
    graft_options o = *options; /* its texts stay the caller's */
    if (!gr_options_given(&o, "steps")) o.steps = 3;
    if (!gr_options_given(&o, "batch-size")) o.batch_size = 1;
    double *losses = gr_calloc((size_t)o.steps * GR_RECOMPUTES, sizeof *losses);
    r->lengths = gr_calloc(count, sizeof *r->lengths);
    r->nlengths = count;
    r->batch_size = o.batch_size;
    r->steps = o.steps;
    graft_status st = losses && r->lengths ? GRAFT_OK : gr_no_memory(err, count * sizeof *r->lengths);
    for (size_t i = 0; st == GRAFT_OK && i < count; i++) {
        r->lengths[i].seq_length = lengths[i];
        st = one_length(dir, &o, hooks, &r->lengths[i], losses, err);
    }
    free(losses);
    if (st != GRAFT_OK) graft_bench_checkpoint_result_free(r);
    return st;
}

void graft_bench_checkpoint_result_free(graft_bench_checkpoint_result *result) {
    if (!result) return;
    free(result->lengths);
    memset(result, 0, sizeof *result);
}
