/* fit/: bench runs what the options say and stops when it is told to; plan needs no weights. */
#include "tests/tiny_dir.h"

static char *root, *model;

static int setup(void **state) {
    (void)state;
    root = tiny_temp();
    model = tiny_model_dir(root, "base", &(tiny_spec){0});
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(model);
    tiny_remove(root);
    return 0;
}

static graft_status bench(const char *optimizer, const graft_hooks *hooks, graft_bench_result *r) {
    graft_options o;
    graft_error err = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_BENCH,
             (const char *const[]){"model", model, "steps", "4", "seq-length", "8", "batch-size", "2",
                                   "lora-rank", "4", "learning-rate", "0.5", "threads", "1", "optimizer",
                                   optimizer, NULL});
    graft_status st = graft_bench_train(&o, hooks, r, &err);
    graft_options_free(&o);
    return st;
}

static void takes_the_optimizer(void **state) {
    (void)state;
    graft_bench_result adamw, again, sgd;
    assert_int_equal(bench("adamw", NULL, &adamw), GRAFT_OK);
    assert_int_equal(bench("adamw", NULL, &again), GRAFT_OK);
    assert_int_equal(bench("sgd", NULL, &sgd), GRAFT_OK);
    assert_int_equal(adamw.nlosses, 4);
    assert_memory_equal(adamw.losses, again.losses, 4 * sizeof *adamw.losses);
    assert_true(adamw.losses[0] == sgd.losses[0]); /* before the first update */
    assert_true(adamw.losses[3] != sgd.losses[3]);
    graft_bench_result_free(&adamw);
    graft_bench_result_free(&again);
    graft_bench_result_free(&sgd);
}

/* Rows of another model's tokens: an id outside the embedding is refused, not read. */
static void checks_the_ids(void **state) {
    (void)state;
    char *dir = tiny_subdir(root, "ids"), *base = tiny_model_dir(root, "fewer", &(tiny_spec){0});
    tiny_write(dir, "train.jsonl", "{\"text\": \"lotto\"}\n");
    char *text = NULL, *path = tiny_join(base, "tokenizer.json");
    size_t size;
    assert_int_equal(gr_file_read(&text, &size, path, 1 << 20, NULL), GRAFT_OK);
    free(path);
    const char *digits = strstr(text, "\"o\":111");
    assert_non_null(digits);
    gr_buf changed = {0};
    gr_buf_printf(&changed, "%.*s\"o\":999%s", (int)(digits - text), text, digits + 7);
    tiny_write(base, "tokenizer.json", changed.data);
    gr_buf_free(&changed);
    free(text);
    graft_options o;
    graft_error err = {0};
    graft_bench_result r;
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_BENCH,
             (const char *const[]){"model", base, "data", dir, "steps", "1", "seq-length", "4", "batch-size",
                                   "1", "threads", "1", NULL});
    assert_int_equal(graft_bench_train(&o, NULL, &r, &err), GRAFT_RANGE);
    if (!strstr(err.found, "outside the model's vocabulary")) fail_msg("%s %s", err.what, err.found);
    graft_options_free(&o);
    tiny_remove(base);
    tiny_remove(dir);
}

/* Packs of rows of the data, or of made-up ones: also where packs are trained one at a time, whose first loss
 * is the base's as well. The rounding of f32 sums is all that differs: none, since each token is computed
 * alike. */
static void packs(void **state) {
    (void)state;
    char *rows = tiny_data_dir(root, "packed", 9, 0);
    for (int with_data = 0; with_data < 2; with_data++) {
        double first[2];
        for (int own_embedding = 0; own_embedding < 2; own_embedding++) {
            graft_bench_result r;
            graft_options o;
            graft_error err = {0};
            graft_options_init(&o);
            tiny_set(&o, GRAFT_VERB_BENCH,
                     (const char *const[]){"model", model, "pack", "-", "steps", "3", "seq-length", "70",
                                           "batch-size", "3", "lora-rank", "4", "compute", "fp32",
                                           with_data ? "data" : NULL, rows, NULL});
            if (own_embedding)
                tiny_set(&o, GRAFT_VERB_BENCH,
                         (const char *const[]){"modules-to-save", "embed_tokens", NULL});
            if (graft_bench_train(&o, NULL, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
            first[own_embedding] = r.losses[0];
            assert_true(r.losses[0] > 0 && r.losses[2] != r.losses[0] && r.tokens_per_second > 0);
            graft_bench_result_free(&r);
            graft_options_free(&o);
        }
        if (fabs(first[0] - first[1]) > 1e-12 * first[0]) fail_msg("%.17g %.17g", first[0], first[1]);
    }
    free(rows);
}

static void stop_after_two(void *user, const graft_event *e) {
    if (e->kind == GRAFT_EVENT_PROGRESS && e->done == 2) *(volatile int *)user = 1;
}

static void stops(void **state) {
    (void)state;
    volatile int stop = 0;
    graft_hooks hooks = {.user = (void *)(uintptr_t)&stop, .event = stop_after_two, .stop = &stop};
    graft_bench_result r;
    memset(&r, 0x55, sizeof r);
    assert_int_equal(bench("adamw", &hooks, &r), GRAFT_INTERRUPTED);
    assert_null(r.losses);
}

/* ------------------------------------------------------------------------------- the other benchmarks */

static graft_options options_of(const char *const *more) {
    graft_options o;
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_BENCH,
             (const char *const[]){"model", model, "lora-rank", "4", "threads", "2", NULL});
    o.seq_length = 12; /* not given: one benchmark has lengths of its own */
    tiny_set(&o, GRAFT_VERB_BENCH, more);
    return o;
}

/* The file's text, which must be a whole SVG with `bars` bars. */
static void check_picture(const char *path, int bars) {
    char *text = tiny_read(root, path, NULL);
    int found = 0;
    for (const char *p = text; (p = strstr(p, "<rect class=\"f")); p++) found++;
    assert_int_equal(found, bars);
    assert_true(strncmp(text, "<svg ", 5) == 0 && strstr(text, "</svg>") != NULL);
    free(text);
}

/* Every cut of uneven rows gives the bits of one batch; averaging means does not come near. */
static void accumulates_exactly(void **state) {
    (void)state;
    char *rows = tiny_data_dir(root, "rows", 5, 0), *picture = tiny_join(root, "accumulate.svg");
    for (int with_data = 0; with_data < 2; with_data++) {
        graft_error err = {0};
        graft_options o = options_of((const char *const[]){"grad-accumulation-steps", "5", "batch-size", "2",
                                                           with_data ? "data" : NULL, rows, NULL});
        graft_bench_accumulate_result r;
        if (graft_bench_accumulate(&o, NULL, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
        assert_int_equal(r.rows, 10);
        assert_true(r.shortest < r.longest);
        assert_true(r.gradient_norm > 0);
        assert_int_equal(r.nsplits, 4); /* 2, 3 (4 + 4 + 2 rows), 5 and 10 */
        for (size_t i = 0; i < r.nsplits; i++) {
            assert_true(r.splits[i].identical);
            assert_true(r.splits[i].largest_difference == 0);
        }
        /* one row each, of uneven lengths; f32 rounding alone is below 1e-6 */
        assert_true(r.splits[3].means_relative_difference > 1e-3);
        assert_int_equal(r.splits[1].micro_batches, 3);
        assert_int_equal(r.splits[1].rows, 4);
        assert_int_equal(graft_bench_accumulate_svg(&r, picture, &err), GRAFT_OK);
        check_picture("accumulate.svg", 8);
        graft_options_free(&o);
    }
    free(rows);
    free(picture);
}

/* Of rows with equally many targets the mean of means is the gradient, but for rounding: also under dropout,
 * which must mask a row alike in every cut. */
static void equal_rows_have_equal_means(void **state) {
    (void)state;
    graft_error err = {0};
    char *rows = tiny_data_dir(root, "one-row", 1, 0);
    graft_options o =
        options_of((const char *const[]){"grad-accumulation-steps", "4", "batch-size", "2", "data", rows,
                                         "lora-dropout", "0.3", "compute", "fp32", NULL});
    graft_bench_accumulate_result r;
    if (graft_bench_accumulate(&o, NULL, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    assert_true(r.shortest == r.longest);
    assert_int_equal(r.nsplits, 4); /* 2, 3 (3 + 3 + 2 rows: unequal), 4 and 8 */
    for (size_t i = 0; i < r.nsplits; i++) {
        assert_true(r.splits[i].identical);
        /* eight f32 additions of one sum: 8 x 2^-24 of the parts' sizes, which cancel but little */
        if (r.splits[i].micro_batches != 3) assert_true(r.splits[i].means_relative_difference < 1e-5);
    }
    graft_options_free(&o);
    free(rows);
}

static void checkpoint_saves_by_length(void **state) {
    (void)state;
    graft_error err = {0};
    graft_options o = options_of((const char *const[]){"seq-lengths", "16,512", "steps", "2", NULL});
    graft_bench_checkpoint_result r;
    char *picture = tiny_join(root, "checkpoint.svg");
    if (graft_bench_checkpoint(&o, NULL, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    assert_int_equal(r.nlengths, 2);
    assert_int_equal(r.batch_size, 1);
    for (size_t i = 0; i < 2; i++) {
        const graft_bench_length *x = &r.lengths[i];
        assert_true(x->same_losses);
        assert_true(x->step_none > 0 && x->step_layer > 0);
        assert_true(x->activations_layer < x->activations_mlp && x->activations_mlp < x->activations_none);
        assert_true(x->forecast_layer < x->forecast_mlp && x->forecast_mlp < x->forecast_none);
        assert_true(x->step_mlp > 0 && x->mlp_forecast_slower_percent > 0);
        assert_true(x->forecast_slower_percent > x->mlp_forecast_slower_percent);
    }
    assert_true(r.lengths[0].stated_saved_percent != r.lengths[0].stated_saved_percent); /* NaN */
    assert_true(r.lengths[1].stated_saved_percent == 20 && r.lengths[1].stated_slower_percent == 10);
    for (int stated = 1; stated >= 0; stated--) { /* the legend names what has a bar */
        char *text;
        size_t len;
        r.nlengths = stated ? 2 : 1;
        assert_int_equal(graft_bench_checkpoint_svg(&r, picture, &err), GRAFT_OK);
        assert_int_equal(gr_file_read(&text, &len, picture, 1 << 20, &err), GRAFT_OK);
        assert_int_equal(strstr(text, "stated (weights.md)") != NULL, stated);
        assert_non_null(strstr(text, "forecast"));
        assert_non_null(strstr(text, "measured, mlp only"));
        free(text);
    }
    graft_bench_checkpoint_result_free(&r);
    graft_options_free(&o);
    free(picture);
}

/* Either half may be the user's model; the other is made. */
static void loads_both_ways(void **state) {
    (void)state;
    char *cache = tiny_subdir(root, "cache"), *rows = tiny_data_dir(root, "eval", 3, 2);
    char *quantized = tiny_model_dir(root, "four", &(tiny_spec){.bits = 4, .dtype = GR_BF16});
    char *plain = tiny_model_dir(root, "sixteen", &(tiny_spec){.dtype = GR_BF16});
    char *picture = tiny_join(root, "load.svg");
    char *mixture = tiny_model_dir(root, "mixture", &(tiny_spec){.type = "qwen3_moe", .dtype = GR_BF16});
    const char *models[] = {quantized, plain, mixture}; /* whose router stays in 16 bits */
    setenv("XDG_CACHE_HOME", cache, 1);
    for (int i = 0; i < 3; i++) {
        graft_error err = {0};
        graft_options o;
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_BENCH,
                 (const char *const[]){"model", models[i], "bits", "4", "q-group-size", "32", "data", rows,
                                       "threads", "1", NULL});
        graft_bench_load_result r;
        if (graft_bench_load(&o, NULL, &r, &err) != GRAFT_OK)
            fail_msg("%s %s %s", err.what, err.where, err.found);
        assert_string_equal(i ? r.plain.path : r.quantized.path, models[i]);
        assert_string_not_equal(i ? r.quantized.path : r.plain.path, models[i]);
        assert_int_equal(r.plain.bits, 16);
        assert_int_equal(r.quantized.bits, 4);
        assert_int_equal(r.plain.parameters, r.quantized.parameters);
        assert_true(r.quantized.weight_bytes < r.plain.weight_bytes);
        assert_true(r.weights_saved_percent > 0 && r.load_speedup > 0);
        assert_true(isfinite(r.plain.loss) && isfinite(r.quantized.loss));
        /* dequantizing loses nothing but the rounding to 16 bits */
        if (i == 0) assert_true(fabs(r.loss_difference) < 0.02);
        assert_int_equal(graft_bench_load_svg(&r, picture, &err), GRAFT_OK);
        graft_bench_load_result_free(&r);
        graft_options_free(&o);
    }
    unsetenv("XDG_CACHE_HOME");
    free(picture);
    free(mixture);
    free(plain);
    free(quantized);
    free(rows);
    free(cache);
}

/* What another program gets are the batches of the run, for the asked steps. */
static void exports_the_work(void **state) {
    (void)state;
    char *out = tiny_join(root, "work");
    graft_error err = {0};
    graft_options o = options_of((const char *const[]){"steps", "3", "peer-steps", "2", "batch-size", "2",
                                                       "grad-accumulation-steps", "2", NULL});
    if (graft_bench_export(&o, NULL, out, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    char *path = tiny_join(out, "batches.safetensors"), *text = tiny_read(out, "run.json", NULL);
    gr_safetensors *file;
    assert_int_equal(gr_safetensors_open(&file, path, &err), GRAFT_OK);
    const gr_tensor *ids = gr_safetensors_find(file, "ids"), *targets = gr_safetensors_find(file, "targets");
    assert_int_equal(ids->shape[0], 4);
    assert_int_equal(ids->shape[1], 2);
    assert_int_equal(ids->shape[2], 12);
    assert_memory_equal(ids->data + 4, targets->data, 11 * 4); /* each target is the next id */
    json_t *settings = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_int_equal(json_integer_value(json_object_get(settings, "steps")), 2);
    assert_int_equal(json_array_size(json_object_get(settings, "learning_rates")), 2);
    assert_true(json_is_string(json_object_get(settings, "model")));
    json_decref(settings);
    gr_safetensors_close(file);
    graft_options_free(&o);
    o = options_of((const char *const[]){"optimizer", "sgd", NULL});
    assert_int_equal(graft_bench_export(&o, NULL, out, &err), GRAFT_UNSUPPORTED);
    graft_options_free(&o);
    free(text);
    free(path);
    free(out);
}

static void draws_both_curves(void **state) {
    (void)state;
    graft_error err = {0};
    double mine[] = {3, 2, 1}, theirs[] = {3, 2.1};
    graft_bench_result r = {.tokens_per_second = 100, .losses = mine, .nlosses = 3};
    graft_bench_peer peer = {.program = "other <1>", .tokens_per_second = 40, .losses = theirs, .nlosses = 2};
    char *picture = tiny_join(root, "train.svg");
    assert_int_equal(graft_bench_train_svg(&r, &peer, picture, &err), GRAFT_OK);
    char *text = tiny_read(root, "train.svg", NULL);
    assert_non_null(strstr(text, "2.5 times as fast"));
    assert_non_null(strstr(text, "other &lt;1&gt;"));
    assert_non_null(strstr(text, "line s1"));
    free(text);
    assert_int_equal(graft_bench_train_svg(&r, NULL, "/nonexistent/x.svg", &err), GRAFT_NOT_FOUND);
    free(picture);
}

static void keep_note(void *user, const graft_event *e) {
    if (e->kind == GRAFT_EVENT_NOTE) snprintf(user, 200, "%.199s", e->text);
}

/* config.json is enough for a plan, which says that it is all there was. */
static void plans_without_weights(void **state) {
    (void)state;
    char *dir = tiny_subdir(root, "config"), note[200] = "";
    graft_options o;
    graft_error err = {0};
    graft_plan plan;
    graft_hooks hooks = {.user = note, .event = keep_note};
    tiny_config_write(dir, &(tiny_spec){.bits = 4});
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_PLAN, (const char *const[]){"model", dir, "threads", "1", NULL});
    if (graft_plan_make(&o, &hooks, &plan, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    assert_true(plan.memory.mapped > 0);
    assert_non_null(strstr(note, "no weights"));
    graft_plan_free(&plan);
    graft_options_free(&o);
    memset(&plan, 0x55, sizeof plan); /* a failure leaves an empty plan */
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_PLAN, (const char *const[]){"model", "/nonexistent", NULL});
    assert_int_equal(graft_plan_make(&o, NULL, &plan, &err), GRAFT_NOT_FOUND);
    assert_null(plan.model);
    assert_null(plan.tensors_list);
    graft_options_free(&o);
    tiny_remove(dir);
}

/* Lines that are not blank are the texts; the tiny tokenizer joins "he" only. */
static void tokenizes_lines(void **state) {
    (void)state;
    char *data = tiny_join(root, "lines.txt"), *dir = tiny_join(root, "work");
    tiny_write(root, "lines.txt", "first line\r\n \n\nthe second");
    graft_options o;
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_BENCH, (const char *const[]){"model", model, "data", data, NULL});
    graft_bench_tokenize_result r, none;
    graft_error err = {0};
    volatile int stop = 1;
    if (graft_bench_tokenize(&o, NULL, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    assert_int_equal(r.texts, 2);
    assert_int_equal(r.bytes, 20);
    assert_int_equal(r.tokens, 19);
    assert_true(r.tokens_per_second > 0 && r.megabytes_per_second > 0);
    graft_hooks hooks = {.stop = &stop};
    assert_int_equal(graft_bench_tokenize(&o, &hooks, &none, &err), GRAFT_INTERRUPTED);
    tiny_set(&o, GRAFT_VERB_BENCH, (const char *const[]){"peer", "tokenizers", NULL});
    assert_int_equal(graft_bench_tokenize_export(&o, NULL, dir, &err), GRAFT_OK);
    char *text = tiny_read(dir, "run.json", NULL);
    assert_non_null(strstr(text, "lines.txt"));
    graft_options_free(&o);
    free(text);
    free(data);
    free(dir);
}

/* Kept activations grow with the length, those of recompute hardly; by default threads go up to the cores. */
static void costs_by_length_and_threads(void **state) {
    (void)state;
    graft_options o;
    graft_bench_curves_result r;
    graft_error err = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_BENCH,
             (const char *const[]){"model", model, "steps", "1", "values", "16,128", NULL});
    if (graft_bench_curves(&o, NULL, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    assert_string_equal(r.over, "seq-length");
    assert_int_equal(r.npoints, 2);
    assert_int_equal(r.points[1].value, 128);
    for (size_t i = 0; i < 2; i++)
        assert_true(r.points[i].none.tokens_per_second > 0 && r.points[i].layer.tokens_per_second > 0);
    assert_true(r.points[1].none.forecast_bytes > r.points[0].none.forecast_bytes);
    assert_true(r.points[1].none.forecast_bytes > r.points[1].layer.forecast_bytes);
    graft_options_free(&o);
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_BENCH,
             (const char *const[]){"model", model, "steps", "1", "over", "threads", "seq-length", "8", NULL});
    assert_int_equal(graft_bench_curves(&o, NULL, &r, &err), GRAFT_OK);
    assert_int_equal(r.points[0].value, 1);
    assert_true(r.points[r.npoints - 1].value >= 1 && r.npoints <= GRAFT_BENCH_POINTS);
    graft_options_free(&o);
}

/* Every option of the verb belongs to a benchmark, and none of another verb does. */
static void options_of_benchmarks(void **state) {
    (void)state;
    const char *const *names = graft_benchmarks();
    for (size_t i = 0; i < graft_option_count(); i++) {
        const graft_option *option = graft_option_at(i);
        bool taken = false;
        for (size_t k = 0; names[k]; k++) taken |= graft_bench_takes(names[k], option->name);
        if (taken != ((option->verbs & GRAFT_VERB_BENCH) != 0)) fail_msg("--%s", option->name);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(takes_the_optimizer),
                                       cmocka_unit_test(checks_the_ids),
                                       cmocka_unit_test(packs),
                                       cmocka_unit_test(stops),
                                       cmocka_unit_test(accumulates_exactly),
                                       cmocka_unit_test(equal_rows_have_equal_means),
                                       cmocka_unit_test(checkpoint_saves_by_length),
                                       cmocka_unit_test(loads_both_ways),
                                       cmocka_unit_test(exports_the_work),
                                       cmocka_unit_test(draws_both_curves),
                                       cmocka_unit_test(tokenizes_lines),
                                       cmocka_unit_test(costs_by_length_and_threads),
                                       cmocka_unit_test(options_of_benchmarks),
                                       cmocka_unit_test(plans_without_weights)};
    return cmocka_run_group_tests_name("bench", tests, setup, teardown);
}
