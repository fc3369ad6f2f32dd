/* Rows of data: the same ids and masks as mlx-lm's, and errors that name lines. */
#include "data/duplicates.h"
#include "rows_world.h"

static gr_rows *from_text(const char *json, const gr_rows_config *config) {
    gr_rows *rows = NULL;
    if (read_one(&rows, json, config) != GRAFT_OK) fail_msg("%s: %s %s", json, err.what, err.found);
    return rows;
}

static void assert_ids(const gr_row *row, const json_t *ids, int64_t count) {
    assert_int_equal(row->count, count);
    for (int64_t i = 0; i < count; i++)
        assert_int_equal(row->ids[i], json_integer_value(json_array_get(ids, (size_t)i)));
}

/* Plain masks: every token from the prompt's offset on, but never the first. */
static void check_plain(const char *text, const json_t *expected, gr_train_on train_on) {
    gr_rows_config config = {.train_on = train_on};
    gr_rows *rows = from_text(text, &config);
    const json_t *ids = json_object_get(expected, "ids");
    int64_t offset = gr_max_i64(json_integer_value(json_object_get(expected, "offset")), 1);
    gr_row row = gr_rows_at(rows, 0);
    assert_ids(&row, ids, (int64_t)json_array_size(ids));
    for (int64_t i = 0; i < row.count; i++) assert_int_equal(row.mask[i], i >= offset);
    assert_int_equal(row.targets, gr_max_i64(row.count - offset, 0));
    gr_rows_free(rows);
}

/* mlx-lm's masks: the targets of its own batch, which hold the pad token after the row. */
static void check_mlx(const char *text, const json_t *expected, gr_train_on train_on) {
    int64_t width = json_integer_value(json_object_get(given, "width"));
    gr_rows_config config = {
        .train_on = train_on, .mlx_masks = true, .max_seq_length = width, .overflow = GR_OVERFLOW_TRUNCATE};
    gr_rows *rows = from_text(text, &config);
    const json_t *targets = json_object_get(expected, "mlx_targets");
    size_t n = json_array_size(targets);
    gr_row row = gr_rows_at(rows, 0);
    assert_ids(&row, json_object_get(expected, "mlx_ids"), row.count);
    assert_int_equal(row.targets, n);
    for (size_t i = 0; i < n; i++) {
        int64_t at = json_integer_value(json_array_get(targets, i));
        assert_in_range(at, 1, row.count - 1);
        assert_int_equal(row.mask[at], 1);
    }
    gr_rows_free(rows);
}

static void as_mlx_lm(void **state) {
    (void)state;
    const json_t *entries = json_object_get(given, "rows");
    assert_int_equal(json_array_size(entries), 10);
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const json_t *entry = json_array_get(entries, i), *masked = json_object_get(entry, "completion");
        char *text = json_dumps(json_object_get(entry, "row"), 0);
        check_plain(text, json_object_get(entry, "all"), GR_TRAIN_ALL);
        check_mlx(text, json_object_get(entry, "all"), GR_TRAIN_ALL);
        if (masked) {
            check_plain(text, masked, GR_TRAIN_COMPLETION);
            check_mlx(text, masked, GR_TRAIN_COMPLETION);
        }
        free(text);
    }
}

static void features_and_nulls(void **state) {
    (void)state;
    gr_rows_config config = {.text_feature = "body", .prompt_feature = "q", .completion_feature = "a"};
    gr_rows *rows = from_text("{\"body\": \"Hi\", \"q\": null, \"a\": \"x\", \"messages\": null}", &config);
    assert_int_equal(gr_rows_at(rows, 0).count, 4); /* <s> H i </s> */
    gr_rows_free(rows);
    config = (gr_rows_config){.prompt_feature = "q", .completion_feature = "a"};
    gr_rows *other = from_text("{\"q\": \"2+2?\", \"a\": \"4\", \"text\": \"not this\"}", &config);
    config = (gr_rows_config){0};
    rows = from_text("{\"prompt\": \"2+2?\", \"completion\": \"4\", \"tools\": null}", &config);
    assert_true(gr_rows_digest(rows) == gr_rows_digest(other));
    gr_rows_free(rows);
    gr_rows_free(other);
}

static void wrong_rows(void **state) {
    (void)state;
    static const wrong_row cases[] = {
        {"{\"text\": \"a\"", GRAFT_CORRUPT, "not valid JSON"},
        {"{\"text\": \"a\", \"text\": \"b\"}", GRAFT_CORRUPT, "not valid JSON"},
        {"[1]", GRAFT_CORRUPT, "the row is not a JSON object"},
        {"\"text\"", GRAFT_CORRUPT, "the row is not a JSON object"},
        {"{}", GRAFT_CORRUPT, "no known key with a value"},
        {"{\"txt\": \"a\"}", GRAFT_CORRUPT, "no known key with a value"},
        {"{\"text\": null}", GRAFT_CORRUPT, "no known key with a value"},
        {"{\"prompt\": \"a\"}", GRAFT_CORRUPT, "no known key with a value"},
        {"{\"text\": 5}", GRAFT_CORRUPT, "\"text\" has the wrong type"},
        {"{\"prompt\": [], \"completion\": \"a\"}", GRAFT_CORRUPT, "\"prompt\" has the wrong type"},
        {"{\"prompt\": \"a\", \"completion\": 1}", GRAFT_CORRUPT, "\"completion\" has the wrong type"},
        {"{\"messages\": {}}", GRAFT_CORRUPT, "\"messages\" has the wrong type"},
        {"{\"messages\": []}", GRAFT_CORRUPT, "\"messages\" is empty"},
        {"{\"messages\": [\"hi\"]}", GRAFT_CORRUPT, "\"messages[]\" has the wrong type"},
        {"{\"messages\": [{\"content\": \"hi\"}]}", GRAFT_CORRUPT, "a message has no \"role\""},
        {"{\"messages\": [{\"role\": 1, \"content\": \"hi\"}]}", GRAFT_CORRUPT,
         "\"role\" has the wrong type"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": 3}]}", GRAFT_CORRUPT,
         "\"content\" has the wrong type"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": null}]}", GRAFT_CORRUPT,
         "a message has no content"},
        {"{\"messages\": [{\"role\": \"user\"}]}", GRAFT_CORRUPT, "a message has no content"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"tools\": \"x\"}", GRAFT_CORRUPT,
         "not valid JSON"},
    };
    gr_rows_config config = {0};
    expect_wrong(cases, sizeof cases / sizeof *cases, &config);
}

static void errors_name_lines(void **state) {
    (void)state;
    gr_rows *rows;
    gr_rows_config config = {.max_seq_length = 8};
    const char *text =
        "{\"text\": \"ok\"}\n\n{\"text\": 1}\nnonsense\n{\"text\": \"far too long a row\"}\n{\"text\": 2}\n";
    assert_int_equal(open_text(&rows, text, &config), GRAFT_CORRUPT);
    assert_null(rows);
    assert_string_equal(err.what, "4 of 5 rows cannot be used");
    assert_string_equal(err.where, path);
    assert_non_null(strstr(err.found, "lines 3, 6: \"text\" has the wrong type"));
    assert_non_null(strstr(err.found, "line 4: not valid JSON"));
    assert_non_null(strstr(err.found, "line 5: longer than 8 tokens"));

    gr_buf many = {0};
    for (int i = 0; i < 30; i++)
        gr_buf_puts(&many, i % 2 ? "{\"text\": \"a\"}\n" : "{\"text\": \"much too long\"}\n");
    assert_int_equal(open_text(&rows, many.data, &config), GRAFT_RANGE);
    assert_string_equal(err.what, "15 of 30 rows cannot be used");
    assert_non_null(
        strstr(err.found, "lines 1, 3, 5, 7, 9, 11, 13, 15, 17, 19 and 5 more: longer than 8 tokens"));
    assert_non_null(strstr(err.hint, "--overflow"));
    gr_buf_free(&many);

    assert_int_equal(open_text(&rows, "{\"text\": \"a\"}\n{}\n", &config), GRAFT_CORRUPT);
    assert_non_null(strstr(err.where, ", line 2"));
}

static void overflow(void **state) {
    (void)state;
    gr_rows *rows;
    const char *text = "{\"text\": \"a\"}\n{\"text\": \"0123456789\"}\n{\"text\": \"bb\"}\n";
    gr_rows_config config = {.max_seq_length = 6, .overflow = GR_OVERFLOW_TRUNCATE};
    assert_int_equal(open_text(&rows, text, &config), GRAFT_OK);
    assert_int_equal(gr_rows_count(rows), 3);
    assert_int_equal(gr_rows_longest(rows), 6);
    assert_int_equal(gr_rows_tokens(rows), 3 + 6 + 4);
    assert_int_equal(gr_rows_targets(rows), 2 + 5 + 3);
    char *notes = gr_rows_notes(rows);
    assert_string_equal(notes, "1 row was cut to 6 tokens (line 2)");
    free(notes);
    gr_rows_free(rows);

    config.overflow = GR_OVERFLOW_DROP;
    assert_int_equal(open_text(&rows, text, &config), GRAFT_OK);
    assert_int_equal(gr_rows_count(rows), 2);
    assert_int_equal(gr_rows_at(rows, 1).line, 3);
    notes = gr_rows_notes(rows);
    assert_string_equal(notes, "1 row with more than 6 tokens was dropped (line 2)");
    free(notes);
    gr_rows_free(rows);

    config.max_seq_length = 2;
    assert_int_equal(open_text(&rows, text, &config), GRAFT_CORRUPT);
    assert_string_equal(err.what, "the file has no rows left");
    assert_int_equal(open_text(&rows, "\n", &config), GRAFT_CORRUPT);
    assert_string_equal(err.what, "the file has no rows");
}

/* What truncation leaves without any target is named; a file of nothing else is refused. */
static void rows_without_targets(void **state) {
    (void)state;
    gr_rows *rows;
    const char *cut = "{\"prompt\": \"a prompt that fills the row\", \"completion\": \"b\"}\n";
    gr_rows_config config = {
        .train_on = GR_TRAIN_COMPLETION, .max_seq_length = 26, .overflow = GR_OVERFLOW_TRUNCATE};
    assert_int_equal(open_text(&rows, cut, &config), GRAFT_CORRUPT);
    assert_string_equal(err.what, "no row has a token to train on");
    assert_non_null(strstr(err.hint, "--max-seq-length"));
    config.allow_untargeted = true;
    assert_int_equal(open_text(&rows, cut, &config), GRAFT_OK);
    char *notes = gr_rows_notes(rows);
    assert_string_equal(notes,
                        "1 row was cut to 26 tokens (line 1); 1 row has no token to train on (line 1)");
    free(notes);
    assert_int_equal(gr_rows_at(rows, 0).targets, 0);
    gr_rows_free(rows);
}

static void prompt_masks_need_prompts(void **state) {
    (void)state;
    gr_rows *rows;
    for (gr_train_on on = GR_TRAIN_COMPLETION; on <= GR_TRAIN_LAST; on++) {
        gr_rows_config config = {.train_on = on};
        assert_int_equal(open_text(&rows, "{\"text\": \"a\"}\n", &config), GRAFT_UNSUPPORTED);
        assert_true(err.hint[0]);
    }
    gr_rows_config config = {0};
    gr_error_clear(&err);
    const char *json = "{\"prompt\": \"a\", \"completion\": \"b\"}";
    assert_int_equal(gr_rows_from_text(&rows, json, strlen(json), tok, NULL, &config, &err), GRAFT_NOT_FOUND);
}

static void ids_beyond_the_model(void **state) {
    (void)state;
    gr_rows *rows;
    gr_rows_config config = {.vocab_size = 4};
    assert_int_equal(open_text(&rows, "{\"text\": \"</s>\"}\n{\"text\": \"a\"}\n", &config), GRAFT_RANGE);
    assert_non_null(strstr(err.where, "line 2"));
}

static void digest_sees_everything(void **state) {
    (void)state;
    gr_rows_config config = {0}, masked = {.train_on = GR_TRAIN_COMPLETION};
    const char *json = "{\"prompt\": \"a\", \"completion\": \"b\"}";
    gr_rows *a = from_text(json, &config), *b = from_text(json, &masked), *c = from_text(json, &config);
    assert_true(gr_rows_digest(a) == gr_rows_digest(c));
    assert_true(gr_rows_digest(a) != gr_rows_digest(b));
    gr_rows_free(a);
    gr_rows_free(b);
    gr_rows_free(c);
}

/* Rows are twins by their tokens and masks, not by their text; the first of each stays the original. */
static void twins(void **state) {
    (void)state;
    gr_rows_config config = {0};
    gr_rows *a, *b;
    gr_duplicates found;
    const char *text = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n\n{\"text\":   \"one\"}\n"
                       "{\"text\": \"three\"}\n{\"text\": \"\\u006fne\"}\n{\"text\": \"two\"}\n";
    assert_int_equal(open_text(&a, text, &config), GRAFT_OK);
    char *note = gr_duplicates_note(a, a, NULL);
    assert_string_equal(note, "3 rows repeat an earlier one (lines 4, 6, 7; line 4 is line 1 again)");
    free(note);
    assert_int_equal(open_text(&b, "{\"text\": \"four\"}\n{\"text\": \"three\"}\n", &config), GRAFT_OK);
    note = gr_duplicates_note(b, a, "train.jsonl");
    assert_string_equal(note, "1 row is in train.jsonl too (line 2; line 2 is line 5 there)");
    free(note);
    assert_null(gr_duplicates_note(b, b, NULL));
    gr_rows_free(b);
    gr_rows_free(a);
    /* the same tokens under another mask are another row */
    gr_rows_config masked = {.train_on = GR_TRAIN_COMPLETION};
    const char *json = "{\"prompt\": \"a\", \"completion\": \"b\"}";
    a = from_text(json, &config);
    b = from_text(json, &masked);
    assert_int_equal(gr_duplicates_find(&found, a, b, &err), GRAFT_OK);
    assert_int_equal(found.rows.count, 0);
    gr_rows_free(a);
    gr_rows_free(b);
    /* many of them */
    gr_buf many = {0};
    for (int i = 0; i < 3000; i++) gr_buf_printf(&many, "{\"text\": \"%d\"}\n", i % 1000);
    assert_int_equal(open_text(&a, many.data, &config), GRAFT_OK);
    assert_int_equal(gr_duplicates_find(&found, a, a, &err), GRAFT_OK);
    assert_int_equal(found.rows.count, 2000);
    assert_int_equal(found.rows.lines[9], 1010);
    assert_int_equal(found.of, 1);
    gr_rows_free(a);
    gr_buf_free(&many);
}

/* Rows of other programs are the conversations that their readers make of them. */
static void other_programs_rows(void **state) {
    (void)state;
    static const char *const same[][2] = {
        {"{\"instruction\": \"2+2?\", \"input\": \"\", \"output\": \"4\"}",
         "{\"prompt\": \"2+2?\", \"completion\": \"4\"}"},
        {"{\"instruction\": \"Add.\", \"input\": \"2, 2\", \"output\": \"4\"}",
         "{\"prompt\": \"Add.\\n\\n2, 2\", \"completion\": \"4\"}"},
        {"{\"instruction\": \"c\", \"input\": null, \"output\": \"d\", \"system\": \"s\", \"history\": "
         "[[\"a\", \"b\"]]}",
         "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": "
         "\"a\"}, {\"role\": "
         "\"assistant\", \"content\": \"b\"}, {\"role\": \"user\", \"content\": \"c\"}, {\"role\": "
         "\"assistant\", \"content\": "
         "\"d\"}]}"},
        {"{\"conversations\": [{\"from\": \"human\", \"value\": \"2+2?\"}, {\"from\": \"gpt\", \"value\": "
         "\"4\"}]}",
         "{\"prompt\": \"2+2?\", \"completion\": \"4\"}"},
        {"{\"messages\": [{\"from\": \"user\", \"value\": \"2+2?\"}, {\"from\": \"assistant\", \"value\": "
         "\"4\"}]}",
         "{\"prompt\": \"2+2?\", \"completion\": \"4\"}"},
        {"{\"conversations\": [{\"role\": \"user\", \"content\": \"2+2?\"}, {\"role\": \"assistant\", "
         "\"content\": \"4\"}]}",
         "{\"prompt\": \"2+2?\", \"completion\": \"4\"}"},
        {"{\"prompt\": [{\"role\": \"user\", \"content\": \"2+2?\"}], \"completion\": [{\"role\": "
         "\"assistant\", \"content\": "
         "\"4\"}]}",
         "{\"prompt\": \"2+2?\", \"completion\": \"4\"}"},
        {"{\"text\": \"as mlx-lm\", \"instruction\": \"a\", \"output\": \"b\"}", "{\"text\": \"as mlx-lm\"}"},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        gr_rows_config config = {.train_on =
                                     i + 1 < sizeof same / sizeof *same ? GR_TRAIN_LAST : GR_TRAIN_ALL};
        gr_rows *a = from_text(same[i][0], &config), *b = from_text(same[i][1], &config);
        assert_true(gr_rows_digest(a) == gr_rows_digest(b));
        gr_rows_free(a);
        gr_rows_free(b);
    }
    static const char *const bad[][2] = {
        {"{\"conversations\": [{\"from\": \"alien\", \"value\": \"x\"}]}", "an unknown speaker in \"from\""},
        {"{\"conversations\": [{\"from\": \"human\", \"value\": 5}]}", "\"value\" has the wrong type"},
        {"{\"conversations\": []}", "\"conversations\" is empty"},
        {"{\"instruction\": \"a\", \"output\": 5}", "\"output\" has the wrong type"},
        {"{\"instruction\": \"a\", \"output\": \"b\", \"history\": [[\"a\"]]}",
         "\"history[]\" has the wrong type"},
        {"{\"question\": \"a\", \"answer\": \"b\"}", "no known key with a value"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gr_rows *rows;
        gr_rows_config config = {0};
        gr_error_clear(&err);
        assert_int_not_equal(gr_rows_from_text(&rows, bad[i][0], strlen(bad[i][0]), tok, chat, &config, &err),
                             GRAFT_OK);
        assert_string_equal(err.what, bad[i][1]);
    }
    assert_string_equal(err.hint,
                        "--prompt-feature question --completion-feature answer may be what you mean");
}

/* The same rows from lines, an array and a table; a row of the table that is none is named. */
static void tables_and_arrays(void **state) {
    (void)state;
    static const char *const texts[][2] = {
        {"lines.jsonl", "{\"prompt\": \"a, \\\"b\\\"\", \"completion\": \"c\"}\n{\"prompt\": \"d\", "
                        "\"completion\": \"e\\nf\"}\n"},
        {"array.json", "[{\"prompt\": \"a, \\\"b\\\"\", \"completion\": \"c\"},\n {\"prompt\": \"d\", "
                       "\"completion\": \"e\\nf\"}]"},
        {"table.csv", "prompt,completion\r\n\"a, \"\"b\"\"\",c\r\nd,\"e\nf\"\r\n"},
        {"table.tsv", "id\tprompt\tcompletion\n1\ta, \"b\"\tc\n2\td\t\"e\nf\"\n"},
    };
    uint64_t digest = 0;
    gr_rows_config config = {.train_on = GR_TRAIN_COMPLETION};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        gr_rows *rows;
        char file[128];
        snprintf(file, sizeof file, "test_rows_%d_%s", (int)getpid(), texts[i][0]);
        gr_error_clear(&err);
        assert_int_equal(gr_file_replace(file, texts[i][1], strlen(texts[i][1]), &err), GRAFT_OK);
        if (gr_rows_open(&rows, file, tok, chat, &config, NULL, NULL, &err) != GRAFT_OK)
            fail_msg("%s: %s %s", file, err.what, err.found);
        assert_int_equal(gr_rows_count(rows), 2);
        assert_string_equal(gr_rows_name(rows), file);
        if (i) assert_true(gr_rows_digest(rows) == digest);
        digest = gr_rows_digest(rows);
        gr_rows_free(rows);
        if (i == 2) {
            const char *bad = "prompt,completion\na,b\n1\nc,d\n1,2,3\n";
            assert_int_equal(gr_file_replace(file, bad, strlen(bad), &err), GRAFT_OK);
            assert_int_equal(gr_rows_open(&rows, file, tok, chat, &config, NULL, NULL, &err), GRAFT_CORRUPT);
            assert_non_null(strstr(err.found, "lines 3, 5: a row has other cells than the header"));
        }
        unlink(file);
    }
}

/* Too long for a mask is too long: dropped as others are. */
static void long_chats_are_dropped(void **state) {
    (void)state;
    gr_buf text = {0};
    gr_rows *rows;
    gr_buf_puts(&text, "{\"messages\": [");
    for (int i = 0; i < 20000; i++)
        gr_buf_printf(&text, "%s{\"role\": \"%s\", \"content\": \"abcdefgh\"}", i ? "," : "",
                      i % 2 ? "assistant" : "user");
    gr_buf_puts(&text, "]}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    gr_rows_config config = {.train_on = GR_TRAIN_ASSISTANT, .max_seq_length = 100};
    assert_int_equal(open_text(&rows, text.data, &config), GRAFT_RANGE);
    assert_non_null(strstr(err.found, "line 1: longer than 100 tokens"));
    config.overflow = GR_OVERFLOW_DROP;
    assert_int_equal(open_text(&rows, text.data, &config), GRAFT_OK);
    assert_int_equal(gr_rows_count(rows), 1);
    char *notes = gr_rows_notes(rows);
    assert_string_equal(notes, "1 row with more than 100 tokens was dropped (line 1)");
    free(notes);
    gr_rows_free(rows);
    gr_buf_free(&text);
}

static int setup(void **state) {
    (void)state;
    return rows_begin("test_rows");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_mlx_lm),
        cmocka_unit_test(features_and_nulls),
        cmocka_unit_test(wrong_rows),
        cmocka_unit_test(errors_name_lines),
        cmocka_unit_test(overflow),
        cmocka_unit_test(rows_without_targets),
        cmocka_unit_test(prompt_masks_need_prompts),
        cmocka_unit_test(ids_beyond_the_model),
        cmocka_unit_test(digest_sees_everything),
        cmocka_unit_test(twins),
        cmocka_unit_test(other_programs_rows),
        cmocka_unit_test(tables_and_arrays),
        cmocka_unit_test(long_chats_are_dropped),
    };
    return cmocka_run_group_tests(tests, setup, rows_end);
}
