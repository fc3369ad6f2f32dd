/* The option table and what is made of it. */
#include "options/options.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static graft_error err;

static graft_status set(graft_options *o, graft_verb verb, const char *name, const char *value) {
    gr_error_clear(&err);
    return graft_options_set(o, verb, name, value, &err);
}

static void must_set(graft_options *o, const char *name, const char *value) {
    if (set(o, GRAFT_VERB_TRAIN, name, value) != GRAFT_OK) fail_msg("%s: %s", name, err.what);
}

static graft_status check(const graft_options *o, graft_verb verb) {
    gr_error_clear(&err);
    return gr_options_check(o, verb, &err);
}

/* Every row: its default parses, no name or letter twice for one verb, help is there, switches have no value.
 */
static void table_is_sound(void **state) {
    (void)state;
    graft_options o;
    graft_options_init(&o);
    assert_true(graft_option_count() > 60);
    for (size_t i = 0; i < graft_option_count(); i++) {
        const gr_option_row *row = gr_option_row_at(i);
        assert_true(strlen(row->shown.help) > 3);
        assert_true(row->shown.verbs != 0);
        assert_int_equal(row->kind == GR_OPTION_SWITCH, row->shown.value == NULL);
        assert_int_equal(row->kind == GR_OPTION_CHOICE, row->shown.choices != NULL);
        assert_int_equal(gr_option_index(row->shown.name), i);
        if (row->shown.fallback[0])
            assert_int_equal(gr_option_store(&o, row, row->shown.fallback, "default", &err), GRAFT_OK);
        for (size_t j = 0; j < i; j++) {
            const graft_option *other = graft_option_at(j);
            assert_true(row->offset != gr_option_row_at(j)->offset);
            if (row->shown.letter && row->shown.letter == other->letter)
                assert_false(row->shown.verbs & other->verbs);
        }
    }
    assert_null(graft_option_at(graft_option_count()));
    graft_options_free(&o);
}

/* Every row says what its option is to those that go through options; none of them has a list of names. */
static void rows_are_decided(void **state) {
    (void)state;
    int headings = 0;
    while (graft_option_headings()[headings]) headings++;
    for (size_t i = 0; i < graft_option_count(); i++) {
        const gr_option_row *row = gr_option_row_at(i);
        unsigned verbs = row->shown.verbs;
        bool decided = row->shown.heading >= 0 && row->shown.heading < headings &&
                       !(verbs & GRAFT_VERB_TRAIN) == (row->change == GR_CHANGE_UNDECIDED) &&
                       !(verbs & GRAFT_VERB_SWEEP) == !row->fixed &&
                       !(verbs & GRAFT_VERB_BENCH) == !row->benchmarks &&
                       (row->change == GR_CHANGE_NEVER) == (row->never != NULL);
        if (!decided) fail_msg("--%s: a column is missing, or one too many", row->shown.name);
        /* another shape has other vectors, or the same mean something else */
        if (row->shapes_adapter && row->change != GR_CHANGE_NEVER)
            fail_msg("--%s shapes the adapter, and may change on --resume", row->shown.name);
    }
}

static void defaults(void **state) {
    (void)state;
    graft_options o;
    graft_options_init(&o);
    assert_int_equal(o.lora_rank, 16);
    assert_true(o.learning_rate == 2e-4);
    assert_string_equal(o.optimizer, "adamw");
    assert_string_equal(o.overflow, "refuse");
    assert_true(isnan(o.lora_alpha) && isnan(o.lora_scale) && isnan(o.epochs));
    assert_true(gr_options_scale(&o) == 2 && gr_options_alpha(&o) == 32);
    assert_true(o.bias_correction);
    assert_int_equal(gr_options_train_on(&o), GR_TRAIN_ALL);
    assert_string_equal(gr_options_adapter_path(&o), "adapters");
    for (unsigned verb = 1; verb <= GRAFT_VERB_SERVE; verb <<= 1) {
        if (verb == GRAFT_VERB_TOKENIZE) continue; /* wants to be told what to read */
        if (verb == GRAFT_VERB_EXPORT) continue;   /* and this where to write */
        assert_int_equal(check(&o, (graft_verb)verb), GRAFT_OK);
    }
    graft_options_free(&o);
}

static void setting(void **state) {
    (void)state;
    graft_options o;
    graft_options_init(&o);
    must_set(&o, "model", "m");
    must_set(&o, "max_seq_length", "64"); /* as the key is written in files */
    must_set(&o, "learning-rate", "1e-5");
    must_set(&o, "keep-best", NULL);
    must_set(&o, "seed", "18446744073709551615");
    must_set(&o, "threads", "2");
    assert_string_equal(o.model, "m");
    assert_int_equal(o.max_seq_length, 64);
    assert_true(o.learning_rate == 1e-5 && o.keep_best && o.seed == UINT64_MAX && o.threads == 2);
    assert_true(gr_options_given(&o, "max-seq-length") && !gr_options_given(&o, "iters"));
    assert_int_equal(set(&o, GRAFT_VERB_CONVERT, "d", NULL), GRAFT_OK);
    assert_true(o.dequantize);
    assert_int_equal(set(&o, GRAFT_VERB_GENERATE, "m", "7"), GRAFT_OK);
    assert_int_equal(o.max_tokens, 7);
    graft_options_free(&o);
}

/* Iterations, or a time. */
static void every(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t iterations;
        double seconds;
    } cases[] = {{"100", 100, 0}, {"1", 1, 0},     {"90s", 0, 90},
                 {"1.5m", 0, 90}, {"2h", 0, 7200}, {"0.01s", 0, 0.01}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t iterations;
        double seconds;
        assert_int_equal(gr_parse_every(&iterations, &seconds, cases[i].text, &err), GRAFT_OK);
        assert_int_equal(iterations, cases[i].iterations);
        assert_true(seconds == cases[i].seconds);
    }
    graft_options o;
    graft_options_init(&o);
    must_set(&o, "save-every", "10m");
    assert_int_equal(check(&o, GRAFT_VERB_TRAIN), GRAFT_OK);
    assert_string_equal(o.save_every, "10m");
    must_set(&o, "allow-changes", "iters");
    assert_int_equal(check(&o, GRAFT_VERB_TRAIN), GRAFT_USAGE); /* of what? */
    must_set(&o, "resume", NULL);
    assert_int_equal(check(&o, GRAFT_VERB_TRAIN), GRAFT_OK);
    graft_options_free(&o);
}

/* A list grows by one string each time. */
static void lists(void **state) {
    (void)state;
    graft_options o;
    graft_options_init(&o);
    assert_null(o.stop);
    static const char *const added[] = {"END", "a, \"b\"", "\n"};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(graft_options_set(&o, GRAFT_VERB_GENERATE, "stop", added[i], &err), GRAFT_OK);
    assert_string_equal(o.stop, "[\"END\",\"a, \\\"b\\\"\",\"\\n\"]");
    assert_int_equal(gr_options_check(&o, GRAFT_VERB_GENERATE, &err), GRAFT_OK);
    assert_int_equal(graft_options_set(&o, GRAFT_VERB_GENERATE, "stop", "", &err), GRAFT_USAGE);
    assert_int_equal(graft_options_set(&o, GRAFT_VERB_GENERATE, "stop", "\xff", &err), GRAFT_USAGE);
    assert_string_equal(o.stop, "[\"END\",\"a, \\\"b\\\"\",\"\\n\"]");
    free(o.stop);
    o.stop = strdup("END"); /* as a host may have set it */
    assert_int_equal(graft_options_set(&o, GRAFT_VERB_GENERATE, "stop", "x", &err), GRAFT_USAGE);
    graft_options_free(&o);
}

static void bad_values(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"iters", "0"},
        {"iters", "1e3"},
        {"iters", "10x"},
        {"iters", ""},
        {"iters", "99999999999999999999"},
        {"learning-rate", "nan"},
        {"learning-rate", "0x1p3"},
        {"learning-rate", "inf"},
        {"learning-rate", "-1"},
        {"learning-rate", " 1"},
        {"seed", "-1"},
        {"optimizer", "adamx"},
        {"optimizer", ""},
        {"optimizer", "adamw, adam"},
        {"budget", "much"},
        {"budget", "2XB"},
        {"save-every", "0"},
        {"save-every", "0.5"},
        {"save-every", "-5"},
        {"save-every", "10 m"},
        {"save-every", "m"},
        {"save-every", "0s"},
        {"save-every", "1d"},
        {"save-every", "nanm"},
        {"keep-last", "0"},
        {"resume", "maybe"},
        {"num-layers", "-2"},
        {"lora-dropout", "1.5"},
        {"threads", "5000"},
    };
    graft_options o;
    graft_options_init(&o);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (set(&o, GRAFT_VERB_TRAIN, cases[i][0], cases[i][1]) != GRAFT_USAGE)
            fail_msg("%s %s was taken", cases[i][0], cases[i][1]);
        assert_true(err.expected[0] && !gr_options_given(&o, cases[i][0]));
    }
    assert_int_equal(set(&o, GRAFT_VERB_TRAIN, "iters", NULL), GRAFT_USAGE);
    assert_string_equal(err.what, "--iters needs a value");
    assert_int_equal(set(&o, GRAFT_VERB_TRAIN, "optimizer", "lion"), GRAFT_USAGE);
    assert_string_equal(err.expected, "one of adamw, adam, sgd, adafactor, muon");
    graft_options_free(&o);
}

static void suggestions(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"itres", "iters"},          {"learning-rat", "learning-rate"},
                                           {"lora_rnak", "lora-rank"},  {"rank", "lora-rank"},
                                           {"batchsize", "batch-size"}, {"max-seq-len", "max-seq-length"}};
    graft_options o;
    graft_options_init(&o);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char hint[80];
        assert_int_equal(set(&o, GRAFT_VERB_TRAIN, cases[i][0], "1"), GRAFT_USAGE);
        snprintf(hint, sizeof hint, "did you mean --%s?", cases[i][1]);
        assert_string_equal(err.hint, hint);
    }
    assert_int_equal(set(&o, GRAFT_VERB_TRAIN, "xylophone", "1"), GRAFT_USAGE);
    assert_null(strstr(err.hint, "did you mean"));
    assert_int_equal(set(&o, GRAFT_VERB_EVAL, "iters", "1"), GRAFT_USAGE);
    assert_string_equal(err.hint, "it belongs to plan, train, sweep");
    assert_int_equal(set(&o, GRAFT_VERB_TRAIN, "z", "1"), GRAFT_USAGE);
    assert_string_equal(err.what, "unknown option -z");
    assert_int_equal(gr_edit_distance("kitten", "sitting", 9), 3);
    assert_int_equal(gr_edit_distance("ab", "ba", 9), 1);
    assert_int_equal(gr_edit_distance("", "abc", 9), 3);
    assert_int_equal(gr_edit_distance("abc", "xyz", 1), 2);
    graft_options_free(&o);
}

static void scales(void **state) {
    (void)state;
    graft_options o;
    graft_options_init(&o);
    must_set(&o, "lora-rank", "64");
    must_set(&o, "lora-alpha", "16");
    assert_true(gr_options_scale(&o) == 0.25);
    must_set(&o, "use-rslora", NULL);
    assert_true(gr_options_scale(&o) == 2 && gr_options_alpha(&o) == 16);
    graft_options_free(&o);
    graft_options_init(&o);
    must_set(&o, "lora-scale", "20");
    assert_true(gr_options_scale(&o) == 20 && gr_options_alpha(&o) == 320);
    graft_options_free(&o);
}

static void contradictions(void **state) {
    (void)state;
    static const char *const pairs[][4] = {
        {"lora-scale", "2", "lora-alpha", "4"},   {"iters", "5", "epochs", "1"},
        {"mask-prompt", NULL, "train-on", "all"}, {"optimizer", "adam", "weight-decay", "0.1"},
        {"lora-scale", "2", "use-rslora", NULL},  {"val-batches", "0", "seed", "1"},
        {"lora-targets", "", "seed", "1"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        for (int order = 0; order < 2; order++) {
            graft_options o;
            graft_options_init(&o);
            must_set(&o, pairs[i][order * 2], pairs[i][order * 2 + 1]);
            must_set(&o, pairs[i][2 - order * 2], pairs[i][3 - order * 2]);
            if (check(&o, GRAFT_VERB_TRAIN) != GRAFT_USAGE) fail_msg("%s and %s", pairs[i][0], pairs[i][2]);
            assert_true(err.hint[0]);
            graft_options_free(&o);
        }
    }
    graft_options o;
    graft_options_init(&o);
    must_set(&o, "mask-prompt", NULL);
    must_set(&o, "train-on", "completion");
    assert_int_equal(check(&o, GRAFT_VERB_TRAIN), GRAFT_OK);
    assert_int_equal(gr_options_train_on(&o), GR_TRAIN_COMPLETION);
    o.batch_size = 0; /* set directly */
    assert_int_equal(check(&o, GRAFT_VERB_TRAIN), GRAFT_USAGE);
    o.batch_size = 1;
    free(o.overflow);
    o.overflow = gr_strdup("explode");
    assert_int_equal(check(&o, GRAFT_VERB_TRAIN), GRAFT_USAGE);
    o.q_bits = 7;
    assert_int_equal(check(&o, GRAFT_VERB_CONVERT), GRAFT_USAGE);
    graft_options_free(&o);
}

static void quantization_is_asked_for(void **state) {
    (void)state;
    static const char *const names[][2] = {{"q-bits", "4"}, {"q-group-size", "64"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        graft_options o;
        graft_options_init(&o);
        assert_int_equal(graft_options_set(&o, GRAFT_VERB_CONVERT, names[i][0], names[i][1], &err), GRAFT_OK);
        assert_int_equal(check(&o, GRAFT_VERB_CONVERT), GRAFT_USAGE);
        assert_string_equal(err.hint, "add -q");
        o.quantize = true;
        assert_int_equal(check(&o, GRAFT_VERB_CONVERT), GRAFT_OK);
        graft_options_free(&o);
    }
}

static void optimizers_bring_their_decay(void **state) {
    (void)state;
    graft_options o;
    graft_options_init(&o);
    assert_true(o.weight_decay == 0.01);
    must_set(&o, "optimizer", "sgd");
    assert_true(o.weight_decay == 0);
    must_set(&o, "weight-decay", "0.3");
    must_set(&o, "optimizer", "adamw");
    assert_true(o.weight_decay == 0.3);
    graft_options_free(&o);
}

static void sizes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"1", 1},        {"500MB", 500000000}, {"2GiB", 2147483648u},   {"1.5k", 1500},
                {"4096B", 4096}, {"1 GB", 1000000000}, {"3Ti", 3298534883328u}, {"10m", 10000000}};
    static const char *const bad[] = {"",    "MB",   "0",   "-1",         "1.2.3GB",
                                      "1XB", "1GBB", "1e3", "99999999TB", "1 G B"};
    uint64_t bytes;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(gr_parse_size(&bytes, good[i].text, &err), GRAFT_OK);
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gr_error_clear(&err);
        if (gr_parse_size(&bytes, bad[i], &err) != GRAFT_USAGE) fail_msg("\"%s\" was taken", bad[i]);
    }
}

static void text(void **state) {
    (void)state;
    graft_options o;
    graft_options_init(&o);
    must_set(&o, "epochs", "2.5");
    must_set(&o, "mask-prompt", NULL);
    char *lines = graft_options_text(&o, GRAFT_VERB_TRAIN);
    assert_non_null(strstr(lines, "\nlearning-rate: 0.0002\n"));
    assert_non_null(strstr(lines, "\nlora-scale: 2\n"));
    assert_non_null(strstr(lines, "\nepochs: 2.5\n"));
    assert_non_null(strstr(lines, "\ntrain-on: completion\n"));
    assert_null(strstr(lines, "\niters:"));
    assert_null(strstr(lines, "q-bits"));
    free(lines);
    graft_options_free(&o);
}

static bool says(const graft_options *o, const char *line) {
    char *lines = graft_options_text(o, GRAFT_VERB_TRAIN);
    bool found = lines && strstr(lines, line);
    free(lines);
    return found;
}

/* What a checkpoint compares has every bit of what a host set, and nothing of what it left alone. */
static void settings_of_a_host(void **state) {
    (void)state;
    graft_options o;
    graft_options_init(&o);
    assert_false(says(&o, "beta1") || says(&o, "bias-correction") || says(&o, "nesterov"));
    o.beta1 = 0.9;
    o.beta2 = 0.99999912345;
    o.clip_threshold = 1500;
    o.bias_correction = false;
    assert_true(says(&o, "\nbeta1: 0.9\n") && says(&o, "\nbeta2: 0.99999912345\n"));
    assert_true(says(&o, "\nclip-threshold: 1500\n") && says(&o, "\nbias-correction: false\n"));
    graft_options_free(&o);
    graft_options_init(&o);
    assert_int_equal(graft_options_set(&o, GRAFT_VERB_TRAIN, "optimizer", "muon", NULL), GRAFT_OK);
    assert_false(says(&o, "nesterov") || says(&o, "ns-steps"));
    o.nesterov = false;
    o.ns_steps = 6;
    assert_true(says(&o, "\nnesterov: false\n") && says(&o, "\nns-steps: 6\n"));
    assert_int_equal(graft_options_set(&o, GRAFT_VERB_TRAIN, "optimizer", "adafactor", NULL), GRAFT_OK);
    assert_false(says(&o, "relative-step"));
    o.relative_step = false;
    assert_true(says(&o, "\nrelative-step: false\n") && !says(&o, "scale-parameter"));
    graft_options_free(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_sound),
        cmocka_unit_test(rows_are_decided),
        cmocka_unit_test(defaults),
        cmocka_unit_test(setting),
        cmocka_unit_test(every),
        cmocka_unit_test(lists),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(suggestions),
        cmocka_unit_test(scales),
        cmocka_unit_test(contradictions),
        cmocka_unit_test(quantization_is_asked_for),
        cmocka_unit_test(optimizers_bring_their_decay),

        cmocka_unit_test(sizes),
        cmocka_unit_test(text),
        cmocka_unit_test(settings_of_a_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
