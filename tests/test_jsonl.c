/* files/jsonl, files/json_read and files/json_write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "comma_locale.h"
#include "files/json_read.h"
#include "files/json_write.h"
#include "files/jsonl.h"
#include "temp_dir.h"

static void rows_and_lines(void **state) {
    (void)state;
    static const char text[] = "\xef\xbb\xbf{\"a\":1}\n\n \t\r\n{\"b\":2}\r\n  {\"c\":3}\nlast";
    static const struct {
        const char *text;
        uint64_t line;
    } rows[] = {{"{\"a\":1}", 1}, {"{\"b\":2}", 4}, {"  {\"c\":3}", 5}, {"last", 6}};
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    gr_jsonl *file;
    const char *path = temp_file(&dir, "r.jsonl", text, sizeof text - 1);
    assert_int_equal(gr_jsonl_open(&file, path, &err), GRAFT_OK);
    assert_int_equal(gr_jsonl_count(file), 4);
    for (size_t i = 4; i-- > 0;) { /* any order */
        const char *row;
        size_t len;
        uint64_t line;
        gr_jsonl_row(file, i, &row, &len, &line);
        assert_int_equal(len, strlen(rows[i].text));
        assert_memory_equal(row, rows[i].text, len);
        assert_int_equal(line, rows[i].line);
    }
    gr_jsonl_close(file);
    static const char *const empty[] = {"", "\n", "\n\n  \n", "\xef\xbb\xbf", "\xef\xbb\xbf\n"};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        assert_int_equal(gr_jsonl_open(&file, temp_file(&dir, "e", empty[i], strlen(empty[i])), &err),
                         GRAFT_OK);
        assert_int_equal(gr_jsonl_count(file), 0);
        gr_jsonl_close(file);
    }
    assert_int_equal(gr_jsonl_open(&file, temp_path(&dir, "absent"), &err), GRAFT_NOT_FOUND);
    gr_error_clear(&err);
    assert_int_equal(gr_jsonl_open(&file, dir.path, &err), GRAFT_IO); /* a directory */
    temp_dir_free(&dir);
}

/* More than one piece of the scan, whose pages are given back on the way. */
static void large_file(void **state) {
    (void)state;
    enum { ROWS = 40, ROW = 1000003 };
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    gr_jsonl *file;
    char *row = malloc(ROW);
    assert_non_null(row);
    FILE *out = fopen(temp_path(&dir, "big"), "wb");
    for (int i = 0; i < ROWS; i++) {
        memset(row, 'a' + i % 26, ROW - 1);
        row[ROW - 1] = '\n';
        assert_int_equal(fwrite(row, 1, ROW, out), ROW);
    }
    fclose(out);
    assert_int_equal(gr_jsonl_open(&file, temp_path(&dir, "big"), &err), GRAFT_OK);
    assert_int_equal(gr_jsonl_count(file), ROWS);
    for (size_t i = 0; i < ROWS; i++) {
        const char *text;
        size_t len;
        uint64_t line;
        gr_jsonl_row(file, i, &text, &len, &line);
        assert_int_equal(len, ROW - 1);
        assert_int_equal(line, i + 1);
        assert_true(text[0] == (char)('a' + i % 26) && text[len - 1] == text[0]);
    }
    gr_jsonl_close(file);
    free(row);
    temp_dir_free(&dir);
}

static graft_status parse(json_t **root, const char *text, graft_error *err) {
    gr_error_clear(err);
    return gr_json_parse(root, text, strlen(text), "test.json", err);
}

static void json_is_checked(void **state) {
    (void)state;
    graft_error err = {0};
    json_t *root;
    static const char *const bad[] = {
        "", "{", "{\"a\":1,\"a\":2}", "{\"a\":1} x", "{\"a\":1e999}", "{\"a\":\"\xff\"}", "{\"a\":NaN}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse(&root, bad[i], &err), GRAFT_CORRUPT);
        assert_null(root);
        assert_non_null(strstr(err.where, "test.json, line 1"));
    }
    char deep[20001] = {0};
    memset(deep, '[', 10000);
    memset(deep + 10000, ']', 10000);
    assert_int_equal(parse(&root, deep, &err), GRAFT_CORRUPT);
    /* as tokenizer_config.json has it; its other integers stay integers */
    assert_int_equal(parse(&root, "{\"max\":1000000000000000019884624838656,\"n\":[7,{\"k\":8}]}", &err),
                     GRAFT_OK);
    assert_true(json_real_value(json_object_get(root, "max")) == 1e30);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(root, "n"), 0)), 7);
    assert_true(json_is_integer(json_object_get(json_array_get(json_object_get(root, "n"), 1), "k")));
    json_decref(root);
}

static void fields_are_typed(void **state) {
    (void)state;
    graft_error err = {0};
    json_t *root;
    assert_int_equal(
        parse(&root,
              "{\"i\":3,\"f\":3.5,\"w\":4.0,\"s\":\"x\",\"b\":true,\"z\":null,\"o\":{\"i\":-1},\"a\":[1]}",
              &err),
        GRAFT_OK);
    gr_json_scope scope = {root, "test.json", ""}, inner;
    int64_t i = 9;
    double f = 9;
    bool b = false;
    const char *s = "default";
    const json_t *array;
    char path[128];
    assert_int_equal(gr_json_int(&scope, "i", 0, 5, &i, &err), GRAFT_OK);
    assert_int_equal(i, 3);
    assert_int_equal(gr_json_int(&scope, "w", 0, 5, &i, &err), GRAFT_OK);
    assert_int_equal(i, 4);
    assert_int_equal(gr_json_int(&scope, "absent", 0, 5, &i, &err), GRAFT_OK);
    assert_int_equal(gr_json_int(&scope, "z", 0, 5, &i, &err), GRAFT_OK);
    assert_int_equal(i, 4);
    assert_int_equal(gr_json_int(&scope, "f", 0, 5, &i, &err), GRAFT_CORRUPT);
    assert_string_equal(err.where, "test.json: f");
    assert_string_equal(err.expected, "an integer");
    gr_error_clear(&err);
    assert_int_equal(gr_json_int(&scope, "i", 4, 5, &i, &err), GRAFT_RANGE);
    gr_error_clear(&err);
    assert_int_equal(gr_json_real(&scope, "i", 0, 5, &f, &err), GRAFT_OK);
    assert_true(f == 3);
    assert_int_equal(gr_json_real(&scope, "f", 0, 3, &f, &err), GRAFT_RANGE);
    gr_error_clear(&err);
    assert_int_equal(gr_json_bool(&scope, "b", &b, &err), GRAFT_OK);
    assert_true(b);
    assert_int_equal(gr_json_bool(&scope, "i", &b, &err), GRAFT_CORRUPT);
    gr_error_clear(&err);
    assert_int_equal(gr_json_string(&scope, "absent", &s, &err), GRAFT_OK);
    assert_string_equal(s, "default");
    assert_int_equal(gr_json_string(&scope, "s", &s, &err), GRAFT_OK);
    assert_string_equal(s, "x");
    assert_int_equal(gr_json_array(&scope, "a", &array, &err), GRAFT_OK);
    assert_int_equal(json_array_size(array), 1);
    assert_int_equal(gr_json_object(&scope, "o", &inner, path, &err), GRAFT_OK);
    assert_int_equal(gr_json_int(&inner, "i", 0, 5, &i, &err), GRAFT_RANGE);
    assert_string_equal(err.where, "test.json: o.i");
    gr_error_clear(&err);
    assert_int_equal(gr_json_need(&inner, "missing", &err), GRAFT_NOT_FOUND);
    assert_string_equal(err.where, "test.json: o.missing");
    json_decref(root);
    assert_true(gr_plain_file_name("a.b"));
    assert_false(gr_plain_file_name("") || gr_plain_file_name("..") || gr_plain_file_name("a/b") ||
                 gr_plain_file_name("a\\b"));
}

static void json_is_written(void **state) {
    (void)state;
    graft_error err = {0};
    json_t *root;
    gr_buf out = {0};
    assert_int_equal(parse(&root,
                           "{\"b\":[1,2.5,{}],\"a\":{\"eps\":1e-05,\"theta\":100000.0,\"third\":0."
                           "33333333333333331,\"s\":\"\\u00e4\\n\"}}",
                           &err),
                     GRAFT_OK);
    gr_json_text(&out, root);
    assert_string_equal(out.data, "{\n    \"a\": {\n        \"eps\": 1e-05,\n        \"s\": "
                                  "\"\xc3\xa4\\n\",\n        \"theta\": 100000.0,\n"
                                  "        \"third\": 0.3333333333333333\n    },\n    \"b\": [\n        1,\n "
                                  "       2.5,\n        {}\n    ]\n}");
    gr_buf_free(&out);
    json_decref(root);
}

/* Of 5000 and 100.5: what is written is what is read, where a comma stands for the point too. */
static void any_locale(void **state) {
    (void)state;
    gr_buf text = {0};
    json_t *value = json_pack("[f,f,f]", 0.02, 5000.0, 1e-9);
    comma_locale();
    gr_json_text(&text, value);
    setlocale(LC_ALL, "C");
    assert_string_equal(text.data, "[\n    0.02,\n    5000.0,\n    1e-09\n]");
    gr_buf_free(&text);
    json_decref(value);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_and_lines),   cmocka_unit_test(large_file),
                                       cmocka_unit_test(any_locale),       cmocka_unit_test(json_is_checked),
                                       cmocka_unit_test(fields_are_typed), cmocka_unit_test(json_is_written)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
