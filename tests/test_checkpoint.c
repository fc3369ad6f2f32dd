/* train/checkpoint.c: an interruption at any event, followed by --resume, leaves every byte of the results as
 * it is; a checkpoint that is damaged or belongs to another run is not used. */
#include "tests/tiny_run.h"

static void stopped_anywhere(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    static const char *const resume[] = {"resume", "-", NULL};
    watch whole = {0};
    graft_train_result truth = {0};
    must_train(model, "whole", NULL, &whole, &truth);
    assert_in_range(whole.events, 15, 60);
    for (int n = 1; n <= whole.events; n++) {
        graft_error err = {0};
        graft_train_result r = {0};
        watch first = {.stop_at = n}, second = {0};
        graft_status st = train(model, "part", NULL, &first, &r, &err);
        if (st == GRAFT_INTERRUPTED) {
            assert_true(r.interrupted);
            must_train(model, "part", resume, &second, &r);
        } else if (st != GRAFT_OK) {
            fail_msg("event %d: %s", n, err.what);
        }
        assert_int_equal(r.iterations, 8);
        assert_int_equal(r.updates, 3);
        assert_int_equal(r.trained_tokens, truth.trained_tokens);
        same_results("whole", "part");
        forget("part");
    }
    /* stopped again and again, after every iteration */
    graft_status st = GRAFT_INTERRUPTED;
    for (int i = 0; st == GRAFT_INTERRUPTED; i++) {
        graft_error err = {0};
        watch w = {.stop_at = 4};
        assert_in_range(i, 0, 40);
        st = train(model, "part", resume, &w, NULL, &err);
        if (i == 0) assert_non_null(strstr(w.notes, "starting from the beginning"));
        if (st != GRAFT_INTERRUPTED && st != GRAFT_OK) fail_msg("%s", err.what);
    }
    same_results("whole", "part");
    forget("part");
    forget("whole");
    tiny_remove(model);
}

/* Factored statistics and momenta come back too. The tensors of a checkpoint are as large as the optimizer
 * says, not as the vector of parameters. */
static void other_optimizers(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    static const char *const names[] = {"adafactor", "muon", "sgd"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *const more[] = {"optimizer", names[i], NULL};
        const char *const resume[] = {"optimizer", names[i], "resume", "-", "threads", "2", NULL};
        graft_error err = {0};
        watch w = {0};
        must_train(model, "whole", more, &w, NULL);
        assert_int_equal(strstr(w.notes, "sets its own rate") != NULL, i == 0);
        for (int n = 8; n <= 14; n += 3) {
            assert_int_equal(train(model, "part", more, &(watch){.stop_at = n}, NULL, &err),
                             GRAFT_INTERRUPTED);
            err = (graft_error){0};
            must_train(model, "part", resume, NULL, NULL);
            same_results("whole", "part");
            forget("part");
        }
        forget("whole");
    }
    tiny_remove(model);
}

/* Magnitudes, biases, patterns, and dropout's masks: they follow from where the run is. The resumed half runs
 * with other threads and recompute. */
static void other_kinds(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.type = "qwen2", .bits = 4});
    static const char *const more[] = {"lora-targets",
                                       "all-linear",
                                       "fine-tune-type",
                                       "dora",
                                       "lora-dropout",
                                       "0.2",
                                       "lora-bias",
                                       "all",
                                       "rank-pattern",
                                       "q_proj=2,down_proj=3",
                                       "alpha-pattern",
                                       "v_proj=3",
                                       NULL};
    const char *resume[sizeof more / sizeof *more + 6] = {"resume",          "-",    "threads", "2",
                                                          "grad-checkpoint", "layer"};
    memcpy(resume + 6, more, sizeof more);
    graft_error err = {0};
    must_train(model, "whole", more, NULL, NULL);
    for (int n = 8; n <= 14; n += 3) {
        assert_int_equal(train(model, "part", more, &(watch){.stop_at = n}, NULL, &err), GRAFT_INTERRUPTED);
        err = (graft_error){0};
        must_train(model, "part", resume, NULL, NULL);
        char *x = tiny_join(root, "whole"), *y = tiny_join(root, "part");
        tiny_same_file(x, y, "adapter_model.safetensors"); /* mlx-lm's file cannot hold these */
        free(x);
        free(y);
        forget("part");
    }
    forget("whole");
    tiny_remove(model);
}

static void resume_refuses_changes(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    char *other = tiny_model_dir(root, "other", &(tiny_spec){.seed = 1}), *own = data;
    char *changed = tiny_data_dir(root, "changed", 13, 5);
    tiny_rows_write(changed, "train.jsonl", 13, 1);
    watch w = {.stop_at = 9};
    graft_error err = {0};
    assert_int_equal(train(model, "part", NULL, &w, NULL, &err), GRAFT_INTERRUPTED);
    static const struct {
        const char *pairs[5], *named;
    } cases[] = {{{"resume", "-", "learning-rate", "1e-3"}, "learning-rate"},
                 {{"resume", "-", "lora-alpha", "4"}, "lora-alpha"},
                 {{"resume", "-", "seed", "8"}, "seed"},
                 {{"resume", "-", "batch-size", "3"}, "batch-size"},
                 {{"resume", "-", "iters", "9"}, "iters"},
                 {{"resume", "-", "compute", "fp32"}, "compute"},
                 {{"resume", "-", "optimizer", "sgd"}, "optimizer"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err = (graft_error){0};
        assert_int_equal(train(model, "part", cases[i].pairs, NULL, NULL, &err), GRAFT_MISMATCH);
        if (!strstr(err.found, cases[i].named)) fail_msg("%s: %s %s", cases[i].named, err.what, err.found);
    }
    static const char *const resume[] = {"resume", "-", NULL};
    err = (graft_error){0};
    assert_int_equal(train(other, "part", resume, NULL, NULL, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.found, "model: the base with digest "));
    data = changed;
    err = (graft_error){0};
    assert_int_equal(train(model, "part", resume, NULL, NULL, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.found, "data: 13 rows, digest "));
    data = own;
    /* what only costs time or memory, or says where things are, may change */
    must_train(model, "part",
               (const char *const[]){"resume", "-", "threads", "2", "grad-checkpoint", "layer", "save-every",
                                     "2", NULL},
               NULL, NULL);
    must_train(model, "whole", NULL, NULL, NULL);
    same_results("whole", "part");
    forget("part");
    forget("whole");
    tiny_remove(changed);
    tiny_remove(other);
    tiny_remove(model);
}

/* Changes one byte of a file, at `at` from its end. */
static void damage(const char *path, long at) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, -at, SEEK_END), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, -at, SEEK_END), 0);
    fputc(c ^ 1, f);
    fclose(f);
}

static void damaged_checkpoints(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    static const char *const resume[] = {"resume", "-", NULL};
    must_train(model, "whole", NULL, NULL, NULL);
    for (int kind = 0; kind < 4; kind++) {
        graft_error err = {0};
        watch w = {0};
        must_train(model, "part", NULL, NULL, NULL);
        char *part = tiny_join(root, "part"), *points = tiny_join(part, "checkpoints");
        char *newest = tiny_join(points, "checkpoint-00000008.safetensors");
        char *older = tiny_join(points, "checkpoint-00000006.safetensors");
        char *oldest = tiny_join(points, "checkpoint-00000003.safetensors");
        assert_true(gr_path_exists(newest));
        assert_true(gr_path_exists(older));
        assert_false(gr_path_exists(oldest)); /* two are kept */
        size_t size = 0;
        char *bytes = tiny_read(points, "checkpoint-00000008.safetensors", &size);
        char *progress = memmem(bytes, size, "trained_tokens\\\":", 17);
        assert_non_null(progress);
        if (kind == 0) damage(newest, 5); /* a vector */
        if (kind == 1)
            damage(newest, (long)(size - (size_t)(progress + 17 - bytes))); /* a number of the progress */
        if (kind == 2) assert_int_equal(truncate(newest, (off_t)size / 2), 0);
        if (kind == 3) assert_int_equal(truncate(newest, 0), 0);
        if (train(model, "part", resume, &w, NULL, &err) != GRAFT_OK) fail_msg("kind %d: %s", kind, err.what);
        if (!strstr(w.notes, "trying the one before") || !strstr(w.notes, "resuming at iteration 6 of 8"))
            fail_msg("kind %d: %s", kind, w.notes);
        same_results("whole", "part");
        /* both damaged: an error that names the file, nothing is trained */
        damage(newest, 5);
        damage(older, 5);
        assert_int_equal(train(model, "part", resume, NULL, NULL, &err), GRAFT_CORRUPT);
        assert_non_null(strstr(err.where, "checkpoint-0000000"));
        assert_non_null(strstr(err.hint, "no older checkpoint is left"));
        free(bytes);
        free(oldest);
        free(older);
        free(newest);
        free(points);
        free(part);
        forget("part");
    }
    forget("whole");
    tiny_remove(model);
}

/* metrics.jsonl that became shorter than the checkpoint remembers is not filled with zeros, and every line
 * that stays is whole. */
static void lost_metrics(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *part = tiny_join(root, "part");
    char *metrics = tiny_join(part, "metrics.jsonl");
    graft_error err = {0};
    assert_int_equal(train(model, "part", NULL, &(watch){.stop_at = 12}, NULL, &err), GRAFT_INTERRUPTED);
    size_t size;
    free(tiny_read(part, "metrics.jsonl", &size));
    assert_int_equal(truncate(metrics, (off_t)size - 5), 0); /* a part of a line is no line */
    must_train(model, "part", (const char *const[]){"resume", "-", NULL}, NULL, NULL);
    char *text = tiny_read(part, "metrics.jsonl", &size);
    assert_int_equal(strlen(text), size);
    char *lines = timeless(part);
    free(lines);
    free(text);
    free(metrics);
    free(part);
    forget("part");
    tiny_remove(model);
}

/* The day that templates see is the day the run was started; names of more than eight digits are read back.
 */
static void day_is_kept(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    graft_options o;
    graft_error err = {0};
    gr_trainer t;
    bool found = false;
    open_part(&t, &o, model, NULL);
    assert_true(t.now > 1000000000);
    t.now = 86400;
    t.p.iteration = 7;
    if (gr_checkpoint_save(&t, &err) != GRAFT_OK) fail_msg("%s", err.what);
    t.p.iteration = 1234567890; /* the newest: in letters it comes before checkpoint-2 */
    if (gr_checkpoint_save(&t, &err) != GRAFT_OK) fail_msg("%s", err.what);
    gr_trainer_close(&t);
    graft_options_free(&o);
    open_part(&t, &o, model, (const char *const[]){"resume", "-", NULL});
    assert_int_equal(t.now, 86400);
    if (gr_checkpoint_resume(&t, &found, &err) != GRAFT_OK) fail_msg("%s", err.what);
    assert_true(found);
    assert_int_equal(t.p.iteration, 1234567890);
    gr_trainer_close(&t);
    graft_options_free(&o);
    forget("part");
    tiny_remove(model);
}

/* Replaces a file's bytes, without the care that a program takes. */
static void put(const char *path, const char *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* A finished run and its newest checkpoint, in memory and as a trainer that may resume. */
typedef struct opened {
    char *model, *part, *newest, *aside, *bytes;
    size_t size, header; /* header: where its vectors begin */
    graft_options o;
    gr_trainer t;
} opened;

static void open_finished(opened *x) {
    uint64_t header;
    *x = (opened){.model = tiny_model_dir(root, "base", &(tiny_spec){0}), .part = tiny_join(root, "part")};
    x->newest = tiny_join(x->part, "checkpoints/checkpoint-00000008.safetensors");
    x->aside = tiny_join(x->part, "checkpoints/checkpoint-00000008.safetensors.damaged");
    must_train(x->model, "part", NULL, NULL, NULL);
    x->bytes = tiny_read(x->part, "checkpoints/checkpoint-00000008.safetensors", &x->size);
    memcpy(&header, x->bytes, 8);
    x->header = 8 + (size_t)header;
    open_part(&x->t, &x->o, x->model, (const char *const[]){"resume", "-", NULL});
}

static void close_finished(opened *x) {
    graft_error err = {0};
    bool found = false;
    put(x->newest, x->bytes, x->size);
    assert_int_equal(gr_checkpoint_resume(&x->t, &found, &err), GRAFT_OK);
    assert_int_equal(x->t.p.iteration, 8);
    gr_trainer_close(&x->t);
    graft_options_free(&x->o);
    free(x->bytes);
    free(x->aside);
    free(x->newest);
    free(x->part);
    forget("part");
    tiny_remove(x->model);
}

/* The newest checkpoint with these bytes is not used: the one before it is, and the damaged one is set aside.
 */
static void uses_the_one_before(opened *x, const char *bytes, size_t size, const char *what, size_t at) {
    graft_error err = {0};
    bool found = false;
    put(x->newest, bytes, size);
    if (gr_checkpoint_resume(&x->t, &found, &err) != GRAFT_OK || x->t.p.iteration != 6)
        fail_msg("%s %zu: iteration %lld, %s", what, at, (long long)x->t.p.iteration, err.what);
    assert_false(gr_path_exists(x->newest));
    assert_true(gr_path_exists(x->aside));
}

/* One flipped bit at any place of the header or the data: the checkpoint before it is used. */
static void flipped_bits(void **state) {
    (void)state;
    opened x;
    open_finished(&x);
    char *bad = malloc(x.size);
    assert_non_null(bad);
    for (size_t at = 0; at < x.size; at += at < 4096 ? 3 : x.size / 16) {
        memcpy(bad, x.bytes, x.size);
        bad[at] ^= (char)(1 << at % 8);
        uses_the_one_before(&x, bad, x.size, "byte", at);
    }
    free(bad);
    close_finished(&x);
}

/* Cut at any kind of place, grown, or with blocks that never reached the disk. */
static void torn_files(void **state) {
    (void)state;
    opened x;
    open_finished(&x);
    const size_t cuts[] = {0,
                           1,
                           7, /* the length of the header */
                           8,
                           9,
                           x.header / 2,
                           x.header - 1,
                           x.header, /* no vector */
                           x.header + 1,
                           x.header + 4,
                           (x.header + x.size) / 2,
                           x.size - 4, /* one number short */
                           x.size - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++)
        uses_the_one_before(&x, x.bytes, cuts[i], "cut at", cuts[i]);
    char *bad = calloc(1, x.size + 8);
    assert_non_null(bad);
    memcpy(bad, x.bytes, x.size);
    for (size_t more = 1; more <= 8; more += 7) uses_the_one_before(&x, bad, x.size + more, "grown by", more);
    for (size_t at = 0; at < x.size; at += 4096) { /* a page that stayed empty */
        memcpy(bad, x.bytes, x.size);
        memset(bad + at, 0, x.size - at < 4096 ? x.size - at : 4096);
        uses_the_one_before(&x, bad, x.size, "empty page at", at);
    }
    free(bad);
    close_finished(&x);
}

/* A setting that is no longer given is a change too. */
static void setting_gone(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    graft_error err = {0};
    watch w = {.stop_at = 9};
    assert_int_equal(
        train(model, "part", (const char *const[]){"exclude-modules", "v_proj", NULL}, &w, NULL, &err),
        GRAFT_INTERRUPTED);
    err = (graft_error){0};
    assert_int_equal(train(model, "part", (const char *const[]){"resume", "-", NULL}, NULL, NULL, &err),
                     GRAFT_MISMATCH);
    assert_string_equal(err.found, "exclude-modules: v_proj -> (none) (its vectors would not fit)");
    forget("part");
    tiny_remove(model);
}

/* A finished run that is resumed writes the same card, and its adapter files anew. */
static void finished_again(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *part = tiny_join(root, "part");
    graft_train_result a = {0}, b = {0};
    must_train(model, "whole", NULL, NULL, NULL);
    must_train(model, "part", NULL, NULL, &a);
    assert_true(a.train_loss > 0);
    tiny_write(part, "adapters.safetensors", "torn");
    must_train(model, "part", (const char *const[]){"resume", "-", NULL}, NULL, &b);
    assert_near(b.train_loss, a.train_loss, 0);
    char *card = tiny_read(part, "README.md", NULL);
    assert_non_null(strstr(card, "| last training loss |"));
    assert_null(strstr(card, "nan"));
    same_results("whole", "part");
    free(card);
    free(part);
    forget("part");
    forget("whole");
    tiny_remove(model);
}

/* Two runs never write to one directory; what a killed one left is removed, and nothing else. */
static void one_at_a_time(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *part = tiny_subdir(root, "part");
    char *points = tiny_subdir(part, "checkpoints");
    gr_dir_lock lock = {0};
    graft_error err = {0};
    static const char *const own[] = {"a.tmp", "x.12-zz.tmp", "notes.12.tmp", ".12-ab.tmp",
                                      "b.12-ab.tmp.txt"};
    tiny_write(part, "adapters.safetensors.4711-1a2b3c.tmp", "half");
    tiny_write(points, "checkpoint-00000003.safetensors.4711-1a2b3c.tmp", "half");
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) tiny_write(part, own[i], "mine");
    assert_int_equal(gr_dir_lock_take(&lock, part, "", &err), GRAFT_OK);
    assert_int_equal(train(model, "part", NULL, NULL, NULL, &err), GRAFT_IO);
    assert_string_equal(err.what, "another run is using this directory");
    char *left = tiny_join(part, "adapters.safetensors.4711-1a2b3c.tmp");
    char *point = tiny_join(points, "checkpoint-00000003.safetensors.4711-1a2b3c.tmp");
    assert_true(gr_path_exists(left)); /* it may be the other's */
    gr_dir_lock_release(&lock);
    must_train(model, "part", NULL, NULL, NULL);
    assert_false(gr_path_exists(left));
    assert_false(gr_path_exists(point));
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) free(tiny_read(part, own[i], NULL));
    err = (graft_error){0};
    assert_int_equal(gr_dir_lock_take(&lock, part, "", &err), GRAFT_OK); /* the run let go of it */
    gr_dir_lock_release(&lock);
    free(point);
    free(left);
    free(points);
    free(part);
    forget("part");
    tiny_remove(model);
}

/* The mean of the reported losses over the iterations that each of them speaks for. */
static double reported_mean(const char *out) {
    char *dir = tiny_join(root, out), *text = tiny_read(dir, "metrics.jsonl", NULL), *rest = NULL;
    double sum = 0;
    int64_t before = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        int64_t iteration = json_integer_value(json_object_get(j, "iteration"));
        if (json_object_get(j, "train_loss")) {
            sum += json_number_value(json_object_get(j, "train_loss")) * (double)(iteration - before);
            before = iteration;
        }
        json_decref(j);
    }
    assert_int_equal(before, 8);
    free(text);
    free(dir);
    return sum / 8;
}

/* --loss mlx-lm: iterations that fill no accumulation make no update; a report counts its own iterations also
 * when a resume changed how many they are; no batch is short. */
static void mlx_lm_loss(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    graft_train_result r = {0};
    watch w = {0};
    must_train(model, "whole", (const char *const[]){"loss", "mlx-lm", "steps-per-report", "100", NULL}, NULL,
               &r);
    assert_int_equal(r.iterations, 8);
    assert_int_equal(r.updates, 2);
    for (int stop = 4; stop < 16; stop += 2) {
        graft_error err = {0};
        w = (watch){.stop_at = stop};
        assert_int_equal(train(model, "part", (const char *const[]){"loss", "mlx-lm", NULL}, &w, NULL, &err),
                         GRAFT_INTERRUPTED);
        must_train(model, "part",
                   (const char *const[]){"loss", "mlx-lm", "steps-per-report", "100", "resume", "-", NULL},
                   NULL, NULL);
        /* each report prints nine digits */
        assert_near(reported_mean("part"), r.train_loss, 1e-8 * r.train_loss);
        forget("part");
    }
    forget("whole");
    w = (watch){0}; /* five rows of validation are no batch of six */
    must_train(model, "part", (const char *const[]){"loss", "mlx-lm", "batch-size", "6", NULL}, &w, &r);
    assert_non_null(strstr(w.notes, "no validation"));
    assert_true(isnan(r.val_loss_last));
    forget("part");
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_anywhere),    cmocka_unit_test(resume_refuses_changes),
        cmocka_unit_test(other_optimizers),    cmocka_unit_test(other_kinds),
        cmocka_unit_test(damaged_checkpoints), cmocka_unit_test(lost_metrics),
        cmocka_unit_test(day_is_kept),         cmocka_unit_test(flipped_bits),
        cmocka_unit_test(torn_files),          cmocka_unit_test(setting_gone),
        cmocka_unit_test(finished_again),      cmocka_unit_test(one_at_a_time),
        cmocka_unit_test(mlx_lm_loss),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, setup, teardown);
}
