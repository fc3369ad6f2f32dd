/* base/name_match: which dotted names a suffix or a regular expression means, and that no pattern runs on. */
#include "base/name_match.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void suffixes(void **state) {
    (void)state;
    static const struct {
        const char *name, *suffix;
        bool ends;
    } cases[] = {{"a.b.c", "c", true},  {"a.b.c", "b.c", true}, {"a.b.c", "a.b.c", true},
                 {"a.bc", "c", false},  {"a.b.c", "b", false},  {"a.b.c", ".c", false},
                 {"c", "x.b.c", false}, {"a.b.c", "", false},   {"", "", false},
                 {"a.b.c", "C", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(gr_name_ends(cases[i].name, cases[i].suffix, strlen(cases[i].suffix)),
                         cases[i].ends);
    assert_true(gr_name_ends("q_proj", "q_proj=8", 6)); /* the letters that are counted, no more */
}

static void whole_names(void **state) {
    (void)state;
    graft_error err = {0};
    gr_regex *r;
    const char *pattern = "model\\.layers\\.[01]\\..*proj, not this";
    assert_int_equal(gr_regex_new(&r, pattern, strcspn(pattern, ","), "names", &err), GRAFT_OK);
    assert_true(gr_regex_matches(r, "model.layers.1.mlp.up_proj"));
    assert_false(gr_regex_matches(r, "model.layers.2.mlp.up_proj"));
    assert_false(gr_regex_matches(r, "a.model.layers.1.mlp.up_proj"));
    assert_false(gr_regex_matches(r, "model.layers.1.mlp.up_proj.bias"));
    gr_regex_free(r);
}

static void refused(void **state) {
    (void)state;
    graft_error err = {0};
    gr_regex *r;
    assert_int_equal(gr_regex_new(&r, "(q_proj", 7, "names", &err), GRAFT_USAGE);
    assert_null(r);
    assert_non_null(strstr(err.what, "regular expression of names: "));
    assert_non_null(strstr(err.what, "parenthes"));
    gr_regex_free(r);
}

/* Its steps double with every letter: without a limit this would not end today. */
static void explosive(void **state) {
    (void)state;
    graft_error err = {0};
    gr_regex *r;
    char name[61] = "";
    memset(name, 'a', 60);
    assert_int_equal(gr_regex_new(&r, "(a|aa|a?a)+[bc]", 15, "names", &err), GRAFT_OK);
    assert_false(gr_regex_endless(r));
    for (int i = 0; i < 100000; i++) assert_false(gr_regex_matches(r, name)); /* once is enough */
    assert_true(gr_regex_endless(r));
    gr_regex_free(r);
    char *longest = calloc(1, 5000);
    memset(longest, 'a', 4999);
    assert_int_equal(gr_regex_new(&r, longest, 4999, "names", &err), GRAFT_USAGE);
    assert_non_null(strstr(err.what, "4096 bytes"));
    free(longest);
}

/* Steps that one pattern may take are not what thousands of them may. */
static void dear(void **state) {
    (void)state;
    graft_error err = {0};
    gr_regex *r;
    int64_t left = 3;
    assert_int_equal(gr_regex_new(&r, "(a|aa)+[bc]", 11, "names", &err), GRAFT_OK);
    for (int i = 0; i < 100; i++) assert_true(gr_regex_matches_within(r, "aaaab", &left)); /* few steps */
    assert_int_equal(left, 3);
    for (int i = 3; i > 0; i--) {
        assert_false(gr_regex_matches_within(r, "aaaaaaaaaaaaaaaa", &left));
        assert_int_equal(left, i - 1);
        assert_false(gr_regex_endless(r));
    }
    assert_false(gr_regex_matches_within(r, "aaaaaaaaaaaaaaaa", &left));
    assert_true(gr_regex_endless(r));
    gr_regex_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(suffixes), cmocka_unit_test(whole_names),
                                       cmocka_unit_test(refused), cmocka_unit_test(explosive),
                                       cmocka_unit_test(dear)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
