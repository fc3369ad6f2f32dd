/* --group-pooled through whole runs: fewer parameters, exact resuming, files that hold it as a full A and
 * give it back, generation that agrees with the batch path, and refusals by name. */
#include "adapters/adapter.h"
#include "tests/tiny_run.h"

static char *base(const char *name, const tiny_spec *spec) {
    tiny_spec s = *spec;
    if (!s.bits && !s.mode) s.bits = 4;
    return tiny_model_dir(root, name, &s);
}

static const char *const pooled[] = {"group-pooled", "-", "lora-targets", "full", NULL};

/* A of [rank, in / 32]. */
static void parameters(void **state) {
    (void)state;
    char *model = base("counts", &(tiny_spec){0});
    int64_t counted[2];
    for (int i = 0; i < 2; i++) {
        graft_options o;
        graft_plan plan;
        graft_error err = {0};
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_PLAN, (const char *const[]){"model", model, "lora-rank", "4", NULL});
        tiny_set(&o, GRAFT_VERB_PLAN, pooled + (i ? 0 : 2));
        if (graft_plan_make(&o, NULL, &plan, &err) != GRAFT_OK) fail_msg("%s", err.what);
        counted[i] = plan.parameters_trainable;
        graft_plan_free(&plan);
        graft_options_free(&o);
    }
    const int64_t in = 6 * TINY_HIDDEN + TINY_MLP; /* of the seven linears of a block */
    assert_int_equal(counted[0] - counted[1], TINY_LAYERS * 4 * (in - in / 32));
    free(model);
}

static void resumes(void **state) {
    (void)state;
    char *model = base("resumed", &(tiny_spec){.dtype = GR_BF16});
    must_train(model, "through", pooled, NULL, NULL);
    watch w = {.stop_after = 4};
    graft_error err = {0};
    assert_int_equal(train(model, "stopped", pooled, &w, NULL, &err), GRAFT_INTERRUPTED);
    const char *again[8] = {"resume", "-"};
    for (int i = 0; pooled[i]; i++) again[2 + i] = pooled[i];
    must_train(model, "stopped", again, NULL, NULL);
    same_results("through", "stopped");
    gr_error_clear(&err); /* without the option it is another run */
    assert_int_equal(train(model, "stopped",
                           (const char *const[]){"resume", "-", "lora-targets", "full", NULL}, NULL, NULL,
                           &err),
                     GRAFT_MISMATCH);
    forget("through");
    forget("stopped");
    free(model);
}

static void must_refuse(const char *model, const char *const *more, graft_status status, const char *said) {
    graft_error e = {0};
    char all[2048];
    graft_status st = train(model, "refused", more, NULL, NULL, &e);
    snprintf(all, sizeof all, "%s|%s|%s|%s|%s", e.what, e.where, e.expected, e.found, e.hint);
    if (st != status || !strstr(all, said)) fail_msg("status %d: %s", st, all);
}

/* Files in which A is no longer what the config says. */
static void edited(const char *model, const char *dir) {
    char *config = tiny_read(dir, "adapter_config.json", NULL), *bad = strdup(config);
    own_rank = true;
    char *number = strstr(bad, "\"group_pooled\": 32");
    assert_non_null(number);
    memcpy(number, "\"group_pooled\": 64", 18); /* 96 is no multiple */
    tiny_write(dir, "adapter_config.json", bad);
    must_refuse(model, (const char *const[]){"resume-adapter-file", dir, NULL}, GRAFT_CORRUPT, "divide");
    tiny_write(dir, "adapter_config.json", config);
    graft_error err = {0}; /* one number of a full A, which pooled columns do not show */
    gr_safetensors *file;
    char *path = tiny_join(dir, "adapter_model.safetensors");
    assert_int_equal(gr_safetensors_open(&file, path, &err), GRAFT_OK);
    const gr_tensor *a =
        gr_safetensors_find(file, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
    size_t size;
    char *bytes = tiny_read(dir, "adapter_model.safetensors", &size), *at = memmem(bytes, size, a->data, 128);
    assert_non_null(at);
    at[4 * 5] ^= 1;
    gr_safetensors_close(file);
    assert_int_equal(gr_file_replace(path, bytes, size, &err), GRAFT_OK);
    must_refuse(model, (const char *const[]){"resume-adapter-file", path, NULL}, GRAFT_CORRUPT,
                "group_pooled");
    free(bytes);
    free(path);
    own_rank = false;
    free(bad);
    free(config);
}

static void refusals(void **state) {
    (void)state;
    char *plain = tiny_model_dir(root, "plain", &(tiny_spec){.dtype = GR_BF16}),
         *micro = tiny_model_dir(root, "micro", &(tiny_spec){.mode = "mxfp8"}),
         *four = base("four", &(tiny_spec){.untied = true});
    must_refuse(plain, pooled, GRAFT_UNSUPPORTED, "graft convert -q");
    must_refuse(micro, pooled, GRAFT_UNSUPPORTED, "block floats");
    must_refuse(four, (const char *const[]){"group-pooled", "-", "lora-targets", "q_proj,lm_head", NULL},
                GRAFT_UNSUPPORTED, "lm_head");
    must_refuse(four, (const char *const[]){"group-pooled", "-", "fine-tune-type", "dora", NULL}, GRAFT_USAGE,
                "dora");
    own_rank = true;
    must_refuse(four, (const char *const[]){"group-pooled", "-", "fine-tune-type", "full", NULL}, GRAFT_USAGE,
                "group-pooled");
    own_rank = false;
    free(plain);
    free(micro);
    free(four);
}

/* All files have a full A whose columns repeat; read back it is pooled, and training goes on from it. */
static void files(void **state) {
    (void)state;
    static const char *const names[] = {"adapters.safetensors", "adapter_model.safetensors", "adapter.gguf"};
    char *model = base("files", &(tiny_spec){0}), *dir = tiny_join(root, "adapter");
    graft_error err = {0};
    gr_model *m;
    must_train(model, "adapter",
               (const char *const[]){"group-pooled", "-", "lora-targets", "full", "gguf", "-", NULL}, NULL,
               NULL);
    assert_int_equal(gr_model_open(&m, model, &err), GRAFT_OK);
    gr_tuning *t[3];
    float *params[3];
    for (int i = 0; i < 3; i++) {
        char *path = tiny_join(dir, names[i]);
        if (gr_adapter_load(&t[i], &params[i], path, &m->config, NULL, &err) != GRAFT_OK)
            fail_msg("%s: %s", path, err.what);
        assert_int_equal(t[i]->pool, 32);
        assert_int_equal(t[i]->params[0].cols, TINY_HIDDEN / 32);
        gr_safetensors *file;
        if (i == 2) { /* the names of GGUF are tested elsewhere */
            free(path);
            continue;
        }
        assert_int_equal(gr_safetensors_open(&file, path, &err), GRAFT_OK);
        const gr_tensor *a =
            gr_safetensors_find(file, i ? "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"
                                        : "model.layers.1.mlp.down_proj.lora_a");
        assert_non_null(a);
        assert_int_equal(a->shape[i], TINY_MLP);
        assert_int_equal(a->shape[!i], 4);
        gr_safetensors_close(file);
        free(path);
    }
    for (int i = 1; i < 3; i++) {
        assert_int_equal(t[0]->parameters, t[i]->parameters);
        assert_memory_equal(params[0], params[i], (size_t)t[0]->parameters * sizeof(float));
    }
    for (int i = 0; i < 3; i++) gr_tuning_free(t[i]), free(params[i]);
    watch w = {0};
    own_rank = true;
    must_train(model, "more", (const char *const[]){"resume-adapter-file", dir, NULL}, &w, NULL);
    own_rank = false;
    assert_non_null(strstr(w.notes, "inside groups of 32"));
    forget("more");
    edited(model, dir);
    gr_model_free(m);
    forget("adapter");
    free(dir);
    free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(parameters), cmocka_unit_test(resumes),
                                       cmocka_unit_test(files), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
