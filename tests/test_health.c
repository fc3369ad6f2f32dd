/* train/health.c and skipped_updates.c: an update with a number that went wrong changes nothing, its rows are
 * named, the count survives everything, and what is saved has a loss. */
#include "tests/each_isa.h"
#include "tests/tiny_broken.h"

/* train.jsonl of these texts, and a good valid.jsonl. */
static char *data_of(const char *name, const char *const *texts) {
    char *dir = tiny_data_dir(root, name, 1, 3);
    gr_buf b = {0};
    for (; *texts; texts++) gr_buf_printf(&b, "{\"text\": \"%s\"}\n", *texts);
    tiny_write(dir, "train.jsonl", b.data);
    gr_buf_free(&b);
    return dir;
}

static const char *const mixed[] = {"one two",   "three four", "a Z here", "five six seven",
                                    "seven one", "two three",  "four",     "six Z",
                                    "one",       "two two",    NULL};
static const char *const sane[] = {"one two", "three four", "five six seven", "seven one", "two three",
                                   "four",    "one",        "two two",        NULL};
static const char *const empties[] = {"one two",   "three four", "",     "five six seven",
                                      "seven one", "two three",  "four", "",
                                      "one",       "two two",    NULL};

/* One epoch in the file's order, an update a row. */
static const char *const single[] = {"batch-size", "1", "grad-accumulation-steps", "1",   "epochs", "1",
                                     "no-shuffle", "-", "steps-per-report",        "100", NULL};

static void same_adapter(const char *a, const char *b) {
    char *x = tiny_join(root, a), *y = tiny_join(root, b);
    size_t n, m;
    char *one = tiny_read(x, "adapter_model.safetensors", &n),
         *two = tiny_read(y, "adapter_model.safetensors", &m);
    uint64_t head;
    memcpy(&head, one, sizeof head); /* the header holds the iteration */
    size_t bytes = n - sizeof head - head;
    assert_true(m > bytes);
    assert_memory_equal(one + n - bytes, two + m - bytes, bytes);
    free(one);
    free(two);
    free(x);
    free(y);
}

/* The skipped update leaves no trace in parameters, optimizer or its count; neither does a row without a
 * trained token. */
static void leaves_no_trace(void **state) {
    (void)state;
    char *model = broken_model("broken", 4), *own = data;
    char *bad = data_of("bad-data", mixed), *good = data_of("good-data", sane),
         *empty = data_of("empty-data", empties);
    static const char *const optimizers[] = {"adamw", "adafactor", "muon"};
    for (size_t i = 0; i < 3; i++) {
        const char *more[16] = {"optimizer", optimizers[i]};
        memcpy(more + 2, single, sizeof single);
        graft_train_result r = {0};
        watch w = {0};
        data = good;
        must_train(model, "good", more, NULL, &r);
        assert_int_equal(r.updates, 8);
        assert_int_equal(r.skipped_updates, 0);
        int64_t tokens = r.trained_tokens;
        data = bad;
        must_train(model, "bad", more, &w, &r);
        assert_int_equal(r.iterations, 10);
        assert_int_equal(r.updates, 8);
        assert_int_equal(r.skipped_updates, 2);
        assert_int_equal(r.trained_tokens, tokens);
        assert_true(isfinite(r.train_loss) && isfinite(r.val_loss_last));
        assert_non_null(strstr(w.notes, "the loss of train.jsonl, line 3 is not a number"));
        assert_non_null(strstr(w.notes, "train.jsonl, line 8 is not a number"));
        same_adapter("good", "bad");
        data = empty;
        w = (watch){0};
        must_train(model, "empty", more, &w, &r);
        assert_int_equal(r.updates, 8);
        assert_int_equal(r.skipped_updates, 0);
        assert_non_null(strstr(w.notes, "2 rows have no token to train on (lines 3, 8)"));
        same_adapter("good", "empty");
        forget("good");
        forget("bad");
        forget("empty");
    }
    data = own;
    tiny_remove(bad);
    tiny_remove(good);
    tiny_remove(empty);
    tiny_remove(model);
}

/* Who is guilty, how many were skipped and what is written is the same at any thread count, slice, rung and
 * after a stop at any event, also in the middle of an update. */
static void counted_everywhere(void **state) {
    (void)state;
    char *model = broken_model("broken", 0), *own = data;
    data = data_of("bad", mixed);
    static const char *const more[] = {"epochs", "2", NULL};
    watch whole = {0};
    graft_train_result truth = {0}, r = {0};
    must_train(model, "whole", more, &whole, &truth);
    assert_in_range(truth.skipped_updates, 1, 3);
    char *dir = tiny_join(root, "whole"), *metrics = timeless(dir), *card = tiny_read(dir, "README.md", NULL);
    assert_non_null(strstr(metrics, "\"not_a_number\": \"loss\""));
    assert_non_null(strstr(metrics, "\"skipped_updates\": 1"));
    assert_non_null(strstr(card, "| skipped updates |"));
    free(card);
    free(metrics);
    free(dir);
    static const char *const ways[][7] = {
        {"threads", "2", NULL},
        {"threads", "3", "grad-checkpoint", "layer", NULL},
        {"grad-checkpoint", "mlp", NULL},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const char *all[12] = {"epochs", "2"};
        memcpy(all + 2, ways[i], sizeof ways[i]);
        must_train(model, "part", all, NULL, &r);
        assert_int_equal(r.skipped_updates, truth.skipped_updates);
        same_results("whole", "part");
        forget("part");
    }
    for (int n = 1; n <= whole.events; n++) {
        graft_error err = {0};
        watch first = {.stop_at = n};
        graft_status st = train(model, "part", more, &first, &r, &err);
        if (st == GRAFT_INTERRUPTED)
            must_train(model, "part", (const char *const[]){"epochs", "2", "resume", "-", NULL}, NULL, &r);
        else if (st != GRAFT_OK)
            fail_msg("event %d: %s", n, err.what);
        assert_int_equal(r.skipped_updates, truth.skipped_updates);
        assert_int_equal(r.trained_tokens, truth.trained_tokens);
        same_results("whole", "part");
        forget("part");
    }
    forget("whole");
    tiny_remove(data);
    data = own;
    tiny_remove(model);
}

static double loss_of(const char *model, const char *out) {
    graft_options o;
    graft_error err = {0};
    graft_eval_result e = {0};
    char *adapter = tiny_join(root, out), *file = tiny_join(data, "valid.jsonl");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_EVAL,
             (const char *const[]){"model", model, "data", file, "adapter-path", adapter, NULL});
    if (graft_eval(&o, NULL, &e, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    double loss = e.loss;
    graft_eval_result_free(&e);
    graft_options_free(&o);
    free(file);
    free(adapter);
    return loss;
}

/* Three bad rows in a row end the run; what was learned before is saved, and a resume goes on behind them as
 * the run does that was allowed more. */
static void stops_in_a_row(void **state) {
    (void)state;
    static const char *const texts[] = {"one two", "three four", "Z",   "ZZ",      "six Z",
                                        "five",    "seven one",  "two", "a Z too", NULL};
    char *model = broken_model("broken", 4), *own = data;
    graft_error err = {0};
    graft_train_result r = {0};
    data = data_of("bad", texts);
    assert_int_equal(train(model, "part", single, NULL, &r, &err), GRAFT_RANGE);
    assert_string_equal(err.what,
                        "3 updates in a row were skipped: the loss or its gradient is not a number");
    assert_string_equal(err.where, "iteration 5");
    assert_string_equal(err.found, "the last in train.jsonl, line 5");
    assert_non_null(strstr(err.hint, "--max-bad-steps"));
    assert_true(isfinite(loss_of(model, "part")));
    const char *more[14], *again[16];
    memcpy(more, single, sizeof single);
    memcpy(again, single, sizeof single);
    size_t n = sizeof single / sizeof *single - 1;
    memcpy(more + n, (const char *const[]){"max-bad-steps", "4", NULL}, 3 * sizeof *more);
    memcpy(again + n, (const char *const[]){"resume", "-", NULL}, 3 * sizeof *again);
    must_train(model, "whole", more, NULL, &r);
    assert_int_equal(r.skipped_updates, 4);
    must_train(model, "part", again, NULL, &r);
    assert_int_equal(r.skipped_updates, 4);
    same_results("whole", "part");
    forget("part");
    forget("whole");
    tiny_remove(data);
    data = own;
    tiny_remove(model);
}

/* Parameters that grew until no row has a loss: the directory keeps the last state that had one, and says so
 * each time. */
static void keeps_the_last_good(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    static const char *const wild[] = {
        "learning-rate",           "1e3", "weight-decay", "1e3", "save-every", "1", "iters", "60",
        "grad-accumulation-steps", "1",   "grad-clip",    "0",   NULL};
    static const char *const again[] = {
        "learning-rate",           "1e3", "weight-decay", "1e3", "save-every", "1", "iters", "60",
        "grad-accumulation-steps", "1",   "grad-clip",    "0",   "resume",     "-", NULL};
    for (int i = 0; i < 2; i++) {
        graft_error err = {0};
        watch w = {0};
        assert_int_equal(train(model, "out", i ? again : wild, &w, NULL, &err), GRAFT_RANGE);
        assert_non_null(strstr(err.hint, "--learning-rate"));
        assert_non_null(strstr(w.notes, "not saved at iteration"));
        assert_true(isfinite(loss_of(model, "out")));
    }
    forget("out");
    /* before anything was saved */
    graft_error err = {0};
    assert_int_equal(train(model, "out",
                           (const char *const[]){"learning-rate", "1e6", "weight-decay", "1e6", "iters", "60",
                                                 "grad-accumulation-steps", "1", "grad-clip", "0", NULL},
                           NULL, NULL, &err),
                     GRAFT_RANGE);
    forget("out");
    /* the last update of all */
    char *steps[] = {"3", "4", "5", "6", "7"};
    bool seen = false;
    for (int i = 0; i < 5 && !seen; i++) {
        err = (graft_error){0};
        graft_status st =
            train(model, "out",
                  (const char *const[]){"learning-rate", "1e3", "weight-decay", "1e3", "iters", steps[i],
                                        "grad-accumulation-steps", "1", "grad-clip", "0", NULL},
                  NULL, NULL, &err);
        seen = st == GRAFT_RANGE && strstr(err.what, "they are not saved");
        forget("out");
    }
    assert_true(seen);
    tiny_remove(model);
}

static void open_by_hand(gr_trainer *t, graft_options *o, graft_hooks *hooks, const char *model,
                         const char *const *more) {
    graft_error err = {0};
    graft_options_init(o);
    tiny_set(o, GRAFT_VERB_TRAIN, (const char *const[]){"model", model, "data", data, NULL});
    tiny_set(o, GRAFT_VERB_TRAIN, common);
    tiny_set(o, GRAFT_VERB_TRAIN, more);
    if (gr_trainer_open(t, model, o, hooks, GR_TRAINER_RUN, &err) != GRAFT_OK) fail_msg("%s", err.what);
}

/* A better validation whose state cannot be saved: the best is again the one before it, which best/ has. */
typedef struct better {
    gr_trainer *t;
    watch w;
    double first;
    int looks;
} better;

static void on_better(void *user, const graft_event *e) {
    better *b = user;
    gr_train_progress *p = &b->t->p;
    on_event(&b->w, e);
    if (e->kind == GRAFT_EVENT_VALID && e->iteration == 0) b->first = e->val_loss;
    if (e->kind == GRAFT_EVENT_VALID && e->iteration == 2) {
        assert_true(e->val_loss < b->first);
        p->health.good_row = 3; /* the row with the Z: it has no loss, and the state counts as lost */
    }
    if (e->kind != GRAFT_EVENT_PROGRESS || strcmp(e->phase, "train") != 0 || e->done != 3) return;
    assert_true(p->best_val == b->first);
    assert_int_equal(p->best_iteration, 0);
    assert_int_equal(p->stale, 1);
    b->looks++;
}

static void best_before_it(void **state) {
    (void)state;
    char *model = broken_model("broken", 4), *own = data, *out = tiny_join(root, "out");
    data = data_of("mixed", mixed);
    graft_options o;
    graft_error err = {0};
    gr_trainer t;
    graft_train_result r = {0};
    better b = {.t = &t};
    graft_hooks hooks = {.user = &b, .event = on_better, .stop = &b.w.stop};
    graft_options_init(&o);
    tiny_set(
        &o, GRAFT_VERB_TRAIN,
        (const char *const[]){"model", model, "data", data, "adapter-path", out, "keep-best", "-", NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, common);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"batch-size", "1", "grad-accumulation-steps", "1", "iters", "6",
                                   "no-shuffle", "-", "steps-per-eval", "2", "save-every", "100", NULL});
    if (gr_trainer_open(&t, model, &o, &hooks, GR_TRAINER_RUN, &err) != GRAFT_OK) fail_msg("%s", err.what);
    if (gr_trainer_run(&t, &r, &err) != GRAFT_OK) fail_msg("%s", err.what);
    assert_int_equal(b.looks, 1);
    assert_non_null(strstr(b.w.notes, "not saved at iteration 2"));
    gr_trainer_close(&t);
    graft_options_free(&o);
    forget("out");
    free(out);
    tiny_remove(data);
    data = own;
    tiny_remove(model);
}

/* One element of the gradient that is not a number, whose row nobody can know: all of the update are named,
 * and no bit of parameters or optimizer moves. */
static void one_element(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    graft_options o;
    graft_error err = {0};
    gr_trainer t;
    watch w = {0};
    graft_hooks hooks = {.user = &w, .event = on_event};
    open_by_hand(&t, &o, &hooks, model, (const char *const[]){"grad-accumulation-steps", "1", NULL});
    gr_trainer_iteration(&t);
    assert_int_equal(t.p.health.applied, 1);
    size_t bytes = (size_t)t.rt.tuning->parameters * sizeof(float);
    float *params = malloc(bytes), *moment = malloc(bytes);
    memcpy(params, t.params, bytes);
    memcpy(moment, t.optim.state[1], bytes);
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        int64_t n = gr_trainer_take(&t), tokens = t.p.trained_tokens;
        double norm = t.p.grad_norm;
        gr_trainer_rows(&t, t.indices, n);
        float *level[GR_TREE_LEVELS];
        gr_gradients_levels(&t.gradients, t.p.pending_rows, level);
        for (int k = 0; k < GR_TREE_LEVELS; k++)
            if (t.p.pending_rows >> k & 1) level[k][t.rt.tuning->parameters - 1 - i] = wrong[i];
        gr_trainer_update(&t);
        assert_true(t.verdict.skipped && !t.verdict.bad_loss && !t.verdict.guilty);
        assert_int_equal(t.verdict.rows.count, 2);
        assert_memory_equal(params, t.params, bytes);
        assert_memory_equal(moment, t.optim.state[1], bytes);
        assert_near(t.p.grad_norm, norm, 0);
        assert_int_equal(t.p.trained_tokens, tokens);
        assert_int_equal(gr_trainer_count_skipped(&t, false, &err), GRAFT_OK);
        assert_int_equal(gr_trainer_lost(&t), i == 2);
    }
    assert_non_null(strstr(w.notes, "the gradient of an update of train.jsonl, lines "));
    assert_int_equal(t.p.update, 4);
    assert_int_equal(t.p.health.applied, 1);
    gr_trainer_iteration(&t);
    assert_int_equal(t.p.health.applied, 2);
    assert_int_equal(t.p.health.in_a_row, 0);
    free(params);
    free(moment);
    gr_trainer_close(&t);
    graft_options_free(&o);
    tiny_remove(model);
}

/* The level before an update makes it a spike, which is told and changes nothing. */
static void spikes_are_told(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    graft_options o;
    gr_trainer t;
    graft_error err = {0};
    watch w = {0};
    graft_hooks hooks = {.user = &w, .event = on_event};
    open_by_hand(&t, &o, &hooks, model, (const char *const[]){"grad-accumulation-steps", "1", NULL});
    for (int i = 0; i < GR_HEALTH_WINDOW; i++) {
        t.p.health.losses[i] = 0.1 + 1e-3 * i;
        t.p.health.norms[i] = 1e-3 + 1e-6 * i;
    }
    t.p.health.seen = GR_HEALTH_WINDOW;
    gr_trainer_iteration(&t);
    assert_true(t.verdict.loss_spike && t.verdict.norm_spike && !t.verdict.skipped);
    assert_int_equal(gr_trainer_count_skipped(&t, false, &err), GRAFT_OK);
    assert_non_null(strstr(w.notes, "spike: the loss of update 1 is"));
    assert_non_null(strstr(w.notes, "spike: the gradient's norm of update 1"));
    assert_int_equal(t.p.health.applied, 1);
    gr_trainer_close(&t);
    graft_options_free(&o);
    tiny_remove(model);
}

static gr_verdict judge(gr_health *h, double loss, double norm) {
    gr_verdict v;
    gr_health_add_row(h, 0, 1, loss * 10, true);
    gr_health_judge(h, &v, norm, 10);
    gr_health_next(h);
    return v;
}

static void judged(void **state) {
    (void)state;
    gr_health h = {0};
    gr_verdict v;
    for (int i = 0; i < GR_HEALTH_LEAST; i++) { /* nothing is unusual at first */
        v = judge(&h, i == 2 ? 50 : 2, i == 5 ? 100 : 1);
        assert_false(v.loss_spike || v.norm_spike);
    }
    h = (gr_health){0};
    for (int i = 0; i < GR_HEALTH_LEAST; i++) judge(&h, 2 + 0.1 * (i % 3), 1);
    assert_true(judge(&h, 9, 1).loss_spike);
    assert_false(judge(&h, 3, 1).loss_spike); /* less than twice */
    v = judge(&h, 2, 60);
    assert_true(v.norm_spike && !v.loss_spike && !v.skipped);
    assert_near(v.usual_norm, 1, 0);
    for (int i = 0; i < 40; i++) { /* uneven by nature: nothing is far from it */
        v = judge(&h, i % 2 ? 0.5 : 4, i % 2 ? 1 : 8);
        if (i > 20) assert_false(v.loss_spike || v.norm_spike);
    }
    assert_true(judge(&h, 4, NAN).skipped);
    assert_true(judge(&h, NAN, 1).bad_loss);
    assert_true(judge(&h, INFINITY, 1).skipped);
    assert_int_equal(h.in_a_row, 3);
    assert_false(judge(&h, 4, 8).skipped);
    assert_int_equal(h.in_a_row, 0);
    assert_int_equal(h.skipped, 3);
    assert_int_equal(h.applied, h.seen);
    /* to a checkpoint and back, in the middle of an update with more rows than are named */
    for (uint64_t i = 1; i < 30; i++)
        gr_health_add_row(&h, (int64_t)i, i, i % 2 ? 0.1 * (double)i : NAN, i % 3);
    gr_health back = {0};
    graft_error err = {0};
    json_t *progress = json_pack("{s:o}", "health", gr_health_json(&h));
    char *text = json_dumps(progress, 0);
    json_decref(progress);
    progress = json_loads(text, 0, NULL);
    gr_json_scope scope = {progress, "checkpoint", ""};
    if (gr_health_read(&back, &scope, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    assert_int_equal(back.rows.count, 29);
    assert_int_equal(back.bad.count, h.bad.count);
    assert_memory_equal(back.bad.lines, h.bad.lines, sizeof h.bad.lines);
    assert_true(back.bad_loss);
    assert_near(back.loss, h.loss, 0);
    assert_memory_equal(back.losses, h.losses, sizeof h.losses);
    assert_memory_equal(back.norms, h.norms, sizeof h.norms);
    assert_int_equal(back.good_row, h.good_row);
    assert_int_equal(back.seen, h.seen);
    assert_int_equal(back.applied, h.applied);
    json_decref(progress);
    /* what is not one of ours is refused */
    static const char *const wrong[][2] = {
        {"\"rows\": [29", "\"rows\": [-1"}, {"\"rows\": [29", "\"rows\": [3"}, {"\"seen\": ", "\"seen\": -"},
        {"\"loss\": \"", "\"loss\": \"g"},  {"\"bad\": [", "\"bad\": \"["},    {"\"applied\"", "\"aplied\""}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *at = strstr(text, wrong[i][0]), changed[8192];
        assert_non_null(at);
        snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, wrong[i][1],
                 at + strlen(wrong[i][0]));
        progress = json_loads(changed, 0, NULL);
        scope.object = progress;
        err = (graft_error){0};
        if (progress) assert_int_not_equal(gr_health_read(&back, &scope, &err), GRAFT_OK);
        json_decref(progress);
    }
    free(text);
}

/* The gradient of `weight` times the loss, with B moved away from zero; malloc'ed. */
static float *gradient_of(const char *model, const char *compute, float weight, int64_t *count) {
    graft_options o;
    gr_trainer t;
    open_by_hand(
        &t, &o, NULL, model,
        (const char *const[]){"compute", compute, "batch-size", "5", "lora-targets", "all-linear", NULL});
    *count = t.rt.tuning->parameters;
    for (int64_t i = 0; i < *count; i++) t.params[i] += 0.01f * (float)(i % 7 - 3);
    t.rt.net.head.weight = weight;
    int64_t n = gr_trainer_take(&t), targets = gr_trainer_rows(&t, t.indices, n);
    assert_true(isfinite(gr_trainer_collect(&t, t.p.pending_rows, targets)));
    float *copy = malloc((size_t)*count * sizeof *copy);
    memcpy(copy, t.grad, (size_t)*count * sizeof *copy);
    gr_trainer_close(&t);
    graft_options_free(&o);
    return copy;
}

static char *tiny_base; /* of the check below */

static void scales_exactly(const char *isa, bool fp32) {
    const char *compute = fp32 ? "fp32" : "bf16";
    int64_t count, zeros = 0;
    setenv("GRAFT_ISA", isa, 1);
    float *plain = gradient_of(tiny_base, compute, 1, &count),
          *scaled = gradient_of(tiny_base, compute, 0x1p-60f, &count);
    for (int64_t i = 0; i < count; i++) {
        zeros += plain[i] == 0;
        if (scaled[i] != plain[i] * 0x1p-60f)
            fail_msg("%s %s, element %lld: %a, not %a", isa, compute, (long long)i, (double)scaled[i],
                     (double)(plain[i] * 0x1p-60f));
    }
    assert_true(zeros < count / 100);
    free(plain);
    free(scaled);
}

/* The gradient of the loss times 2^-60 is 2^-60 times the gradient, bit for bit: nothing is flushed, neither
 * in f32 nor in bf16, which has its exponents. No loss needs a scale. */
static void no_loss_scaling(void **state) {
    (void)state;
    char *before = getenv("GRAFT_ISA"), *kept = before ? strdup(before) : NULL;
    tiny_base = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4, .dtype = GR_BF16});
    each_isa(scales_exactly);
    if (kept)
        setenv("GRAFT_ISA", kept, 1);
    else
        unsetenv("GRAFT_ISA");
    free(kept);
    tiny_remove(tiny_base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judged),          cmocka_unit_test(leaves_no_trace),
        cmocka_unit_test(one_element),     cmocka_unit_test(counted_everywhere),
        cmocka_unit_test(stops_in_a_row),  cmocka_unit_test(keeps_the_last_good),
        cmocka_unit_test(best_before_it),  cmocka_unit_test(spikes_are_told),
        cmocka_unit_test(no_loss_scaling),
    };
    return cmocka_run_group_tests_name("health", tests, setup, teardown);
}
