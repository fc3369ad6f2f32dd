/* infer/sample.h and infer/stops.h: the filters and the penalty give mlx-lm's numbers
 * (tests/golden/sampler.txt), draws follow the distribution, and stop texts are found wherever the seams of
 * the text fall. */
#include "infer/sample.h"
#include "infer/stops.h"
#include "tests/golden_lines.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* clang-format off */
#include <cmocka.h>
/* clang-format on */

enum { VOCAB = 12 };

static graft_error err;

/* Numbers with commas between. */
static int64_t numbers(const char *text, double *values, int64_t most) {
    int64_t n = 0;
    for (char *end; *text && n < most; text = *end == ',' ? end + 1 : end) values[n++] = strtod(text, &end);
    assert_int_equal(*text, '\0');
    return n;
}

static gr_sampler open_sampler(gr_sampler_config config) {
    gr_sampler s;
    if (gr_sampler_init(&s, &config, VOCAB, &err) != GRAFT_OK) fail_msg("%s", err.what);
    return s;
}

/* mlx computes in f32: an exponent up to 24 (6 / 0.25) off by 2^-24 of itself, the sums of 12 by 12 * 2^-24
 * of themselves, twice: (24 + 24) * 2^-24 = 2.9e-6 of a probability. */
static void check_spread(const golden_line *line, const float *logits) {
    double want[VOCAB];
    gr_sampler s = open_sampler((gr_sampler_config){.top_p = atof(line->words[1]),
                                                    .min_p = atof(line->words[2]),
                                                    .top_k = atoi(line->words[3]),
                                                    .temp = atof(line->words[4])});
    assert_int_equal(numbers(line->words[5], want, VOCAB), VOCAB);
    int64_t keep = gr_sampler_spread(&s, logits, VOCAB), left = 0;
    for (int i = 0; i < VOCAB; i++) left += want[i] > 0;
    if (keep != left)
        fail_msg("%s %s %s: %d tokens stay, in mlx-lm %d", line->words[1], line->words[2], line->words[3],
                 (int)keep, (int)left);
    for (int64_t i = 0; i < keep; i++) {
        int32_t id = s.order[i];
        if (!(fabs(s.p[id] - want[id]) <= 3e-6 * want[id]))
            fail_msg("%s %s %s %s: token %d has %.9g, in mlx-lm %.9g", line->words[1], line->words[2],
                     line->words[3], line->words[4], id, s.p[id], want[id]);
    }
    gr_sampler_free(&s);
}

/* One multiplication or division, correctly rounded in both programs; the file has nine digits, which name
 * one float. */
static void check_penalty(const golden_line *line, const float *logits) {
    double want[VOCAB], tokens[VOCAB];
    int32_t ids[VOCAB];
    float x[VOCAB];
    gr_sampler s = open_sampler(
        (gr_sampler_config){.penalty = atof(line->words[1]), .penalty_ids = atoi(line->words[2])});
    int64_t n = numbers(line->words[3], tokens, VOCAB);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)tokens[i];
    assert_int_equal(numbers(line->words[4], want, VOCAB), VOCAB);
    for (int twice = 0; twice < 2; twice++) { /* the second time shows that nothing is left behind */
        memcpy(x, logits, sizeof x);
        gr_sampler_penalize(&s, x, ids, n);
        for (int i = 0; i < VOCAB; i++)
            if (x[i] != (float)want[i])
                fail_msg("penalty %s, context %s: logit %d is %.9g, in mlx-lm %.9g", line->words[1],
                         line->words[2], i, (double)x[i], want[i]);
    }
    gr_sampler_free(&s);
}

static void as_mlx_lm(void **state) {
    (void)state;
    golden_line line = golden_open("sampler.txt");
    float logits[VOCAB] = {0};
    double values[VOCAB];
    int spreads = 0, penalties = 0;
    while (golden_next(&line)) {
        if (strcmp(line.words[0], "logits") == 0) {
            assert_int_equal(numbers(line.words[1], values, VOCAB), VOCAB);
            for (int i = 0; i < VOCAB; i++) logits[i] = (float)values[i];
        } else if (strcmp(line.words[0], "spread") == 0) {
            check_spread(&line, logits);
            spreads++;
        } else {
            check_penalty(&line, logits);
            penalties++;
        }
    }
    assert_int_equal(spreads, 23);
    assert_int_equal(penalties, 8);
}

/* What 20000 draws count is within five standard deviations of the distribution; the same seed draws the
 * same. */
static void draws(void **state) {
    (void)state;
    enum { N = 20000 };
    static const float logits[VOCAB] = {0, 1, 2, -1, -2, 0.5f, 1.5f, -9, 2.5f, 0, 1, -0.5f};
    const gr_sampler_config config = {.temp = 0.8, .top_p = 0.97, .seed = 7};
    gr_sampler a = open_sampler(config), b = open_sampler(config);
    int counts[VOCAB] = {0};
    for (int i = 0; i < N; i++) {
        int32_t id = gr_sample(&a, logits, VOCAB);
        assert_int_equal(id, gr_sample(&b, logits, VOCAB));
        counts[id]++;
    }
    int64_t keep = gr_sampler_spread(&a, logits, VOCAB);
    assert_true(keep > 3 && keep < VOCAB);
    for (int64_t i = 0; i < VOCAB; i++) {
        int32_t id = a.order[i];
        double p = i < keep ? a.p[id] : 0;
        assert_true(fabs(counts[id] - N * p) <= 5 * sqrt(N * p * (1 - p)));
    }
    gr_sampler_free(&a);
    gr_sampler_free(&b);
    gr_sampler cold = open_sampler((gr_sampler_config){.top_k = 3, .top_p = 0.1});
    assert_int_equal(gr_sample(&cold, logits, VOCAB), 8);
    gr_sampler_free(&cold);
}

/* ------------------------------------------------------------------------------------------------ stop texts
 */

/* The text in pieces of at most `step` bytes: what is sent is never taken back, and is what is left of it. */
static void in_pieces(const char *list, const char *text, size_t step, const char *want) {
    gr_stops s;
    size_t len = strlen(text), end = len, sent = 0;
    assert_int_equal(gr_stops_init(&s, list, &err), GRAFT_OK);
    for (size_t have = 0; have < len;) {
        have = have + step < len ? have + step : len;
        if (gr_stops_find(&s, text, have, &end)) break;
        size_t held = gr_stops_held(&s, text, have);
        assert_true(held <= have && have - held >= sent);
        sent = have - held;
    }
    if (end != strlen(want) || sent > end)
        fail_msg("%s in \"%s\", %zu bytes at a time: ends at %zu, after %zu were sent", list, text, step, end,
                 sent);
    gr_stops_free(&s);
}

static void seams(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"[\"END\"]", "one END two END", "one "},
        {"[\"END\"]", "one EN two", "one EN two"},
        {"[\"END\"]", "ENEEND", "ENE"},
        {"[\"END\"]", "END", ""},
        {"[\"aab\"]", "aaaab", "aa"},
        {"[\"\\n\\n\"]", "a\nb\n\n\nc", "a\nb"},
        {"[\"x\", \"\\nUser:\"]", "so\nUser: x", "so"},
        {"[\"abcd\", \"c\"]", "zabcd", "zab"}, /* complete first */
        {"[\"c\", \"abc\"]", "zabcd", "z"},    /* complete together: the longest */
        {"[\"\xc3\xa9\"]", "caf\xc3\xa9", "caf"},
        {"[\"abc\"]", "ab", "ab"},
        {"[]", "text", "text"},
        {NULL, "text", "text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t step = 1; step <= strlen(cases[i][1]); step++)
            in_pieces(cases[i][0], cases[i][1], step, cases[i][2]);
}

static void held_back(void **state) {
    (void)state;
    gr_stops s;
    assert_int_equal(gr_stops_init(&s, "[\"ENDE\", \"DO\"]", &err), GRAFT_OK);
    assert_int_equal(gr_stops_held(&s, "the EN", 6), 2);
    assert_int_equal(gr_stops_held(&s, "the END", 7), 3); /* the longer of two */
    assert_int_equal(gr_stops_held(&s, "the D", 5), 1);
    assert_int_equal(gr_stops_held(&s, "the ENX", 7), 0);
    assert_int_equal(gr_stops_held(&s, "E", 1), 1);
    assert_int_equal(gr_stops_held(&s, "", 0), 0);
    gr_stops_free(&s);
}

static void bad_lists(void **state) {
    (void)state;
    static const char *const lists[] = {"END", "\"END\"", "[1]", "[\"\"]", "[\"a\"", "{\"a\": \"b\"}", ""};
    gr_stops s;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        assert_int_equal(gr_stops_init(&s, lists[i], &err), GRAFT_USAGE);
        assert_null(s.texts);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_mlx_lm), cmocka_unit_test(draws),
                                       cmocka_unit_test(seams), cmocka_unit_test(held_back),
                                       cmocka_unit_test(bad_lists)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
