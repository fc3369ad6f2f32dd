/* The loss on rows that are not trained on, and whether it is the best so far. */
#include "base/hooks.h"
#include "train/pairs.h"
#include "train/trainer.h"
#include <math.h>
#include <stdio.h>

/* At iteration 0, every N, after the last; also one that a stop cut short before this run resumed. */
bool gr_trainer_validation_due(const gr_trainer *t) {
    int64_t i = t->p.iteration, every = t->o->steps_per_eval;
    if (!t->valid || t->o->val_batches == 0 || t->p.validated == i) return false;
    return i == 0 || i == t->iters || (every > 0 && i % every == 0);
}

/* Rows, or pairs, of a validation. mlx-lm drops the batch that is not full. */
int64_t gr_trainer_validation_rows(const gr_trainer *t) {
    int64_t all = gr_rows_count(t->valid) / gr_rows_width(t->valid), batch = t->o->batch_size,
            full = all / batch;
    if (t->o->val_batches >= 0 && t->o->val_batches <= full) return t->o->val_batches * batch;
    return t->mlx_loss ? full * batch : all;
}

/* A validation as it goes on. */
typedef struct validation {
    const gr_trainer *t;
    int64_t done, total; /* rows, or pairs */
    gr_lines bad;        /* of rows without a loss that is a number */
} validation;

/* Also a host's only chance to stop a long one. */
static void say_progress(const validation *v) {
    gr_trainer_event(
        v->t, &(graft_event){
                  .kind = GRAFT_EVENT_PROGRESS, .phase = "validate", .done = v->done, .total = v->total});
}

static void note(validation *v, int64_t row, double loss) {
    if (!isfinite(loss)) gr_lines_add(&v->bad, gr_rows_at(v->t->valid, row).line);
    v->done++;
    say_progress(v);
}

static void note_row(void *user, int64_t row, const gr_score *own) {
    note(user, row, own->loss);
}

static void say_bad_validation(const gr_trainer *t, const gr_lines *lines) {
    gr_buf text = {0};
    gr_lines_text(lines, &text);
    gr_trainer_note(t, "the validation loss at iteration %lld is not a number: %s, %s",
                    (long long)t->p.iteration, gr_rows_name(t->valid), text.data ? text.data : "");
    gr_buf_free(&text);
}

static void note_pair(void *user, int64_t pair, const gr_pair *scored, const gr_pair_value *value) {
    (void)scored;
    note(user, 2 * pair, value->loss);
}

/* *loss: the mean over those of the validation; NaN: nothing has one. */
static graft_status score(gr_trainer *t, validation *v, double *loss, graft_preference *means,
                          graft_error *err) {
    gr_score sum;
    int64_t n = v->total;
    gr_preference_sums sums;
    if (!t->preference.loss) {
        GR_TRY(gr_trainer_score(t, n, &sum, note_row, v, err));
        *loss = sum.tokens ? sum.loss / (double)sum.tokens : NAN;
        return GRAFT_OK;
    }
    GR_TRY(gr_pairs_score(&t->rt, &t->buffer, t->valid, 0, n, &t->preference, &sums, note_pair, v,
                          gr_stop_of(t->hooks), err));
    GR_TRY(gr_trainer_agree_to_stop(t, err)); /* pairs are scored by every rank, each all of them */
    *means = gr_preference_means(&t->preference, &sums);
    *loss = sums.loss / (double)gr_max_i64(sums.pairs, 1);
    return GRAFT_OK;
}

graft_status gr_trainer_validate(gr_trainer *t, graft_error *err) {
    graft_preference means = {0};
    validation v = {.t = t, .total = gr_trainer_validation_rows(t)};
    double start = gr_clock();
    say_progress(&v);
    double loss;
    GR_TRY(score(t, &v, &loss, &means, err));
    if (gr_trainer_stopping(t)) return GRAFT_OK; /* an interrupted mean is no mean */
    t->p.validated = t->p.iteration;
    if (isnan(loss) && !v.bad.count) return GRAFT_OK;
    if (v.bad.count) say_bad_validation(t, &v.bad);
    if (isnan(t->p.first_val)) t->p.first_val = loss;
    t->p.last_val = loss;
    graft_event e = {.kind = GRAFT_EVENT_VALID,
                     .iteration = t->p.iteration,
                     .val_loss = loss,
                     .val_time = gr_clock() - start,
                     .preference = means};
    GR_TRY(gr_metrics_valid(t, &e, err));
    gr_trainer_event(t, &e);
    t->p.stale++;
    if (!isfinite(loss) || loss >= t->p.best_val) return GRAFT_OK; /* best_val may be NaN: none yet */
    if (!t->best_due) t->best_before = (gr_best){t->p.best_val, t->p.best_iteration, t->p.stale};
    t->p.stale = 0;
    t->p.best_val = loss;
    t->p.best_iteration = t->p.iteration;
    t->best_due = t->o->keep_best;
    return GRAFT_OK;
}
