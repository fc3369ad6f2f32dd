#include "bench/bench.h"
#include "bench/bench_profile.h"
#include "bench/bench_run.h"
#include "kernels/peak.h"
#include <math.h>

/* What each step took, and the speed of bare arithmetic meanwhile: the better of right before and right
 * after, since the processor's clock changes with heat, with who else runs and after a pause. */
typedef struct samples {
    double *seconds, *peak;
    int64_t count, warm; /* the first touches memory for the first time and is left out */
} samples;

static graft_status run_steps(gr_bench_run *run, samples *s, double *losses, gr_profile_part *parts,
                              graft_error *err) {
    gr_trainer *t = &run->t;
    gr_compute *c = &t->rt.net.compute;
    double before = gr_peak_gflops(c);
    for (int64_t i = 0; i < s->count; i++) {
        gr_profile profile;
        GR_TRY(gr_bench_run_stopped(run, err));
        bool profiled = t->o->profile && i >= s->warm;
        if (profiled) gr_profile_begin(c->profile = &profile, c->pool);
        double start = gr_clock();
        losses[i] = gr_bench_run_step(run);
        s->seconds[i] = gr_clock() - start;
        if (profiled) gr_bench_profile_add(parts, &profile);
        c->profile = NULL;
        double after = gr_peak_gflops(c);
        s->peak[i] = fmax(before, after);
        before = after;
        gr_trainer_event(
            t,
            &(graft_event){.kind = GRAFT_EVENT_PROGRESS, .phase = "train", .done = i + 1, .total = s->count});
    }
    return GRAFT_OK;
}

static double median(double *values, int64_t count) {
    gr_bench_sort(values, count);
    return values[count / 2];
}

static void summarize(const gr_bench_run *run, samples *s, graft_bench_result *r) {
    const gr_trainer *t = &run->t;
    const gr_model_config *c = &t->rt.model->config;
    double tokens = run->tokens / (double)s->count, /* of a step; packs may differ */
        *percent = s->seconds + s->count;
    int64_t seen = (int64_t)(run->squares / run->tokens); /* tokens of a token's row */
    double executed = tokens * gr_train_flops(c, t->rt.tuning, seen, t->recompute, 1),
           needed = tokens * gr_train_flops(c, t->rt.tuning, seen, GR_RECOMPUTE_NONE, 1);
    int64_t n = s->count - s->warm;
    for (int64_t i = s->warm; i < s->count; i++)
        percent[i] = 100 * executed / s->seconds[i] / 1e9 / s->peak[i];
    r->percent_of_peak = median(percent + s->warm, n);
    r->percent_of_peak_without_recompute = r->percent_of_peak * needed / executed;
    r->step_seconds = median(s->seconds + s->warm, n);
    r->fastest_step_seconds = r->step_seconds;
    for (int64_t i = s->warm; i < s->count; i++)
        r->fastest_step_seconds = fmin(r->fastest_step_seconds, s->seconds[i]);
    r->peak_gflops = median(s->peak + s->warm, n);
    r->tokens_per_second = tokens / r->step_seconds;
    r->gflops = executed / r->step_seconds / 1e9;
    r->forecast_bytes = t->forecast.total;
    r->floor_bytes = gr_memory_floor(t);
    r->grad_checkpoint = gr_recompute_name[t->recompute];
    r->slice_tokens = t->net_config.tokens;
    r->head_tile = t->rt.net.head.tile;
    r->peak_rss_bytes = gr_peak_rss();
}

static graft_status run_open(gr_bench_run *run, samples *s, graft_bench_result *r, graft_error *err) {
    gr_profile_part parts[GR_PARTS] = {{0}};
    GR_TRY(run_steps(run, s, r->losses, parts, err));
    summarize(run, s, r); /* before the probe of memory, which is no part of training */
    if (!run->t.o->profile) return GRAFT_OK;
    return gr_bench_profile_result(r, parts, s->count - s->warm, run->t.rt.pool, err);
}

graft_status gr_bench_train(const char *dir, const graft_options *o, const graft_hooks *hooks,
                            graft_bench_result *r, graft_error *err) {
    gr_bench_run run;
    size_t n = (size_t)o->steps;
    samples s = {.count = o->steps, .warm = o->steps > 2};
    memset(r, 0, sizeof *r);
    gr_peak_rss_reset();                          /* a host may have needed more before */
    s.seconds = gr_calloc(2 * n, sizeof(double)); /* and percents */
    s.peak = gr_calloc(n, sizeof(double));
    r->losses = gr_calloc(n, sizeof *r->losses);
    r->nlosses = n;
    graft_status st = s.seconds && s.peak && r->losses
                          ? gr_bench_run_open(&run, dir, o, hooks, GR_TRAINER_RUN, err)
                          : gr_no_memory(err, n * 4 * sizeof(double));
    if (st == GRAFT_OK) {
        st = run_open(&run, &s, r, err);
        gr_bench_run_close(&run);
    }
    free(s.seconds);
    free(s.peak);
    if (st != GRAFT_OK) graft_bench_result_free(r);
    return st;
}

void graft_bench_result_free(graft_bench_result *result) {
    if (!result) return;
    free(result->losses);
    free(result->parts);
    memset(result, 0, sizeof *result);
}
