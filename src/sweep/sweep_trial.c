/* One trial: a training as any other, in a directory of its own, and what came of it. */
#include "sweep/sweep_run.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* Settings of the trial, where it goes, and what it gets of threads and memory. */
static graft_status options_of(graft_options *o, const gr_sweep_run *s, size_t i, int threads, bool goes_on,
                               graft_error *err) {
    char text[32];
    GR_TRY(gr_sweep_options(o, &s->grid, i, s->o, err));
    free(o->adapter_path);
    o->adapter_path = gr_path_join(s->place, s->r->trials[i].name);
    if (!o->adapter_path) return gr_no_memory(err, 0);
    o->resume |= goes_on;
    if (!threads) return GRAFT_OK;
    o->threads = threads; /* check_name of sweep_grid.c lets no grid vary these */
    if (!s->budget) return GRAFT_OK;
    snprintf(text, sizeof text, "%llu", (unsigned long long)s->budget);
    free(o->budget);
    o->budget = gr_strdup(text);
    return o->budget ? GRAFT_OK : gr_no_memory(err, 0);
}

static void say_trial(const gr_sweep_run *s, size_t i, int round, const gr_sweep_line *line) {
    char text[320];
    int64_t pause = gr_sweep_pause(s, i, round);
    int n =
        snprintf(text, sizeof text, "trial %zu of %zu: %.200s", i + 1, s->r->ntrials, s->r->trials[i].values);
    if (pause)
        snprintf(text + n, sizeof text - (size_t)n, ", to iteration %lld of %lld", (long long)pause,
                 (long long)s->sizes[i].iters);
    line->hooks.event(line->hooks.user, &(graft_event){.kind = GRAFT_EVENT_NOTE, .text = text});
}

static bool same_base(const gr_sweep_run *s, const graft_options *o) {
    return s->base && gr_options_base(o) == gr_options_base(s->o) && o->no_mmap == s->o->no_mmap;
}

void gr_sweep_try(const gr_sweep_run *s, size_t i, int round, int threads, gr_sweep_line *line,
                  gr_sweep_outcome *out) {
    const graft_sweep_trial *trial = &s->r->trials[i];
    graft_options o;
    gr_trainer t;
    gr_beside beside = {.other = s->sizes[i].other, .runs = s->jobs};
    out->result = (graft_train_result){
        .train_loss = NAN, .val_loss_first = NAN, .val_loss_last = NAN, .val_loss_best = NAN};
    say_trial(s, i, round, line);
    if (!threads) gr_sweep_start_afresh();
    graft_status st = options_of(&o, s, i, threads, round > 0 || trial->iterations > 0, &out->err);
    if (st == GRAFT_OK && same_base(s, &o)) beside.base = s->base;
    if (st == GRAFT_OK)
        st = threads ? gr_trainer_open_beside(&t, &beside, s->dir, &o, &line->hooks, &out->err)
                     : gr_trainer_open(&t, s->dir, &o, &line->hooks, GR_TRAINER_RUN, &out->err);
    if (st == GRAFT_OK) {
        out->forecast = t.forecast.total;
        t.pause = gr_sweep_pause(s, i, round);
        st = gr_trainer_run(&t, &out->result, &out->err);
        gr_trainer_close(&t);
    }
    graft_options_free(&o);
    out->status = st;
}

/* ---- afterwards */

/* The trial with the lowest validation loss; of equals the first. */
void gr_sweep_choose_best(graft_sweep_result *r) {
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
graft_status gr_sweep_link_best(const gr_sweep_run *s, graft_error *err) {
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

static void take_result(graft_sweep_trial *t, const gr_sweep_outcome *out) {
    const graft_train_result *r = &out->result;
    if (!out->forecast) return; /* what an earlier round measured stays */
    t->forecast_bytes = out->forecast;
    if (!r->forecast.total) return; /* the run did not begin */
    t->iterations = r->iterations;
    t->train_loss = r->train_loss;
    t->val_loss_first = r->val_loss_first;
    t->val_loss_last = r->val_loss_last;
    t->val_loss_best = r->val_loss_best;
    t->seconds += r->seconds;
    if (r->peak_memory_bytes > t->peak_memory_bytes) t->peak_memory_bytes = r->peak_memory_bytes;
}

/* What came of a trial; GRAFT_OK where the sweep goes on. */
static graft_status judge(const gr_sweep_run *s, size_t i, int64_t pause, const gr_sweep_outcome *out) {
    graft_sweep_trial *t = &s->r->trials[i];
    bool paused =
        pause && t->iterations >= pause && t->iterations < s->sizes[i].iters && !out->result.stopped_early;
    if (out->status == GRAFT_OK) {
        t->state = paused ? GRAFT_SWEEP_PAUSED : GRAFT_SWEEP_DONE;
        return GRAFT_OK;
    }
    if (out->status == GRAFT_INTERRUPTED && s->over && !gr_sweep_stopped(s)) {
        t->state = GRAFT_SWEEP_STOPPED;
        return GRAFT_OK;
    }
    if (out->status != GRAFT_RANGE) {
        t->state = GRAFT_SWEEP_WAITING; /* wherever its round was cut off, that is not over */
        return out->status;
    }
    t->state = GRAFT_SWEEP_FAILED; /* it diverged: that is a result, too */
    free(t->error);
    t->error = gr_strdup(out->err.what);
    return GRAFT_OK;
}

graft_status gr_sweep_settle(gr_sweep_run *s, size_t i, int round, gr_sweep_outcome *out, graft_error *err) {
    graft_sweep_trial *trial = &s->r->trials[i];
    graft_error other = {0};
    take_result(trial, out);
    graft_status st = judge(s, i, gr_sweep_pause(s, i, round), out);
    gr_sweep_choose_best(s->r);
    graft_status saved = gr_sweep_save(s->place, s->o, &s->inputs, s->r, &other);
    if (saved == GRAFT_OK) saved = gr_sweep_link_best(s, &other);
    if (st == GRAFT_OK) {
        if (saved != GRAFT_OK) *err = other;
        return saved;
    }
    *err = out->err;
    if (st == GRAFT_INTERRUPTED) gr_hint(err, "the same command with --resume continues");
    return gr_sweep_of_trial(trial, st, err);
}
