/* cmd_sweep.c - the trials of a sweep as they come, and as a table. */
#include "json_out.h"
#include <math.h>
#include <string.h>

static void print_loss(double loss) {
    if (isfinite(loss))
        printf("  %10.4f", loss);
    else
        printf("  %10s", "-");
}

static void print_table(const cli *c, const graft_sweep_result *r) {
    int width = 6;
    for (size_t i = 0; i < r->ntrials; i++) {
        int n = (int)strlen(r->trials[i].values);
        width = n > width ? n : width;
    }
    width = width > 60 ? 60 : width;
    printf("  %-*s  %10s  %10s  %10s  %10s  %9s  %s\n", width, "trial", "iterations", "train loss",
           "validation", "time", "peak", "state");
    for (size_t i = 0; i < r->ntrials; i++) {
        const graft_sweep_trial *t = &r->trials[i];
        out_buf time, peak;
        int n = (int)strlen(t->values);
        fputs((int64_t)i == r->best ? "* " : "  ", stdout);
        out_text(stdout, t->values, (size_t)(n < width ? n : width), c->stream);
        printf("%*s  %10lld", width - (n < width ? n : width), "", (long long)t->iterations);
        print_loss(t->train_loss);
        print_loss(t->val_loss_best);
        printf("  %10s  %9s  %s\n", t->seconds > 0 ? out_seconds(&time, t->seconds) : "-",
               t->peak_memory_bytes ? out_size(&peak, t->peak_memory_bytes) : "-", t->state);
    }
    for (size_t i = 0; i < r->ntrials; i++) {
        const graft_sweep_trial *t = &r->trials[i];
        if (!t->error) continue;
        out_text(stdout, t->values, strlen(t->values), c->stream);
        fputs(": ", stdout);
        out_text(stdout, t->error, strlen(t->error), c->stream);
        putchar('\n');
    }
    if (r->best_path) {
        printf("best (lowest validation loss): ");
        out_text(stdout, r->best_path, strlen(r->best_path), c->stream);
        putchar('\n');
    }
    if (r->out_of_time) puts("--time was over before all trials were done: --resume goes on");
}

static json_t *doc_trial(const graft_sweep_trial *t) {
    return json_pack("{s:o, s:o, s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:I}", "name",
                     doc_text(t->name), "values", doc_text(t->values), "state", t->state, "error",
                     doc_text(t->error), "iterations", (json_int_t)t->iterations, "train_loss",
                     doc_number(t->train_loss), "val_loss_first", doc_number(t->val_loss_first),
                     "val_loss_last", doc_number(t->val_loss_last), "val_loss_best",
                     doc_number(t->val_loss_best), "seconds", doc_number(t->seconds), "peak_memory_bytes",
                     (json_int_t)t->peak_memory_bytes, "forecast_bytes", (json_int_t)t->forecast_bytes);
}

static json_t *doc_sweep(const graft_sweep_result *r) {
    json_t *trials = json_array();
    for (size_t i = 0; i < r->ntrials && trials; i++) {
        if (json_array_append_new(trials, doc_trial(&r->trials[i])) == 0) continue;
        json_decref(trials);
        trials = NULL;
    }
    json_t *best = r->best >= 0 ? doc_text(r->trials[r->best].name) : json_null();
    return json_pack("{s:o, s:o, s:o, s:b, s:o}", "trials", trials, "best", best, "best_path",
                     doc_text(r->best_path), "out_of_time", r->out_of_time, "seconds",
                     doc_number(r->seconds));
}

/* What is shown meanwhile. */
typedef struct screen {
    cli *c;
    bars bars; /* with --jobs */
} screen;

/* Trials side by side: each has a bar of its own, and what is said names it. */
static void one_of_several(screen *s, const graft_event *e) {
    bars_event(&s->bars, e);
    if (e->kind == GRAFT_EVENT_VALID) {
        bars_clear(&s->bars);
        fprintf(stderr, "trial %lld, iteration %lld: validation loss %.3f\n", (long long)e->trial,
                (long long)e->iteration, e->val_loss);
    }
    if (e->kind != GRAFT_EVENT_NOTE || !e->text) return;
    bars_clear(&s->bars);
    if (strncmp(e->text, "trial ", 6) != 0) fprintf(stderr, "trial %lld: ", (long long)e->trial);
    out_text(stderr, e->text, strlen(e->text), true);
    fputc('\n', stderr);
}

/* Reports of a trial: the bar shows the rest. */
static void on_event(void *user, const graft_event *e) {
    screen *s = user;
    cli *c = s->c;
    if (c->options.jobs > 1 && e->trial) {
        one_of_several(s, e);
        return;
    }
    bars_clear(&s->bars);
    progress_report(&c->bar, e);
    if (e->kind == GRAFT_EVENT_VALID) {
        progress_clear(&c->bar);
        fprintf(stderr, "iteration %lld: validation loss %.3f\n", (long long)e->iteration, e->val_loss);
        return;
    }
    cli_event(c, e);
}

/* A script must not go on with a best adapter that there is not, or that nobody would want. */
static graft_status judge(cli *c, const graft_sweep_result *r) {
    size_t failed = 0;
    for (size_t i = 0; i < r->ntrials; i++) failed += strcmp(r->trials[i].state, GRAFT_SWEEP_FAILED) == 0;
    if (r->best >= 0 && failed < r->ntrials) return GRAFT_OK;
    cli_fail(c, GRAFT_RANGE, failed == r->ntrials ? "every trial failed" : "no trial has a validation loss");
    if (r->out_of_time)
        cli_hint(c, "the same command with --resume and more --time goes on");
    else
        cli_hint(c, "lower --learning-rate values, in another --adapter-path");
    return GRAFT_RANGE;
}

int cmd_sweep(cli *c) {
    screen shown = {.c = c};
    bars_init(&shown.bars, (int)c->options.jobs);
    graft_hooks hooks = {.user = &shown, .event = on_event, .stop = c->hooks.stop, .ranks = c->hooks.ranks};
    graft_sweep_result result = {0};
    graft_status status = graft_sweep(&c->options, &hooks, &result, &c->err), printed = GRAFT_OK;
    bars_clear(&shown.bars);
    progress_clear(&c->bar);
    if (status == GRAFT_OK || (status == GRAFT_INTERRUPTED && result.ntrials)) {
        if (c->json)
            printed = doc_print(c, doc_sweep(&result), false);
        else
            print_table(c, &result);
    }
    if (status == GRAFT_OK && printed == GRAFT_OK) status = judge(c, &result);
    graft_sweep_result_free(&result);
    return cli_report(c, status == GRAFT_OK ? printed : status);
}
