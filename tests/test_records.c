/* Rows of files: tables as Python's csv reads them (tests/golden/csv.json), arrays, lines, and what is none
 * of these. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "files/records.h"
#include "tests/process_state.h"
#include "tests/temp_dir.h"
#include <cmocka.h>
#include <jansson.h>

static temp_dir dir;
static graft_error err;

static graft_status open_bytes(gr_records **r, const char *name, const char *text, size_t len) {
    gr_error_clear(&err);
    return gr_records_open(r, temp_file(&dir, name, text, len), GR_MAPPED, &err);
}

static gr_records *must_open(const char *name, const char *text) {
    gr_records *r;
    if (open_bytes(&r, name, text, strlen(text)) != GRAFT_OK)
        fail_msg("%s: %s %s", text, err.what, err.found);
    return r;
}

static json_t *row(gr_records *r, size_t i, uint64_t *line) {
    const char *text;
    size_t len;
    if (gr_records_get(r, i, &text, &len, line, &err) != GRAFT_OK) return NULL;
    json_t *json = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    return json;
}

/* The object of a row against the strings that Python read. */
static void check_row(const json_t *got, const json_t *names, const json_t *cells) {
    assert_int_equal(json_object_size(got), json_array_size(names));
    for (size_t i = 0; i < json_array_size(names); i++) {
        const json_t *value = json_object_get(got, json_string_value(json_array_get(names, i)));
        const char *want = json_string_value(json_array_get(cells, i));
        if (!want[0])
            assert_true(json_is_null(value));
        else
            assert_string_equal(json_string_value(value), want);
    }
}

static void tables_are_those_of_python(void **state) {
    (void)state;
    json_t *file = json_load_file(GRAFT_SOURCE_DIR "/tests/golden/csv.json", 0, NULL), *item;
    size_t i;
    assert_int_equal(json_array_size(json_object_get(file, "cases")), 38);
    json_array_foreach(json_object_get(file, "cases"), i, item) {
        const json_t *rows = json_object_get(item, "rows");
        bool tab = json_string_value(json_object_get(item, "separator"))[0] == '\t';
        gr_records *r = must_open(tab ? "a.tsv" : "a.csv", json_string_value(json_object_get(item, "text")));
        assert_int_equal(gr_records_count(r) + 1, json_array_size(rows));
        uint64_t line, last = 1;
        for (size_t k = 0; k < gr_records_count(r); k++) {
            json_t *got = row(r, k, &line);
            assert_non_null(got);
            check_row(got, json_array_get(rows, 0), json_array_get(rows, k + 1));
            assert_true(line > last);
            last = line;
            json_decref(got);
        }
        gr_records_close(r);
    }
    json_decref(file);
}

static void rows_know_their_lines(void **state) {
    (void)state;
    uint64_t line;
    gr_records *r = must_open("a.csv", "\xef\xbb\xbf"
                                       "a,b\n\"one\ntwo\r\nthree\",2\n\n5,6\r\n7\n8,9,10\n\"x\"y,1\n");
    static const uint64_t lines[] = {2, 6, 7, 8, 9};
    assert_int_equal(gr_records_count(r), 5);
    for (size_t i = 0; i < 5; i++) {
        gr_error_clear(&err);
        json_t *got = row(r, i, &line);
        assert_int_equal(line, lines[i]);
        assert_int_equal(got != NULL, i < 2);
        if (i == 2) assert_string_equal(err.found, "1 in the first");
        if (i == 3) assert_string_equal(err.found, "more than 2 in the first");
        if (i == 4) assert_string_equal(err.what, "text behind the closing quote of a cell");
        json_decref(got);
    }
    gr_records_close(r);
}

static void arrays_are_rows(void **state) {
    (void)state;
    uint64_t line;
    gr_records *r = must_open("a.json", " \n[\n {\"a\": \"]},\\\"\"},\n{\"b\": [1, {\"c\": 2}]}\n  , 7]\n\n");
    static const uint64_t lines[] = {3, 4, 5};
    assert_int_equal(gr_records_count(r), 3);
    for (size_t i = 0; i < 3; i++) {
        json_t *got = row(r, i, &line);
        assert_int_equal(line, lines[i]);
        if (i == 0) assert_string_equal(json_string_value(json_object_get(got, "a")), "]},\"");
        if (i == 2) assert_int_equal(json_integer_value(got), 7);
        json_decref(got);
    }
    gr_records_close(r);
    r = must_open("a.json", "{\"a\": 1}\n\n{\"a\": 2}\n"); /* lines under that name */
    assert_int_equal(gr_records_count(r), 2);
    json_decref(row(r, 1, &line));
    assert_int_equal(line, 3);
    gr_records_close(r);
    static const char *const none[] = {"", "[]", "\n [ ]\n", "\xef\xbb\xbf[]"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        r = must_open("a.json", none[i]);
        assert_int_equal(gr_records_count(r), 0);
        gr_records_close(r);
    }
    r = must_open("a.csv", "a,b\n");
    assert_int_equal(gr_records_count(r), 0);
    gr_records_close(r);
}

/* Pages that were read do not stay, also where a whole array is one line. */
static void long_lines_are_handed_back(void **state) {
    (void)state;
    enum { ROWS = 640, BYTES = 64 << 10 };
    gr_buf text = {0};
    char *value = malloc(BYTES);
    assert_non_null(value);
    memset(value, 'x', BYTES);
    for (int i = 0; i < ROWS; i++) gr_buf_printf(&text, "%c\"%.*s\"", i ? ',' : '[', BYTES, value);
    gr_buf_putc(&text, ']');
    free(value);
    assert_false(text.failed);
    const char *path = temp_file(&dir, "long.json", text.data, text.len);
    gr_buf_free(&text);
    gr_records *r;
    long before = process_kib("Rss");
    assert_int_equal(gr_records_open(&r, path, GR_MAPPED, &err), GRAFT_OK);
    assert_int_equal(gr_records_count(r), ROWS);
    long after = process_kib("Rss");
    if (before > 0 && after - before > 24 << 10)
        fail_msg("%ld KiB of %d", after - before, ROWS * BYTES >> 10);
    gr_records_close(r);
}

static void what_is_no_file_of_rows_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *name, *text;
        graft_status status;
        const char *word;
    } cases[] = {
        {"a.json", "[1, 2", GRAFT_CORRUPT, "does not end"},
        {"a.json", "[", GRAFT_CORRUPT, "does not end"},
        {"a.json", "[1,", GRAFT_CORRUPT, "does not end"},
        {"a.json", "[1,]", GRAFT_CORRUPT, "is missing"},
        {"a.json", "[,1]", GRAFT_CORRUPT, "is missing"},
        {"a.json", "[1] x", GRAFT_CORRUPT, "behind the array"},
        {"a.csv", "a,b\n\"x,1\n", GRAFT_CORRUPT, "does not end"},
        {"a.csv", "a,a\n1,2\n", GRAFT_CORRUPT, "the same name"},
        {"a.csv", "a,,b\n1,2,3\n", GRAFT_CORRUPT, "has no name"},
        {"a.csv", "\"a\"b,c\n1,2\n", GRAFT_CORRUPT, "behind the closing quote"},
        {"a.csv", "PAR1xxxx", GRAFT_UNSUPPORTED, "Parquet"},
        {"a.jsonl", "\x1f\x8b\x08", GRAFT_UNSUPPORTED, "gzip"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_records *r;
        assert_int_equal(open_bytes(&r, cases[i].name, cases[i].text, strlen(cases[i].text)),
                         cases[i].status);
        assert_null(r);
        if (!strstr(err.what, cases[i].word) && !strstr(err.found, cases[i].word))
            fail_msg("%s: %s, %s", cases[i].text, err.what, err.found);
    }
    gr_buf wide = {0};
    for (int i = 0; i < 1025; i++) gr_buf_printf(&wide, "%sc%d", i ? "," : "", i);
    gr_records *r;
    assert_int_equal(open_bytes(&r, "a.csv", wide.data, wide.len), GRAFT_RANGE);
    gr_buf_free(&wide);
}

static int setup(void **state) {
    (void)state;
    dir = temp_dir_new();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    temp_dir_free(&dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_those_of_python),
        cmocka_unit_test(rows_know_their_lines),
        cmocka_unit_test(arrays_are_rows),
        cmocka_unit_test(long_lines_are_handed_back),
        cmocka_unit_test(what_is_no_file_of_rows_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
