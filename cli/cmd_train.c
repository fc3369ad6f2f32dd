/* cmd_train.c - a training as it runs, and what it came to. */
#include "json_out.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PLOT_HEIGHT = 10 };

typedef struct train_view {
    cli *c;
    FILE *reports; /* stdout; stderr with --json */
    plot_points train, valid;
    json_t *files; /* names of what was written; NULL when out of memory */
} train_view;

/* ", reward accuracy 0.75, margin 0.123", or nothing without preferences. */
static const char *rewards_text(char text[80], const graft_preference *p) {
    text[0] = 0;
    if (p->pairs) snprintf(text, 80, ", reward accuracy %.2f, margin %.3f", p->accuracy, p->margin);
    return text;
}

/* One report is one write, so that a bar on stderr and a reader of stdout never see half of it. */
static void report_train(train_view *v, const graft_event *e) {
    out_buf peak;
    char rewards[80];
    fprintf(v->reports, "iteration %lld: train loss %.3f%s, lr %.1e, %.3g it/s, %.0f tok/s, peak %s\n",
            (long long)e->iteration, e->train_loss, rewards_text(rewards, &e->preference), e->learning_rate,
            e->iterations_per_second, e->tokens_per_second, out_size(&peak, e->peak_memory_bytes));
    plot_add(&v->train, (double)e->iteration, e->train_loss);
}

static void report_valid(train_view *v, const graft_event *e) {
    out_buf took;
    char rewards[80];
    fprintf(v->reports, "iteration %lld: validation loss %.3f%s (%s)\n", (long long)e->iteration, e->val_loss,
            rewards_text(rewards, &e->preference), out_seconds(&took, e->val_time));
    plot_add(&v->valid, (double)e->iteration, e->val_loss);
}

static void remember_file(train_view *v, const char *name) {
    for (size_t i = 0; i < json_array_size(v->files); i++) /* checkpoints and adapters are saved many times */
        if (strcmp(json_string_value(json_array_get(v->files, i)), name) == 0) return;
    if (json_array_append_new(v->files, doc_text(name)) == 0) return;
    json_decref(v->files);
    v->files = NULL;
}

static void on_event(void *user, const graft_event *e) {
    train_view *v = user;
    cli *c = v->c;
    progress_report(&c->bar, e);
    switch (e->kind) {
    case GRAFT_EVENT_TRAIN:
    case GRAFT_EVENT_VALID:
        progress_clear(&c->bar);
        errno = 0;
        if (e->kind == GRAFT_EVENT_TRAIN)
            report_train(v, e);
        else
            report_valid(v, e);
        fflush(v->reports);
        out_alive(c); /* a reader that left does not end a training: its work is on disk */
        break;
    case GRAFT_EVENT_SAVED:
        if (e->text) remember_file(v, e->text);
        break;
    default: cli_event(c, e); break;
    }
}

static void print_memory(const graft_train_result *r) {
    out_buf peak, forecast;
    printf("peak memory %s", out_size(&peak, r->peak_memory_bytes));
    if (r->forecast.total > 0 && r->peak_memory_bytes > 0) {
        double off = 100 * ((double)r->peak_memory_bytes / (double)r->forecast.total - 1);
        printf(", forecast %s (%.1f %% %s)", out_size(&forecast, r->forecast.total), fabs(off),
               off <= 0 ? "below" : "above");
    }
    putchar('\n');
}

static void print_result(const train_view *v, const graft_train_result *r) {
    putchar('\n');
    plot_print(stdout, &v->train, &v->valid, out_width(stdout), PLOT_HEIGHT);
    out_buf a, b, d, e;
    printf("\n%s iterations, %s updates, %s trained tokens in %s\n", out_count(&a, r->iterations),
           out_count(&b, r->updates), out_count(&d, r->trained_tokens), out_seconds(&e, r->seconds));
    if (isfinite(r->train_loss)) printf("train loss %.3f", r->train_loss);
    if (isfinite(r->val_loss_last))
        printf("%svalidation loss %.3f -> %.3f (best %.3f)", isfinite(r->train_loss) ? ", " : "",
               r->val_loss_first, r->val_loss_last, r->val_loss_best);
    if (isfinite(r->train_loss) || isfinite(r->val_loss_last)) putchar('\n');
    if (r->skipped_updates)
        printf("%s updates skipped: loss or gradient was not a number (metrics.jsonl has the lines)\n",
               out_count(&a, r->skipped_updates));
    if (r->stopped_early) puts("stopped early: --patience validations in a row were no better");
    print_memory(r);
    if (json_array_size(v->files)) puts("wrote");
    for (size_t i = 0; i < json_array_size(v->files); i++) {
        const char *name = json_string_value(json_array_get(v->files, i));
        fputs("  ", stdout);
        out_text(stdout, name, strlen(name), v->c->stream);
        putchar('\n');
    }
}

static graft_status print_document(const train_view *v, const graft_train_result *r) {
    json_t *document = doc_train(r);
    return doc_print(v->c, doc_with(document, "files", json_incref(v->files)), false);
}

/* With a configuration file, what it and its defaults came to. */
static void print_values(const cli *c) {
    char *text = graft_options_text(&c->options, GRAFT_VERB_TRAIN);
    if (!text) return;
    fputs("values in force:\n", stderr);
    out_text(stderr, text, strlen(text), true);
    free(text);
}

static graft_status interrupted(cli *c, const graft_train_result *r) {
    cli_fail(c, GRAFT_INTERRUPTED, "interrupted after iteration %lld, checkpoint saved",
             (long long)r->iterations);
    if (!c->err.hint[0]) cli_hint(c, "the same command with --resume continues from there");
    return GRAFT_INTERRUPTED;
}

/* One of several ranks, or alone. Rank 0 speaks for all. */
static graft_status run(train_view *v, graft_train_result *result) {
    cli *c = v->c;
    graft_comm comm;
    graft_hooks hooks = {.user = v, .stop = c->hooks.stop, .ranks = &comm};
    graft_status status = mpi_begin(c, &comm);
    if (c->rank == 0) hooks.event = on_event;
    if (c->rank == 0 && c->options.config_file) print_values(c);
    if (status == GRAFT_OK) status = graft_train(&c->options, &hooks, result, &c->err);
    c->told = comm.told;
    mpi_end(&comm);
    return status;
}

int cmd_train(cli *c) {
    train_view v = {.c = c, .reports = c->json ? stderr : stdout, .files = json_array()};
    graft_train_result result = {0};
    graft_status status = run(&v, &result);
    progress_clear(&c->bar);
    if (c->rank == 0 && (status == GRAFT_OK || status == GRAFT_INTERRUPTED)) {
        graft_status printed = GRAFT_OK;
        if (c->json)
            printed = print_document(&v, &result);
        else
            print_result(&v, &result);
        status = status == GRAFT_OK ? printed : interrupted(c, &result);
    }
    json_decref(v.files);
    free(v.train.at);
    free(v.valid.at);
    return cli_report(c, status);
}
