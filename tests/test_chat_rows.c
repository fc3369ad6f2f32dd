/* Rows of conversations as TRL's SFTTrainer reads them (tests/golden/sft_rows.json), and what a row says of
 * its own template. */
#include "rows_world.h"

static json_t *golden;

/* Where no token is masked all but the first are targets. */
static void check(const json_t *entry, bool completion) {
    const json_t *ids = json_object_get(entry, "ids"), *from = json_object_get(entry, "from");
    char *text = json_dumps(json_object_get(entry, "row"), 0);
    gr_rows_config config = {.train_on = completion ? GR_TRAIN_COMPLETION : GR_TRAIN_ALL};
    gr_rows *rows;
    if (read_one(&rows, text, &config) != GRAFT_OK) fail_msg("%s: %s", text, err.what);
    gr_row row = gr_rows_at(rows, 0);
    int64_t first = completion ? json_integer_value(from) : 1;
    assert_int_equal(row.count, json_array_size(ids));
    for (int64_t i = 0; i < row.count; i++) {
        assert_int_equal(row.ids[i], json_integer_value(json_array_get(ids, (size_t)i)));
        if (row.mask[i] != (i >= first)) fail_msg("%s: mask of token %lld", text, (long long)i);
    }
    gr_rows_free(rows);
    free(text);
}

static void as_trl(void **state) {
    size_t i;
    json_t *entry;
    (void)state;
    json_array_foreach(json_object_get(golden, "rows"), i, entry) {
        open_tokenizer(json_string_value(json_object_get(entry, "template")));
        check(entry, false);
        if (!json_is_null(json_object_get(entry, "from"))) check(entry, true);
    }
    assert_int_equal(i, 9);
    open_tokenizer(NULL);
}

#define CHAT                                                                                                 \
    "\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": "       \
    "\"b\"}]"
#define LISTS                                                                                                \
    "\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}], \"completion\": [{\"role\": \"assistant\", "    \
    "\"content\": "                                                                                          \
    "\"b\"}, {\"role\": \"user\", \"content\": \"c\"}, {\"role\": \"assistant\", \"content\": \"d\"}]"

static void wrong_rows(void **state) {
    static const wrong_row cases[] = {
        {"{" CHAT ", \"chat_template_kwargs\": [1]}", GRAFT_CORRUPT,
         "\"chat_template_kwargs\" has the wrong type"},
        {"{" CHAT ", \"chat_template_kwargs\": {\"messages\": []}}", GRAFT_USAGE,
         "template variable \"messages\""},
        {"{" CHAT ", \"chat_template_kwargs\": {\"documents\": [1]}}", GRAFT_USAGE,
         "template variable \"documents\""},
        {"{" CHAT ", \"chat_template_kwargs\": {\"chat_template\": \"x\"}}", GRAFT_UNSUPPORTED,
         "\"chat_template_kwargs\" of a row"},
        {"{" CHAT ", \"tools\": \"{\"}", GRAFT_CORRUPT, "not valid JSON"},
        {"{" CHAT ", \"tools\": \"{}\"}", GRAFT_CORRUPT, "\"tools\" has the wrong type"},
    };
    gr_rows_config config = {0};
    (void)state;
    expect_wrong(cases, sizeof cases / sizeof *cases, &config);
}

static int64_t targets(const char *json, gr_train_on on) {
    gr_rows_config config = {.train_on = on};
    gr_rows *rows;
    if (read_one(&rows, json, &config) != GRAFT_OK) fail_msg("%s: %s", json, err.what);
    int64_t n = gr_rows_targets(rows);
    gr_rows_free(rows);
    return n;
}

/* --train-on last still is the last message, and a message's flag still counts. */
static void other_masks_stay(void **state) {
    (void)state;
    assert_int_equal(targets("{" LISTS "}", GR_TRAIN_LAST), targets("{" CHAT "}", GR_TRAIN_LAST));
    assert_true(targets("{" LISTS "}", GR_TRAIN_COMPLETION) > targets("{" LISTS "}", GR_TRAIN_ASSISTANT));
}

static void what_is_not_read_is_said(void **state) {
    gr_rows_config config = {0};
    gr_rows *rows;
    (void)state;
    assert_int_equal(open_text(&rows,
                               "{" CHAT ", \"system\": \"Be brief.\"}\n{" CHAT ", \"system\": \"\"}\n{" LISTS
                               ", \"system\": \"x\"}\n{\"conversations\": "
                               "[{\"from\": \"human\", \"value\": \"a\"}], \"system\": \"Be brief.\"}\n",
                               &config),
                     GRAFT_OK);
    char *notes = gr_rows_notes(rows);
    assert_string_equal(notes,
                        "2 rows have a \"system\" that is not read beside their other keys (lines 1, 3)");
    free(notes);
    gr_rows_free(rows);
    assert_int_equal(open_text(&rows, "{" CHAT "}\n", &config), GRAFT_OK);
    assert_null(gr_rows_notes(rows));
    gr_rows_free(rows);
}

static int setup(void **state) {
    (void)state;
    golden = json_load_file(GRAFT_SOURCE_DIR "/tests/golden/sft_rows.json", 0, NULL);
    return rows_begin("test_chat_rows") || !golden;
}

static int teardown(void **state) {
    json_decref(golden);
    return rows_end(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_trl), cmocka_unit_test(wrong_rows),
                                       cmocka_unit_test(other_masks_stay),
                                       cmocka_unit_test(what_is_not_read_is_said)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
