/* Training on preferences, and measuring them, against TRL in float64 (tests/golden/preference.json); and
 * what must not change a bit of it.
 *
 * Tolerances as in test_ten_steps.c: the golden file tells how far PyTorch's float32 is from float64; 20
 * times that, but at least 2e-5 of the loss and 1e-4 of what training changed. Log-probabilities are sums of
 * up to twenty losses and are held to 1e-4 of themselves. A wrong rule shows at 1e-2. */
#include "options/options.h"
#include "tests/golden_dir.h"

static json_t *golden;

typedef struct pref_run {
    const json_t *entry;
    const char *name;
    char *root, *model, *data, *start_dir, *out;
    tensor_list base, start;
} pref_run;

static const json_t *entry_named(const char *name) {
    size_t i;
    json_t *e;
    json_array_foreach(golden_member(golden, "entries"), i,
                       e) if (strcmp(golden_text(e, "name"), name) == 0) return e;
    fail_msg("no entry %s", name);
    return NULL;
}

static char *write_pairs(const char *dir_root) {
    char *dir = tiny_subdir(dir_root, "data");
    gr_buf b = {0};
    size_t i;
    json_t *row;
    json_array_foreach(golden_member(golden, "rows"), i, row)
        gr_buf_printf(&b, "{\"prompt\": \"%s\", \"chosen\": \"%s\", \"rejected\": \"%s\"}\n",
                      json_string_value(json_array_get(row, 0)), json_string_value(json_array_get(row, 1)),
                      json_string_value(json_array_get(row, 2)));
    tiny_write(dir, "train.jsonl", b.data);
    tiny_write(dir, "valid.jsonl", b.data);
    gr_buf_free(&b);
    return dir;
}

static pref_run *open_run(const json_t *entry, int bits) {
    pref_run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    const json_t *config = golden_member(golden_member(golden, "models"), golden_text(entry, "model"));
    r->entry = entry;
    r->name = golden_text(entry, "name");
    r->root = tiny_temp();
    r->model = golden_model_dir(&r->base, r->root, config, bits);
    r->data = write_pairs(r->root);
    start_list(&r->start, entry, &r->base);
    r->start_dir = golden_start_dir(r->root, entry, &r->start, false);
    r->out = tiny_join(r->root, "out");
    return r;
}

static void close_run(pref_run *r) {
    list_free(&r->base);
    list_free(&r->start);
    free(r->model);
    free(r->data);
    free(r->start_dir);
    free(r->out);
    tiny_remove(r->root);
    free(r);
}

/* The reports of a run, and where it stops. */
typedef struct reports {
    graft_event train[32], valid[32];
    int trains, valids, stop_at; /* stop_at 0: never */
    volatile int stop;
} reports;

static void on_report(void *user, const graft_event *e) {
    reports *r = user;
    if (e->kind == GRAFT_EVENT_VALID && r->valids < 32) r->valid[r->valids++] = *e;
    if (e->kind != GRAFT_EVENT_TRAIN || r->trains == 32) return;
    r->train[r->trains++] = *e;
    if (r->trains == r->stop_at) r->stop = 1;
}

static void common(graft_options *o, graft_verb verb, const pref_run *r) {
    char beta[24];
    snprintf(beta, sizeof beta, "%.9g", golden_number(golden, "beta"));
    tiny_set(o, verb,
             (const char *const[]){"model", r->model, "compute", "fp32", "threads", "2", "loss",
                                   golden_text(r->entry, "loss"), "beta", beta, NULL});
    const json_t *options = golden_member(r->entry, "options");
    const json_t *type = json_object_get(options, "loss_type"),
                 *smoothing = json_object_get(options, "label_smoothing");
    snprintf(beta, sizeof beta, "%.9g", json_number_value(smoothing));
    if (type) tiny_set(o, verb, (const char *const[]){"loss-type", json_string_value(type), NULL});
    if (smoothing) tiny_set(o, verb, (const char *const[]){"label-smoothing", beta, NULL});
}

/* As many iterations as TRL's run had; `steps` of them an update. */
static void train(const pref_run *r, const char *out, bool from_start, const char *const *more,
                  reports *watch) {
    graft_options o;
    graft_error err = {0};
    graft_train_result result = {0};
    reports own = {0};
    char steps[24], rate[24];
    if (!watch) watch = &own;
    graft_hooks hooks = {.user = watch, .event = on_report, .stop = &watch->stop};
    int64_t every = json_integer_value(
        json_object_get(golden_member(r->entry, "options"), "gradient_accumulation_steps"));
    graft_options_init(&o);
    common(&o, GRAFT_VERB_TRAIN, r);
    snprintf(steps, sizeof steps, "%lld", (long long)gr_max_i64(every, 1));
    snprintf(rate, sizeof rate, "%.9g", golden_number(golden, "rate"));
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"data", r->data, "adapter-path", out, "iters", "10", "batch-size", "2",
                                   "grad-accumulation-steps", steps, "steps-per-report", steps,
                                   "learning-rate", rate, "no-shuffle", "-", "steps-per-eval", "1000", NULL});
    if (from_start)
        tiny_set(&o, GRAFT_VERB_TRAIN, (const char *const[]){"resume-adapter-file", r->start_dir, NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, more);
    graft_status st = graft_train(&o, &hooks, &result, &err);
    if (st != (watch->stop ? GRAFT_INTERRUPTED : GRAFT_OK))
        fail_msg("%s: %s %s %s %s", r->name, err.what, err.where, err.found, err.hint);
    graft_options_free(&o);
}

static void near(const pref_run *r, const char *what, int step, double found, double truth, double bound) {
    if (!(fabs(found - truth) <= bound))
        fail_msg("%s: %s of step %d is %.9g, TRL's %.9g, allowed %.3g", r->name, what, step, found, truth,
                 bound);
}

/* What a report or a result says, against TRL's log of the same step. */
static void compare_means(const pref_run *r, const graft_preference *p, const json_t *log, int step) {
    const struct {
        const char *key;
        double value;
    } found[] = {{"rewards/chosen", p->reward_chosen},
                 {"rewards/rejected", p->reward_rejected},
                 {"rewards/accuracies", p->accuracy},
                 {"rewards/margins", p->margin},
                 {"logps/chosen", p->logp_chosen},
                 {"logps/rejected", p->logp_rejected},
                 {"nll_loss", p->nll_loss},
                 {"log_odds_ratio", p->log_odds_ratio},
                 {"log_odds_chosen", p->log_odds_chosen}};
    for (size_t i = 0; i < sizeof found / sizeof *found; i++) {
        const json_t *truth = json_object_get(log, found[i].key);
        if (!truth) {
            assert_true(isnan(found[i].value));
            continue;
        }
        double x = json_number_value(truth);
        near(r, found[i].key, step, found[i].value, x, 1e-4 * fmax(1, fabs(x)));
    }
}

static void compare_logs(const pref_run *r, const reports *found) {
    const json_t *logs = golden_member(r->entry, "logs");
    double off = 20 * golden_number(golden_member(r->entry, "f32"), "loss");
    assert_int_equal(found->trains, json_array_size(logs));
    for (int i = 0; i < found->trains; i++) {
        const json_t *log = json_array_get(logs, (size_t)i);
        double loss = golden_number(log, "loss"), norm = golden_number(log, "grad_norm");
        near(r, "loss", i, found->train[i].train_loss, loss, fmax(off, 2e-5 * loss));
        near(r, "gradient's norm", i, found->train[i].grad_norm, norm, 1e-3 * norm);
        compare_means(r, &found->train[i].preference, log, i);
    }
}

/* What training changed, in samples of every tensor. */
static void compare_tensors(const pref_run *r) {
    graft_error err = {0};
    gr_safetensors *file;
    char *path = tiny_join(r->out, "adapter_model.safetensors"), name[200];
    double off = 0, moved = 0,
           limit = fmax(20 * golden_number(golden_member(r->entry, "f32"), "moved"), 1e-4);
    size_t i, k;
    json_t *t, *value;
    assert_int_equal(gr_safetensors_open(&file, path, &err), GRAFT_OK);
    json_array_foreach(golden_member(r->entry, "tensors"), i, t) {
        snprintf(name, sizeof name, "%s%s", PEFT_PREFIX, golden_text(t, "name"));
        const gr_tensor *x = gr_safetensors_find(file, name),
                        *from = list_find(&r->start, golden_text(t, "name"));
        if (!x) fail_msg("%s: %s is missing", r->name, name);
        json_array_foreach(golden_member(t, "values"), k, value) {
            int64_t at = (int64_t)k * golden_int(t, "stride");
            double change = (double)gr_float_at(x->data, at, x->dtype) - (double)list_floats(from)[at];
            off += pow(change - json_number_value(value), 2);
            moved += pow(json_number_value(value), 2);
        }
    }
    if (!(sqrt(off / moved) <= limit))
        fail_msg("%s: tensors are off by %.3g of their change, allowed %.3g", r->name, sqrt(off / moved),
                 limit);
    gr_safetensors_close(file);
    free(path);
}

/* run.json counts pairs. */
static void compare_record(const pref_run *r) {
    char *path = tiny_join(r->out, "run.json");
    json_t *run = json_load_file(path, 0, NULL);
    assert_int_equal(golden_int(golden_member(golden_member(run, "data"), "train"), "rows"),
                     json_array_size(golden_member(golden, "rows")));
    json_decref(run);
    free(path);
}

static void as_trl_trains(void **state) {
    pref_run *r = open_run(*state, 0);
    reports found = {0};
    train(r, r->out, true, NULL, &found);
    compare_logs(r, &found);
    compare_tensors(r);
    compare_record(r);
    assert_true(found.valids >= 2);
    if (!strcmp(golden_text(r->entry, "loss"), "dpo")) /* where it starts, adapter and reference are one */
        near(r, "margin", 0, found.valid[0].preference.margin, 0, 0);
    close_run(r);
}

/* The start against the bare base. */
static void as_trl_measures(void **state) {
    pref_run *r = open_run(*state, 0);
    const json_t *truth = golden_member(r->entry, "eval"), *losses = golden_member(truth, "losses");
    graft_options o;
    graft_eval_result result;
    graft_error err = {0};
    graft_options_init(&o);
    common(&o, GRAFT_VERB_EVAL, r);
    tiny_set(&o, GRAFT_VERB_EVAL,
             (const char *const[]){"data", r->data, "split", "train", "per-row", "-", "adapter-path",
                                   r->start_dir, "allow-other-base", "-", NULL});
    if (graft_eval(&o, NULL, &result, &err) != GRAFT_OK) fail_msg("%s: %s %s", r->name, err.what, err.where);
    compare_means(r, &result.preference, truth, -1);
    assert_int_equal(result.rows, json_array_size(golden_member(golden, "rows")));
    double sum = 0;
    for (int64_t i = 0; i < result.rows; i++) {
        assert_int_equal(result.row_losses[i].line, i + 1);
        sum += result.row_losses[i].loss / (double)result.rows;
        if (json_array_size(losses) == 1) continue;
        double loss = json_number_value(json_array_get(losses, (size_t)i));
        near(r, "loss of a pair", (int)i, result.row_losses[i].loss, loss, fmax(2e-5 * loss, 2e-5));
    }
    near(r, "mean of the pairs", 0, sum, result.loss, 1e-9 * fabs(sum));
    if (json_array_size(losses) == 1) {
        double loss = json_number_value(json_array_get(losses, 0));
        near(r, "loss", 0, result.loss, loss, 2e-5 * loss);
    }
    assert_true(isnan(result.perplexity));
    graft_eval_result_free(&result);
    graft_options_free(&o);
    close_run(r);
}

/* The digest of all that was trained, as the file says it (malloc'ed). */
static char *digest_of(const char *dir) {
    graft_error err = {0};
    gr_safetensors *opened;
    char *path = tiny_join(dir, "adapter_model.safetensors");
    assert_int_equal(gr_safetensors_open(&opened, path, &err), GRAFT_OK);
    char *digest = strdup(gr_safetensors_metadata(opened, "digest"));
    gr_safetensors_close(opened);
    free(path);
    return digest;
}

/* Threads, recompute, slices and a stop in the middle change no bit; nor, with dpo, does accumulation. */
static void other_ways(void **state) {
    static const char *const file = "adapter_model.safetensors";
    pref_run *r = open_run(entry_named(*state), 4);
    bool start = strcmp(*state, "dora") == 0, dpo = strcmp(golden_text(r->entry, "loss"), "dpo") == 0;
    char *again = tiny_join(r->root, "again"), *cut = tiny_join(r->root, "cut");
    const char *const ways[][7] = {{"threads", "1", NULL},
                                   {"threads", "3", "grad-checkpoint", "layer", NULL},
                                   {"grad-checkpoint", "mlp", NULL}};
    reports stopped = {.stop_at = 3};
    train(r, r->out, start, (const char *const[]){"compute", "bf16", NULL}, NULL);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        train(r, again, start,
              (const char *const[]){"compute", "bf16", ways[i][0], ways[i][1], ways[i][2],
                                    ways[i][2] ? ways[i][3] : NULL, NULL},
              NULL);
        tiny_same_file(r->out, again, file);
    }
    train(r, cut, start, (const char *const[]){"compute", "bf16", "save-every", "1", NULL}, &stopped);
    train(r, cut, start, (const char *const[]){"compute", "bf16", "resume", "-", NULL}, NULL);
    tiny_same_file(r->out, cut, file);
    if (dpo) {
        train(r, again, start,
              (const char *const[]){"compute", "bf16", "batch-size", "4", "iters", "5", NULL}, NULL);
        train(r, cut, start,
              (const char *const[]){"compute", "bf16", "batch-size", "1", "grad-accumulation-steps", "4",
                                    "iters", "20", NULL},
              NULL);
        char *a = digest_of(again), *b = digest_of(cut);
        assert_string_equal(a, b);
        free(a);
        free(b);
    }
    free(again);
    free(cut);
    close_run(r);
}

/* Before the first update the model is its reference, to the bit: whatever trains, in bf16 on 4 bits. */
static void begins_at_the_reference(void **state) {
    (void)state;
    static const char *const kinds[][5] = {{"lora-dropout", "0.5", NULL},
                                           {"fine-tune-type", "dora", NULL},
                                           {"lora-bias", "all", "modules-to-save", "norm", NULL},
                                           {"lora-targets", "q_proj,embed_tokens,lm_head", NULL}};
    pref_run *r = open_run(entry_named("sigmoid"), 4);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        reports found = {0};
        train(r, r->out, false,
              (const char *const[]){"compute", "bf16", "iters", "1", kinds[i][0], kinds[i][1], kinds[i][2],
                                    kinds[i][2] ? kinds[i][3] : NULL, NULL},
              &found);
        double off = strcmp(kinds[i][1], "dora") ? 0 : 1e-2; /* DoRA's gains are 1 within a rounding */
        near(r, kinds[i][0], (int)i, found.train[0].train_loss, 0.69314718055994531, 1e-15 + off);
        near(r, kinds[i][0], (int)i, found.train[0].preference.margin, 0, off);
        assert_true(found.train[0].grad_norm > 0);
    }
    close_run(r);
}

/* Full training keeps the base beside it, as it was: that is the reference. */
static void full_training(void **state) {
    (void)state;
    pref_run *r = open_run(entry_named("sigmoid"), 0);
    reports found = {0};
    train(r, r->out, false, (const char *const[]){"fine-tune-type", "full", "learning-rate", "1e-4", NULL},
          &found);
    near(r, "first loss", 0, found.train[0].train_loss, 0.69314718055994531, 1e-6);
    assert_true(found.train[9].train_loss < 0.6 && found.train[9].preference.reward_chosen != 0);
    close_run(r);
}

/* The step of a host, and a freeze before it. */
static void steps_of_a_host(void **state) {
    (void)state;
    pref_run *r = open_run(entry_named("sigmoid"), 0);
    graft_options o;
    graft_error err = {0};
    graft_trainer *t;
    double loss, first = NAN;
    graft_options_init(&o);
    common(&o, GRAFT_VERB_TRAIN, r);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"data", r->data, "adapter-path", r->out, "iters", "4", "no-shuffle", "-",
                                   "batch-size", "8", "learning-rate", "1e-3", NULL});
    if (graft_trainer_open(&t, &o, NULL, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    assert_int_equal(graft_trainer_freeze(t, false, &err), GRAFT_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(graft_trainer_step(t, &loss, &err), GRAFT_OK);
        if (i == 0) first = loss;
    }
    near(r, "first loss", 0, first, 0.69314718055994531, 1e-6);
    assert_true(loss < first);
    graft_trainer_free(t);
    graft_options_free(&o);
    close_run(r);
}

/* The steps that a plan is timed with are of pairs too: no more leaves than an update has. */
static void planned(void **state) {
    static const char *const batches[] = {"1", "2", "3", "4"};
    pref_run *r = open_run(entry_named(*state), 4);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        graft_options o;
        graft_plan plan;
        graft_error err = {0};
        graft_options_init(&o);
        common(&o, GRAFT_VERB_PLAN, r);
        tiny_set(&o, GRAFT_VERB_PLAN, (const char *const[]){"data", r->data, "batch-size", batches[i], NULL});
        if (graft_plan_make(&o, NULL, &plan, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
        assert_true(plan.tokens_per_second > 0);
        graft_plan_free(&plan);
        graft_options_free(&o);
    }
    close_run(r);
}

static int setup(void **state) {
    (void)state;
    golden = json_load_file(GRAFT_SOURCE_DIR "/tests/golden/preference.json", 0, NULL);
    return !golden;
}

static int teardown(void **state) {
    (void)state;
    json_decref(golden);
    return 0;
}

int main(void) {
    struct CMUnitTest tests[40] = {cmocka_unit_test(begins_at_the_reference),
                                   cmocka_unit_test(steps_of_a_host),
                                   cmocka_unit_test(full_training),
                                   cmocka_unit_test_prestate(planned, "sigmoid"),
                                   cmocka_unit_test_prestate(planned, "orpo"),
                                   cmocka_unit_test_prestate(other_ways, "sigmoid"),
                                   cmocka_unit_test_prestate(other_ways, "dora"),
                                   cmocka_unit_test_prestate(other_ways, "orpo")};
    size_t count = 8, i;
    json_t *entry;
    setup(NULL);
    json_array_foreach(golden_member(golden, "entries"), i, entry) {
        tests[count++] = (struct CMUnitTest){golden_text(entry, "name"), as_trl_trains, NULL, NULL, entry};
        tests[count++] = (struct CMUnitTest){"likewise, measured", as_trl_measures, NULL, NULL, entry};
    }
    return _cmocka_run_group_tests("preference", tests, count, NULL, teardown);
}
