/* finetune MODEL DATA ADAPTERS - fine-tunes MODEL on the rows in DATA and writes adapters that mlx-lm, PEFT
 * and graft load. Built against an installed graft:
 *
 *     cc finetune.c $(pkg-config --cflags --libs graft) -o finetune
 */
#include <graft.h>
#include <stdio.h>

/* What the run tells while it runs. */
static void on_event(void *user, const graft_event *e) {
    (void)user;
    if (e->kind == GRAFT_EVENT_NOTE) fprintf(stderr, "note: %s\n", e->text);
    if (e->kind == GRAFT_EVENT_TRAIN)
        printf("iteration %lld: loss %.4f, %.0f tokens/s\n", (long long)e->iteration, e->train_loss,
               e->tokens_per_second);
    if (e->kind == GRAFT_EVENT_VALID)
        printf("iteration %lld: validation loss %.4f\n", (long long)e->iteration, e->val_loss);
}

/* The names are the command line's: `graft train --help`. */
static graft_status set_all(graft_options *o, char **argv, graft_error *err) {
    const char *const settings[][2] = {
        {"model", argv[1]},  {"data", argv[2]},  {"adapter-path", argv[3]}, {"iters", "60"},
        {"batch-size", "2"}, {"lora-rank", "8"}, {"lr-schedule", "cosine"}, {"learning-rate", "2e-4"}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        graft_status st = graft_options_set(o, GRAFT_VERB_TRAIN, settings[i][0], settings[i][1], err);
        if (st != GRAFT_OK) return st;
    }
    return GRAFT_OK;
}

static int explain(const graft_error *err) {
    fprintf(stderr, "%s: %s\n", graft_status_text(err->status), err->what);
    if (err->where[0]) fprintf(stderr, "  in %s\n", err->where);
    if (err->expected[0]) fprintf(stderr, "  expected %s, found %s\n", err->expected, err->found);
    if (err->hint[0]) fprintf(stderr, "  %s\n", err->hint);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: finetune MODEL DATA ADAPTERS\n"), 2;
    graft_options options;
    graft_error err = {0};
    graft_train_result result;
    const graft_hooks hooks = {.event = on_event};
    graft_options_init(&options);
    graft_status st = set_all(&options, argv, &err);
    if (st == GRAFT_OK) st = graft_train(&options, &hooks, &result, &err);
    graft_options_free(&options);
    if (st != GRAFT_OK) return explain(&err);
    printf("%lld updates in %.1f s, peak %.0f MB (forecast %.0f): %s\n", (long long)result.updates,
           result.seconds, (double)result.peak_memory_bytes / 1e6, (double)result.forecast.total / 1e6,
           argv[3]);
    return 0;
}
