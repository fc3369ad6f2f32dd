/* The page of rows: everything in it is escaped, whole and balanced; an unfinished one does not appear. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "report/rows_html.h"
#include "tests/temp_dir.h"
#include <cmocka.h>

static size_t count(const char *text, const char *word) {
    size_t n = 0;
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word)) n++;
    return n;
}

static void rows_stand_on_a_page(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    const char *path = temp_path(&dir, "rows.html");
    gr_rows_page page;
    graft_error err = {0};
    static const char *const pieces[] = {"<script>", "a&\"b\"", "\n\x01\t", "\xe4\xb8\x96"};
    static const int32_t ids[] = {1, 2, 3, 4};
    static const uint8_t mask[] = {0, 0, 1, 1};
    graft_row row = {.line = 7, .ids = ids, .mask = mask, .count = 4, .text = "", .pieces = pieces};
    gr_page_head head = {.data = "<data>", .train_on = "assistant", .rows = 1, .tokens = 4, .targets = 2};

    assert_int_equal(gr_rows_page_begin(&page, path, &head, &err), GRAFT_OK);
    assert_int_equal(gr_rows_page_add(&page, &row, &err), GRAFT_OK);
    gr_rows_page_abort(&page);
    assert_false(gr_path_exists(path));

    assert_int_equal(gr_rows_page_begin(&page, path, &head, &err), GRAFT_OK);
    assert_int_equal(gr_rows_page_add(&page, &row, &err), GRAFT_OK);
    assert_int_equal(gr_rows_page_end(&page, &err), GRAFT_OK);
    char *text;
    size_t len;
    assert_int_equal(gr_file_read(&text, &len, path, 1 << 20, &err), GRAFT_OK);
    assert_non_null(strstr(text, "&lt;data&gt;"));
    assert_non_null(strstr(text, "1 rows, 4 tokens, 2 trained (50.0 %)"));
    assert_non_null(strstr(text, "<section id=\"L7\">"));
    assert_non_null(strstr(text, "line 7</a> <small>4 tokens, 2 trained"));
    assert_non_null(strstr(text, "<i>&lt;script&gt;</i><i>a&amp;&quot;b&quot;</i><b><u>\xe2\x8f\x8e</u>\n"
                                 "\xe2\x90\x81\t</b><b>\xe4\xb8\x96</b></pre>"));
    assert_null(strstr(text, "<script>"));
    static const char *const tags[] = {"table", "tr", "td",    "section", "pre", "i",
                                       "b",     "u",  "style", "body",    "html"};
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        char open[16], bare[16], close[16];
        snprintf(open, sizeof open, "<%s ", tags[i]);
        snprintf(bare, sizeof bare, "<%s>", tags[i]);
        snprintf(close, sizeof close, "</%s>", tags[i]);
        assert_int_equal(count(text, open) + count(text, bare), count(text, close));
    }
    free(text);
    assert_int_not_equal(gr_rows_page_begin(&page, temp_path(&dir, "no/such/place.html"), &head, &err),
                         GRAFT_OK);
    gr_rows_page_abort(&page);
    temp_dir_free(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_stand_on_a_page)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
