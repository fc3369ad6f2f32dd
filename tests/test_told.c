/* What is told about rows before anything is done with them, and of those that no number comes of. */
#include "data/split_file.h"
#include "tests/tiny_broken.h"

/* Before a run, a plan and an evaluation: every row that is not what it seems, by its line. A row whose loss
 * is not a number is named, too. */
static void rows_are_told(void **state) {
    (void)state;
    char *model = broken_model("broken", 0), *dir = tiny_subdir(root, "told");
    char *file = tiny_join(dir, "valid.jsonl"), *out = tiny_join(root, "out"), *own = data;
    gr_buf b = {0};
    graft_options o;
    graft_error err = {0};
    graft_plan plan;
    graft_eval_result e;
    for (int i = 0; i < 24; i++) gr_buf_printf(&b, "{\"text\": \"one %d\"}\n", i % 12);
    gr_buf_puts(&b, "{\"text\": \"\"}\n{\"text\": \"a row that is too long for this\"}\n");
    tiny_write(dir, "train.jsonl", b.data);
    tiny_write(dir, "valid.jsonl", "{\"text\": \"new\"}\n{\"text\": \"one 3\"}\n{\"text\": \"new\"}\n");
    static const char *const said[] = {
        "train.jsonl: 1 row was cut to 16 tokens (line 26); 1 row has no token to train on (line 25)",
        "train.jsonl: 12 rows repeat an earlier one (lines 13, 14, 15, 16, 17, 18, 19, 20, 21, 22 and 2 "
        "more; "
        "line 13 is line 1 again)",
        "valid.jsonl: 1 row repeats an earlier one (line 3; line 3 is line 1 again)",
        "valid.jsonl: 1 row is in train.jsonl too (line 2; line 2 is line 4 there): the validation loss"};
    for (int run = 0; run < 2; run++) {
        watch w = {0};
        graft_hooks hooks = {.user = &w, .event = on_event};
        graft_verb verb = run ? GRAFT_VERB_TRAIN : GRAFT_VERB_PLAN;
        graft_options_init(&o);
        tiny_set(&o, verb,
                 (const char *const[]){"model", model, "data", dir, "adapter-path", out, "max-seq-length",
                                       "16", "overflow", "truncate", "iters", "1", NULL});
        graft_status st =
            run ? graft_train(&o, &hooks, NULL, &err) : graft_plan_make(&o, &hooks, &plan, &err);
        if (st != GRAFT_OK) fail_msg("%s", err.what);
        if (!run) graft_plan_free(&plan);
        for (size_t i = 0; i < sizeof said / sizeof *said; i++)
            if (!strstr(w.notes, said[i])) fail_msg("%d: %s", run, w.notes);
        graft_options_free(&o);
    }
    for (int bad = 0; bad < 2; bad++) {
        watch w = {0};
        graft_hooks hooks = {.user = &w, .event = on_event};
        if (bad) tiny_write(dir, "valid.jsonl", "{\"text\": \"a\"}\n{\"text\": \"Z\"}\n{\"text\": \"aZ\"}\n");
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_EVAL, (const char *const[]){"model", model, "data", file, NULL});
        assert_int_equal(graft_eval(&o, &hooks, &e, &err), bad ? GRAFT_RANGE : GRAFT_OK);
        if (!bad) assert_non_null(strstr(w.notes, "valid.jsonl: 1 row repeats an earlier one (line 3;"));
        graft_eval_result_free(&e);
        graft_options_free(&o);
    }
    assert_string_equal(err.what, "the loss of 2 of 3 rows is not a number");
    assert_string_equal(err.found, "lines 2, 3");
    /* a validation with such a row is no validation, and no best */
    data = dir;
    watch w = {0};
    graft_train_result r = {0};
    must_train(model, "out", (const char *const[]){"keep-best", "-", NULL}, &w, &r);
    assert_non_null(
        strstr(w.notes, "the validation loss at iteration 0 is not a number: valid.jsonl, lines 2, 3"));
    assert_true(isnan(r.val_loss_best));
    char *best = tiny_join(out, "best");
    assert_false(gr_path_exists(best));
    data = own;
    gr_buf_free(&b);
    free(best);
    free(file);
    free(out);
    forget("out");
    tiny_remove(dir);
    tiny_remove(model);
}

/* As mlx-lm reads train.jsonl whatever is beside it; of two others neither is meant more. */
static void unread_files_are_told(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "plain", &(tiny_spec){0}), *dir = tiny_data_dir(root, "beside", 3, 2);
    char *path = NULL, *own = data;
    graft_error err = {0};
    watch w = {0};
    tiny_write(dir, "train.csv", "text\nnever\n");
    tiny_write(dir, "valid.tsv", "text\nnever\n");
    tiny_write(dir, "valid.json", "[]");
    data = dir;
    must_train(model, "out", (const char *const[]){"iters", "1", NULL}, &w, NULL);
    data = own;
    assert_non_null(strstr(w.notes, "train.csv: not read, for train.jsonl is there\n"));
    assert_non_null(strstr(w.notes, "valid.json, valid.tsv: not read, for valid.jsonl is there\n"));
    w = (watch){0};
    graft_hooks hooks = {.user = &w, .event = on_event};
    graft_options o;
    graft_eval_result e;
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_EVAL, (const char *const[]){"model", model, "data", dir, "split", "valid", NULL});
    assert_int_equal(graft_eval(&o, &hooks, &e, &err), GRAFT_OK);
    assert_int_equal(e.rows, 2);
    assert_non_null(strstr(w.notes, "valid.json, valid.tsv: not read"));
    graft_eval_result_free(&e);
    graft_options_free(&o);
    char *lines = tiny_join(dir, "valid.jsonl");
    assert_int_equal(unlink(lines), 0);
    assert_int_equal(gr_data_place(&path, dir, "valid", GR_MAPPED, &err), GRAFT_USAGE);
    assert_null(path);
    free(lines);
    forget("out");
    tiny_remove(dir);
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_are_told),
                                       cmocka_unit_test(unread_files_are_told)};
    return cmocka_run_group_tests_name("told", tests, setup, teardown);
}
