/* train/ continued: runs that go on with other batches, another accumulation, another measure of validation
 * or without the flag that brought their reference; and checkpoints whose counters make no sense. */
#include "tests/tiny_run.h"

static void stopped_at(int64_t iteration, const char *model, const char *const *more) {
    graft_error err = {0};
    watch w = {.stop_after = iteration};
    if (train(model, "part", more, &w, NULL, &err) != GRAFT_INTERRUPTED) fail_msg("%s", err.what);
}

/* Rates of metrics.jsonl in their order; how many. */
static int rates(double *rate, int most) {
    char *part = tiny_join(root, "part"), *text = tiny_read(part, "metrics.jsonl", NULL), *rest = NULL;
    int n = 0;
    for (char *line = strtok_r(text, "\n", &rest); line && n < most; line = strtok_r(NULL, "\n", &rest)) {
        json_t *j = json_loads(line, 0, NULL);
        const json_t *value = json_object_get(j, "learning_rate");
        if (value) rate[n++] = json_number_value(value);
        json_decref(j);
    }
    free(text);
    free(part);
    return n;
}

/* The schedule counts the updates that the run makes, whatever made them up so far. */
static void falls_to_its_end(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    static const char *const schedules[] = {"linear", "cosine"};
    for (size_t i = 0; i < 2; i++)
        for (int more_first = 0; more_first < 2; more_first++) {
            const char *const first[] = {"iters",
                                         "40",
                                         "lr-schedule",
                                         schedules[i],
                                         "grad-accumulation-steps",
                                         more_first ? "4" : "1",
                                         "steps-per-report",
                                         "4",
                                         NULL};
            const char *const then[] = {"iters",
                                        "40",
                                        "lr-schedule",
                                        schedules[i],
                                        "grad-accumulation-steps",
                                        more_first ? "1" : "4",
                                        "steps-per-report",
                                        "4",
                                        "resume",
                                        "-",
                                        "allow-changes",
                                        "grad-accumulation-steps",
                                        NULL};
            double rate[16];
            graft_train_result r = {0};
            stopped_at(24, model, first);
            must_train(model, "part", then, NULL, &r);
            assert_int_equal(r.updates, more_first ? 6 + 16 : 24 + 4);
            int n = rates(rate, 16);
            assert_int_equal(n, 10);
            for (int k = 0; k < n; k++) {
                if (!(rate[k] > 0)) fail_msg("%s: rate %g", schedules[i], rate[k]);
                if (k && !more_first && !(rate[k] < rate[k - 1]))
                    fail_msg("%s: %g after %g", schedules[i], rate[k], rate[k - 1]);
            }
            /* the last of K updates: p = (K-1)/K */
            double p = 1 - 1 / (double)r.updates,
                   last = i ? 0.5 * (1 + cos(3.14159265358979323846 * p)) : 1 - p;
            assert_true(fabs(rate[n - 1] - 5e-3 * last) <= 1e-9 * 5e-3);
            forget("part");
        }
    tiny_remove(model);
}

/* 13 rows: 7 iterations of 2 are an epoch, 4 of 4, 13 of 1. */
static void epochs_hold(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    static const struct {
        const char *epochs, *batch;
        int stop;
        int64_t iterations;
    } cases[] = {
        {"3", "4", 10, 10 + 2 + 4},  /* 7 + 3: 6 rows into the second; 7 are left of it */
        {"3", "1", 10, 10 + 7 + 13}, /* more iterations than were planned at first */
        {"2", "4", 7, 7 + 4},        /* at a seam */
        {"1.5", "13", 9, 9 + 1},     /* the half of one iteration is one */
        {"3", "2", 10, 21},          /* as it was */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_train_result r = {0};
#define RUN "epochs", cases[i].epochs, "grad-accumulation-steps", "1", "save-every", "1"
        stopped_at(cases[i].stop, model, (const char *const[]){RUN, NULL});
        must_train(model, "part",
                   (const char *const[]){RUN, "batch-size", cases[i].batch, "resume", "-", "allow-changes",
                                         "batch-size", NULL},
                   NULL, &r);
        if (r.iterations != cases[i].iterations)
            fail_msg("case %zu: %lld iterations", i, (long long)r.iterations);
        /* and once more, from a checkpoint behind the change */
        must_train(model, "part",
                   (const char *const[]){RUN, "batch-size", cases[i].batch, "resume", "-", NULL}, NULL, &r);
        assert_int_equal(r.iterations, cases[i].iterations);
        forget("part");
    }
    tiny_remove(model);
}

/* .. and a run that has had more of them does not end as if it were done. */
static void epochs_are_over(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    graft_error err = {0};
    stopped_at(16, model, (const char *const[]){"epochs", "3", NULL});
    assert_int_equal(
        train(model, "part",
              (const char *const[]){"epochs", "2", "resume", "-", "allow-changes", "epochs", NULL}, NULL,
              NULL, &err),
        GRAFT_MISMATCH);
    if (!strstr(err.what, "beyond the end")) fail_msg("%s", err.what);
    forget("part");
    tiny_remove(model);
}

/* Validation losses of other rows or in other units are not compared. */
static void other_measures(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    char *pairs = tiny_subdir(root, "pairs"), *rows = data;
    tiny_write(pairs, "train.jsonl",
               "{\"prompt\": \"a\", \"chosen\": \"yes\", \"rejected\": \"no\"}\n"
               "{\"prompt\": \"b\", \"chosen\": \"yes yes\", \"rejected\": \"no no\"}\n");
    tiny_write(pairs, "valid.jsonl", "{\"prompt\": \"c\", \"chosen\": \"yes\", \"rejected\": \"no\"}\n");
    static const struct {
        const char *loss, *val_batches, *name, *value;
        bool other;
    } cases[] = {{"default", "1", "batch-size", "1", true}, {"default", "-1", "batch-size", "1", false},
                 {"mlx-lm", "-1", "batch-size", "1", true}, {"dpo", "-1", "beta", "0.3", true},
                 {"dpo", "-1", "loss-type", "ipo", true},   {"dpo", "-1", "label-smoothing", "0.1", true},
                 {"default", "-1", "qat", "-", true},       {"default", "-1", "weight-decay", "0.5", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool dpo = strcmp(cases[i].loss, "dpo") == 0, robust = strcmp(cases[i].name, "label-smoothing") == 0;
        watch w = {0};
        data = dpo ? pairs : rows;
#define MORE                                                                                                 \
    "val-batches", cases[i].val_batches, "keep-best", "-", "grad-accumulation-steps", "1", "patience", "9",  \
        robust ? "loss-type" : "seed", robust ? "robust" : "7",                                              \
        strcmp(cases[i].loss, "default") ? "loss" : "seed",                                                  \
        strcmp(cases[i].loss, "default") ? cases[i].loss : "7"
        stopped_at(6, model, (const char *const[]){MORE, NULL});
        must_train(model, "part",
                   (const char *const[]){MORE, cases[i].name, cases[i].value, "resume", "-", "allow-changes",
                                         cases[i].name, NULL},
                   &w, NULL);
        bool said = strstr(w.notes, "validation is another one from here on") != NULL;
        if (said != cases[i].other) fail_msg("%s %s: %s", cases[i].name, cases[i].value, w.notes);
        forget("part");
    }
    data = rows;
    tiny_remove(pairs);
    tiny_remove(model);
}

/* The reference of dpo is part of the run, not of the command that goes on with it. */
static void keeps_its_reference(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *pairs = tiny_subdir(root, "pairs");
    char *sft = tiny_join(root, "sft"), *rows = data;
    gr_buf text = {0};
    for (int i = 0; i < 9; i++)
        gr_buf_printf(&text, "{\"prompt\": \"say %d\", \"chosen\": \"%.*s\", \"rejected\": \"no%.*s\"}\n", i,
                      1 + i % 5, "yes yes", 1 + i % 3, " no no");
    tiny_write(pairs, "train.jsonl", text.data);
    gr_buf_free(&text);
    own_rank = true; /* that of a run without the adapter's file is the same, the default */
    must_train(model, "sft", (const char *const[]){"iters", "6", NULL}, NULL, NULL);
    data = pairs;
#define DPO "loss", "dpo"
    const char *const from[] = {DPO, "resume-adapter-file", sft, NULL};
    must_train(model, "whole", from, NULL, NULL);
    stopped_at(4, model, from);
    must_train(model, "part", (const char *const[]){DPO, "resume", "-", NULL}, NULL, NULL);
    same_results("whole", "part");
    forget("part");
    /* a run without one is not given one later */
    graft_error err = {0};
    stopped_at(4, model, (const char *const[]){DPO, NULL});
    assert_int_equal(train(model, "part",
                           (const char *const[]){DPO, "resume-adapter-file", sft, "resume", "-", NULL}, NULL,
                           NULL, &err),
                     GRAFT_MISMATCH);
    own_rank = false;
    data = rows;
    forget("part");
    forget("whole");
    tiny_remove(sft);
    tiny_remove(pairs);
    tiny_remove(model);
}

/* ------------------------------------------------------------------------------------------ wrong counters
 */

/* Each of them would lead beyond the slots of the gradients' tree, or make an update that never ends. */
static void counters_agree(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    static const gr_train_progress wrong[] = {
        {.iteration = 5, .update = 1, .pending_iterations = 3},                    /* of 3: an update */
        {.iteration = 5, .update = 1, .pending_iterations = 1, .pending_rows = 4}, /* of batches of 2 */
        {.iteration = 5, .update = 1, .pending_iterations = 2, .pending_rows = 5},
        {.iteration = 5, .update = 1, .pending_rows = 1},
        {.iteration = 1, .pending_iterations = 2},
        {.iteration = 5, .update = 6},
        {.iteration = 5, .epoch = 6},
        {.iteration = (int64_t)1 << 54},
        {.iteration = (int64_t)1 << 52, .pending_iterations = (int64_t)1 << 52}, /* times the batch: 2^64 */
        {.iteration = 5, .pending_targets = INT64_MAX},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        graft_options o;
        graft_error err = {0};
        gr_trainer t;
        bool found = false;
        open_part(&t, &o, model,
                  wrong[i].pending_iterations > 100 ? (const char *const[]){"batch-size", "4096", NULL}
                                                    : NULL);
        gr_train_progress as_it_was = t.p, *p = &t.p;
        *p = wrong[i];
        p->health = as_it_was.health;
        p->validated = as_it_was.validated;
        if (gr_checkpoint_save(&t, &err) != GRAFT_OK) fail_msg("%s", err.what);
        t.p = as_it_was;
        graft_status st = gr_checkpoint_resume(&t, &found, &err);
        if (st != GRAFT_CORRUPT && st != GRAFT_RANGE) fail_msg("case %zu: %d %s", i, st, err.what);
        assert_int_equal(t.p.iteration, 0); /* nothing of it was taken */
        assert_int_equal(t.updates, 3);
        gr_trainer_close(&t);
        graft_options_free(&o);
        forget("part");
    }
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(falls_to_its_end),    cmocka_unit_test(epochs_hold),
        cmocka_unit_test(epochs_are_over),     cmocka_unit_test(other_measures),
        cmocka_unit_test(keeps_its_reference), cmocka_unit_test(counters_agree),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
