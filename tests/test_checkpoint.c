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
    assert_non_null(strstr(err.what, "base model"));
    data = changed;
    err = (graft_error){0};
    assert_int_equal(train(model, "part", resume, NULL, NULL, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.what, "training data"));
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

/* metrics.jsonl that became shorter than the checkpoint remembers is not filled with zeros. */
static void lost_metrics(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *part = tiny_join(root, "part");
    char *metrics = tiny_join(part, "metrics.jsonl");
    graft_error err = {0};
    assert_int_equal(train(model, "part", NULL, &(watch){.stop_at = 12}, NULL, &err), GRAFT_INTERRUPTED);
    assert_int_equal(truncate(metrics, 0), 0);
    must_train(model, "part", (const char *const[]){"resume", "-", NULL}, NULL, NULL);
    size_t size;
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_anywhere),
        cmocka_unit_test(resume_refuses_changes),
        cmocka_unit_test(damaged_checkpoints),
        cmocka_unit_test(lost_metrics),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, setup, teardown);
}
