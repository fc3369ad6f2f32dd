#include "fit/bench.h"
#include "fit/bench_run.h"
#include "kernels/peak.h"
#include <math.h>

/* Steps and losses; *peak receives the best speed of bare arithmetic seen meanwhile. */
static graft_status run_steps(gr_bench_run *run, double *seconds, double *losses, double *peak,
                              graft_error *err) {
    gr_trainer *t = &run->t;
    *peak = gr_peak_gflops(&t->rt.net.compute);
    for (int64_t i = 0; i < t->o->steps; i++) {
        GR_TRY(gr_bench_run_stopped(run, err));
        double start = gr_clock();
        losses[i] = gr_bench_run_step(run);
        seconds[i] = gr_clock() - start;
        /* the machine's speed changes: its best is the peak */
        *peak = fmax(*peak, gr_peak_gflops(&t->rt.net.compute));
        gr_trainer_event(
            t, &(graft_event){
                   .kind = GRAFT_EVENT_PROGRESS, .phase = "train", .done = i + 1, .total = t->o->steps});
    }
    return GRAFT_OK;
}

static void summarize(const gr_bench_run *run, double *seconds, double peak, graft_bench_result *r) {
    const gr_trainer *t = &run->t;
    const graft_options *o = t->o;
    const gr_model_config *c = &t->rt.model->config;
    int64_t warm = o->steps > 2 ? 1 : 0; /* the first step touches memory for the first time */
    gr_bench_sort(seconds + warm, o->steps - warm);
    double step = seconds[warm + (o->steps - warm) / 2],
           tokens = (double)(o->seq_length * o->batch_size * o->grad_accumulation_steps);
    r->step_seconds = step;
    r->tokens_per_second = tokens / step;
    r->gflops = tokens * gr_train_flops(c, t->rt.tuning, o->seq_length, t->recompute, 1) / step / 1e9;
    r->peak_gflops = peak;
    r->percent_of_peak = 100 * r->gflops / peak;
    r->percent_of_peak_without_recompute =
        100 * tokens * gr_train_flops(c, t->rt.tuning, o->seq_length, GR_RECOMPUTE_NONE, 1) / step / 1e9 /
        peak;
    r->forecast_bytes = t->forecast.total;
    r->peak_rss_bytes = gr_peak_rss();
}

graft_status gr_bench_train(const char *dir, const graft_options *o, const graft_hooks *hooks,
                            graft_bench_result *r, graft_error *err) {
    gr_bench_run run;
    double peak, *seconds = gr_calloc((size_t)o->steps, sizeof *seconds);
    memset(r, 0, sizeof *r);
    gr_peak_rss_reset(); /* a host may have needed more before */
    r->losses = gr_calloc((size_t)o->steps, sizeof *r->losses);
    r->nlosses = (size_t)o->steps;
    graft_status st = seconds && r->losses ? gr_bench_run_open(&run, dir, o, hooks, GR_TRAINER_RUN, err)
                                           : gr_no_memory(err, (size_t)o->steps * 16);
    if (st == GRAFT_OK) {
        st = run_steps(&run, seconds, r->losses, &peak, err);
        if (st == GRAFT_OK) summarize(&run, seconds, peak, r);
        gr_bench_run_close(&run);
    }
    free(seconds);
    if (st != GRAFT_OK) graft_bench_result_free(r);
    return st;
}

void graft_bench_result_free(graft_bench_result *result) {
    if (!result) return;
    free(result->losses);
    memset(result, 0, sizeof *result);
}
