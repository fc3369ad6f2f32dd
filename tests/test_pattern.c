/* text/pattern: the shortcuts of known patterns cut any text as their regular expressions do. */
#include "base/rng.h"
#include "text/token_parts.h"
#include <stdarg.h>
#include <stdio.h>
/* */
#include <setjmp.h>
/* */
#include <cmocka.h>

#define LLAMA3(number)                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number                                     \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const char *const sources[] = {GR_GPT2_PATTERN, LLAMA3("\\p{N}{1,3}"), LLAMA3("\\p{N}")};

/* Every kind of byte that a rule tells apart, and characters beyond ASCII of each class. */
static const char *const atoms[] = {"a",        "s",
                                    "S",        "t",
                                    "re",       "VE",
                                    "ll",       "d",
                                    "m",        "z",
                                    "0",        "7",
                                    "12",       " ",
                                    " ",        "  ",
                                    "\n",       "\r",
                                    "\t",       "\v",
                                    "\f",       "'",
                                    "'",        "'s",
                                    "'S",       "'rE",
                                    ".",        "!",
                                    "-",        "_",
                                    "@",        "[",
                                    "`",        "{",
                                    "\x01",     "\x1c",
                                    "\x7f",     "\xc3\xa9",
                                    "\xc2\xa0", "\xe2\x80\xa8",
                                    "X",        "\"",
                                    "/",        "\xc2\xb2",
                                    "\xd9\xa3", "\xe4\xbd\xa0",
                                    "\xc5\xbf", "\xe2\x82\xac",
                                    "\xcc\x81", "\xc2\x85"};
enum { ATOMS = sizeof atoms / sizeof *atoms };

static size_t make_text(char *text, gr_rng *rng, bool ascii) {
    size_t len = 0, count = gr_rng_below(rng, 24);
    for (size_t i = 0; i < count; i++) {
        const char *atom = atoms[gr_rng_below(rng, ATOMS)];
        if (ascii && (uint8_t)atom[0] >= 0x80) continue;
        memcpy(text + len, atom, strlen(atom));
        len += strlen(atom);
    }
    return len;
}

static void cut_as_the_expression_does(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof sources / sizeof *sources; k++) {
        gr_pattern *quick, *slow;
        gr_match_spans a = {0}, b = {0};
        graft_error err = {0};
        char wrapped[512], text[128];
        gr_rng rng;
        int shortcuts = 0;
        gr_rng_seed(&rng, 7, k);
        snprintf(wrapped, sizeof wrapped, "(?:%s)", sources[k]);
        gr_pattern_at *at = gr_pattern_fast(sources[k], strlen(sources[k]));
        assert_non_null(at);
        assert_null(gr_pattern_fast(wrapped, strlen(wrapped)));
        assert_int_equal(gr_pattern_regex(&quick, sources[k], strlen(sources[k]), &err), GRAFT_OK);
        assert_int_equal(gr_pattern_regex(&slow, wrapped, strlen(wrapped), &err), GRAFT_OK);
        for (int i = 0; i < 20000; i++) {
            size_t n = make_text(text, &rng, i % 2);
            assert_int_equal(gr_pattern_find(quick, text, n, &a, &err), GRAFT_OK);
            assert_int_equal(gr_pattern_find(slow, text, n, &b, &err), GRAFT_OK);
            bool same = a.count == b.count;
            for (size_t s = 0; same && s < a.count; s++)
                same = a.items[s].start == b.items[s].start && a.items[s].end == b.items[s].end &&
                       a.items[s].is_match == b.items[s].is_match;
            if (!same) fail_msg("pattern %zu cuts \"%.*s\" otherwise", k, (int)n, text);
            for (size_t s = 0; s < a.count; s++) shortcuts += at(text, n, a.items[s].start) > 0;
        }
        assert_true(shortcuts > 50000); /* most places need no expression */
        gr_match_spans_free(&a);
        gr_match_spans_free(&b);
        gr_pattern_free(quick);
        gr_pattern_free(slow);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(cut_as_the_expression_does)};
    return cmocka_run_group_tests_name("pattern", tests, NULL, NULL);
}
