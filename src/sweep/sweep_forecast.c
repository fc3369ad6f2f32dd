/* Before the first trial: does every one of them fit, and how many at once? */
#include "base/hooks.h"
#include "forecast/forecast.h"
#include "model/identity.h"
#include "sweep/sweep_run.h"
#include <math.h>
#include <stdio.h>

static graft_status check_rows(const gr_trainer *t, graft_error *err) {
    if (!t->train) {
        gr_fail(err, GRAFT_USAGE, "--data is missing");
        return gr_expected(err, "a directory with train.jsonl and valid.jsonl");
    }
    if (t->valid && gr_rows_count(t->valid) && gr_rows_targets(t->valid)) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "a sweep chooses by the validation loss, and there are no rows to validate on");
    return gr_hint(err, "add valid.jsonl to --data, or --valid-split 0.1");
}

/* What the losses are measured with: the same in all trials, by what a grid may vary. */
static graft_status take_inputs(gr_sweep_run *s, gr_trainer *t, graft_error *err) {
    GR_TRY(gr_model_identify(t->rt.model, t->rt.pool, err));
    s->inputs = (gr_sweep_inputs){
        .base = t->rt.model->digest, .train = gr_rows_digest(t->train), .valid = gr_rows_digest(t->valid)};
    return s->found ? gr_sweep_same_inputs(&s->then, &s->inputs, s->place, err) : GRAFT_OK;
}

typedef struct forecast_line {
    gr_sweep_run *run;
    size_t trial;
} forecast_line;

static void hear(void *user, const graft_event *e) {
    const forecast_line *line = user;
    gr_sweep_hear(line->run, (int64_t)line->trial + 1, e);
}

/* The trial as it would run, without its memory. */
static graft_status measure(gr_sweep_run *s, size_t i, const graft_options *o, const graft_hooks *hooks,
                            graft_error *err) {
    gr_trainer t;
    gr_sweep_size *size = &s->sizes[i];
    GR_TRY(gr_trainer_open(&t, s->dir, o, hooks, GR_TRAINER_PLAN, err));
    graft_status st = check_rows(&t, err);
    if (st == GRAFT_OK && i == 0) st = take_inputs(s, &t, err);
    if (st == GRAFT_OK && s->jobs > 1) st = gr_trainer_least(&t, &size->least, err);
    s->r->trials[i].forecast_bytes = t.forecast.total;
    size->iters = t.iters;
    size->every = o->steps_per_eval;
    size->other = t.fixed.other;
    s->mapped = t.fixed.mapped > s->mapped ? t.fixed.mapped : s->mapped;
    gr_trainer_close(&t);
    return st;
}

/* Of a trial that was stopped, only the rest is to come. */
static double rest_of(const graft_sweep_trial *t, const graft_plan *plan) {
    double done = plan->iterations > 0 ? (double)t->iterations / (double)plan->iterations : 0;
    return plan->time_seconds * fmax(1 - done, 0);
}

/* Does it fit, and how long will it take? *all, *rest: seconds of its whole run and of what is left. Nothing
 * is written. */
static graft_status forecast(gr_sweep_run *s, size_t i, double *all, double *rest, graft_error *err) {
    graft_sweep_trial *trial = &s->r->trials[i];
    forecast_line line = {s, i};
    graft_hooks quiet = {.user = &line, .event = hear, .stop = gr_stop_of(s->hooks)};
    graft_options o;
    graft_plan plan;
    s->quiet = i > 0; /* what is to be said about the rows is said once */
    gr_sweep_start_afresh();
    graft_status st = gr_sweep_options(&o, &s->grid, i, s->o, err);
    if (st == GRAFT_OK) st = measure(s, i, &o, &quiet, err);
    s->quiet = true;
    /* early stopping may make it shorter by any amount */
    bool timed = s->limit > 0 && s->o->patience <= 0 && !gr_sweep_is_over(trial);
    if (st == GRAFT_OK && timed) {
        st = gr_forecast(&plan, s->dir, &o, &quiet, err);
        if (st == GRAFT_OK) {
            *all += plan.time_seconds;
            *rest += rest_of(trial, &plan);
            graft_plan_free(&plan);
        }
    }
    s->quiet = false;
    graft_options_free(&o);
    return st == GRAFT_OK ? st : gr_sweep_of_trial(trial, st, err);
}

/* Pages of a thread that runs a trial beside others: its stack, and a heap of its own. */
#define THREAD_BYTES ((uint64_t)1 << 20)

/* What each of n at once may take where all together take --budget: what they have in common counts once. */
static uint64_t share_of(const gr_sweep_run *s, uint64_t budget, int n) {
    uint64_t common = s->held + s->mapped, own = (uint64_t)n * THREAD_BYTES;
    if (budget <= common + own) return 0;
    return common + (budget - common - own) / (uint64_t)n;
}

static bool all_fit(const gr_sweep_run *s, uint64_t each) {
    for (size_t i = 0; i < s->r->ntrials; i++)
        if (!gr_sweep_is_over(&s->r->trials[i]) && s->sizes[i].least > each) return false;
    return true;
}

/* As many at once as --jobs says, or as the budget allows. */
static graft_status settle_jobs(gr_sweep_run *s, graft_error *err) {
    uint64_t budget = 0;
    char text[160];
    int n = s->jobs;
    if (s->o->budget) GR_TRY(gr_parse_size(&budget, s->o->budget, err));
    while (budget && n > 1 && !all_fit(s, share_of(s, budget, n))) n--;
    if (n < s->jobs) {
        snprintf(text, sizeof text, "--jobs %d: only %d at once fit --budget %.40s", s->jobs, n,
                 s->o->budget);
        gr_sweep_hear(s, 0, &(graft_event){.kind = GRAFT_EVENT_NOTE, .text = text});
    }
    s->jobs = n;
    s->budget = budget && n > 1 ? share_of(s, budget, n) : 0;
    return GRAFT_OK;
}

/* One copy of the base for all that run at once. */
static graft_status open_base(gr_sweep_run *s, graft_error *err) {
    gr_pool *pool = NULL;
    GR_TRY(gr_model_open_as(&s->base, s->dir, gr_options_reading(s->o), err));
    if (gr_options_base(s->o) == GR_BASE_16_BIT) gr_model_assume_16_bit(s->base);
    GR_TRY(gr_pool_new(&pool, s->threads, err));
    graft_status st = gr_model_identify(s->base, pool, err);
    gr_pool_free(pool);
    if (s->base->file) gr_safetensors_release(s->base->file); /* nobody computes with it yet */
    return st;
}

graft_status gr_sweep_forecast(gr_sweep_run *s, graft_error *err) {
    double all = 0, rest = 0;
    size_t n = s->r->ntrials;
    s->threads = s->o->threads ? s->o->threads : (int)gr_min_i64(gr_processors(), GR_THREADS_MAX);
    s->jobs = (int)gr_min_i64(s->o->jobs, (int64_t)n);
    gr_sweep_start_afresh();
    s->held = gr_current_rss();
    for (size_t i = 0; i < n; i++) {
        if (gr_sweep_stopped(s)) return gr_fail(err, GRAFT_INTERRUPTED, "stopped before the first trial");
        GR_TRY(forecast(s, i, &all, &rest, err));
    }
    GR_TRY(gr_sweep_check_rounds(s, err));
    GR_TRY(settle_jobs(s, err));
    if (s->jobs > 1) GR_TRY(open_base(s, err));
    s->end = gr_clock() + s->limit;
    double seconds = fmax(rest - (1 - gr_sweep_share(s)) * all, 0); /* what halving will never run */
    if (seconds <= s->limit) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "the trials take longer than --time");
    gr_expected(err, "at most %.0f s", s->limit);
    gr_found(err, "%.0f s, validations not counted", seconds);
    return gr_hint(err, "fewer --iters or values, more --time, or --patience to end trials early");
}
