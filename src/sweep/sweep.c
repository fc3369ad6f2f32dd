#include "base/hooks.h"
#include "sweep/sweep_run.h"
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#ifdef __GLIBC__
#include <malloc.h> /* malloc_trim */
#endif

bool gr_sweep_stopped(const gr_sweep_run *s) {
    return gr_stopped(s->hooks);
}

void gr_sweep_hear(gr_sweep_run *s, int64_t trial, const graft_event *e) {
    if (s->limit > 0 && !s->quiet && gr_clock() >= s->end) s->over = true;
    if ((s->quiet && e->kind == GRAFT_EVENT_NOTE) || !s->hooks || !s->hooks->event) return;
    graft_event own = *e;
    own.trial = trial;
    s->hooks->event(s->hooks->user, &own);
}

bool gr_sweep_is_over(const graft_sweep_trial *t) {
    return strcmp(t->state, GRAFT_SWEEP_DONE) == 0 || strcmp(t->state, GRAFT_SWEEP_FAILED) == 0 ||
           strcmp(t->state, GRAFT_SWEEP_DROPPED) == 0;
}

/* An error of one trial says of which. */
graft_status gr_sweep_of_trial(const graft_sweep_trial *t, graft_status st, graft_error *err) {
    size_t n = strlen(err->where);
    snprintf(err->where + n, sizeof err->where - n, "%strial %.150s", n ? ", " : "", t->values);
    return st;
}

void gr_sweep_start_afresh(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    gr_peak_rss_reset();
}

static graft_status name_trials(gr_sweep_run *s, graft_error *err) {
    graft_sweep_result *r = s->r;
    r->trials = gr_calloc(s->grid.trials, sizeof *r->trials);
    s->sizes = gr_calloc(s->grid.trials, sizeof *s->sizes);
    if (!r->trials || !s->sizes) return gr_no_memory(err, s->grid.trials * sizeof *r->trials);
    r->ntrials = s->grid.trials;
    for (size_t i = 0; i < r->ntrials; i++) {
        graft_sweep_trial *t = &r->trials[i];
        t->state = GRAFT_SWEEP_WAITING;
        t->train_loss = t->val_loss_first = t->val_loss_last = t->val_loss_best = NAN;
        GR_TRY(gr_sweep_names(&t->name, &t->values, &s->grid, i, err));
    }
    return GRAFT_OK;
}

static graft_status take_lock(gr_sweep_run *s, graft_error *err) {
    return gr_dir_lock_take(&s->lock, s->place, "wait for it, or give another --adapter-path", err);
}

/* The link to the best adapter takes that name. */
static graft_status check_best(const gr_sweep_run *s, graft_error *err) {
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
static graft_status look_back(gr_sweep_run *s, graft_error *err) {
    if (!gr_path_exists(s->place)) return GRAFT_OK;
    GR_TRY(take_lock(s, err));
    GR_TRY(check_best(s, err));
    return gr_sweep_load(s->r, &s->then, &s->found, s->place, s->o, err);
}

static graft_status there_already(const gr_sweep_run *s, graft_error *err) {
    gr_fail(err, GRAFT_USAGE, "there is a sweep already");
    gr_where(err, "%s", s->place);
    return gr_hint(err, "--resume goes on with it; another --adapter-path begins anew");
}

/* Where the directory is made now, another sweep may have made it since look_back. What one that was killed
 * while it saved left behind goes. */
static graft_status occupy(gr_sweep_run *s, graft_error *err) {
    bool ours = s->lock.held || s->lock.absent;
    GR_TRY(gr_make_dirs(s->place, err));
    if (!ours) GR_TRY(take_lock(s, err));
    if (s->lock.held) gr_remove_temps(s->place);
    if (ours) return GRAFT_OK;
    char *path = gr_path_join(s->place, "sweep.json");
    if (!path) return gr_no_memory(err, 0);
    graft_status st = gr_path_exists(path) ? there_already(s, err) : GRAFT_OK;
    free(path);
    return st;
}

static graft_status begin(gr_sweep_run *s, graft_error *err) {
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
    if (s->o->halving == 1) {
        gr_fail(err, GRAFT_USAGE, "--halving 1 drops no trial");
        return gr_expected(err, "2 or more: the better 1/N go on; or 0");
    }
    GR_TRY(name_trials(s, err));
    gr_sweep_plan_rounds(s);
    GR_TRY(look_back(s, err));
    if (s->found && !s->o->resume) return there_already(s, err);
    if (!s->found && s->o->resume)
        gr_sweep_hear(s, 0,
                      &(graft_event){.kind = GRAFT_EVENT_NOTE,
                                     .text = "no sweep to go on with: starting from the beginning"});
    gr_sweep_choose_best(s->r);
    return gr_sweep_forecast(s, err);
}

graft_status gr_sweep(const char *dir, const graft_options *o, const graft_hooks *hooks,
                      graft_sweep_result *result, graft_error *err) {
    double start = gr_clock();
    gr_sweep_run s = {.dir = dir,
                      .place = o->adapter_path && o->adapter_path[0] ? o->adapter_path : "sweep",
                      .o = o,
                      .hooks = hooks,
                      .r = result,
                      .end = INFINITY};
    result->best = -1;
    graft_status st = begin(&s, err);
    if (st == GRAFT_OK) st = occupy(&s, err);
    if (st == GRAFT_OK) st = gr_sweep_save(s.place, o, &s.inputs, result, err);
    if (st == GRAFT_OK) st = gr_sweep_rounds(&s, err);
    if (st == GRAFT_OK) st = gr_sweep_link_best(&s, err);
    gr_dir_lock_release(&s.lock);
    gr_sweep_grid_free(&s.grid);
    gr_model_free(s.base);
    free(s.sizes);
    for (size_t i = 0; s.over && i < result->ntrials; i++)
        result->out_of_time |= !gr_sweep_is_over(&result->trials[i]);
    result->seconds = gr_clock() - start;
    return st;
}
