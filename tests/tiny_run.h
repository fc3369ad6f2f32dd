/* tests/tiny_run.h - whole training runs on tiny directories, watched, stopped and compared file by file. */
#ifndef TINY_RUN_H
#define TINY_RUN_H
#include "tests/sanitized.h"
#include "tests/tiny_dir.h"
#include "train/trainer.h"

static char *root, *data; /* of this test program */
static bool own_rank;     /* the adapter brings its rank along: not the one of `common` */

static inline int setup(void **state) {
    (void)state;
    root = tiny_temp();
    data = tiny_data_dir(root, "data", 13, 5);
    return 0;
}

static inline int teardown(void **state) {
    (void)state;
    free(data);
    tiny_remove(root);
    return 0;
}

/* What the event hook saw, and when it raises the stop flag. */
typedef struct watch {
    volatile int stop;
    int events, stop_at; /* stop_at 0: never */
    int64_t stop_after;  /* iterations; 0: never */
    char notes[2048];
    int saved;
} watch;

static inline void on_event(void *user, const graft_event *e) {
    watch *w = user;
    if (e->kind == GRAFT_EVENT_PROGRESS && strcmp(e->phase, "tokenize") == 0) return;
    if (e->kind == GRAFT_EVENT_PROGRESS && strcmp(e->phase, "validate") == 0 && e->done) return;
    if (e->kind == GRAFT_EVENT_NOTE)
        snprintf(w->notes + strlen(w->notes), sizeof w->notes - strlen(w->notes), "%s\n", e->text);
    if (e->kind == GRAFT_EVENT_NOTE && strstr(e->text, ".jsonl: ")) return; /* of rows: before the run */
    if (e->kind == GRAFT_EVENT_SAVED) w->saved++;
    bool there = w->stop_after && e->kind == GRAFT_EVENT_PROGRESS && strcmp(e->phase, "train") == 0 &&
                 e->done == w->stop_after;
    if (++w->events == w->stop_at || there) w->stop = 1;
}

/* The short run that most tests share: 8 iterations of 2 rows, updates after 3, 6 and 8. */
static const char *const common[] = {"lora-rank",
                                     "4",
                                     "batch-size",
                                     "2",
                                     "grad-accumulation-steps",
                                     "3",
                                     "learning-rate",
                                     "5e-3",
                                     "steps-per-report",
                                     "3",
                                     "steps-per-eval",
                                     "4",
                                     "val-batches",
                                     "-1",
                                     "save-every",
                                     "3",
                                     "threads",
                                     "1",
                                     "seed",
                                     "7",
                                     NULL};

/* One run of `model` into root/out with more options (pairs, NULL-ended; may be NULL). */
static inline graft_status train(const char *model, const char *out, const char *const *more, watch *w,
                                 graft_train_result *result, graft_error *err) {
    graft_options o;
    watch own = {0};
    if (!w) w = &own;
    graft_hooks hooks = {.user = w, .event = on_event, .stop = &w->stop};
    char *adapter = tiny_join(root, out);
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data, "adapter-path", adapter, NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, common + (own_rank ? 2 : 0));
    tiny_set(&o, GRAFT_VERB_TRAIN, more);
    if (isnan(o.epochs) && !gr_options_given(&o, "iters")) o.iters = 8;
    graft_status st = graft_train(&o, &hooks, result, err);
    graft_options_free(&o);
    free(adapter);
    return st;
}

static inline void must_train(const char *model, const char *out, const char *const *more, watch *w,
                              graft_train_result *result) {
    graft_error err = {0};
    if (train(model, out, more, w, result, &err) != GRAFT_OK)
        fail_msg("%s %s %s", err.what, err.where, err.found);
}

/* metrics.jsonl without what depends on the clock or on memory; malloc'ed. */
static inline char *timeless(const char *dir) {
    static const char *const keys[] = {"iterations_per_second", "tokens_per_second", "peak_memory_bytes",
                                       "val_time"};
    gr_buf out = {0};
    char *text = tiny_read(dir, "metrics.jsonl", NULL), *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        if (!j) fail_msg("not JSON: %s", line);
        for (int i = 0; i < 4; i++) json_object_del(j, keys[i]);
        char *dump = json_dumps(j, JSON_SORT_KEYS);
        gr_buf_printf(&out, "%s\n", dump);
        free(dump);
        json_decref(j);
    }
    free(text);
    return gr_buf_take(&out);
}

static inline void same_results(const char *a, const char *b) {
    char *x = tiny_join(root, a), *y = tiny_join(root, b);
    tiny_same_file(x, y, "adapters.safetensors");
    tiny_same_file(x, y, "adapter_model.safetensors");
    tiny_same_file(x, y, "adapter_config.json");
    char *m = timeless(x), *n = timeless(y);
    assert_string_equal(m, n);
    free(m);
    free(n);
    free(x);
    free(y);
}

/* best/ of both as well. */
static inline void same_best(const char *a, const char *b) {
    char *x = tiny_join(root, a), *y = tiny_join(root, b);
    char *p = tiny_join(x, "best"), *q = tiny_join(y, "best");
    same_results(a, b);
    tiny_same_file(p, q, "adapters.safetensors");
    tiny_same_file(p, q, "adapter_model.safetensors");
    tiny_same_file(p, q, "adapter_config.json");
    free(q);
    free(p);
    free(y);
    free(x);
}

static inline void forget(const char *out) {
    char *path = tiny_join(root, out);
    tiny_remove(path);
}

/* A trainer on root/part, opened as the command line would; its user frees it and the options. */
static inline void open_part(gr_trainer *t, graft_options *o, const char *model, const char *const *more) {
    graft_error err = {0};
    char *adapter = tiny_join(root, "part");
    graft_options_init(o);
    tiny_set(
        o, GRAFT_VERB_TRAIN,
        (const char *const[]){"model", model, "data", data, "adapter-path", adapter, "iters", "8", NULL});
    tiny_set(o, GRAFT_VERB_TRAIN, common);
    tiny_set(o, GRAFT_VERB_TRAIN, more);
    if (gr_trainer_open(t, model, o, NULL, GR_TRAINER_RUN, &err) != GRAFT_OK) fail_msg("%s", err.what);
    free(adapter);
}

#endif
