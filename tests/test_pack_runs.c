/* --pack in whole runs: the loss and the gradient of the rows one by one, the same bits however it is
 * computed or interrupted, validation as without it, and what it came to told. */
#include "tests/tiny_run.h"

#define PACKED "pack", "-", "max-seq-length", "64"

static int64_t packs_of(const char *model, const char *const *more) {
    graft_plan p;
    graft_options o;
    graft_error err = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_PLAN, (const char *const[]){"model", model, "data", data, PACKED, NULL});
    tiny_set(&o, GRAFT_VERB_PLAN, more);
    if (graft_plan_make(&o, NULL, &p, &err) != GRAFT_OK) fail_msg("%s", err.what);
    assert_int_equal(p.packing.rows, 13);
    assert_int_equal(p.packing.capacity, 64);
    assert_true(p.packing.percent_full == 100 * (double)p.packing.tokens / (double)(64 * p.packing.packs));
    assert_in_range(p.sequence_length, 33, 64);
    assert_int_equal(p.iterations, (p.packing.packs * 3 + p.batch_size - 1) / p.batch_size);
    assert_int_equal(p.time_tokens, 3 * p.packing.tokens);
    int64_t packs = p.packing.packs;
    graft_plan_free(&p);
    graft_options_free(&o);
    return packs;
}

/* Iterations count packs, and so do epochs; run, card and plan agree on how many. */
static void counts(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *out = tiny_join(root, "out");
    static const char *const epochs[] = {"epochs", "3", "batch-size", "1", NULL};
    int64_t packs = packs_of(model, epochs);
    watch w = {0};
    graft_train_result r = {0};
    char text[100];
    must_train(
        model, "out",
        (const char *const[]){PACKED, "epochs", "3", "batch-size", "1", "steps-per-eval", "1000", NULL}, &w,
        &r);
    assert_in_range(packs, 5, 9);
    assert_int_equal(r.iterations, 3 * packs);
    assert_int_equal(r.packing.packs, packs);
    snprintf(text, sizeof text, "--pack: 13 rows in %lld packs of up to 64 tokens, %.0f %% full",
             (long long)packs, r.packing.percent_full);
    assert_non_null(strstr(w.notes, text));
    char *card = tiny_read(out, "README.md", NULL);
    snprintf(text, sizeof text, "| packs | %lld of up to 64 tokens, %.1f %% full |", (long long)packs,
             r.packing.percent_full);
    assert_non_null(strstr(card, text));
    free(card);
    tiny_remove(out);
    graft_train_result plain = {0};
    must_train(model, "out", (const char *const[]){"epochs", "3", "batch-size", "1", NULL}, NULL, &plain);
    assert_int_equal(plain.iterations, 3 * 13);
    assert_int_equal(plain.packing.packs, 0);
    assert_int_equal(plain.trained_tokens, r.trained_tokens); /* every row three times, either way */
    forget("out");
    tiny_remove(model);
}

/* The first iteration of a run in fp32: its loss and the norm of its gradient. */
static void first_step(const char *model, const char *const *more, double *loss, double *norm, double *val) {
    static const char *const all[] = {"batch-size",
                                      "13",
                                      "iters",
                                      "1",
                                      "grad-accumulation-steps",
                                      "1",
                                      "compute",
                                      "fp32",
                                      "lora-targets",
                                      "full",
                                      "grad-clip",
                                      "0",
                                      NULL};
    const char *both[40] = {0};
    size_t n = sizeof all / sizeof *all - 1;
    memcpy(both, all, n * sizeof *all);
    for (; more && *more; more++) both[n++] = *more;
    must_train(model, "out", both, NULL, NULL);
    char *dir = tiny_join(root, "out"), *lines = timeless(dir), *rest = NULL;
    for (char *line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *j = json_loads(line, 0, NULL);
        if (json_object_get(j, "train_loss")) {
            *loss = json_number_value(json_object_get(j, "train_loss"));
            *norm = json_number_value(json_object_get(j, "grad_norm"));
        } else if (json_integer_value(json_object_get(j, "iteration")) == 0) {
            *val = json_number_value(json_object_get(j, "val_loss"));
        }
        json_decref(j);
    }
    free(lines);
    free(dir);
    forget("out");
}

/* All rows in one iteration: its loss is the same sum of the same f32 losses in another order, printed with
 * nine digits; its gradient differs by the order of sums in f32 (tests/test_pack_net.c: 1e-4 at most).
 * Validation is not packed. With mlx-lm's loss too, whose batch is then the same. */
static void same_as_rows(void **state) {
    (void)state;
    static const tiny_spec specs[] = {{.bits = 4}, {.type = "mistral", .window = 6}, {.type = "qwen3"}};
    static const char *const losses[][3] = {{NULL}, {"loss", "mlx-lm", NULL}};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        for (int l = 0; l < 2; l++) {
            char *model = tiny_model_dir(root, "base", &specs[i]);
            double loss[2], norm[2], val[2] = {0, 0};
            /* mlx-lm drops what is no full batch: everything in one pack then */
            const char *packed[] = {"pack",
                                    "-",
                                    "max-seq-length",
                                    l ? "4096" : "64",
                                    "batch-size",
                                    l ? "1" : "13",
                                    losses[l][0],
                                    losses[l][1],
                                    NULL};
            first_step(model, losses[l], &loss[0], &norm[0], &val[0]);
            first_step(model, packed, &loss[1], &norm[1], &val[1]);
            assert_near(loss[1], loss[0], 2e-8 * loss[0]);
            assert_near(norm[1], norm[0], 1e-4 * norm[0]);
            if (!l) assert_true(val[0] > 0 && val[0] == val[1]);
            tiny_remove(model);
        }
}

/* Stopped at any event and resumed with other threads and recompute, with dropout: every byte is as without
 * the stop, in the middle of an epoch, of an update, and at the seams. */
static void resumes_exactly(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    static const char *const run[] = {PACKED, "lora-dropout", "0.2", "iters", "9", "threads", "1", NULL};
    static const char *const again[] = {PACKED, "lora-dropout", "0.2", "iters",           "9",     "resume",
                                        "-",    "threads",      "2",   "grad-checkpoint", "layer", NULL};
    watch whole = {0};
    must_train(model, "whole", run, &whole, NULL);
    for (int n = 1; n <= whole.events; n++) {
        graft_error err = {0};
        graft_status st = train(model, "part", run, &(watch){.stop_at = n}, NULL, &err);
        if (st == GRAFT_INTERRUPTED) {
            must_train(model, "part", again, NULL, NULL);
        } else if (st != GRAFT_OK) {
            fail_msg("event %d: %s", n, err.what);
        }
        same_results("whole", "part");
        forget("part");
    }
    /* rows that were packed stay packed, and as they were */
    graft_error err = {0};
    assert_int_equal(train(model, "part", run, &(watch){.stop_at = 9}, NULL, &err), GRAFT_INTERRUPTED);
    static const char *const changed[][8] = {
        {"max-seq-length", "64", "lora-dropout", "0.2", "resume", "-"},
        {"pack", "-", "max-seq-length", "80", "lora-dropout", "0.2", "resume", "-"}};
    for (int i = 0; i < 2; i++) {
        const char *more[12] = {0};
        memcpy(more, changed[i], sizeof changed[i]);
        err = (graft_error){0};
        more[i ? 8 : 6] = "iters";
        more[i ? 9 : 7] = "9";
        assert_int_equal(train(model, "part", more, NULL, NULL, &err), GRAFT_MISMATCH);
        assert_non_null(strstr(err.found, i ? "max-seq-length" : "pack"));
    }
    forget("part");
    forget("whole");
    tiny_remove(model);
}

/* Digest of what three updates train with units cut to `slice` tokens. */
static void digest_with(char digest[17], const char *model, const char *recompute, int64_t slice,
                        const char *const *more) {
    graft_options o;
    graft_error err = {0};
    gr_trainer t;
    char *adapter = tiny_join(root, "sliced");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data, "adapter-path", adapter, "grad-checkpoint",
                                   recompute, PACKED, NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, common);
    tiny_set(&o, GRAFT_VERB_TRAIN, more);
    if (gr_trainer_open(&t, model, &o, NULL, GR_TRAINER_RUN, &err) != GRAFT_OK) fail_msg("%s", err.what);
    t.slice_tokens = slice;
    for (t.p.iteration = 0; t.p.iteration < 3; t.p.iteration++) {
        int64_t n = gr_order_take(&t.order, t.indices, o.batch_size);
        assert_true(gr_trainer_rows(&t, t.indices, n) > 0);
        assert_in_range(t.p.pending_rows, 1, n); /* a leaf per pack */
        gr_trainer_update(&t);
    }
    gr_adapter_digest(digest, t.params, t.rt.tuning->parameters);
    gr_trainer_close(&t);
    graft_options_free(&o);
    free(adapter);
}

/* Whatever trains, threads, recompute and slices between packs change no bit. */
static void same_bits(void **state) {
    (void)state;
    static const struct {
        tiny_spec model;
        const char *more[8];
    } cases[] = {{{.bits = 4}, {"lora-targets", "full", "lora-dropout", "0.2"}},
                 {{.bits = 4, .type = "qwen2"}, {"fine-tune-type", "dora", "lora-bias", "all"}},
                 {{.dtype = GR_BF16}, {"fine-tune-type", "full", "num-layers", "1"}},
                 {{.bits = 4, .untied = true}, {"modules-to-save", "lm_head"}},
                 {{.bits = 4}, {"modules-to-save", "embed_tokens"}},
                 {{.bits = 4}, {"preset", "quick"}}};
    static const char *const ways[] = {"none", "mlp", "layer"}, *const threads[] = {"1", "2", "3"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *model = tiny_model_dir(root, "base", &cases[i].model), usual[17], other[17];
        const char *more[14] = {"batch-size", "4", "threads", "1"};
        memcpy(more + 4, cases[i].more, sizeof cases[i].more);
        digest_with(usual, model, "none", 2048, more);
        for (int k = 0; k < 6; k++) {
            more[3] = threads[k % 3];
            digest_with(other, model, ways[(k + k / 3) % 3], k % 2 ? 1 : 130, more);
            assert_string_equal(usual, other);
        }
        tiny_remove(model);
    }
}

/* A budget holds for packs, which no slice cuts: where nothing fits, the length of packs that would is named.
 */
static void budgets(void **state) {
    (void)state;
    if (SANITIZED) skip();
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *own = data;
    data = tiny_data_dir(root, "many", 400, 0);
    graft_error err = {0};
    graft_train_result r = {0};
    static const char *const large[] = {"pack", "-", "max-seq-length", "4096", "batch-size", "1", "iters",
                                        "1",    NULL};
    must_train(model, "out", large, NULL, &r);
    forget("out");
    char budget[32];
    snprintf(budget, sizeof budget, "%llu",
             (unsigned long long)(r.forecast.total - (r.forecast.saved + r.forecast.scratch) * 3 / 4));
    const char *more[12] = {0};
    memcpy(more, large, sizeof large);
    more[8] = "budget";
    more[9] = budget;
    gr_peak_rss_reset(); /* what this process needed before is no part of the plan */
    assert_int_equal(train(model, "out", more, NULL, NULL, &err), GRAFT_USAGE);
    long length = 0;
    char text[32];
    if (sscanf(err.hint, "--max-seq-length %ld would fit", &length) != 1) fail_msg("%s", err.hint);
    snprintf(text, sizeof text, "%ld", length);
    more[3] = text;
    gr_peak_rss_reset();
    must_train(model, "out", more, NULL, &r);
    assert_true(r.forecast.total <= strtoull(budget, NULL, 10));
    forget("out");
    tiny_remove(model);
    free(data);
    data = own;
}

/* Rows without a target are in no pack; --loss mlx-lm needs a batch of packs. */
static void odd_data(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *own = data;
    graft_error err = {0};
    assert_int_equal(train(model, "out",
                           (const char *const[]){PACKED, "loss", "mlx-lm", "batch-size", "13", NULL}, NULL,
                           NULL, &err),
                     GRAFT_MISMATCH);
    assert_non_null(strstr(err.expected, "13 packs"));
    data = tiny_subdir(root, "cut");
    tiny_write(data, "train.jsonl",
               "{\"prompt\": \"a very long question, cut before its answer comes\", \"completion\": \"no\"}\n"
               "{\"prompt\": \"a\", \"completion\": \"yes\"}\n");
    watch w = {0};
    graft_train_result r = {0};
    must_train(model, "out",
               (const char *const[]){"pack", "-", "max-seq-length", "45", "overflow", "truncate",
                                     "mask-prompt", "-", "iters", "2", NULL},
               &w, &r);
    assert_non_null(strstr(w.notes, "no token to train on"));
    assert_int_equal(r.packing.rows, 1);
    assert_int_equal(r.packing.packs, 1);
    forget("out");
    tiny_remove(model);
    free(data);
    data = own;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),    cmocka_unit_test(same_as_rows), cmocka_unit_test(resumes_exactly),
        cmocka_unit_test(same_bits), cmocka_unit_test(budgets),      cmocka_unit_test(odd_data),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
