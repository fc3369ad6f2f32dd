/* --valid-split: which rows it takes, that training and evaluation take the same, and what contradicts it. */
#include "data/duplicates.h"
#include "data/split.h"
#include "tests/tiny_run.h"

static gr_tokenizer *tok;
static char *model;

static int setup_model(void **state) {
    graft_error err = {0};
    setup(state);
    model = tiny_model_dir(root, "model", &(tiny_spec){.dtype = GR_F32});
    return gr_tokenizer_open_as(&tok, model, GR_MAPPED, &err);
}

static int teardown_model(void **state) {
    gr_tokenizer_free(tok);
    free(model);
    return teardown(state);
}

/* Rows "text NUMBER" for the numbers from .. to - 1, backwards where asked; every fifth once more at the end.
 */
static gr_rows *make_rows(int from, int to, bool backwards, bool twins) {
    graft_error err = {0};
    gr_buf b = {0};
    gr_rows *rows;
    gr_rows_config config = {0};
    for (int i = from; i < to; i++)
        gr_buf_printf(&b, "{\"text\": \"text %d\"}\n", backwards ? from + to - 1 - i : i);
    for (int i = from; twins && i < to; i += 5) gr_buf_printf(&b, "{ \"text\":\"text %d\" }\n", i);
    tiny_write(root, "rows.jsonl", b.data);
    char *path = tiny_join(root, "rows.jsonl");
    if (gr_rows_open(&rows, path, tok, NULL, &config, NULL, NULL, &err))
        fail_msg("%s %s", err.what, err.found);
    free(path);
    gr_buf_free(&b);
    return rows;
}

/* The texts of rows as one string, malloc'ed. */
static char *texts_of(const gr_rows *rows) {
    gr_buf out = {0};
    graft_error err = {0};
    for (int64_t i = 0; i < gr_rows_count(rows); i++) {
        gr_row row = gr_rows_at(rows, i);
        gr_buf_putc(&out, '\n');
        if (gr_tokenizer_decode(tok, row.ids, (size_t)row.count, true, &out, &err)) fail_msg("%s", err.what);
    }
    gr_buf_putc(&out, '\n');
    return gr_buf_take(&out);
}

static char *chosen(gr_rows *train, double share, uint64_t seed, int64_t *count) {
    graft_error err = {0};
    gr_rows *valid;
    gr_duplicates twins;
    int64_t all = gr_rows_count(train), tokens = gr_rows_tokens(train), targets = gr_rows_targets(train);
    if (gr_rows_split(&valid, train, share, seed, &err)) fail_msg("%s %s", err.what, err.found);
    *count = gr_rows_count(valid);
    assert_int_equal(gr_rows_count(train) + *count, all);
    assert_int_equal(gr_rows_tokens(train) + gr_rows_tokens(valid), tokens);
    assert_int_equal(gr_rows_targets(train) + gr_rows_targets(valid), targets);
    assert_int_equal(gr_duplicates_find(&twins, valid, train, &err), GRAFT_OK);
    assert_int_equal(twins.rows.count, 0);
    char *texts = texts_of(valid);
    for (int64_t i = 1; i < *count; i++)
        assert_true(gr_rows_at(valid, i).line > gr_rows_at(valid, i - 1).line);
    gr_rows_free(valid);
    gr_rows_free(train);
    return texts;
}

/* Lines of a that b has, too. */
static int common_lines(const char *a, const char *b) {
    int n = 0;
    for (const char *at = a + 1; *at; at = strchr(at, '\n') + 1) {
        char line[64];
        snprintf(line, sizeof line, "\n%.*s\n", (int)strcspn(at, "\n"), at);
        n += strstr(b, line) != NULL;
    }
    return n;
}

static void rows_are_chosen_by_their_content(void **state) {
    (void)state;
    int64_t n;
    char *tenth = chosen(make_rows(0, 200, false, false), 0.1, 0, &n);
    assert_int_equal(n, 20);
    char *again = chosen(make_rows(0, 200, false, false), 20, 0, &n);
    assert_string_equal(again, tenth);
    free(again);
    again = chosen(make_rows(0, 200, true, false), 0.1, 0, &n); /* another order: the same rows */
    assert_int_equal(common_lines(again, tenth), 20);
    free(again);
    again = chosen(make_rows(0, 200, false, false), 0.1, 1, &n); /* another seed: others */
    assert_in_range(common_lines(again, tenth), 0, 10);
    free(again);
    again = chosen(make_rows(0, 220, false, false), 0.1, 0, &n); /* a tenth more rows move few */
    assert_int_equal(n, 22);
    assert_in_range(common_lines(again, tenth), 15, 20);
    free(again);
    again = chosen(make_rows(0, 200, false, true), 0.1, 0, &n); /* 40 rows there twice stay together */
    assert_in_range(n, 23, 24);
    free(again);
    again = chosen(make_rows(0, 3, false, false), 0.01, 0, &n); /* never none */
    assert_int_equal(n, 1);
    free(again);
    free(tenth);
}

static void what_leaves_nothing_is_refused(void **state) {
    (void)state;
    graft_error err = {0};
    gr_rows *valid, *rows = make_rows(0, 10, false, false);
    assert_int_equal(gr_rows_split(&valid, rows, 10, 0, &err), GRAFT_RANGE);
    assert_null(valid);
    gr_rows_free(rows);
    rows = make_rows(0, 1, false, true);
    gr_error_clear(&err);
    assert_int_equal(gr_rows_split(&valid, rows, 0.5, 0, &err), GRAFT_RANGE);
    assert_string_equal(err.found, "2 rows, all the same");
    gr_rows_free(rows);
}

static graft_status evaluate(const char *file, const char *const *more, graft_eval_result *r,
                             graft_error *err) {
    graft_options o;
    graft_options_init(&o);
    gr_error_clear(err);
    tiny_set(&o, GRAFT_VERB_EVAL,
             (const char *const[]){"model", model, "data", file, "valid-split", "0.25", NULL});
    tiny_set(&o, GRAFT_VERB_EVAL, more);
    graft_status st = graft_eval(&o, NULL, r, err);
    graft_options_free(&o);
    return st;
}

static void a_run_and_an_evaluation_take_the_same(void **state) {
    (void)state;
    watch w = {0};
    graft_error err = {0};
    graft_train_result t;
    graft_eval_result e;
    char *both = data;
    /* a directory with valid.jsonl */
    assert_int_equal(train(model, "out", (const char *const[]){"valid-split", "0.25", NULL}, &w, &t, &err),
                     GRAFT_USAGE);
    assert_non_null(strstr(err.what, "valid.jsonl and --valid-split"));
    char *file = tiny_join(data, "train.jsonl");
    data = file;
    must_train(model, "out",
               (const char *const[]){"valid-split", "0.25", "learning-rate", "0", "iters", "1", NULL}, &w,
               &t);
    assert_non_null(
        strstr(w.notes, "--valid-split 0.25 takes 3 of the 13 rows of train.jsonl for validation (seed 7)"));
    assert_int_equal(evaluate(file, (const char *const[]){"split", "valid", "seed", "7", NULL}, &e, &err),
                     GRAFT_OK);
    assert_int_equal(e.rows, 3);
    assert_true(fabs(e.loss - t.val_loss_first) < 1e-6);
    int64_t valid_tokens = e.tokens;
    assert_int_equal(evaluate(file, (const char *const[]){"split", "train", "seed", "7", NULL}, &e, &err),
                     GRAFT_OK);
    assert_int_equal(e.rows, 10);
    assert_true(e.tokens > valid_tokens);
    assert_int_equal(evaluate(file, NULL, &e, &err), GRAFT_USAGE); /* --split test */
    assert_int_equal(evaluate(both, (const char *const[]){"split", "valid", NULL}, &e, &err), GRAFT_USAGE);
    static const char *const bad[] = {"0", "-1", "1.5", "x"};
    for (size_t i = 0; i < 4; i++) {
        graft_options o;
        graft_options_init(&o);
        gr_error_clear(&err);
        graft_status st = graft_options_set(&o, GRAFT_VERB_TRAIN, "valid-split", bad[i], &err);
        graft_options_free(&o);
        if (st == GRAFT_OK)
            st = train(model, "bad", (const char *const[]){"valid-split", bad[i], NULL}, &w, &t, &err);
        assert_int_equal(st, GRAFT_USAGE);
    }
    /* another share is another run */
    const char *const other[] = {"valid-split", "5", "learning-rate", "0", "iters", "1", "resume", "-", NULL};
    gr_error_clear(&err);
    assert_int_equal(train(model, "out", other, &w, &t, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.found, "valid-split: 0.25 -> 5"));
    free(file);
    data = both;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_chosen_by_their_content),
        cmocka_unit_test(what_leaves_nothing_is_refused),
        cmocka_unit_test(a_run_and_an_evaluation_take_the_same),
    };
    return cmocka_run_group_tests(tests, setup_model, teardown_model);
}
