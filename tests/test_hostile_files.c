/* base and files against files from an attacker: nothing blocks, nothing is believed before it is checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "data/rows.h"
#include "files/gguf.h"
#include "files/json_read.h"
#include "files/jsonl.h"
#include "files/safetensors.h"
#include "hostile.h"
#include "temp_dir.h"
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opening a FIFO waits for a writer; here none will ever come. */
static void not_regular_files(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    const char *fifo = temp_path(&dir, "fifo.safetensors");
    const char *const paths[] = {fifo, dir.path, "/dev/null", "/dev/zero"};
    assert_int_equal(mkfifo(fifo, 0600), 0);
    alarm(20); /* ends the test where something waits */
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        graft_error err = {0};
        char *text;
        size_t len;
        gr_map map;
        assert_int_equal(gr_file_read(&text, &len, paths[i], 100, &err), GRAFT_IO);
        assert_string_equal(err.where, paths[i]);
        assert_non_null(strstr(err.what, "not a regular file"));
        assert_int_equal(gr_map_open(&map, paths[i], GR_MAPPED, &err), GRAFT_IO);
    }
    gr_safetensors *file;
    gr_gguf *gguf;
    gr_jsonl *rows;
    graft_error err = {0};
    assert_int_equal(gr_safetensors_open(&file, fifo, &err), GRAFT_IO);
    assert_int_equal(gr_gguf_open(&gguf, fifo, &err), GRAFT_IO);
    assert_int_equal(gr_jsonl_open(&rows, fifo, &err), GRAFT_IO);
    alarm(0);
    temp_dir_free(&dir);
}

/* A text whose values would take far more memory than it has bytes. */
static void json_that_swells(void **state) {
    (void)state;
    static const char *const units[] = {"{},", "[],", "0,", "[[]],"};
    uint64_t before = gr_peak_rss();
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t len;
        json_t *value;
        graft_error err = {0};
        char *text = hostile_text(units[i], (size_t)20 << 20, &len);
        text[0] = '[';
        text[len - 1] = ']';
        assert_int_equal(gr_json_parse(&value, text, len, "swelling", &err), GRAFT_RANGE);
        assert_null(value);
        assert_string_equal(err.where, "swelling");
        assert_non_null(strstr(err.expected, "536870912"));
        free(text);
    }
    if (!SANITIZED) assert_true(gr_peak_rss() - before < (uint64_t)64 << 20);
    /* punctuation inside strings is text */
    size_t len;
    json_t *value;
    char *text = hostile_text("{[,", (size_t)8 << 20, &len);
    gr_buf json = {0};
    gr_buf_puts(&json, "[\"\\\"");
    gr_buf_add(&json, text, len);
    gr_buf_puts(&json, "\\\\\"]");
    assert_int_equal(gr_json_parse(&value, json.data, json.len, "text", NULL), GRAFT_OK);
    json_decref(value);
    gr_buf_free(&json);
    free(text);
}

static void deep_json(void **state) {
    (void)state;
    static const char *const units[] = {"[", "{\"a\":", "[{\"a\":["};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t len;
        json_t *value;
        graft_error err = {0};
        char *text = hostile_text(units[i], (size_t)1 << 20, &len);
        assert_int_equal(gr_json_parse(&value, text, len, "deep", &err), GRAFT_CORRUPT);
        assert_non_null(strstr(err.what, "depth"));
        free(text);
    }
}

static gr_tokenizer *letters(void) {
    static const char json[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}";
    gr_tokenizer *tok;
    assert_int_equal(gr_tokenizer_from_json(&tok, json, sizeof json - 1, NULL, 0, "letters", NULL), GRAFT_OK);
    return tok;
}

/* A file with a hole of a gigabyte: one line without end. It costs no memory, and is refused by its number.
 */
static void endless_row(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    static const char first[] = "{\"text\": \"a\"}\n{\"text\": \"";
    const char *path = temp_file(&dir, "rows.jsonl", first, sizeof first - 1);
    assert_int_equal(truncate(path, (off_t)80 << 20), 0);
    gr_tokenizer *tok = letters();
    gr_rows_config config = {.max_seq_length = 100};
    gr_rows *rows;
    graft_error err = {0};
    uint64_t before = gr_peak_rss();
    double start = hostile_clock();
    assert_int_equal(gr_rows_open(&rows, path, tok, NULL, &config, NULL, NULL, &err), GRAFT_RANGE);
    if (hostile_clock() - start > HOSTILE_SECONDS) fail_msg("%.1f s", hostile_clock() - start);
    if (!SANITIZED) assert_true(gr_peak_rss() - before < (uint64_t)60 << 20);
    if (!strstr(err.found, "line 2") && !strstr(err.where, "line 2"))
        fail_msg("%s, %s, %s", err.what, err.where, err.found);
    gr_tokenizer_free(tok);
    temp_dir_free(&dir);
}

/* Many lines of nothing, and a line of 20 MB of spaces. */
static void empty_rows(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    size_t len;
    gr_jsonl *file;
    char *text = hostile_text("\n", (size_t)20 << 20, &len);
    const char *path = temp_file(&dir, "newlines", text, len);
    assert_int_equal(gr_jsonl_open(&file, path, NULL), GRAFT_OK);
    assert_int_equal(gr_jsonl_count(file), 0);
    gr_jsonl_close(file);
    memset(text, ' ', len);
    path = temp_file(&dir, "spaces", text, len);
    assert_int_equal(gr_jsonl_open(&file, path, NULL), GRAFT_OK);
    assert_true(gr_jsonl_count(file) <= 1);
    gr_jsonl_close(file);
    free(text);
    temp_dir_free(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(not_regular_files), cmocka_unit_test(json_that_swells), cmocka_unit_test(deep_json),
        cmocka_unit_test(endless_row),       cmocka_unit_test(empty_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
