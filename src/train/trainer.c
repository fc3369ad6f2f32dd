#include "train/trainer.h"
#include "model/locate.h"
#include "optim/schedule_table.h"
#include "report/curve.h"
#include <math.h>
#include <stdio.h>
#include <unistd.h>

const char *gr_trainer_base(const gr_trainer *t) {
    const char *model = t->o->model ? t->o->model : "";
    if (gr_options_base(t->o) != GR_BASE_4_BIT) return model;
    char *cache = gr_cache_path("converted/");
    bool kept = cache && strncmp(t->rt.model->dir, cache, strlen(cache)) == 0;
    free(cache);
    return kept ? t->rt.model->dir : model;
}

static gr_adapter_info info_of(const gr_trainer *t, int64_t iteration) {
    return (gr_adapter_info){.base = gr_trainer_base(t),
                             .model = t->rt.model,
                             .iteration = iteration,
                             .formats = t->formats,
                             .template_kwargs = t->o->template_kwargs};
}

graft_status gr_trainer_save(gr_trainer *t, const char *dir, graft_error *err) {
    gr_adapter_info info = info_of(t, t->p.iteration);
    gr_tuning *plain;
    float *params;
    GR_TRY(gr_trainer_fold(t, &plain, &params, err));
    graft_status st = gr_adapter_save(dir, &t->rt.model->config, plain ? plain : t->rt.tuning,
                                      plain ? params : t->params, &info, err);
    gr_tuning_free(plain);
    free(params);
    return st;
}

/* --patience: was no validation better for so long? */
static bool out_of_patience(const gr_trainer *t) {
    return t->o->patience > 0 && t->p.stale >= t->o->patience;
}

static void say_patience(const gr_trainer *t) {
    gr_trainer_note(t,
                    "stopped at iteration %lld of %lld: the validation loss was lowest at iteration %lld%s",
                    (long long)t->p.iteration, (long long)t->iters, (long long)t->p.best_iteration,
                    t->o->keep_best ? ", whose adapter is in best" : " (--keep-best keeps that adapter)");
}

static graft_status report(gr_trainer *t, graft_error *err) {
    gr_train_progress *p = &t->p;
    double seconds = fmax(t->report_seconds, 1e-9);
    p->train_loss = p->report_tokens ? p->report_loss / (double)gr_trainer_loss_parts(t) : NAN;
    graft_event e = {
        .kind = GRAFT_EVENT_TRAIN,
        .iteration = p->iteration,
        .train_loss = p->train_loss,
        .learning_rate =
            p->update ? p->rate : gr_optim_rate(&t->optim.config, gr_schedule_rate(t->o, 1, t->updates), 1),
        .iterations_per_second = (double)t->timed_iterations / seconds,
        .tokens_per_second = (double)t->timed_tokens / seconds,
        .trained_tokens = p->trained_tokens,
        .grad_norm = p->grad_norm,
        .peak_memory_bytes = gr_peak_rss(),
        .preference = gr_preference_means(&t->preference, &p->preference)};
    p->preference = (gr_preference_sums){0};
    p->report_loss = 0;
    p->report_tokens = 0;
    p->report_iterations = 0;
    t->report_seconds = 0;
    t->timed_iterations = 0;
    t->timed_tokens = 0;
    GR_TRY(gr_metrics_train(t, &e, err));
    gr_trainer_event(t, &e);
    return GRAFT_OK;
}

static graft_status write_all(gr_trainer *t, graft_error *err) {
    GR_TRY(gr_metrics_sync(t, err));
    GR_TRY(gr_checkpoint_save(t, err));
    t->saved = t->p.iteration;
    GR_TRY(gr_trainer_save(t, t->dir, err));
    if (t->best_due) GR_TRY(gr_best_save(t, err));
    gr_trainer_event(t,
                     &(graft_event){.kind = GRAFT_EVENT_SAVED, .text = t->dir, .iteration = t->p.iteration});
    return GRAFT_OK;
}

/* Nobody has the state that was best: the one before it is, which best/ still holds. */
static void forget_best(gr_trainer *t) {
    t->best_due = false;
    t->p.best_val = t->best_before.val;
    t->p.best_iteration = t->best_before.iteration;
    t->p.stale = t->best_before.stale;
}

static graft_status save_all(gr_trainer *t, graft_error *err) {
    if (!gr_trainer_sound(t)) {
        if (t->best_due) forget_best(t);
        t->saved_at = gr_clock(); /* not again at once */
        return gr_trainer_not_saved(t, t->p.iteration == t->iters, err);
    }
    GR_TRY(gr_trainer_gather(t, err));
    if (gr_trainer_writes(t)) GR_TRY(write_all(t, err));
    t->saved = t->p.iteration;
    t->best_due = false;
    t->saved_at = gr_clock();
    return GRAFT_OK;
}

/* Saving reads and changes nothing that training uses: when it happens leaves no trace in the results. */
static bool save_due(const gr_trainer *t) {
    if (t->together.ranks) return t->together.save; /* rank 0's clock, or its iterations */
    if (t->save_iterations) return t->p.iteration % t->save_iterations == 0;
    return gr_clock() - t->saved_at >= t->save_seconds;
}

/* Too many updates were skipped: what was learned before them is kept. */
static graft_status give_up(gr_trainer *t, graft_error *err) {
    bool sound = gr_trainer_sound(t);
    if (sound) GR_TRY(save_all(t, err));
    return gr_trainer_fail_lost(t, sound, err);
}

/* Other ranks' part of an iteration is missing. */
static graft_status give_back(const gr_trainer *t, graft_error *err) {
    if (err->status == GRAFT_OK) *err = t->together.broken;
    return err->status;
}

/* Before everything that other ranks take part in: what a checkpoint would hold, were they gone. */
static void note_boundary(gr_trainer *t) {
    if (t->together.ranks && t->p.pending_iterations == 0) t->together.boundary = t->p;
}

/* A run that the other ranks, or the host's hurry, cut short inside an update: the vectors are still those of
 * the last whole one, and rank 0 saves them. Not where a rank found that they are no good. */
static void salvage(gr_trainer *t, graft_status st) {
    graft_error own = {0};
    const gr_train_progress *p = &t->together.boundary;
    if (!gr_trainer_writes(t) || !gr_ranks_broke_off(t->together.ranks)) return;
    if (st == GRAFT_MISMATCH || st == GRAFT_RANGE || st == GRAFT_INTERNAL) return;
    if (p->iteration <= t->saved || p->iteration == 0 || p->health.in_a_row) return;
    t->p = *p;
    if (!gr_trainer_sound(t)) return;
    if (write_all(t, &own) != GRAFT_OK) gr_trainer_note(t, "saving failed too: %s %s", own.what, own.where);
}

/* As far as this call is to go. */
static bool at_pause(const gr_trainer *t) {
    return t->pause && t->p.iteration >= t->pause && t->p.iteration < t->iters;
}

static graft_status loop(gr_trainer *t, graft_error *err) {
    const graft_options *o = t->o;
    gr_train_progress *p = &t->p;
    if (t->valid && o->val_batches && gr_trainer_validation_rows(t) == 0)
        gr_trainer_note(
            t,
            "no validation: %s has fewer rows than a batch, and --loss mlx-lm drops batches that are "
            "not full",
            gr_rows_name(t->valid));
    t->saved_at = gr_clock();
    note_boundary(t);
    if (gr_trainer_validation_due(t)) GR_TRY(gr_trainer_validate(t, err));
    if (t->best_due && p->iteration < t->iters) GR_TRY(save_all(t, err));
    while (p->iteration < t->iters && !gr_trainer_stopping(t) && !out_of_patience(t) && !at_pause(t)) {
        note_boundary(t);
        gr_trainer_iteration(t);
        if (t->together.broken.status != GRAFT_OK) return give_back(t, err);
        GR_TRY(gr_trainer_count_skipped(t, true, err));
        if (gr_trainer_lost(t)) return give_up(t, err);
        bool last = p->iteration == t->iters;
        gr_trainer_event(
            t, &(graft_event){
                   .kind = GRAFT_EVENT_PROGRESS, .phase = "train", .done = p->iteration, .total = t->iters});
        if (p->iteration % o->steps_per_report == 0 || last) GR_TRY(report(t, err));
        note_boundary(t);
        if (gr_trainer_validation_due(t)) GR_TRY(gr_trainer_validate(t, err));
        if (!last && !out_of_patience(t) && (t->best_due || save_due(t))) GR_TRY(save_all(t, err));
    }
    if (p->iteration < t->iters && out_of_patience(t)) say_patience(t);
    return save_all(t, err);
}

/* A run that the machine ended says what is left of it, and how it goes on. */
static graft_status say_what_is_left(const gr_trainer *t, graft_status st, graft_error *err) {
    bool cut = t->together.ranks && st == GRAFT_INTERRUPTED;
    if (st != GRAFT_IO && st != GRAFT_NO_MEMORY && st != GRAFT_NOT_FOUND && !cut) return st;
    err->hint[0] = 0;
    if (t->saved >= 0)
        gr_hint(err,
                "everything up to iteration %lld is saved: when the cause is gone, the same command with "
                "--resume continues from there",
                (long long)t->saved);
    else
        gr_hint(err, "no checkpoint of this run was saved yet: when the cause is gone, start it again");
    return st;
}

/* loss.svg and README.md from what metrics.jsonl holds. */
static graft_status write_reports(gr_trainer *t, const graft_train_result *result, graft_error *err) {
    char *metrics = gr_path_join(t->dir, "metrics.jsonl"), *svg = gr_path_join(t->dir, "loss.svg");
    graft_status st =
        metrics && svg ? gr_curve_from_metrics(metrics, svg, "loss", err) : gr_no_memory(err, 0);
    free(metrics);
    free(svg);
    return st == GRAFT_OK ? gr_card_save(t, result, err) : st;
}

/* What a run that was killed while it wrote left behind. The lock is held. */
static void remove_leftovers(const gr_trainer *t) {
    static const char *const names[] = {"checkpoints", "best"};
    gr_remove_temps(t->dir);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = gr_path_join(t->dir, names[i]);
        if (path) gr_remove_temps(path);
        free(path);
    }
}

/* Formats that cannot have this adapter, or not exactly: said before the work, not after it. */
static void say_what_is_saved(const gr_trainer *t) {
    gr_buf notes = {0};
    gr_adapter_notes(&notes, &t->rt.model->config, t->rt.tuning, t->formats);
    if (notes.len) gr_trainer_note(t, "%s", notes.data);
    gr_buf_free(&notes);
}

/* A run that goes on writes adapter.gguf too where export has put one beside its files: it would be of
 * another save than they are. The lock is held: none comes meanwhile. */
static graft_status keep_exported(gr_trainer *t, graft_error *err) {
    char *exported = t->o->resume ? gr_path_join(t->dir, "adapter.gguf") : NULL;
    if (!exported) return t->o->resume ? gr_no_memory(err, 64) : GRAFT_OK;
    if (gr_path_exists(exported)) t->formats |= GR_ADAPTER_GGUF;
    free(exported);
    return GRAFT_OK;
}

/* An earlier run's best adapter and samples are not this run's. */
static void forget(const gr_trainer *t) {
    char *samples = gr_path_join(t->dir, "samples.json");
    gr_best_forget(t);
    if (samples) unlink(samples);
    free(samples);
    gr_events_forget(t->dir);
}

static graft_status start_here(gr_trainer *t, graft_error *err) {
    bool found = false;
    GR_TRY(gr_make_dirs(t->dir, err));
    GR_TRY(gr_dir_lock_take(&t->lock, t->dir, "wait for it, or give another --adapter-path", err));
    GR_TRY(keep_exported(t, err));
    if (t->lock.absent)
        gr_trainer_note(t, "the file system of %s has no locks: no other run may use it meanwhile", t->dir);
    remove_leftovers(t);
    if (t->o->resume) {
        GR_TRY(gr_checkpoint_resume(t, &found, err));
        if (found) {
            GR_TRY(gr_saved_settle(t, err));
            t->saved = t->p.iteration;
            gr_trainer_note(t, "resuming at iteration %lld of %lld", (long long)t->p.iteration,
                            (long long)t->iters);
        } else
            gr_trainer_note(t, "no checkpoint in %s: starting from the beginning", t->dir);
    } else {
        GR_TRY(gr_checkpoint_clear(t, err));
    }
    if (!found) forget(t);
    say_what_is_saved(t);
    GR_TRY(gr_metrics_start(t, err));
    if (t->o->report_to) GR_TRY(gr_events_open(&t->events, t->dir, t->p.iteration, err));
    return gr_record_save(t, !found, err);
}

/* Files are rank 0's, and what it finds in them is everybody's. */
static graft_status start_or_resume(gr_trainer *t, graft_error *err) {
    GR_TRY(gr_trainer_agree(t, err));
    if (gr_trainer_writes(t)) GR_TRY(start_here(t, err));
    return gr_trainer_spread(t, err);
}

static void fill(graft_train_result *result, const gr_trainer *t, double start, bool early) {
    bool cut = gr_trainer_stopping(t) && gr_trainer_validation_due(t), paused = !cut && at_pause(t);
    *result = (graft_train_result){.iterations = t->p.iteration,
                                   .updates = t->p.health.applied,
                                   .skipped_updates = t->p.health.skipped,
                                   .loss_spikes = t->p.health.loss_spikes,
                                   .gradient_spikes = t->p.health.norm_spikes,
                                   .trained_tokens = t->p.trained_tokens,
                                   .packing = gr_trainer_packing(t),
                                   .train_loss = t->p.train_loss,
                                   .val_loss_first = t->p.first_val,
                                   .val_loss_last = t->p.last_val,
                                   .val_loss_best = t->p.best_val,
                                   .seconds = gr_clock() - start,
                                   .forecast = t->forecast,
                                   .peak_memory_bytes = gr_peak_rss(),
                                   .stopped_early = early,
                                   .interrupted = !early && !paused && (t->p.iteration < t->iters || cut)};
}

graft_status gr_trainer_run(gr_trainer *t, graft_train_result *result, graft_error *err) {
    double start = gr_clock();
    GR_TRY(start_or_resume(t, err));
    if (t->o->verify_frozen) GR_TRY(gr_trainer_watch(t, err));
    graft_status st = loop(t, err);
    if (st != GRAFT_OK && t->together.ranks) salvage(t, st);
    bool early = out_of_patience(t) && t->p.iteration < t->iters;
    fill(result, t, start, early);
    if (st != GRAFT_OK) return say_what_is_left(t, st, err); /* what it measured is in *result */
    gr_trainer_say_ranks(t, start);
    if (gr_trainer_writes(t)) st = write_reports(t, result, err);
    if (st != GRAFT_OK) return say_what_is_left(t, st, err);
    if (t->before) GR_TRY(gr_trainer_prove(t, result, err));
    if (!result->interrupted) return GRAFT_OK;
    gr_fail(err, GRAFT_INTERRUPTED, "stopped at iteration %lld of %lld, %s", (long long)t->p.iteration,
            (long long)t->iters,
            t->saved == t->p.iteration ? "everything is saved" : "where the loss is not a number: not saved");
    gr_where(err, "%s", t->dir);
    return gr_hint(err, "the same command with --resume continues");
}
