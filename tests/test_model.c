/* model/: published shapes, weights bound or refused with all their problems, and where a model is found. */
#include "model/locate.h"
#include "model/model.h"
#include "tests/tiny_root.h"

/* Parameters as the published files have them, tied ones once. */
static void published_shapes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t parameters;
    } cases[] = {
        {"smollm2-135m", 134515008},     {"smollm2-360m", 361821120},    {"smollm2-1.7b", 1711376384},
        {"llama-3.2-1b", 1235814400},    {"llama-3.2-3b", 3212749824},   {"llama-3-8b", 8030261248},
        {"mistral-7b", 7241732096},      {"qwen2.5-0.5b", 494032768},    {"qwen2.5-1.5b", 1543714304},
        {"qwen2.5-3b", 3085938688},      {"qwen2.5-7b", 7615616512},     {"qwen2.5-14b", 14770033664},
        {"qwen2.5-32b", 32763876352},    {"qwen2.5-72b", 72706203648},   {"qwen3-0.6b", 596049920},
        {"qwen3-1.7b", 1720574976},      {"qwen3-4b", 4022468096},       {"qwen3-8b", 8190735360},
        {"qwen3-14b", 14768307200},      {"qwen3-32b", 32762123264},     {"gemma-3-270m", 268098176},
        {"gemma-3-1b", 999885952},       {"gemma-3-4b", 3880263168},     {"gemma-2-2b", 2614341888},
        {"smollm3-3b", 3075098624},      {"granite-3.3-2b", 2533539840}, {"olmo-2-1b", 1484916736},
        {"phi-3.5-mini", 3821079552},    {"phi-4-mini", 3836021760},     {"phi-4", 14659507200},
        {"stablelm-2-1.6b", 1644515328}, {"starcoder2-3b", 3030371328},  {"qwen3-30b-a3b", 30532122624},
        {"olmoe-1b-7b", 6919161856}};
    size_t count = 0;
    for (const char *const *name = gr_shape_names(); *name; name++) count++;
    assert_int_equal(count, sizeof cases / sizeof *cases);
    for (size_t i = 0; i < count; i++) {
        graft_error err = {0};
        gr_model *m = NULL;
        if (gr_model_from_shape(&m, cases[i].name, false, &err) != GRAFT_OK) fail_msg("%s", err.what);
        assert_int_equal(gr_model_parameters(m), cases[i].parameters);
        assert_null(m->embed.data);
        gr_model_free(m);
    }
    gr_model *m = NULL;
    graft_error err = {0};
    assert_int_equal(gr_model_from_shape(&m, "gpt-5", false, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.expected, "smollm2-135m"));
    assert_null(m);
}

static gr_model *open_tiny(const tiny_spec *spec) {
    graft_error err = {0};
    gr_model *m = NULL;
    char *dir = tiny_model_dir(root, "m", spec);
    if (gr_model_open(&m, dir, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    tiny_remove(dir);
    return m; /* the mapping outlives the name */
}

static void bound_weights(void **state) {
    (void)state;
    int64_t block = 64 * 64 * 2 + 32 * 64 * 2 + 3 * 96 * 64 + 2 * 64, total = 2 * block + 64 + 264 * 64;
    gr_model *m = open_tiny(&(tiny_spec){0});
    assert_int_equal(gr_model_parameters(m), total);
    assert_ptr_equal(m->head.data, m->embed.data);
    assert_int_equal(m->layer[1].linear[GR_DOWN_PROJ].rows, 64);
    assert_int_equal(m->layer[1].linear[GR_DOWN_PROJ].cols, 96);
    gr_model_free(m);
    m = open_tiny(&(tiny_spec){.untied = true, .bits = 4, .dtype = GR_BF16});
    assert_int_equal(gr_model_parameters(m), total + 264 * 64);
    assert_ptr_not_equal(m->head.data, m->embed.data);
    assert_int_equal(m->layer[0].linear[GR_Q_PROJ].layout, GR_AFFINE);
    assert_int_equal(m->layer[0].linear[GR_Q_PROJ].bits, 4);
    assert_int_equal(m->layer[0].linear[GR_Q_PROJ].group, 32);
    assert_int_equal(m->embed.layout, GR_DENSE);
    assert_int_equal(m->embed.dtype, GR_BF16);
    gr_model_free(m);
    m = open_tiny(&(tiny_spec){.type = "qwen2"});
    assert_int_equal(gr_model_parameters(m), total + 2 * (64 + 32 + 32));
    assert_non_null(m->layer[1].bias[GR_V_PROJ]);
    assert_null(m->layer[1].bias[GR_O_PROJ]);
    gr_model_free(m);
    m = open_tiny(&(tiny_spec){.type = "qwen3"});
    assert_int_equal(gr_model_parameters(m), total + 2 * 32);
    assert_non_null(m->layer[1].norm[GR_K_NORM]);
    gr_model_free(m);
}

static void refused_weights(void **state) {
    (void)state;
    static const struct {
        tiny_spec spec;
        const char *named;
    } cases[] = {
        {{.skip = "model.norm.weight"}, "model.norm.weight is missing"},
        {{.skip = "model.layers.1.mlp.up_proj.weight"}, "model.layers.1.mlp.up_proj has no weight"},
        {{.type = "qwen2", .skip = "model.layers.0.self_attn.k_proj.bias"}, "k_proj.bias is missing"},
        {{.type = "qwen3", .skip = "model.layers.0.self_attn.q_norm.weight"}, "q_norm.weight is missing"},
        {{.bits = 4, .skip = "model.layers.0.mlp.up_proj.biases"}, "model.layers.0.mlp.up_proj is quantized"},
        {{.misshapen = "model.layers.0.self_attn.q_proj.weight"}, "q_proj has a wrong type or shape"},
        {{.misshapen = "model.embed_tokens.weight"}, "embed_tokens has a wrong type or shape"},
        {{.misshapen = "model.norm.weight"}, "model.norm.weight has a wrong type or shape"},
        {{.bits = 4, .misshapen = "model.layers.0.self_attn.q_proj.scales"}, "q_proj has quantized shapes"},
        {{.untied = true, .skip = "lm_head.weight"}, "lm_head has no weight"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err = {0};
        gr_model *m = NULL;
        char *dir = tiny_model_dir(root, "m", &cases[i].spec);
        assert_int_equal(gr_model_open(&m, dir, &err), GRAFT_MISMATCH);
        assert_null(m);
        if (!strstr(err.found, cases[i].named)) fail_msg("%s: %s", cases[i].named, err.found);
        assert_int_equal(atoi(err.what), 1);
        tiny_remove(dir);
    }
    /* an entry that claims other numbers than the shapes have */
    static const char *const claims[] = {"{\"group_size\":64,\"bits\":4}", "{\"group_size\":32,\"bits\":8}",
                                         "{\"bits\":-4294967292}"};
    for (int i = 0; i < 3; i++) {
        graft_error err = {0};
        gr_model *m = NULL;
        char extra[200], *dir = tiny_model_dir(root, "m", &(tiny_spec){.bits = 4});
        snprintf(extra, sizeof extra,
                 ",\"quantization\":{\"group_size\":32,\"bits\":4,\"model.layers.1.mlp.up_proj\":%s}",
                 claims[i]);
        tiny_config_write(dir, &(tiny_spec){.extra = extra});
        assert_int_equal(gr_model_open(&m, dir, &err), GRAFT_MISMATCH);
        assert_non_null(strstr(err.found, "up_proj has quantized shapes"));
        assert_int_equal(atoi(err.what), 1);
        tiny_remove(dir);
    }
    /* a default is only a default, as in mlx-lm: the shapes say it, without any claim too */
    static const char *const defaults[] = {",\"quantization\":{\"group_size\":64,\"bits\":4}", ""};
    for (int i = 0; i < 2; i++) {
        graft_error err = {0};
        gr_model *m = NULL;
        char *dir = tiny_model_dir(root, "m", &(tiny_spec){.bits = 8});
        tiny_config_write(dir, &(tiny_spec){.extra = defaults[i]});
        if (gr_model_open(&m, dir, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
        assert_int_equal(m->layer[0].linear[0].bits, 8);
        assert_int_equal(m->layer[0].linear[0].group, 32);
        gr_model_free(m);
        tiny_remove(dir);
    }
}

/* A directory with nothing but config.json: sizes as the config asks, the same as with the weights. */
static void config_alone(void **state) {
    (void)state;
    static const struct {
        const char *extra, *found; /* found: the error's, NULL for none */
        int q_bits, q_group, embed_bits, down_bits;
    } cases[] = {
        {"", NULL, 4, 64, 0, 0}, /* the usual policy; 64 does not divide down_proj */
        {",\"quantization\":{\"group_size\":32,\"bits\":8}", NULL, 8, 32, 0, 8},
        {",\"quantization\":{\"group_size\":32,\"bits\":4,\"model.layers.1.mlp.down_proj\":false,"
         "\"model.embed_tokens\":{\"bits\":8,\"group_size\":64}}",
         NULL, 4, 32, 8, 0},
        {",\"quantization\":{\"group_size\":32,\"bits\":4,\"model.embed_tokens\":true}", NULL, 4, 32, 4, 4},
        {",\"quantization\":{\"group_size\":64,\"bits\":4}", "down_proj", 0, 0, 0, 0},
        {",\"quantization\":{\"group_size\":32,\"bits\":4,"
         "\"model.layers.1.mlp.up_proj\":{\"bits\":-4294967292}}",
         "up_proj", 0, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err = {0};
        gr_model *m = NULL;
        char *dir = tiny_subdir(root, "m");
        tiny_config_write(dir, &(tiny_spec){.extra = cases[i].extra});
        graft_status st = gr_model_from_config(&m, dir, &err);
        tiny_remove(dir);
        if (cases[i].found) {
            assert_int_equal(st, GRAFT_MISMATCH);
            if (!strstr(err.found, cases[i].found)) fail_msg("%s: %s", cases[i].extra, err.found);
            continue;
        }
        if (st != GRAFT_OK) fail_msg("%s: %s %s", cases[i].extra, err.what, err.found);
        assert_int_equal(m->layer[0].linear[GR_Q_PROJ].bits, cases[i].q_bits);
        assert_int_equal(m->layer[0].linear[GR_Q_PROJ].group, cases[i].q_group);
        assert_int_equal(m->layer[1].linear[GR_DOWN_PROJ].bits, cases[i].down_bits);
        assert_int_equal(m->embed.bits, cases[i].embed_bits);
        assert_int_equal(m->embed.layout, cases[i].embed_bits ? GR_AFFINE : GR_DENSE);
        gr_model_free(m);
    }
    gr_model *whole = open_tiny(&(tiny_spec){.bits = 4, .dtype = GR_BF16}), *alone = NULL;
    graft_error err = {0};
    char *dir = tiny_subdir(root, "m");
    tiny_config_write(dir, &(tiny_spec){.bits = 4});
    assert_int_equal(gr_model_from_config(&alone, dir, &err), GRAFT_OK);
    assert_int_equal(gr_model_weight_bytes(alone), gr_model_weight_bytes(whole));
    gr_model_free(whole);
    gr_model_free(alone);
    tiny_remove(dir);
}

static void located(void **state) {
    (void)state;
    char *hub = tiny_subdir(root, "hub"), *repository = tiny_subdir(hub, "models--owner--name"), *path = NULL;
    char *refs = tiny_subdir(repository, "refs"), *snapshots = tiny_subdir(repository, "snapshots");
    bool gguf = true;
    graft_error err = {0};
    setenv("HF_HOME", root, 1);
    unsetenv("HF_HUB_CACHE");
    assert_int_equal(gr_model_locate(&path, &gguf, "owner/name", &err), GRAFT_NOT_FOUND);
    assert_non_null(strstr(err.hint, "graft download owner/name"));
    tiny_write(refs, "main", "abc123\n");
    err = (graft_error){0}; /* the snapshot that main names was never completed */
    assert_int_equal(gr_model_locate(&path, &gguf, "owner/name", &err), GRAFT_NOT_FOUND);
    assert_null(path);
    char *snapshot = tiny_subdir(snapshots, "abc123");
    err = (graft_error){0};
    assert_int_equal(gr_model_locate(&path, &gguf, "owner/name", &err), GRAFT_OK);
    assert_string_equal(path, snapshot);
    assert_false(gguf);
    free(path);
    setenv("HF_HUB_CACHE", "/nowhere", 1); /* it goes before HF_HOME */
    assert_int_equal(gr_model_locate(&path, &gguf, "owner/name", &err), GRAFT_NOT_FOUND);
    unsetenv("HF_HUB_CACHE");
    assert_int_equal(gr_model_locate(&path, &gguf, snapshot, &err), GRAFT_OK);
    assert_string_equal(path, snapshot);
    free(path);
    tiny_write(root, "x.gguf", "GGUF");
    tiny_write(root, "x.bin", "x");
    char *file = tiny_join(root, "x.gguf"), *other = tiny_join(root, "x.bin");
    assert_int_equal(gr_model_locate(&path, &gguf, file, &err), GRAFT_OK);
    assert_true(gguf);
    free(path);
    err = (graft_error){0};
    assert_int_equal(gr_model_locate(&path, &gguf, other, &err), GRAFT_USAGE);
    static const char *const absent[] = {"/nowhere/at/all", "name",   "a/b/c",
                                         "./owner/name",    "owner/", "/name"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        err = (graft_error){0};
        assert_int_equal(gr_model_locate(&path, &gguf, absent[i], &err), GRAFT_NOT_FOUND);
        assert_null(strstr(err.hint, "graft download"));
    }
    err = (graft_error){0};
    assert_int_equal(gr_model_locate(&path, &gguf, NULL, &err), GRAFT_USAGE);
    assert_int_equal(gr_model_locate(&path, &gguf, "", &err), GRAFT_USAGE);
    free(file);
    free(other);
    free(snapshot);
    free(snapshots);
    free(refs);
    free(repository);
    free(hub);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_shapes), cmocka_unit_test(bound_weights),
        cmocka_unit_test(refused_weights),  cmocka_unit_test(config_alone),
        cmocka_unit_test(located),
    };
    return cmocka_run_group_tests_name("model", tests, setup, teardown);
}
