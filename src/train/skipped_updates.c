/* train/skipped_updates.c - what follows from numbers that went wrong: it is said and written down, and a
 * state whose loss is not a number takes no good one's place on the disk. */
#include "train/trainer.h"
#include <math.h>

/* Each is written into metrics.jsonl; on the screen these are enough. */
#define NOTES 10

static void say_skipped(const gr_trainer *t, const gr_verdict *v) {
    gr_buf rows = {0};
    gr_lines_text(&v->rows, &rows);
    if (t->p.health.skipped <= NOTES && rows.data)
        gr_trainer_note(
            t,
            "update %lld was skipped, the parameters stay as they were: the %s of %s%s, %s is not a number",
            (long long)t->p.update, v->bad_loss ? "loss" : "gradient", v->guilty ? "" : "an update of ",
            gr_rows_name(t->train), rows.data);
    if (t->p.health.skipped == NOTES) gr_trainer_note(t, "further skipped updates stand in metrics.jsonl");
    gr_buf_free(&rows);
}

/* The nth of the run. */
static void say_spike(const gr_trainer *t, int64_t nth, const char *what, double value, double usual) {
    if (nth <= NOTES)
        gr_trainer_note(t, "spike: %s of update %lld is %.3g, usual is %.3g", what, (long long)t->p.update,
                        value, usual);
    if (nth == NOTES) gr_trainer_note(t, "further spikes stand in metrics.jsonl");
}

graft_status gr_trainer_count_skipped(gr_trainer *t, bool write, graft_error *err) {
    const gr_verdict *v = &t->verdict;
    if (v->skipped) {
        say_skipped(t, v);
        if (write) GR_TRY(gr_metrics_skipped(t, v, err));
    }
    int64_t spikes = t->p.health.loss_spikes + t->p.health.norm_spikes;
    if (v->loss_spike) {
        say_spike(t, spikes - v->norm_spike, "the loss", v->loss, v->usual_loss);
        if (write) GR_TRY(gr_metrics_spike(t, "train_loss", v->loss, v->usual_loss, err));
    }
    if (v->norm_spike) {
        say_spike(t, spikes, "the gradient's norm", v->norm, v->usual_norm);
        if (write) GR_TRY(gr_metrics_spike(t, "grad_norm", v->norm, v->usual_norm, err));
    }
    return GRAFT_OK;
}

bool gr_trainer_lost(const gr_trainer *t) {
    return t->verdict.skipped && t->p.health.in_a_row >= t->o->max_bad_steps;
}

graft_status gr_trainer_fail_lost(const gr_trainer *t, bool sound, graft_error *err) {
    gr_buf rows = {0};
    gr_lines_text(&t->verdict.rows, &rows);
    gr_fail(err, GRAFT_RANGE, "%lld updates in a row were skipped: the loss or its gradient is not a number",
            (long long)t->p.health.in_a_row);
    gr_where(err, "iteration %lld", (long long)t->p.iteration);
    gr_found(err, "the last in %s, %s", gr_rows_name(t->train), rows.data ? rows.data : "");
    gr_buf_free(&rows);
    const char *kept =
        t->saved == t->p.iteration ? "what was learned is saved, --resume goes on behind them; " : "";
    if (sound && !t->verdict.bad_loss)
        return gr_hint(
            err, "%sthe losses are numbers and the gradient is too large for f32: a lower --learning-rate",
            kept);
    if (sound)
        return gr_hint(
            err,
            "%sother rows still have a loss: look at these, and at the base's weights of their tokens; "
            "--max-bad-steps allows more",
            kept);
    return gr_hint(err,
                   "no row has a loss with these parameters: start again with a lower --learning-rate or "
                   "--grad-clip, or with --resume-adapter-file from what was saved before%s",
                   t->saved < 0 ? " (this run saved nothing yet)" : "");
}

/* Rows that may be bad by themselves, where none is known to be good. */
#define PROBES 8

static bool has_loss(gr_trainer *t, int64_t row) {
    gr_score score;
    gr_runtime_score(&t->rt, &t->buffer, t->train, row, 1, &score, NULL, NULL, NULL);
    return score.tokens > 0 && isfinite(score.loss);
}

bool gr_trainer_sound(gr_trainer *t) {
    int64_t known = t->p.health.good_row, count = gr_rows_count(t->train);
    if (known > 0 && known <= count && gr_rows_at(t->train, known - 1).targets) return has_loss(t, known - 1);
    for (int64_t i = 0, probes = 0; i < count && probes < PROBES; i++) {
        if (!gr_rows_at(t->train, i).targets) continue;
        if (has_loss(t, i)) return true;
        probes++;
    }
    return false;
}

graft_status gr_trainer_not_saved(gr_trainer *t, bool last, graft_error *err) {
    gr_buf kept = {0};
    if (t->saved >= 0)
        gr_buf_printf(&kept, "%s keeps iteration %lld", t->dir, (long long)t->saved);
    else
        gr_buf_puts(&kept, "nothing was saved before");
    if (last) {
        gr_fail(err, GRAFT_RANGE, "with the last parameters the loss is not a number: they are not saved");
        gr_where(err, "iteration %lld", (long long)t->p.iteration);
        gr_hint(err, "%s; start again with a lower --learning-rate or --grad-clip",
                kept.data ? kept.data : "");
    } else {
        gr_trainer_note(t, "not saved at iteration %lld, where the loss is not a number: %s",
                        (long long)t->p.iteration, kept.data ? kept.data : "");
    }
    gr_buf_free(&kept);
    return last ? GRAFT_RANGE : GRAFT_OK;
}
