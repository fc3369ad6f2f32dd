/* Rounds: after each but the last only the better trials go on. A trial is paused where it is validated, and
 * its checkpoint goes on as if it had not been. source: Jamieson, Talwalkar, arXiv 1502.07943 (the sizes of
 * the rounds); what is compared is the lowest validation loss so far, as in the whole sweep */
#include "sweep/sweep_run.h"
#include <math.h>
#include <stdio.h>

void gr_sweep_plan_rounds(gr_sweep_run *s) {
    size_t n = s->r->ntrials, factor = (size_t)s->o->halving;
    s->rounds = 1;
    s->stay[0] = n;
    while (factor > 1 && n > 1) {
        n = (n + factor - 1) / factor;
        s->stay[s->rounds++] = n;
    }
}

int64_t gr_sweep_pause(const gr_sweep_run *s, size_t trial, int round) {
    const gr_sweep_size *size = &s->sizes[trial];
    if (round >= s->rounds - 1) return 0;
    double part = (double)size->iters / pow((double)s->o->halving, s->rounds - 1 - round);
    int64_t evals = (int64_t)ceil(part / (double)size->every);
    return evals * size->every;
}

static int64_t end_of(const gr_sweep_run *s, size_t trial, int round) {
    int64_t pause = gr_sweep_pause(s, trial, round);
    return pause ? pause : s->sizes[trial].iters;
}

graft_status gr_sweep_check_rounds(const gr_sweep_run *s, graft_error *err) {
    for (size_t i = 0; i < s->r->ntrials; i++)
        for (int k = 1; k < s->rounds; k++) {
            if (end_of(s, i, k - 1) < end_of(s, i, k)) continue;
            gr_fail(err, GRAFT_USAGE, "--halving compares trials by validations, and these are too rare");
            gr_expected(err, "one at the end of each of %d rounds", s->rounds);
            gr_found(err, "%lld iterations, a validation every %lld", (long long)s->sizes[i].iters,
                     (long long)s->sizes[i].every);
            gr_hint(err, "a smaller --steps-per-eval, more --iters or a larger --halving");
            return gr_sweep_of_trial(&s->r->trials[i], GRAFT_USAGE, err);
        }
    return GRAFT_OK;
}

double gr_sweep_share(const gr_sweep_run *s) {
    double share = 0;
    for (int k = 0; k < s->rounds; k++) {
        double to = pow((double)s->o->halving, k + 1 - s->rounds),
               from = k ? pow((double)s->o->halving, k - s->rounds) : 0;
        share += (double)s->stay[k] * ((s->rounds > 1 ? to : 1) - from);
    }
    return share / (double)s->r->ntrials;
}

static bool is(const graft_sweep_trial *t, const char *state) {
    return strcmp(t->state, state) == 0;
}

/* Takes the trial part in a round, and has it not yet been through it? One that was cut off at its end may
 * lack the validation there. */
static bool waits_for(const gr_sweep_run *s, size_t i, int round) {
    const graft_sweep_trial *t = &s->r->trials[i];
    int64_t end = end_of(s, i, round);
    if (gr_sweep_is_over(t)) return false;
    return t->iterations < end || (t->iterations == end && !is(t, GRAFT_SWEEP_PAUSED));
}

/* Is `a` better than `b`? Of equals the first. */
static bool better(const graft_sweep_result *r, size_t a, size_t b) {
    double x = r->trials[a].val_loss_best, y = r->trials[b].val_loss_best;
    x = isfinite(x) ? x : INFINITY;
    y = isfinite(y) ? y : INFINITY;
    return x != y ? x < y : a < b;
}

/* Drops all but the best; those that ended early count among these. Doing it again changes nothing: the rest
 * has only become better since. */
static void drop(gr_sweep_run *s, size_t keep) {
    graft_sweep_result *r = s->r;
    bool dropped[GR_SWEEP_TRIALS] = {false};
    for (size_t i = 0; i < r->ntrials; i++) {
        if (!is(&r->trials[i], GRAFT_SWEEP_PAUSED)) continue;
        size_t before = 0;
        for (size_t k = 0; k < r->ntrials; k++)
            before += (is(&r->trials[k], GRAFT_SWEEP_PAUSED) || is(&r->trials[k], GRAFT_SWEEP_DONE)) &&
                      better(r, k, i);
        dropped[i] = before >= keep;
    }
    for (size_t i = 0; i < r->ntrials; i++)
        if (dropped[i]) r->trials[i].state = GRAFT_SWEEP_DROPPED;
}

static void say_round(gr_sweep_run *s, size_t n, int round) {
    char text[160];
    if (s->rounds == 1) return;
    snprintf(text, sizeof text, "round %d of %d: %zu trial%s", round + 1, s->rounds, n, n == 1 ? "" : "s");
    gr_sweep_hear(s, 0, &(graft_event){.kind = GRAFT_EVENT_NOTE, .text = text});
}

graft_status gr_sweep_rounds(gr_sweep_run *s, graft_error *err) {
    for (int k = 0; k < s->rounds; k++) {
        size_t list[GR_SWEEP_TRIALS], n = 0;
        for (size_t i = 0; i < s->r->ntrials; i++)
            if (waits_for(s, i, k)) list[n++] = i;
        if (n) say_round(s, n, k);
        GR_TRY(gr_sweep_round(s, list, n, k, err));
        if (s->over) return GRAFT_OK;
        if (k + 1 == s->rounds) break;
        drop(s, s->stay[k + 1]);
        GR_TRY(gr_sweep_save(s->place, s->o, &s->inputs, s->r, err));
    }
    return GRAFT_OK;
}
