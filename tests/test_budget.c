/* train/budget.c: --budget picks the fastest settings that fit, a run keeps within it, the least is named
 * where nothing fits, and none of it changes a bit. */
#include "tests/tiny_run.h"
#include <sys/wait.h>

/* A plan's forecast of a published shape. */
static graft_status plan(graft_plan *p, const char *const *more, graft_error *err) {
    graft_options o;
    *err = (graft_error){0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_PLAN,
             (const char *const[]){"shape", "smollm2-135m", "threads", "1", "max-seq-length", "256", NULL});
    tiny_set(&o, GRAFT_VERB_PLAN, more);
    graft_status st = graft_plan_make(&o, NULL, p, err);
    graft_options_free(&o);
    return st;
}

static uint64_t total_at(const char *budget) {
    graft_plan p;
    graft_error err;
    if (plan(&p, (const char *const[]){"budget", budget, NULL}, &err) != GRAFT_OK)
        fail_msg("%s: %s %s", budget, err.what, err.expected);
    uint64_t total = p.memory.total;
    graft_plan_free(&p);
    return total;
}

/* What --resume-adapter-file brings is in memory while the run is planned, and becomes part of its state. */
static void counts_an_adapter_once(void **state) {
    (void)state;
    if (SANITIZED) skip();
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *out = tiny_join(root, "large");
    graft_memory m[2];
    uint64_t bytes = 0;
    must_train(model, "large", (const char *const[]){"lora-rank", "4000", "iters", "1", NULL}, NULL, NULL);
    for (int from = 0; from < 2; from++) {
        graft_options o;
        graft_error err = {0};
        gr_trainer t;
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_TRAIN, (const char *const[]){"model", model, "data", data, NULL});
        tiny_set(&o, GRAFT_VERB_TRAIN,
                 from ? (const char *const[]){"resume-adapter-file", out, NULL}
                      : (const char *const[]){"lora-rank", "4000", NULL});
        if (gr_trainer_open(&t, model, &o, NULL, GR_TRAINER_PLAN, &err) != GRAFT_OK) fail_msg("%s", err.what);
        m[from] = t.forecast;
        bytes = (uint64_t)t.rt.tuning->parameters * sizeof(float);
        gr_trainer_close(&t);
        graft_options_free(&o);
    }
    assert_true(bytes > 10 << 20);
    assert_int_equal(m[0].state, m[1].state);
    if (m[1].other > m[0].other + bytes / 4)
        fail_msg("other: %llu, with the adapter %llu, its bytes %llu", (unsigned long long)m[0].other,
                 (unsigned long long)m[1].other, (unsigned long long)bytes);
    free(out);
    forget("large");
    tiny_remove(model);
}

/* Every budget from far above the usual settings down to the named least is kept; more room is never used for
 * something that takes less. */
static void plans_keep_within(void **state) {
    (void)state;
    if (SANITIZED) skip();
    graft_plan p;
    graft_error err;
    assert_int_equal(plan(&p, (const char *const[]){"grad-checkpoint", "none", "budget", "50GB", NULL}, &err),
                     GRAFT_OK);
    uint64_t usual = p.memory.total;
    graft_plan_free(&p);
    assert_int_equal(plan(&p, (const char *const[]){"budget", "1MB", NULL}, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.what, "--budget 1MB"));
    long least = 0;
    assert_int_equal(sscanf(err.expected, "at least %ld MB, with --grad-checkpoint layer", &least), 1);
    assert_true(least > 100 && (uint64_t)least * 1000000 < usual / 2);
    uint64_t room = (uint64_t)least * 1000000;
    for (int step = 0; step < 12; step++) {
        char budget[32];
        snprintf(budget, sizeof budget, "%llu", (unsigned long long)room);
        assert_true(total_at(budget) <= room);
        room += (usual - (uint64_t)least * 1000000) / 10;
    }
    assert_in_range(total_at("100GB"), room / 2, usual + (1 << 20)); /* a few pages of the heap */
    char below[32];
    snprintf(below, sizeof below, "%ldMB",
             least - 2); /* the named one is rounded up and has a little to spare */
    assert_int_equal(plan(&p, (const char *const[]){"budget", below, NULL}, &err), GRAFT_USAGE);
}

/* --grad-checkpoint none stays none: where only recompute fits, the run is refused and told so. */
static void wishes_hold(void **state) {
    (void)state;
    graft_plan p;
    graft_error err;
    assert_int_equal(
        plan(&p, (const char *const[]){"budget", "500MB", "grad-checkpoint", "layer", NULL}, &err), GRAFT_OK);
    assert_string_equal(p.grad_checkpoint, "layer");
    graft_plan_free(&p);
    static const char *const fits[][2] = {{"235MB", "mlp"}, {"200MB", "layer"}};
    for (int i = 0; i < (SANITIZED ? 1 : 2); i++) {
        assert_int_equal(plan(&p, (const char *const[]){"budget", fits[i][0], "batch-size", "1", NULL}, &err),
                         GRAFT_OK);
        if (!SANITIZED) assert_string_equal(p.grad_checkpoint, fits[i][1]);
        graft_plan_free(&p);
    }
    assert_int_equal(
        plan(&p, (const char *const[]){"budget", "230MB", "batch-size", "1", "grad-checkpoint", "none", NULL},
             &err),
        GRAFT_USAGE);
    assert_non_null(strstr(err.expected, "--grad-checkpoint layer"));
}

/* Between none and layer: without gate and up of every block but one. */
static void mlp_lies_between(void **state) {
    (void)state;
    static const char *const names[] = {"none", "mlp", "layer"};
    graft_plan p;
    graft_error err;
    uint64_t saved[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            plan(&p, (const char *const[]){"batch-size", "1", "grad-checkpoint", names[i], NULL}, &err),
            GRAFT_OK);
        assert_string_equal(p.grad_checkpoint, names[i]);
        saved[i] = p.memory.saved;
        graft_plan_free(&p);
    }
    uint64_t gate_up = UINT64_C(29) * 256 * 2 * 1536 * 2; /* blocks, tokens, width, bytes */
    assert_true(saved[1] + gate_up <= saved[0] && saved[2] < saved[1]);
}

/* One long row sets the floor: the length that would fit is named, and fits. */
static void names_a_length(void **state) {
    (void)state;
    graft_plan p;
    graft_error err;
    static const char *const row[] = {"max-seq-length", "4096", "batch-size", "1", "budget", "280MB", NULL};
    assert_int_equal(plan(&p, row, &err), GRAFT_USAGE);
    long length = 0;
    assert_int_equal(sscanf(err.hint, "--max-seq-length %ld", &length), 1);
    char text[32];
    snprintf(text, sizeof text, "%ld", length);
    assert_int_equal(
        plan(&p, (const char *const[]){"max-seq-length", text, "batch-size", "1", "budget", "280MB", NULL},
             &err),
        GRAFT_OK);
    assert_true(p.memory.total <= 280000000);
    graft_plan_free(&p);
}

#define WIDE "batch-size", "12", "grad-accumulation-steps", "1", "lora-rank", "8", "iters", "4"

/* The peak and the forecast of a run in a process of its own; both 0 where it was refused. */
static void measured(const char *model, const char *budget, uint64_t bytes[2]) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        graft_train_result r = {0};
        graft_error err = {0};
        graft_status st =
            train(model, "out", (const char *const[]){WIDE, "budget", budget, NULL}, NULL, &r, &err);
        uint64_t said[2] = {r.peak_memory_bytes, r.forecast.total};
        if (st != GRAFT_OK) memset(said, 0, sizeof said);
        _exit(write(ends[1], said, sizeof said) != sizeof said || (st != GRAFT_OK && st != GRAFT_USAGE));
    }
    int status = 0;
    assert_int_equal(read(ends[0], bytes, 2 * sizeof *bytes), 2 * sizeof *bytes);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(ends[0]);
    close(ends[1]);
}

/* A sweep of sizes on real runs: none is exceeded, and some are refused. */
static void runs_keep_within(void **state) {
    (void)state;
    if (SANITIZED) skip();
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    uint64_t free_run[2], bytes[2];
    measured(model, "1GB", free_run);
    assert_true(free_run[0] > 0 && free_run[0] <= free_run[1]);
    int refused = 0, kept = 0;
    for (int i = 0; i < 10; i++) {
        char budget[32];
        uint64_t room = free_run[1] - (uint64_t)i * free_run[1] / 20;
        snprintf(budget, sizeof budget, "%llu", (unsigned long long)room);
        measured(model, budget, bytes);
        if (bytes[0] > room) fail_msg("%llu bytes above %s", (unsigned long long)(bytes[0] - room), budget);
        refused += bytes[0] == 0;
        kept += bytes[0] != 0;
    }
    assert_true(kept >= 1 && refused >= 1);
    tiny_remove(model);
}

/* Digest of what three updates train with rows cut to `slice` tokens, tiles of `tile` rows, and recompute. */
static void digest_with(char digest[17], const char *model, const char *recompute, int64_t slice,
                        int64_t tile, const char *const *more) {
    graft_options o;
    graft_error err = {0};
    gr_trainer t;
    char *adapter = tiny_join(root, "sliced");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data, "adapter-path", adapter, "grad-checkpoint",
                                   recompute, NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, common);
    tiny_set(&o, GRAFT_VERB_TRAIN, more);
    if (gr_trainer_open(&t, model, &o, NULL, GR_TRAINER_RUN, &err) != GRAFT_OK) fail_msg("%s", err.what);
    t.slice_tokens = slice;
    if (!gr_net_fixed_tile(&t.rt.model->config, t.rt.tuning))
        t.rt.net.head.tile = gr_min_i64(tile, t.rt.net.head.tile);
    for (t.p.iteration = 0; t.p.iteration < 3; t.p.iteration++) {
        int64_t n = gr_order_take(&t.order, t.indices, o.batch_size);
        assert_true(gr_trainer_rows(&t, t.indices, n) > 0);
        gr_trainer_update(&t);
    }
    gr_adapter_digest(digest, t.params, t.rt.tuning->parameters);
    gr_trainer_close(&t);
    graft_options_free(&o);
    free(adapter);
}

static void same_bits_for(const char *model, const char *const *more) {
    char usual[17], other[17];
    digest_with(usual, model, "none", 2048, 1 << 20, more);
    for (int64_t tile = 1; tile < 100; tile = tile * 5 + 1)
        for (int64_t slice = 1; slice <= 256; slice *= 16) {
            static const char *const ways[] = {"none", "mlp", "layer"};
            digest_with(other, model, ways[slice > 1 ? 1 + (tile + slice / 16) % 2 : 0], slice, tile, more);
            assert_string_equal(usual, other);
        }
}

/* None of the settings that the search may choose changes a bit, whatever trains. */
static void settings_change_no_bit(void **state) {
    (void)state;
    static const struct {
        tiny_spec model;
        const char *more[8];
    } cases[] = {{{.bits = 4}, {"compute", "bf16", "lora-targets", "full", "lora-dropout", "0.2"}},
                 {{.bits = 4}, {"compute", "fp32", "lora-targets", "full"}},
                 {{.bits = 4, .type = "qwen2"}, {"fine-tune-type", "dora", "lora-bias", "all"}},
                 {{.dtype = GR_BF16}, {"fine-tune-type", "full", "num-layers", "1"}},
                 {{.bits = 4, .untied = true}, {"modules-to-save", "lm_head"}},
                 {{.bits = 4}, {"modules-to-save", "embed_tokens"}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *more[12] = {"batch-size", "5"};
        memcpy(more + 2, cases[i].more, sizeof cases[i].more);
        char *model = tiny_model_dir(root, "base", &cases[i].model);
        same_bits_for(model, more);
        tiny_remove(model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_keep_within), /* first: before this process has grown */
        cmocka_unit_test(counts_an_adapter_once),
        cmocka_unit_test(plans_keep_within),
        cmocka_unit_test(wishes_hold),
        cmocka_unit_test(mlp_lies_between),
        cmocka_unit_test(names_a_length),
        cmocka_unit_test(settings_change_no_bit)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
