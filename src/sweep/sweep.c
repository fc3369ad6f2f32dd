#include "sweep/sweep.h"
#include "forecast/forecast.h"
#include "model/identity.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h> /* malloc_trim */
#endif

typedef struct sweep {
    const char *dir, *place; /* of the model; where the trials go */
    const graft_options *o;
    const graft_hooks *hooks;
    graft_sweep_result *r;
    gr_sweep_grid grid;
    gr_dir_lock lock;
    gr_sweep_inputs inputs, then; /* as they are; of the sweep that goes on */
    bool found;                   /* there is one */
    double limit, end;            /* --time in seconds, 0: none; gr_clock when it is over */
    volatile int stop;            /* of a trial, where there is a limit */
    bool over, quiet;             /* the limit was reached; notes are not passed on */
} sweep;

static bool stopped(const sweep *s) {
    return s->hooks && s->hooks->stop && *s->hooks->stop;
}

static void on_event(void *user, const graft_event *e) {
    sweep *s = user;
    if (s->limit > 0 && !s->quiet && gr_clock() >= s->end) s->over = true;
    if (s->over || stopped(s)) s->stop = 1;
    if (s->quiet && e->kind == GRAFT_EVENT_NOTE) return;
    if (s->hooks && s->hooks->event) s->hooks->event(s->hooks->user, e);
}

static void say(const sweep *s, const char *text) {
    if (s->hooks && s->hooks->event)
        s->hooks->event(s->hooks->user, &(graft_event){.kind = GRAFT_EVENT_NOTE, .text = text});
}

/* An error of one trial says of which. */
static graft_status of_trial(const graft_sweep_trial *t, graft_status st, graft_error *err) {
    size_t n = strlen(err->where);
    snprintf(err->where + n, sizeof err->where - n, "%strial %.150s", n ? ", " : "", t->values);
    return st;
}

/* What the trial before, or the host, held and needed is not the next one's. */
static void start_afresh(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    gr_peak_rss_reset();
}

/* ---- before the first */

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
static graft_status take_inputs(sweep *s, gr_trainer *t, graft_error *err) {
    GR_TRY(gr_model_identify(t->rt.model, t->rt.pool, err));
    s->inputs = (gr_sweep_inputs){
        .base = t->rt.model->digest, .train = gr_rows_digest(t->train), .valid = gr_rows_digest(t->valid)};
    return s->found ? gr_sweep_same_inputs(&s->then, &s->inputs, s->place, err) : GRAFT_OK;
}

static bool is_over(const graft_sweep_trial *t) {
    return strcmp(t->state, GRAFT_SWEEP_DONE) == 0 || strcmp(t->state, GRAFT_SWEEP_FAILED) == 0;
}

/* Of a trial that was stopped, only the rest is to come. */
static double rest_of(const graft_sweep_trial *t, const graft_plan *plan) {
    double done = plan->iterations > 0 ? (double)t->iterations / (double)plan->iterations : 0;
    return plan->time_seconds * fmax(1 - done, 0);
}

/* Does it fit, and how long will it take? Nothing is written. */
static graft_status forecast(sweep *s, size_t i, double *seconds, graft_error *err) {
    graft_sweep_trial *trial = &s->r->trials[i];
    graft_hooks quiet = {.user = s, .event = on_event, .stop = s->hooks ? s->hooks->stop : NULL};
    graft_options o;
    gr_trainer t;
    graft_plan plan;
    s->quiet = i > 0; /* what is to be said about the rows is said once */
    start_afresh();
    graft_status st = gr_sweep_options(&o, &s->grid, i, s->o, err);
    if (st == GRAFT_OK) st = gr_trainer_open(&t, s->dir, &o, &quiet, GR_TRAINER_PLAN, err);
    if (st == GRAFT_OK) {
        st = check_rows(&t, err);
        if (st == GRAFT_OK && i == 0) st = take_inputs(s, &t, err);
        trial->forecast_bytes = t.forecast.total;
        gr_trainer_close(&t);
    }
    s->quiet = true;
    /* early stopping may make it shorter by any amount */
    bool timed = s->limit > 0 && s->o->patience <= 0 && !is_over(trial);
    if (st == GRAFT_OK && timed) {
        st = gr_forecast(&plan, s->dir, &o, &quiet, err);
        if (st == GRAFT_OK) {
            *seconds += rest_of(trial, &plan);
            graft_plan_free(&plan);
        }
    }
    s->quiet = false;
    graft_options_free(&o);
    return st == GRAFT_OK ? st : of_trial(trial, st, err);
}

static graft_status forecast_all(sweep *s, graft_error *err) {
    double seconds = 0;
    for (size_t i = 0; i < s->r->ntrials; i++) {
        if (stopped(s)) return gr_fail(err, GRAFT_INTERRUPTED, "stopped before the first trial");
        GR_TRY(forecast(s, i, &seconds, err));
    }
    s->end = gr_clock() + s->limit;
    if (seconds <= s->limit) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "the trials take longer than --time");
    gr_expected(err, "at most %.0f s", s->limit);
    gr_found(err, "%.0f s, validations not counted", seconds);
    return gr_hint(err, "fewer --iters or values, more --time, or --patience to end trials early");
}

static graft_status name_trials(sweep *s, graft_error *err) {
    graft_sweep_result *r = s->r;
    r->trials = gr_calloc(s->grid.trials, sizeof *r->trials);
    if (!r->trials) return gr_no_memory(err, s->grid.trials * sizeof *r->trials);
    r->ntrials = s->grid.trials;
    for (size_t i = 0; i < r->ntrials; i++) {
        graft_sweep_trial *t = &r->trials[i];
        t->state = GRAFT_SWEEP_WAITING;
        t->train_loss = t->val_loss_first = t->val_loss_last = t->val_loss_best = NAN;
        GR_TRY(gr_sweep_names(&t->name, &t->values, &s->grid, i, err));
    }
    return GRAFT_OK;
}

/* ---- the trials */

/* The trial with the lowest validation loss; of equals the first. */
static void choose_best(graft_sweep_result *r) {
    r->best = -1;
    for (size_t i = 0; i < r->ntrials; i++)
        if (isfinite(r->trials[i].val_loss_best) &&
            (r->best < 0 || r->trials[i].val_loss_best < r->trials[r->best].val_loss_best))
            r->best = (int64_t)i;
}

static bool has_no_links(int error) {
    return error == EPERM || error == ENOTSUP || error == EOPNOTSUPP || error == ENOSYS;
}

/* place/best leads to `to`; *linked stays false on a file system that has no links. */
static graft_status link_to(bool *linked, const char *link, const char *temp, const char *to,
                            graft_error *err) {
    unlink(temp);
    if (symlink(to, temp) != 0) {
        if (has_no_links(errno)) return GRAFT_OK;
        return gr_fail_written(err, errno, "cannot link", link);
    }
    if (rename(temp, link) != 0) {
        int error = errno;
        unlink(temp);
        return gr_fail_written(err, error, "cannot link", link);
    }
    *linked = true;
    return GRAFT_OK;
}

/* The way to the best adapter of the best trial: a link, or its own directory. */
static graft_status link_best(const sweep *s, graft_error *err) {
    if (s->r->best < 0) return GRAFT_OK;
    bool linked = false;
    char *link = gr_path_join(s->place, "best"), *temp = gr_path_join(s->place, ".best.new");
    char *to = gr_path_join(s->r->trials[s->r->best].name, "best"),
         *whole = to ? gr_path_join(s->place, to) : NULL;
    graft_status st = link && temp && whole ? link_to(&linked, link, temp, to, err) : gr_no_memory(err, 0);
    if (st == GRAFT_OK) {
        free(s->r->best_path);
        s->r->best_path = linked ? link : whole;
    }
    if (st != GRAFT_OK || !linked) free(link);
    if (st != GRAFT_OK || linked) free(whole);
    free(to);
    free(temp);
    return st;
}

static void take_result(graft_sweep_trial *t, const graft_train_result *r) {
    t->iterations = r->iterations;
    t->train_loss = r->train_loss;
    t->val_loss_first = r->val_loss_first;
    t->val_loss_last = r->val_loss_last;
    t->val_loss_best = r->val_loss_best;
    t->seconds += r->seconds;
    t->peak_memory_bytes = r->peak_memory_bytes;
}

/* What came of a trial; *st becomes GRAFT_OK where the sweep goes on. */
static void judge(sweep *s, graft_sweep_trial *t, graft_status *st, graft_error *err) {
    if (*st == GRAFT_OK) {
        t->state = GRAFT_SWEEP_DONE;
    } else if (*st == GRAFT_INTERRUPTED && s->over && !stopped(s)) {
        t->state = GRAFT_SWEEP_STOPPED;
    } else if (*st == GRAFT_RANGE) { /* it diverged: that is a result, too */
        t->state = GRAFT_SWEEP_FAILED;
        free(t->error);
        t->error = gr_strdup(err->what);
    } else {
        return;
    }
    *st = GRAFT_OK;
    gr_error_clear(err);
}

static graft_status run_trial(sweep *s, size_t i, graft_error *err) {
    graft_sweep_trial *trial = &s->r->trials[i];
    graft_train_result result = {
        .train_loss = NAN, .val_loss_first = NAN, .val_loss_last = NAN, .val_loss_best = NAN};
    graft_hooks hooks = {.user = s,
                         .event = on_event,
                         .stop = s->limit > 0 ? &s->stop
                                 : s->hooks   ? s->hooks->stop
                                              : NULL};
    char text[320];
    graft_options o;
    gr_trainer t;
    graft_status st = gr_sweep_options(&o, &s->grid, i, s->o, err);
    free(o.adapter_path);
    o.adapter_path = gr_path_join(s->place, trial->name);
    if (st == GRAFT_OK && !o.adapter_path) st = gr_no_memory(err, 0);
    snprintf(text, sizeof text, "trial %zu of %zu: %.200s", i + 1, s->r->ntrials, trial->values);
    say(s, text);
    start_afresh();
    if (st == GRAFT_OK) st = gr_trainer_open(&t, s->dir, &o, &hooks, GR_TRAINER_RUN, err);
    if (st == GRAFT_OK) {
        trial->forecast_bytes = t.forecast.total;
        st = gr_trainer_run(&t, &result, err);
        gr_trainer_close(&t);
        take_result(trial, &result);
    }
    graft_options_free(&o);
    judge(s, trial, &st, err);
    return st == GRAFT_OK ? st : of_trial(trial, st, err);
}

static graft_status run_all(sweep *s, graft_error *err) {
    for (size_t i = 0; i < s->r->ntrials; i++) {
        if (is_over(&s->r->trials[i])) continue;
        if (s->limit > 0 && gr_clock() >= s->end) s->over = true;
        if (s->over) break;
        graft_status st = run_trial(s, i, err), saved = GRAFT_OK;
        graft_error other = {0};
        choose_best(s->r);
        saved = gr_sweep_save(s->place, s->o, &s->inputs, s->r, &other);
        if (saved == GRAFT_OK) saved = link_best(s, &other);
        if (st == GRAFT_INTERRUPTED) gr_hint(err, "the same command with --resume continues");
        if (st != GRAFT_OK) return st;
        if (saved != GRAFT_OK) {
            *err = other;
            return saved;
        }
    }
    return GRAFT_OK;
}

static graft_status take_lock(sweep *s, graft_error *err) {
    return gr_dir_lock_take(&s->lock, s->place, "wait for it, or give another --adapter-path", err);
}

/* The link to the best adapter takes that name. */
static graft_status check_best(const sweep *s, graft_error *err) {
    struct stat there;
    char *path = gr_path_join(s->place, "best");
    if (!path) return gr_no_memory(err, 0);
    graft_status st = GRAFT_OK;
    if (lstat(path, &there) == 0 && !S_ISLNK(there.st_mode)) {
        gr_fail(err, GRAFT_USAGE, "what is there is not a sweep's link to its best adapter");
        gr_where(err, "%s", path);
        st = gr_hint(err, "a training with --keep-best makes such a directory: give another --adapter-path");
    }
    free(path);
    return st;
}

/* What is in s->place, under its lock where there is such a directory; nothing is written into it. */
static graft_status look_back(sweep *s, graft_error *err) {
    if (!gr_path_exists(s->place)) return GRAFT_OK;
    GR_TRY(take_lock(s, err));
    GR_TRY(check_best(s, err));
    return gr_sweep_load(s->r, &s->then, &s->found, s->place, s->o, err);
}

static graft_status there_already(const sweep *s, graft_error *err) {
    gr_fail(err, GRAFT_USAGE, "there is a sweep already");
    gr_where(err, "%s", s->place);
    return gr_hint(err, "--resume goes on with it; another --adapter-path begins anew");
}

/* Where the directory is made now, another sweep may have made it since look_back. */
static graft_status occupy(sweep *s, graft_error *err) {
    GR_TRY(gr_make_dirs(s->place, err));
    if (s->lock.held || s->lock.absent) return GRAFT_OK;
    GR_TRY(take_lock(s, err));
    char *path = gr_path_join(s->place, "sweep.json");
    if (!path) return gr_no_memory(err, 0);
    graft_status st = gr_path_exists(path) ? there_already(s, err) : GRAFT_OK;
    free(path);
    return st;
}

static graft_status begin(sweep *s, graft_error *err) {
    int64_t iterations = 0;
    if (s->o->allow_changes)
        return gr_fail(err, GRAFT_USAGE,
                       "a sweep goes on with its own settings: allow-changes is of a training");
    GR_TRY(gr_sweep_grid_read(&s->grid, s->o, err));
    if (s->o->time_limit) {
        GR_TRY(gr_parse_every(&iterations, &s->limit, s->o->time_limit, err));
        if (iterations || !(s->limit > 0)) {
            gr_fail(err, GRAFT_USAGE, "--time takes a time");
            gr_expected(err, "90s, 30m or 2h");
            return gr_found(err, "%s", s->o->time_limit);
        }
    }
    GR_TRY(name_trials(s, err));
    GR_TRY(look_back(s, err));
    if (s->found && !s->o->resume) return there_already(s, err);
    if (!s->found && s->o->resume) say(s, "no sweep to go on with: starting from the beginning");
    choose_best(s->r);
    return forecast_all(s, err);
}

graft_status gr_sweep(const char *dir, const graft_options *o, const graft_hooks *hooks,
                      graft_sweep_result *result, graft_error *err) {
    double start = gr_clock();
    sweep s = {.dir = dir,
               .place = o->adapter_path && o->adapter_path[0] ? o->adapter_path : "sweep",
               .o = o,
               .hooks = hooks,
               .r = result,
               .end = INFINITY};
    result->best = -1;
    graft_status st = begin(&s, err);
    if (st == GRAFT_OK) st = occupy(&s, err);
    if (st == GRAFT_OK) st = gr_sweep_save(s.place, o, &s.inputs, result, err);
    if (st == GRAFT_OK) st = run_all(&s, err);
    if (st == GRAFT_OK) st = link_best(&s, err);
    gr_dir_lock_release(&s.lock);
    gr_sweep_grid_free(&s.grid);
    for (size_t i = 0; s.over && i < result->ntrials; i++)
        result->out_of_time |= !is_over(&result->trials[i]);
    result->seconds = gr_clock() - start;
    return st;
}
