/* What the command line draws with text: numbers, wrapped columns, plots. Includes the sources: they belong
 * to the program, not to the library. */
#include "cli/errors.c"
#include "cli/out.c"
#include "cli/plot.c"
#include "cli/progress.c"
#include "cli/spark.c"
#include "cli/wrap.c"
#include <setjmp.h>
#include <stdarg.h>
// cmocka needs the two above
#include <cmocka.h>

/* cli/mpi_run.c's, which errors.c asks. */
bool mpi_same_command(void) {
    return false;
}

static void numbers_are_short(void **state) {
    (void)state;
    out_buf b;
    assert_string_equal(out_size(&b, 0), "0 B");
    assert_string_equal(out_size(&b, 999), "999 B");
    assert_string_equal(out_size(&b, 1000), "1.0 kB");
    assert_string_equal(out_size(&b, 99940000), "99.9 MB");
    assert_string_equal(out_size(&b, 312000000), "312 MB");
    assert_string_equal(out_size(&b, 999499999), "999 MB");
    assert_string_equal(out_size(&b, 999500000), "1.00 GB"); /* never "1000 MB" */
    assert_string_equal(out_size(&b, UINT64_MAX), "18.4 EB");
    assert_string_equal(out_count(&b, 0), "0");
    assert_string_equal(out_count(&b, 999), "999");
    assert_string_equal(out_count(&b, 134515008), "134,515,008");
    assert_string_equal(out_count(&b, -100), "-100");
    assert_string_equal(out_count(&b, INT64_MIN), "-9,223,372,036,854,775,808");
    assert_string_equal(out_seconds(&b, 0.04), "0.0 s");
    assert_string_equal(out_seconds(&b, 9.96), "10 s");
    assert_string_equal(out_seconds(&b, 59.6), "1 min 00 s");
    assert_string_equal(out_seconds(&b, 3599.6), "1 h 00 min");
    assert_string_equal(out_seconds(&b, NAN), "?");
}

/* Losses as blocks where the terminal has such letters, else as numbers; the columns are counted, not bytes.
 */
static void losses_in_a_line(void **state) {
    (void)state;
    char text[SPARK_TEXT];
    spark s = {.count = 0};
    assert_int_equal(spark_text(text, &s, true), 0);
    assert_string_equal(text, "");
    spark_add(&s, NAN);
    spark_add(&s, 3);
    assert_int_equal(spark_text(text, &s, true), 8);
    assert_string_equal(text, "  loss 3");
    spark_add(&s, 2.5);
    spark_add(&s, 1);
    assert_int_equal(spark_text(text, &s, true), 12);
    assert_string_equal(text, "  loss 1 \xe2\x96\x88\xe2\x96\x86\xe2\x96\x81");
    assert_int_equal(spark_text(text, &s, false), 14);
    assert_string_equal(text, "  loss 3 2.5 1");
    for (int i = 0; i < 3 * SPARK_MOST; i++) spark_add(&s, -1.23456789e-300);
    assert_int_equal(s.count, SPARK_MOST); /* the oldest go, and the longest numbers fit */
    int columns = spark_text(text, &s, false);
    assert_int_equal((int)strlen(text), columns);
    columns = spark_text(text, &s, true);
    assert_int_equal((int)strlen(text), columns + 2 * SPARK_MOST);
    setenv("LC_ALL", "", 1);
    setenv("LC_CTYPE", "de_DE.utf8", 1);
    assert_true(spark_utf8());
    setenv("LC_ALL", "C", 1);
    assert_false(spark_utf8());
    unsetenv("LC_ALL");
    unsetenv("LC_CTYPE");
}

/* A machine that slept for a day is no slower for it; a step that is always slow is no sleep. */
static void a_pause_is_no_part_of_the_rate(void **state) {
    (void)state;
    progress p = {.phase = "train", .began = 1000, .seen = 1010, .done = 100}; /* 100 steps in 10 s */
    assert_false(slept(&p, 1010.2));
    assert_false(slept(&p, 1019));
    assert_true(slept(&p, 1010 + 86400));
    p = (progress){.phase = "train", .began = 1000, .seen = 1600, .done = 10}; /* a minute each */
    assert_false(slept(&p, 1600 + 200));
    p = (progress){.phase = "train", .began = 1000, .seen = 1000}; /* nobody knows yet */
    assert_false(slept(&p, 1000 + 3600));
}

/* What `print` writes, owned by the caller. */
typedef struct page {
    FILE *file;
    char *text;
    size_t size;
} page;

static void page_begin(page *p) {
    p->file = open_memstream(&p->text, &p->size);
    assert_non_null(p->file);
}

static void page_is(page *p, const char *expected) {
    assert_int_equal(fclose(p->file), 0);
    assert_string_equal(p->text, expected);
    free(p->text);
}

static void control_characters_reach_files_only(void **state) {
    (void)state;
    static const char text[] = "a\x1b[31m\x7f\r\n\tb\xc2\x9b\xc3\xa9";
    page p;
    page_begin(&p);
    out_text(p.file, text, sizeof text - 1, true);
    page_is(&p, "a\\x1b[31m\\x7f\\x0d\n\tb\\x9b\xc3\xa9");
    page_begin(&p);
    out_text(p.file, text, sizeof text - 1, false);
    page_is(&p, text);
}

static void columns_wrap_at_spaces_and_count_wide_letters(void **state) {
    (void)state;
    page p;
    page_begin(&p);
    out_compare(p.file, 75, "base", "one two\nthree", "adapter",
                "aaaaaaaaaa bbbbbbbbbb cccccccccc dddddddddd "
                "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
                true);
    page_is(&p, "base                                 | adapter\n"
                "-------------------------------------+-------------------------------------\n"
                "one two                              | aaaaaaaaaa bbbbbbbbbb cccccccccc\n"
                "three                                | dddddddddd\n"
                "                                     | eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\n"
                "                                     | eeeeeeee\n");
    page_begin(&p); /* two wide letters take four columns; a broken byte takes one */
    out_compare(p.file, 75, "b", "\xe9\x9d\x92\xe3\x81\x84\xff", "a", "x", true);
    page_is(&p, "b                                    | a\n"
                "-------------------------------------+-------------------------------------\n"
                "\xe9\x9d\x92\xe3\x81\x84\xff                                | x\n");
}

static void narrow_answers_stand_below_each_other(void **state) {
    (void)state;
    page p;
    page_begin(&p);
    out_compare(p.file, 74, "base", "one", "adapter", "two", true);
    page_is(&p, "--- base\none\n--- adapter\ntwo\n");
    page_begin(&p);
    out_compare(p.file, 0, "base", "one", "adapter", "two", false);
    page_is(&p, "--- base\none\n--- adapter\ntwo\n");
}

static void plot_shows_falling_losses(void **state) {
    (void)state;
    plot_points train = {0}, valid = {0};
    for (int i = 1; i <= 4; i++) assert_true(plot_add(&train, 10 * i, 5 - i));
    assert_true(plot_add(&train, 25, NAN)); /* a gap, not a crash */
    assert_true(plot_add(&valid, 0, 4));
    page p;
    page_begin(&p);
    plot_print(p.file, &train, &valid, 19, 4); /* 9 columns: iteration 10 k stands in column 2 k */
    page_is(&p, "         loss over iterations: * train, o validation\n"
                "      4 |o *\n"
                "        |    *\n"
                "      2 |      *\n"
                "      1 |        *\n"
                "        +---------\n"
                "         0      40\n");
    free(train.at);
    free(valid.at);
}

static void plot_of_little_or_odd_data_is_quiet_or_flat(void **state) {
    (void)state;
    plot_points none = {0}, one = {0}, flat = {0};
    assert_true(plot_add(&one, 1, 2));
    page p;
    page_begin(&p);
    plot_print(p.file, &none, &none, 80, 10);
    plot_print(p.file, &one, &none, 80, 10);
    page_is(&p, "");
    assert_true(plot_add(&flat, 1, 2) && plot_add(&flat, 2, 2) && plot_add(&flat, 3, INFINITY));
    page_begin(&p);
    plot_print(p.file, &flat, &none, 18, 3);
    page_is(&p, "         loss over iterations: * train\n"
                "    2.5 |\n"
                "      2 |*      *\n"
                "    1.5 |\n"
                "        +--------\n"
                "         1      2\n");
    free(one.at);
    free(flat.at);
}

static void errors_say_what_where_expected_found(void **state) {
    (void)state;
    cli c = {0};
    assert_int_equal(cli_fail(&c, GRAFT_CORRUPT, "row %d", 3), GRAFT_CORRUPT);
    assert_int_equal(cli_fail(&c, GRAFT_USAGE, "a later error"), GRAFT_CORRUPT); /* the first one wins */
    assert_string_equal(c.err.what, "row 3");
    assert_int_equal(exit_code(GRAFT_OK), 0);
    assert_int_equal(exit_code(GRAFT_CORRUPT), 1);
    assert_int_equal(exit_code(GRAFT_USAGE), 2);
    assert_int_equal(exit_code(GRAFT_INTERRUPTED), 130);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_short),
        cmocka_unit_test(losses_in_a_line),
        cmocka_unit_test(a_pause_is_no_part_of_the_rate),
        cmocka_unit_test(control_characters_reach_files_only),
        cmocka_unit_test(columns_wrap_at_spaces_and_count_wide_letters),
        cmocka_unit_test(narrow_answers_stand_below_each_other),
        cmocka_unit_test(plot_shows_falling_losses),
        cmocka_unit_test(plot_of_little_or_odd_data_is_quiet_or_flat),
        cmocka_unit_test(errors_say_what_where_expected_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
