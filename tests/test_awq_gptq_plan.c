/* A directory of AWQ or GPTQ linears where only its numbers and its tokenizer are asked for: plan, export and
 * tokenize read it as it is and convert nothing; what computes with weights says what to do. */
#include "model/model.h"
#include "tests/tiny_run.h"

#define AWQ(more)                                                                                            \
    ",\"quantization_config\":{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":32,\"version\":"           \
    "\"gemm\"" more "}"

static char *cache;

static int setup_cache(void **state) {
    setup(state);
    cache = tiny_subdir(root, "cache");
    return setenv("XDG_CACHE_HOME", cache, 1);
}

static int teardown_cache(void **state) {
    free(cache);
    return unsetenv("XDG_CACHE_HOME") + teardown(state);
}

static void nothing_converted(void) {
    char *made = tiny_join(cache, "graft");
    assert_false(gr_path_exists(made));
    free(made);
}

static graft_status plan(graft_plan *p, const char *model, watch *w, graft_error *err) {
    graft_options o;
    graft_hooks hooks = {.user = w, .event = on_event};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_PLAN, (const char *const[]){"model", model, "data", data, NULL});
    graft_status st = graft_plan_make(&o, &hooks, p, err);
    graft_options_free(&o);
    return st;
}

/* What MLX will have of it: the bits of the codes, what was left out, and the head where it is quantized. */
static void plans(void **state) {
    (void)state;
    static const struct {
        const char *config;
        int bits, k_bits, head_bits;
    } cases[] = {
        {AWQ(""), 4, 4, 16},
        {AWQ(",\"modules_to_not_convert\":[\"k_proj\",7]"), 4, 16, 16},
        {",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":8,\"group_size\":32,\"lm_head\":true}",
         8, 8, 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *model = tiny_model_dir(root, "packed", &(tiny_spec){.untied = true, .extra = cases[i].config});
        graft_plan p;
        watch w = {0};
        graft_error err = {0};
        if (plan(&p, model, &w, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
        for (size_t k = 0; k < p.tensors_count; k++) {
            const graft_plan_tensor *t = &p.tensors_list[k];
            if (strstr(t->name, "up_proj")) assert_int_equal(t->bits, cases[i].bits);
            if (strstr(t->name, "up_proj")) assert_int_equal(t->group_size, 32);
            if (strstr(t->name, "k_proj")) assert_int_equal(t->bits, cases[i].k_bits);
            if (strstr(t->name, "lm_head")) assert_int_equal(t->bits, cases[i].head_bits);
        }
        assert_non_null(strstr(w.notes, "will convert"));
        assert_true(p.time_seconds > 0);
        graft_plan_free(&p);
        nothing_converted();
        tiny_remove(model);
    }
}

static void on_row(void *user, const graft_row *row) {
    *(int64_t *)user += row->count;
}

static void tokenizes_and_exports(void **state) {
    (void)state;
    char *four = tiny_model_dir(root, "four", &(tiny_spec){.bits = 4}),
         *model = tiny_model_dir(root, "packed", &(tiny_spec){.extra = AWQ("")}),
         *adapter = tiny_join(root, "adapter"), *out = tiny_join(root, "out");
    graft_options o;
    graft_error err = {0};
    graft_export_result result;
    int64_t tokens = 0;
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TOKENIZE, (const char *const[]){"model", model, "text", "one two", NULL});
    if (graft_tokenize(&o, NULL, on_row, &tokens, &err) != GRAFT_OK) fail_msg("%s", err.what);
    assert_true(tokens >= 7);
    graft_options_free(&o);
    must_train(four, "adapter", NULL, NULL, NULL);
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_EXPORT,
             (const char *const[]){"model", model, "adapter-path", adapter, "to", "gguf", "out", out, NULL});
    if (graft_export(&o, NULL, &result, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    assert_int_equal(result.rank, 4);
    graft_export_result_free(&result);
    graft_options_free(&o);
    nothing_converted();
    gr_model *m;
    assert_int_equal(gr_model_open(&m, model, &err), GRAFT_UNSUPPORTED);
    assert_non_null(strstr(err.hint, "graft convert"));
    free(out);
    free(adapter);
    forget("adapter");
    tiny_remove(four);
    tiny_remove(model);
}

/* What the conversion would refuse, the plan refuses. */
static void refuses(void **state) {
    (void)state;
    char *model = tiny_model_dir(
        root, "packed",
        &(tiny_spec){.extra = ",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":3}"});
    graft_plan p;
    watch w = {0};
    graft_error err = {0};
    assert_int_equal(plan(&p, model, &w, &err), GRAFT_UNSUPPORTED);
    assert_non_null(strstr(err.found, "bits 3"));
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(plans), cmocka_unit_test(tokenizes_and_exports),
                                       cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, setup_cache, teardown_cache);
}
