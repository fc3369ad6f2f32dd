/* train/ as whole runs on tiny model directories: losses fall; what only saves time or memory leaves every
 * byte of the results as it is; reports say what happened. */
#include "tests/tiny_run.h"

static void losses_fall(void **state) {
    (void)state;
    const tiny_spec specs[] = {{.type = "llama"},
                               {.type = "llama", .dtype = GR_BF16, .bits = 4, .untied = true},
                               {.type = "mistral", .window = 6, .dtype = GR_BF16},
                               {.type = "qwen2", .bits = 8},
                               {.type = "qwen3", .bits = 4, .new_rope = true}};
    static const char *const computes[] = {"bf16", "fp32"};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        for (int c = 0; c < 2; c++) {
            graft_train_result r = {0};
            char *model = tiny_model_dir(root, "learner", &specs[i]);
            const char *const more[] = {"compute",
                                        computes[c],
                                        "iters",
                                        "30",
                                        "grad-accumulation-steps",
                                        "1",
                                        "lora-targets",
                                        "full",
                                        "learning-rate",
                                        "2e-2",
                                        "steps-per-report",
                                        "1",
                                        "steps-per-eval",
                                        "1000",
                                        NULL};
            must_train(model, "out", more, NULL, &r);
            assert_int_equal(r.iterations, 30);
            assert_int_equal(r.updates, 30);
            /* an untrained model is near ln 264 = 5.6; the text is seven words */
            if (!(r.val_loss_first > 4 && r.val_loss_last < r.val_loss_first - 1.5))
                fail_msg("%s %s: %g -> %g", specs[i].type, computes[c], r.val_loss_first, r.val_loss_last);
            assert_true(r.val_loss_best <= r.val_loss_last);
            tiny_remove(model);
            forget("out");
        }
}

/* Before its first update every kind computes what the base does: B is 0, a magnitude is its row's length,
 * and what trains itself starts as the base's. fp32: the gain of DoRA is 1 but for the rounding of a square
 * root, which 14 linears may each pass on; 2e-6 of the loss. */
static void starts_as_the_base(void **state) {
    (void)state;
    static const char *const kinds[][9] = {{"fine-tune-type", "lora", NULL},
                                           {"fine-tune-type", "dora", NULL},
                                           {"fine-tune-type", "dora", "lora-dropout", "0.5", NULL},
                                           {"lora-bias", "all", "rank-pattern", "v_proj=2", NULL},
                                           {"modules-to-save", "gate_proj,down_proj", NULL}};
    const tiny_spec specs[] = {{.type = "qwen2", .bits = 4}, {.type = "qwen2", .dtype = GR_BF16}};
    for (size_t s = 0; s < 2; s++) {
        char *model = tiny_model_dir(root, "base", &specs[s]);
        double base = 0;
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            static const char *const more[] = {"compute", "fp32", "iters", "1", "threads", "2", NULL};
            const char *all[20] = {0};
            graft_train_result r = {0};
            memcpy(all, kinds[i], sizeof kinds[i]);
            size_t n = 0;
            while (all[n]) n++;
            memcpy(all + n, more, sizeof more);
            must_train(model, "out", all, NULL, &r);
            if (i == 0) base = r.train_loss;
            if (!(fabs(r.train_loss - base) <= 2e-6 * base) ||
                !(fabs(r.val_loss_first - r.val_loss_last) > 0))
                fail_msg("kind %zu: %.9g, plain LoRA %.9g", i, r.train_loss, base);
            forget("out");
        }
        tiny_remove(model);
    }
}

/* ------------------------------------------------------------------------- nothing that saves changes a bit
 */

static void same_bits(void **state) {
    (void)state;
    const tiny_spec specs[] = {{.bits = 4}, {.type = "qwen3", .dtype = GR_BF16}};
    static const char *const variants[][5] = {{"threads", "2", NULL},
                                              {"threads", "3", "grad-checkpoint", "layer", NULL},
                                              {"grad-checkpoint", "mlp", NULL},
                                              {"grad-checkpoint", "none", NULL},
                                              {"save-every", "100", NULL}};
    for (size_t s = 0; s < 2; s++) {
        char *model = tiny_model_dir(root, "base", &specs[s]);
        must_train(model, "whole", NULL, NULL, NULL);
        for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
            must_train(model, "part", variants[i], NULL, NULL);
            same_results("whole", "part");
            forget("part");
        }
        forget("whole");
        tiny_remove(model);
    }
}

/* The same run with the trainer opened by hand, slices of at most `slice` tokens; the trained vector's
 * digest. */
static void digest_with(char digest[17], const char *model, int64_t slice, const char *const *more) {
    graft_options o;
    graft_error err = {0};
    gr_trainer t;
    char *adapter = tiny_join(root, "sliced");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data, "adapter-path", adapter, NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, common);
    tiny_set(&o, GRAFT_VERB_TRAIN, more);
    if (gr_trainer_open(&t, model, &o, NULL, GR_TRAINER_RUN, &err) != GRAFT_OK) fail_msg("%s", err.what);
    if (slice) t.slice_tokens = slice;
    for (t.p.iteration = 0; t.p.iteration < 4; t.p.iteration++) {
        int64_t n = gr_order_take(&t.order, t.indices, o.batch_size);
        assert_true(gr_trainer_rows(&t, t.indices, n) > 0);
        if (t.p.iteration % 2) gr_trainer_update(&t);
    }
    gr_adapter_digest(digest, t.params, t.rt.tuning->parameters);
    gr_trainer_close(&t);
    graft_options_free(&o);
    free(adapter);
}

static void slices(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    static const char *const rows[] = {"batch-size", "5", "grad-accumulation-steps", "2", NULL};
    char whole[17], part[17];
    digest_with(whole, model, 0, rows);
    for (int64_t slice = 1; slice < 200; slice = slice * 3 + 1) {
        digest_with(part, model, slice, rows);
        assert_string_equal(whole, part);
    }
    tiny_remove(model);
}

/* ------------------------------------------------------------------------------------------------- reports
 */

/* Every line has its keys; validation stands at 0, every 4 and last; train_loss of a run whose rate is 0 is
 * the mean over the rows taken, so that the sums can be checked against one pass of scoring. */
static void metrics_lines(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *out = tiny_join(root, "out");
    must_train(model, "out",
               (const char *const[]){"learning-rate", "0", "epochs", "1", "no-shuffle", "-",
                                     "steps-per-report", "3", "compute", "fp32", NULL},
               NULL, NULL);
    graft_options o;
    graft_error err = {0};
    graft_eval_result all = {0};
    char *file = tiny_join(data, "train.jsonl");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_EVAL,
             (const char *const[]){"model", model, "data", file, "compute", "fp32", "per-row", "-", NULL});
    if (graft_eval(&o, NULL, &all, &err) != GRAFT_OK) fail_msg("%s", err.what);
    assert_int_equal(all.rows, 13);
    char *text = tiny_read(out, "metrics.jsonl", NULL), *rest = NULL;
    int64_t trained = 0, row = 0, validations = 0, reports = 0;
    static const int64_t valid_at[] = {0, 4, 7}, report_at[] = {3, 6, 7};
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        int64_t iteration = json_integer_value(json_object_get(j, "iteration"));
        if (json_object_get(j, "val_loss")) {
            assert_int_equal(json_object_size(j), 3);
            assert_non_null(json_object_get(j, "val_time"));
            assert_int_equal(iteration, valid_at[validations++]);
            json_decref(j);
            continue;
        }
        static const char *const keys[] = {"train_loss",        "learning_rate",  "iterations_per_second",
                                           "tokens_per_second", "trained_tokens", "grad_norm",
                                           "peak_memory_bytes"};
        for (int i = 0; i < 7; i++) assert_true(json_is_number(json_object_get(j, keys[i])));
        assert_int_equal(json_object_size(j), 8);
        assert_int_equal(iteration, report_at[reports++]);
        double loss = 0;
        int64_t tokens = 0;
        for (; row < gr_min_i64(iteration * 2, 13); row++) { /* 13 rows: the last batch has one */
            loss += all.row_losses[row].loss * (double)all.row_losses[row].tokens;
            tokens += all.row_losses[row].tokens;
        }
        trained += tokens;
        assert_int_equal(json_integer_value(json_object_get(j, "trained_tokens")), trained);
        /* the same products in the same order, other batches: rounding of f32 sums, nine digits printed */
        assert_near(json_real_value(json_object_get(j, "train_loss")), loss / (double)tokens, 2e-6);
        json_decref(j);
    }
    assert_int_equal(validations, 3);
    assert_int_equal(reports, 3);
    assert_int_equal(row, 13);
    free(text);
    free(file);
    graft_eval_result_free(&all);
    graft_options_free(&o);
    free(out);
    forget("out");
    tiny_remove(model);
}

static void best_is_kept(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *best = tiny_join(root, "out/best");
    graft_train_result r = {0};
    /* a rate far too high: whatever the rounding, nothing beats the start again */
    must_train(model, "out",
               (const char *const[]){"keep-best", "-", "learning-rate", "30", "steps-per-eval", "1",
                                     "grad-accumulation-steps", "1", NULL},
               NULL, &r);
    assert_true(r.val_loss_best < r.val_loss_last);
    graft_options o;
    graft_error err = {0};
    graft_eval_result e = {0};
    graft_options_init(&o);
    char *file = tiny_join(data, "valid.jsonl");
    tiny_set(&o, GRAFT_VERB_EVAL,
             (const char *const[]){"model", model, "data", file, "adapter-path", best, NULL});
    if (graft_eval(&o, NULL, &e, &err) != GRAFT_OK) fail_msg("%s", err.what);
    assert_near(e.loss, r.val_loss_best, 1e-9 * r.val_loss_best);
    graft_eval_result_free(&e);
    graft_options_free(&o);
    free(file);
    free(best);
    forget("out");
    tiny_remove(model);
}

/* A run that starts from another adapter validates where that one ended. */
static void from_an_adapter(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *first = tiny_join(root, "first");
    graft_train_result a = {0}, b = {0};
    must_train(model, "first", NULL, NULL, &a);
    graft_error err = {0};
    const char *const start[] = {"resume-adapter-file", first, NULL};
    assert_int_equal(train(model, "second", start, NULL, NULL, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.what, "--lora-rank"));
    own_rank = true;
    must_train(model, "second", start, NULL, &b);
    own_rank = false;
    assert_near(b.val_loss_first, a.val_loss_last, 1e-12);
    free(first);
    forget("first");
    forget("second");
    tiny_remove(model);
}

/* A file brings its kind along: another one asked for is refused, and what is told is the file's. */
static void kind_of_the_file(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.dtype = GR_BF16}),
         *dora = tiny_join(root, "dora"), *full = tiny_join(root, "full");
    must_train(model, "dora", (const char *const[]){"fine-tune-type", "dora", NULL}, NULL, NULL);
    own_rank = true;
    must_train(model, "full", (const char *const[]){"fine-tune-type", "full", NULL}, NULL, NULL);
    tiny_write(root, "lora.yaml", "fine_tune_type: lora\n");
    tiny_write(root, "silent.yaml", "iters: 8\nbatch_size: 2\n");
    char *yaml = tiny_join(root, "lora.yaml"), *silent = tiny_join(root, "silent.yaml");
    const struct {
        const char *pairs[5], *said[2];
    } cases[] = {{{"resume-adapter-file", dora, "fine-tune-type", "lora"}, {"dora", "lora"}},
                 {{"resume-adapter-file", dora, "config", yaml}, {"dora", "lora"}},
                 {{"resume-adapter-file", dora, "fine-tune-type", "full"}, {"dora", "full"}},
                 {{"resume-adapter-file", full, "fine-tune-type", "lora"}, {"full", "lora"}},
                 {{"resume-adapter-file", full, "lora-dropout", "0.1"}, {"--lora-dropout", "whole tensors"}},
                 {{"resume-adapter-file", full, "loraplus-lr-ratio", "4"}, {"--loraplus", "whole tensors"}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err = {0};
        char all[3000];
        assert_int_equal(train(model, "out", cases[i].pairs, NULL, NULL, &err), GRAFT_USAGE);
        snprintf(all, sizeof all, "%s|%s|%s", err.what, err.expected, err.found);
        for (int k = 0; k < 2; k++)
            if (!strstr(all, cases[i].said[k])) fail_msg("case %zu: %s", i, all);
    }
    char *first = tiny_join(root, "first");
    must_train(model, "first", NULL, NULL, NULL);
    char *config = tiny_read(first, "adapter_config.json", NULL);
    json_t *j = json_loads(config, 0, NULL);
    free(config);
    json_object_set_new(json_object_get(j, "lora_parameters"), "scale", json_real(0));
    config = json_dumps(j, 0);
    json_decref(j);
    tiny_write(first, "adapter_config.json", config);
    free(config);
    graft_error none = {0};
    assert_int_equal(
        train(model, "out", (const char *const[]){"resume-adapter-file", first, NULL}, NULL, NULL, &none),
        GRAFT_USAGE);
    assert_non_null(strstr(none.what, "scale 0"));
    free(first);
    forget("first");
    watch w = {0};
    must_train(model, "out", (const char *const[]){"resume-adapter-file", dora, "config", silent, NULL}, &w,
               NULL);
    own_rank = false;
    assert_non_null(strstr(w.notes, ": dora, rank 4, scale 2"));
    char *out = tiny_join(root, "out"), *card = tiny_read(out, "README.md", NULL);
    assert_non_null(strstr(card, "dora, rank 4, scale 2"));
    assert_null(strstr(card, "fine-tune-type: lora"));
    assert_null(strstr(card, "lora-rank"));
    free(card);
    free(out);
    free(dora);
    free(full);
    free(yaml);
    free(silent);
    forget("dora");
    forget("full");
    forget("out");
    tiny_remove(model);
}

/* What an update or a run can never be, or the first save could not write, is known before anything is
 * opened. */
static void refused_options(void **state) {
    (void)state;
    graft_error err = {0};
    static const struct {
        const char *pairs[5], *said;
    } cases[] = {{{"batch-size", "32768", "grad-accumulation-steps", "65536"}, "grad-accumulation-steps"},
                 {{"text-feature", "a\xff"}, "--text-feature"},
                 {{"adapter-path", "/tmp/\xc3("}, "--adapter-path"},
                 {{"data", "\xed\xa0\x80"}, "--data"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err = (graft_error){0};
        assert_int_equal(train("/nowhere/at-all/here", "out", cases[i].pairs, NULL, NULL, &err), GRAFT_USAGE);
        if (!strstr(err.what, cases[i].said)) fail_msg("%s", err.what);
    }
    err = (graft_error){0}; /* one row less fits */
    assert_int_equal(train("/nowhere/at-all/here", "out",
                           (const char *const[]){"batch-size", "32767", "grad-accumulation-steps", "65536",
                                                 "text-feature", "\xc3\xa4\xf0\x9f\x98\x80", NULL},
                           NULL, NULL, &err),
                     GRAFT_NOT_FOUND);
}

/* A run of more iterations than anyone would count is opened at once, with slots for the rows it can have. */
static void endless_run(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    graft_options o;
    graft_error err = {0};
    gr_trainer t;
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data, "iters", "1000000000000", "batch-size", "5",
                                   "grad-accumulation-steps", "2", NULL});
    uint64_t peak = gr_peak_rss();
    if (gr_trainer_open(&t, model, &o, NULL, GR_TRAINER_PLAN, &err) != GRAFT_OK) fail_msg("%s", err.what);
    assert_true(t.forecast.total >= peak); /* this process needed it already */
    /* thirteen rows in batches of 5, 5, 3: the mean over whole epochs but for the last */
    double all = 0;
    for (int64_t i = 0; i < 13; i++) {
        gr_row row = gr_rows_at(t.train, i);
        all += (double)gr_batch_cost(&row);
    }
    assert_near((double)t.total_tokens, all / 3 * 1e12, 1e-5 * all / 3 * 1e12);
    assert_int_equal(gr_trainer_update_rows(&t), 10);
    gr_trainer_close(&t);
    o.iters = 1;
    o.batch_size = 1 << 20;
    if (gr_trainer_open(&t, model, &o, NULL, GR_TRAINER_PLAN, &err) != GRAFT_OK) fail_msg("%s", err.what);
    assert_int_equal(gr_trainer_update_rows(&t), 13);
    gr_trainer_close(&t);
    graft_options_free(&o);
    tiny_remove(model);
}

static void refusals(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *own = data;
    graft_error err = {0};
    assert_int_equal(
        train(model, "out", (const char *const[]){"max-seq-length", "20", NULL}, NULL, NULL, &err),
        GRAFT_RANGE);
    assert_non_null(strstr(err.where, "train.jsonl"));
    assert_non_null(strstr(err.found, "lines 2, 3, 5"));
    err = (graft_error){0};
    data = root; /* no train.jsonl */
    assert_int_equal(train(model, "out", NULL, NULL, NULL, &err), GRAFT_NOT_FOUND);
    assert_non_null(strstr(err.hint, "train.jsonl"));
    data = own;
    err = (graft_error){0};
    assert_int_equal(train("/nowhere/at-all/here", "out", NULL, NULL, NULL, &err), GRAFT_NOT_FOUND);
    err = (graft_error){0};
    assert_int_equal(train(model, "out",
                           (const char *const[]){"learning-rate", "1e6", "grad-clip", "0", "weight-decay",
                                                 "1e6", "iters", "60", "grad-accumulation-steps", "1", NULL},
                           NULL, NULL, &err),
                     GRAFT_RANGE);
    assert_non_null(strstr(err.where, "iteration"));
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_fall),     cmocka_unit_test(starts_as_the_base),
        cmocka_unit_test(same_bits),       cmocka_unit_test(slices),
        cmocka_unit_test(metrics_lines),   cmocka_unit_test(best_is_kept),
        cmocka_unit_test(from_an_adapter), cmocka_unit_test(kind_of_the_file),
        cmocka_unit_test(refusals),        cmocka_unit_test(refused_options),
        cmocka_unit_test(endless_run),
    };
    return cmocka_run_group_tests_name("train", tests, setup, teardown);
}
