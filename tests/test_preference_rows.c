/* Rows of preferences: the same tokens as TRL's (tests/golden/preference_rows.json), and errors that name
 * lines. */
#include "data/duplicates.h"
#include "data/split.h"
#include "rows_world.h"

static json_t *golden;

static int64_t id_of(const json_t *list, int64_t i) {
    return json_integer_value(json_array_get(list, (size_t)i));
}

/* One half: the prompt's tokens and its own. The mask is that of the loss. */
static void check_half(const gr_row *row, const json_t *entry, const char *key, bool whole) {
    const json_t *prompt = json_object_get(entry, "prompt_ids"), *own = json_object_get(entry, key);
    int64_t n = (int64_t)json_array_size(prompt);
    assert_int_equal(row->prompt, n);
    assert_int_equal(row->count, n + (int64_t)json_array_size(own));
    for (int64_t i = 0; i < row->count; i++) {
        assert_int_equal(row->ids[i], i < n ? id_of(prompt, i) : id_of(own, i - n));
        assert_int_equal(row->mask[i], i > 0 && (whole || i >= n));
    }
}

static void check_cut(const char *text, const json_t *entry) {
    const json_t *cut = json_object_get(entry, "cut");
    gr_rows_config config = {.pairs = true,
                             .overflow = GR_OVERFLOW_TRUNCATE,
                             .max_seq_length = json_integer_value(json_object_get(golden, "width"))};
    gr_rows *rows;
    assert_int_equal(read_one(&rows, text, &config), GRAFT_OK);
    assert_int_equal(gr_rows_count(rows), json_is_null(cut) ? 0 : 2);
    for (int64_t k = 0; k < gr_rows_count(rows); k++) {
        gr_row row = gr_rows_at(rows, k);
        const json_t *ids = json_array_get(cut, (size_t)k);
        assert_int_equal(row.count, json_array_size(ids));
        for (int64_t i = 0; i < row.count; i++) assert_int_equal(row.ids[i], id_of(ids, i));
        assert_true(row.targets > 0);
    }
    gr_rows_free(rows);
}

static void as_trl(void **state) {
    (void)state;
    const json_t *entries = json_object_get(golden, "rows");
    assert_int_equal(json_array_size(entries), 20);
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const json_t *entry = json_array_get(entries, i);
        char *text = json_dumps(json_object_get(entry, "row"), 0);
        open_tokenizer(json_string_value(json_object_get(entry, "template")));
        for (int whole = 0; whole < 2; whole++) {
            gr_rows_config config = {.pairs = true, .whole_chosen = whole};
            gr_rows *rows;
            if (read_one(&rows, text, &config) != GRAFT_OK) fail_msg("%s: %s %s", text, err.what, err.found);
            assert_int_equal(gr_rows_width(rows), 2);
            assert_int_equal(gr_rows_count(rows), 2);
            gr_row chosen = gr_rows_at(rows, 0), rejected = gr_rows_at(rows, 1);
            check_half(&chosen, entry, "chosen_ids", whole);
            check_half(&rejected, entry, "rejected_ids", false);
            gr_rows_free(rows);
        }
        check_cut(text, entry);
        free(text);
    }
    open_tokenizer(NULL);
}

#define USER(x)  "{\"role\": \"user\", \"content\": \"" x "\"}"
#define MODEL(x) "{\"role\": \"assistant\", \"content\": \"" x "\"}"

static void wrong_rows(void **state) {
    (void)state;
    static const wrong_row cases[] = {
        {"{\"prompt\": \"a\", \"chosen\": \"b\"", GRAFT_CORRUPT, "not valid JSON"},
        {"[1]", GRAFT_CORRUPT, "the row is not a JSON object"},
        {"{}", GRAFT_CORRUPT, "a row of preferences needs \"chosen\" and \"rejected\""},
        {"{\"text\": \"a\"}", GRAFT_CORRUPT, "a row of preferences needs \"chosen\" and \"rejected\""},
        {"{\"prompt\": \"a\", \"chosen\": \"b\"}", GRAFT_CORRUPT,
         "a row of preferences needs \"chosen\" and \"rejected\""},
        {"{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": null}", GRAFT_CORRUPT,
         "a row of preferences needs \"chosen\" and \"rejected\""},
        {"{\"prompt\": \"a\", \"chosen\": 1, \"rejected\": 2}", GRAFT_CORRUPT,
         "\"chosen\" has the wrong type"},
        {"{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": [" MODEL("c") "]}", GRAFT_CORRUPT,
         "\"rejected\" has the wrong type"},
        {"{\"prompt\": \"a\", \"chosen\": [" MODEL("c") "], \"rejected\": \"b\"}", GRAFT_CORRUPT,
         "\"rejected\" has the wrong type"},
        {"{\"prompt\": [" USER("a") "], \"chosen\": \"b\", \"rejected\": \"c\"}", GRAFT_CORRUPT,
         "\"prompt\" has the wrong type"},
        {"{\"prompt\": 4, \"chosen\": \"b\", \"rejected\": \"c\"}", GRAFT_CORRUPT,
         "\"prompt\" has the wrong type"},
        {"{\"prompt\": {}, \"chosen\": [" MODEL("b") "], \"rejected\": [" MODEL("c") "]}", GRAFT_CORRUPT,
         "\"prompt\" has the wrong type"},
        {"{\"prompt\": [], \"chosen\": [" MODEL("b") "], \"rejected\": [" MODEL("c") "]}", GRAFT_CORRUPT,
         "\"prompt\" is empty"},
        {"{\"prompt\": [" USER("a") "], \"chosen\": [], \"rejected\": [" MODEL("c") "]}", GRAFT_CORRUPT,
         "\"chosen\" is empty"},
        {"{\"prompt\": [" USER("a") "], \"chosen\": [{\"content\": \"x\"}], \"rejected\": [" MODEL("c") "]}",
         GRAFT_CORRUPT, "a message has no \"role\""},
        {"{\"prompt\": [" USER("a") "], \"chosen\": [4], \"rejected\": [" MODEL("c") "]}", GRAFT_CORRUPT,
         "\"messages[]\" has the wrong type"},
        {"{\"chosen\": \"up\", \"rejected\": \"down\"}", GRAFT_CORRUPT,
         "\"chosen\" and \"rejected\" have no beginning in common"},
        {"{\"chosen\": \"\", \"rejected\": \"down\"}", GRAFT_CORRUPT,
         "\"chosen\" and \"rejected\" have no beginning in common"},
        {"{\"chosen\": \"a\", \"rejected\": \"a\"}", GRAFT_CORRUPT,
         "\"chosen\" and \"rejected\" have no beginning in common"},
        {"{\"chosen\": \"\xc3\xa9\", \"rejected\": \"\xc3\xa8\"}", GRAFT_CORRUPT,
         "\"chosen\" and \"rejected\" have no beginning in common"},
        {"{\"chosen\": [" MODEL("b") "], \"rejected\": [" MODEL("c") "]}", GRAFT_CORRUPT,
         "\"chosen\" and \"rejected\" have no beginning in common"},
        {"{\"chosen\": [" MODEL("b") "], \"rejected\": [" MODEL("b") "]}", GRAFT_CORRUPT,
         "\"chosen\" and \"rejected\" have no beginning in common"},
        {"{\"prompt\": [" USER("a") "], \"chosen\": [" MODEL("b") "], \"rejected\": [" MODEL(
             "c") "], \"tools\": \"{\"}",
         GRAFT_CORRUPT, "not valid JSON"},
        {"{\"prompt\": [" USER("a") "], \"chosen\": [" MODEL("b") "], \"rejected\": [" MODEL(
             "c") "], \"tools\": {}}",
         GRAFT_CORRUPT, "\"tools\" has the wrong type"},
        {"{\"prompt\": [" USER("a") "], \"chosen\": [" MODEL("b") "], \"rejected\": [" MODEL(
             "c") "], \"chat_template_kwargs\": 1}",
         GRAFT_CORRUPT, "\"chat_template_kwargs\" has the wrong type"},
        {"{\"prompt\": [" USER("a") "], \"chosen\": [{\"role\": \"assistant\", \"content\": \"b\", "
                                    "\"weight\": 0}], \"rejected\": [" MODEL("c") "]}",
         GRAFT_UNSUPPORTED, "\"weight\" of a message means nothing in a pair"},
    };
    gr_rows_config config = {.pairs = true};
    expect_wrong(cases, sizeof cases / sizeof *cases, &config);
    /* null is no key; ids that the model does not have */
    gr_rows *rows;
    assert_int_equal(read_one(&rows, "{\"prompt\": null, \"chosen\": \"ab\", \"rejected\": \"ac\"}", &config),
                     GRAFT_OK);
    gr_rows_free(rows);
    config.vocab_size = 5;
    assert_int_equal(read_one(&rows, "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}", &config),
                     GRAFT_RANGE);
    /* a model without a template */
    gr_chat *kept = chat;
    chat = NULL;
    config.vocab_size = 0;
    assert_int_equal(read_one(&rows,
                              "{\"prompt\": [" USER("a") "], \"chosen\": [" MODEL("b") "], \"rejected\": "
                                                                                       "[" MODEL("c") "]}",
                              &config),
                     GRAFT_NOT_FOUND);
    chat = kept;
}

/* Empty answers of a template that ends nothing. */
static void no_answer(void **state) {
    (void)state;
    gr_rows_config config = {.pairs = true};
    gr_rows *rows;
    open_tokenizer("{% for m in messages %}{{ m['content'] }}{% endfor %}");
    assert_int_equal(read_one(&rows,
                              "{\"prompt\": [" USER("abc") "], \"chosen\": [" MODEL("d") "], \"rejected\": "
                                                                                         "[" MODEL("") "]}",
                              &config),
                     GRAFT_CORRUPT);
    assert_string_equal(err.what, "\"rejected\" has no token of its own behind the prompt");
    open_tokenizer(NULL);
}

#define PAIR(p, c, r) "{\"prompt\": \"" p "\", \"chosen\": \"" c "\", \"rejected\": \"" r "\"}\n"

static void lines_and_lengths(void **state) {
    (void)state;
    gr_rows_config config = {.pairs = true, .max_seq_length = 8};
    gr_rows *rows = NULL;
    const char *text =
        PAIR("ab", "c", "d") PAIR("ab", "c", "ddddddddd") PAIR("abcdefghi", "c", "d") PAIR("ab", "c", "c");
    assert_int_equal(open_text(&rows, text, &config), GRAFT_RANGE);
    assert_non_null(strstr(err.found, "lines 2, 3"));
    config.overflow = GR_OVERFLOW_DROP;
    assert_int_equal(open_text(&rows, text, &config), GRAFT_OK);
    assert_int_equal(gr_rows_count(rows), 4);
    assert_int_equal(gr_rows_at(rows, 2).line, 4);
    char *notes = gr_rows_notes(rows);
    assert_string_equal(notes,
                        "2 rows with more than 8 tokens were dropped (lines 2, 3); 1 pair has the same "
                        "answer twice and says nothing about it (line 4)");
    free(notes);
    gr_rows_free(rows);
    config.overflow = GR_OVERFLOW_TRUNCATE;
    assert_int_equal(open_text(&rows, text, &config), GRAFT_OK);
    assert_int_equal(gr_rows_count(rows), 6);
    assert_int_equal(gr_rows_at(rows, 3).count, 8);
    notes = gr_rows_notes(rows);
    assert_non_null(strstr(notes, "1 row was cut to 8 tokens (line 2)"));
    assert_non_null(strstr(notes, "1 pair whose prompt alone has 8 tokens was dropped (line 3)"));
    free(notes);
    gr_rows_free(rows);
    config.max_seq_length = 3;
    assert_int_equal(open_text(&rows, text, &config), GRAFT_CORRUPT);
    assert_string_equal(err.what, "the file has no rows left");
    assert_int_equal(open_text(&rows, PAIR("ab", "c", "d") "{\"chosen\": 1, \"rejected\": 2}\n", &config),
                     GRAFT_CORRUPT);
    assert_non_null(strstr(err.found, "line 2"));
}

/* A split and a search for twins see pairs, never halves. */
static void pairs_stay_together(void **state) {
    (void)state;
    gr_rows_config config = {.pairs = true};
    gr_rows *rows, *valid;
    gr_buf text = {0};
    for (int i = 0; i < 40; i++)
        gr_buf_printf(&text, "{\"prompt\": \"p%d\", \"chosen\": \"c\", \"rejected\": \"r\"}\n", i % 30);
    assert_int_equal(open_text(&rows, text.data, &config), GRAFT_OK);
    gr_buf_free(&text);
    gr_duplicates twins;
    assert_int_equal(gr_duplicates_find(&twins, rows, rows, &err), GRAFT_OK);
    assert_int_equal(twins.rows.count, 10);
    assert_int_equal(twins.rows.lines[0], 31);
    assert_int_equal(gr_rows_split(&valid, rows, 10, 3, &err), GRAFT_OK);
    assert_in_range(gr_rows_count(valid), 18, 20); /* 10 pairs, or 9 where twins do not fit any more */
    assert_int_equal(gr_rows_count(valid) + gr_rows_count(rows), 80);
    for (int64_t i = 0; i < gr_rows_count(valid); i += 2)
        assert_int_equal(gr_rows_at(valid, i).line, gr_rows_at(valid, i + 1).line);
    assert_int_equal(gr_rows_width(valid), 2);
    assert_int_equal(gr_duplicates_find(&twins, valid, rows, &err), GRAFT_OK);
    assert_int_equal(twins.rows.count, 0);
    gr_rows_free(valid);
    gr_rows_free(rows);
    /* the same halves the other way round are another pair */
    assert_int_equal(open_text(&rows, PAIR("a", "b", "c") PAIR("a", "c", "b"), &config), GRAFT_OK);
    assert_int_equal(gr_duplicates_find(&twins, rows, rows, &err), GRAFT_OK);
    assert_int_equal(twins.rows.count, 0);
    gr_rows_free(rows);
}

static int setup(void **state) {
    (void)state;
    golden = json_load_file(GRAFT_SOURCE_DIR "/tests/golden/preference_rows.json", 0, NULL);
    return rows_begin("test_preference_rows") || !golden;
}

static int teardown(void **state) {
    json_decref(golden);
    return rows_end(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_trl), cmocka_unit_test(wrong_rows),
                                       cmocka_unit_test(no_answer), cmocka_unit_test(lines_and_lengths),
                                       cmocka_unit_test(pairs_stay_together)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
