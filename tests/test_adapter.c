/* adapters/: one adapter in both formats, written and read back; orientation and names as the other programs
 * have them; everything that does not fit is refused by name. */
#include "tests/tiny_adapter.h"

static gr_model_config config;

static int setup(void **state) {
    graft_error err = {0};
    (void)state;
    root = tiny_temp();
    tiny_config_write(root, &(tiny_spec){0});
    return gr_config_open(&config, root, &err) == GRAFT_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    gr_config_free(&config);
    tiny_remove(root);
    return 0;
}

static made lora(const char *targets, int64_t rank, double scale, double alpha) {
    return make(&config,
                (gr_tuning_request){.targets = targets, .rank = rank, .scale = scale, .alpha = alpha});
}

static void round_trips(void **state) {
    (void)state;
    static const struct {
        const char *targets;
        int64_t rank;
        double scale, alpha;
        bool rslora;
    } cases[] = {{"extended", 4, 2, 8, false},
                 {"full", 3, 20, 60, false},
                 {"model.layers.1.mlp.down_proj", 1, 0.3, 0.3, false},
                 {"q_proj,v_proj", 4, 8, 16, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        made m = make(&config, (gr_tuning_request){.targets = cases[i].targets,
                                                   .rank = cases[i].rank,
                                                   .scale = cases[i].scale,
                                                   .alpha = cases[i].alpha,
                                                   .use_rslora = cases[i].rslora});
        char *dir = save("a", &m), *mlx = tiny_join(dir, "adapters.safetensors");
        char *peft = tiny_join(dir, "adapter_model.safetensors");
        equal(&m, dir);
        equal(&m, mlx);
        equal(&m, peft);
        unlink(mlx); /* the directory of another program */
        equal(&m, dir);
        free(mlx);
        free(peft);
        tiny_remove(dir);
        drop(&m);
    }
}

/* `path` with every tensor's `from` behind its prefix replaced by `to`. */
static void rename_all(const char *path, const char *prefix, const char *const (*names)[2]) {
    graft_error err = {0};
    gr_safetensors *file;
    assert_int_equal(gr_safetensors_open(&file, path, &err), GRAFT_OK);
    const size_t n = gr_safetensors_count(file), cut = strlen(prefix);
    gr_tensor all[64];
    char named[64][300];
    assert_true(n < 64);
    for (size_t i = 0; i < n; i++) {
        all[i] = *gr_safetensors_at(file, i);
        const char *rest = all[i].name + cut;
        for (int k = 0; k < 2; k++) {
            const size_t from = strlen(names[k][0]);
            if (strncmp(rest, names[k][0], from) != 0) continue;
            snprintf(named[i], sizeof named[i], "%s%s%s", prefix, names[k][1], rest + from);
            all[i].name = named[i];
        }
    }
    if (gr_safetensors_save(path, all, n, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    gr_safetensors_close(file);
}

/* Adapters of a whole model of images and text have other names for the part that is here. */
static void of_a_whole_model(void **state) {
    (void)state;
    static const struct {
        const char *file, *prefix, *names[2][2];
    } cases[] = {
        {"adapter_model.safetensors",
         "base_model.model.",
         {{"model.", "model.language_model."}, {"lm_head", "lm_head"}}},
        {"adapter_model.safetensors",
         "base_model.model.",
         {{"model.", "language_model.model."}, {"lm_head", "language_model.lm_head"}}},
        {"adapters.safetensors", "", {{"model.", "language_model.model."}, {"lm_head", "lm_head"}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const bool peft = cases[i].prefix[0];
        made m =
            make(&config, (gr_tuning_request){.targets = peft ? "q_proj,embed_tokens" : "q_proj",
                                              .rank = 4,
                                              .scale = NAN,
                                              .alpha = 8,
                                              .rank_pattern = peft ? "layers.1.self_attn.q_proj=2" : NULL});
        char *dir = save("a", &m), *path = tiny_join(dir, cases[i].file),
             *other = tiny_join(dir, peft ? "adapters.safetensors" : "adapter_model.safetensors");
        rename_all(path, cases[i].prefix, cases[i].names);
        char *text = tiny_read(dir, "adapter_config.json", NULL);
        json_t *j = json_loads(text, 0, NULL), *ranks = json_object();
        const char *key;
        json_t *value_;
        json_object_foreach(json_object_get(j, "rank_pattern"), key, value_) {
            char renamed[300];
            snprintf(renamed, sizeof renamed, "%s%s", cases[i].names[0][1], key + strlen("model."));
            json_object_set(ranks, renamed, value_);
        }
        json_object_set_new(j, "rank_pattern", ranks);
        json_object_del(j, "graft");
        char *changed = json_dumps(j, 0);
        tiny_write(dir, "adapter_config.json", changed);
        unlink(other);
        equal(&m, dir);
        json_decref(j);
        free(changed);
        free(text);
        free(path);
        free(other);
        tiny_remove(dir);
        drop(&m);
    }
}

/* mlx-lm: lora_a [in, r], lora_b [r, out]; PEFT: lora_A [r, in], lora_B [out, r]. */
static void orientation(void **state) {
    (void)state;
    made m = lora("k_proj", 4, 2, 8);
    graft_error err = {0};
    gr_safetensors *mlx = NULL, *peft = NULL;
    char *dir = save("a", &m), *a = tiny_join(dir, "adapters.safetensors");
    char *b = tiny_join(dir, "adapter_model.safetensors");
    assert_int_equal(gr_safetensors_open(&mlx, a, &err), GRAFT_OK);
    assert_int_equal(gr_safetensors_open(&peft, b, &err), GRAFT_OK);
    assert_int_equal(gr_safetensors_count(mlx), 4);
    assert_int_equal(gr_safetensors_count(peft), 4);
    const gr_tuned *x = &m.tuning->block[1][GR_K_PROJ];
    const char *k = "model.layers.1.self_attn.k_proj";
    char name[200];
    for (int r = 0; r < 4; r++) {
        snprintf(name, sizeof name, "%s.lora_a", k);
        assert_near((double)value(mlx, name, 64, 4, 9, r), (double)m.params[x->a + r * 64 + 9], 0);
        snprintf(name, sizeof name, "%s.lora_b", k);
        assert_near((double)value(mlx, name, 4, 32, r, 5), (double)m.params[x->b + r * 32 + 5], 0);
        snprintf(name, sizeof name, "base_model.model.%s.lora_A.weight", k);
        assert_near((double)value(peft, name, 4, 64, r, 9), (double)m.params[x->a + r * 64 + 9], 0);
        snprintf(name, sizeof name, "base_model.model.%s.lora_B.weight", k);
        assert_near((double)value(peft, name, 32, 4, 5, r), (double)m.params[x->b + r * 32 + 5], 0);
    }
    static const char *const keys[] = {"iteration", "digest", "base_digest"};
    for (int i = 0; i < 3; i++) { /* a pair that belongs together says so */
        assert_non_null(gr_safetensors_metadata(mlx, keys[i]));
        assert_string_equal(gr_safetensors_metadata(mlx, keys[i]), gr_safetensors_metadata(peft, keys[i]));
    }
    assert_string_equal(gr_safetensors_metadata(mlx, "iteration"), "12");
    gr_safetensors_close(mlx);
    gr_safetensors_close(peft);
    free(a);
    free(b);
    tiny_remove(dir);
    drop(&m);
}

/* The keys that mlx-lm's and PEFT's loaders need, with values that mean the same scale. */
static void config_of_both(void **state) {
    (void)state;
    made m = lora("q_proj,down_proj", 4, 5, 20);
    char *dir = save("a", &m), *text = tiny_read(dir, "adapter_config.json", NULL);
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *mlx = json_object_get(j, "lora_parameters");
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "fine_tune_type")), "lora");
    assert_int_equal(json_integer_value(json_object_get(j, "num_layers")), TINY_LAYERS);
    assert_int_equal(json_integer_value(json_object_get(mlx, "rank")), 4);
    assert_near(json_number_value(json_object_get(mlx, "scale")), 5, 0);
    assert_near(json_number_value(json_object_get(mlx, "dropout")), 0, 0);
    assert_int_equal(json_array_size(json_object_get(mlx, "keys")), 2 * TINY_LAYERS);
    assert_string_equal(json_string_value(json_array_get(json_object_get(mlx, "keys"), 3)),
                        "model.layers.1.mlp.down_proj");
    assert_string_equal(json_string_value(json_object_get(j, "peft_type")), "LORA");
    assert_string_equal(json_string_value(json_object_get(j, "task_type")), "CAUSAL_LM");
    assert_string_equal(json_string_value(json_object_get(j, "base_model_name_or_path")), "some/base");
    assert_int_equal(json_integer_value(json_object_get(j, "r")), 4);
    assert_near(json_number_value(json_object_get(j, "lora_alpha")), 20, 0);
    assert_int_equal(json_array_size(json_object_get(j, "target_modules")), 2);
    assert_string_equal(json_string_value(json_array_get(json_object_get(j, "target_modules"), 0)), "q_proj");
    json_decref(j);
    free(text);
    tiny_remove(dir);
    drop(&m);
}

/* A key for every module is what there can be. */
static void many_patterns(const char *dir, const char *file) {
    gr_buf many = {0};
    gr_buf_puts(&many, "{\"alpha_pattern\":{");
    for (int64_t i = 0; i <= config.layers * GR_ROLES; i++)
        gr_buf_printf(&many, "%s\"k%lld\":1", i ? "," : "", (long long)i);
    gr_buf_puts(&many, "}}");
    refused(&config, dir, file, many.data, GRAFT_CORRUPT, "more values per module");
    gr_buf_free(&many);
}

static void refused_configs(void **state) {
    (void)state;
    made m = lora("extended", 4, 2, 8);
    char *dir = save("a", &m);
    static const char *const mlx = "adapters.safetensors", *const peft = "adapter_model.safetensors";
    refused(&config, dir, mlx, "{\"fine_tune_type\":\"dora\"}", GRAFT_MISMATCH, "no DoRA magnitude");
    refused(&config, dir, mlx, "{\"fine_tune_type\":\"ia3\"}", GRAFT_UNSUPPORTED, "lora, dora or full");
    refused(&config, dir, peft, "{\"use_dora\":true}", GRAFT_MISMATCH, "no DoRA magnitude");
    refused(&config, dir, peft, "{\"bias\":\"some\"}", GRAFT_UNSUPPORTED, "bias");
    refused(&config, dir, peft, "{\"peft_type\":\"LOHA\"}", GRAFT_UNSUPPORTED, "LOHA");
    refused(&config, dir, peft, "{\"fan_in_fan_out\":true}", GRAFT_UNSUPPORTED, "fan_in_fan_out");
    refused(&config, dir, peft, "{\"lora_bias\":true}", GRAFT_UNSUPPORTED, "lora_bias");
    refused(&config, dir, peft, "{\"layer_replication\":[[0,1]]}", GRAFT_UNSUPPORTED, "layer_replication");
    refused(&config, dir, peft, "{\"init_lora_weights\":\"pissa\"}", GRAFT_UNSUPPORTED, "pissa");
    refused(&config, dir, peft, "{\"r\":8}", GRAFT_MISMATCH, "rank");
    refused(&config, dir, peft, "{\"r\":0}", GRAFT_RANGE, "r");
    refused(&config, dir, peft, "{\"r\":null}", GRAFT_NOT_FOUND, "r");
    refused(&config, dir, peft, "{\"lora_alpha\":null}", GRAFT_NOT_FOUND, "lora_alpha");
    refused(&config, dir, peft, "{\"alpha_pattern\":{\"q_proj\":\"4\"}}", GRAFT_CORRUPT, "alpha_pattern");
    refused(&config, dir, peft, "{\"alpha_pattern\":{\"q_(proj\":4}}", GRAFT_CORRUPT, "q_(proj");
    refused(&config, dir, peft, "{\"rank_pattern\":{\"v_proj\":2}}", GRAFT_MISMATCH, "rank 2");
    many_patterns(dir, peft);
    refused(&config, dir, mlx, "{\"lora_parameters\":{\"rank\":4}}", GRAFT_NOT_FOUND, "scale");
    refused(&config, dir, mlx, "{\"lora_parameters\":{\"scale\":\"2\"}}", GRAFT_CORRUPT, "scale");
    refused(&config, dir, "absent.safetensors", "{}", GRAFT_NOT_FOUND, "absent");
    graft_error err = {0};
    gr_tuning *tuning = NULL;
    float *params = NULL;
    const gr_model other = {.digest = 0xabd};
    gr_adapter_base base = {.model = &other};
    assert_int_equal(gr_adapter_load(&tuning, &params, dir, &config, &base, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.what, "another base"));
    err = (graft_error){0};
    char *model = tiny_subdir(root, "empty");
    assert_int_equal(gr_adapter_load(&tuning, &params, model, &config, NULL, &err), GRAFT_NOT_FOUND);
    tiny_remove(model);
    tiny_remove(dir);
    drop(&m);
}

/* Writes one file of tensors and loads it. */
static void refused_tensors(const char *const *names, const int64_t (*shapes)[2], size_t count,
                            graft_status status, const char *said) {
    gr_tensor tensors[8] = {0};
    static const float zeros[128 * 128];
    graft_error err = {0};
    char *dir = tiny_subdir(root, "t"), *path = tiny_join(dir, "adapter_model.safetensors");
    for (size_t i = 0; i < count; i++)
        tensors[i] = (gr_tensor){.name = names[i],
                                 .dtype = GR_F32,
                                 .ndim = 2,
                                 .shape = {shapes[i][0], shapes[i][1]},
                                 .data = (const uint8_t *)zeros,
                                 .bytes = (size_t)(shapes[i][0] * shapes[i][1]) * 4};
    if (gr_safetensors_save(path, tensors, count, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    tiny_write(dir, "adapter_config.json", "{\"r\":4,\"lora_alpha\":8,\"peft_type\":\"LORA\"}");
    refused(&config, dir, "adapter_model.safetensors", "{}", status, said);
    free(path);
    tiny_remove(dir);
}

static void foreign_tensors(void **state) {
    (void)state;
#define P "base_model.model.model.layers."
    static const int64_t good[][2] = {{4, 64}, {32, 4}, {4, 4}};
    refused_tensors((const char *const[]){P "0.self_attn.k_proj.lora_A.weight"}, good, 1, GRAFT_MISMATCH,
                    "has no partner");
    refused_tensors(
        (const char *const[]){P "2.self_attn.k_proj.lora_A.weight", P "2.self_attn.k_proj.lora_B.weight"},
        good, 2, GRAFT_MISMATCH, "layers.2.self_attn.k_proj.lora_A.weight is not an adapter");
    refused_tensors((const char *const[]){P "0.self_attn.k_proj.lora_A.weight",
                                          P "0.self_attn.k_proj.lora_B.weight",
                                          P "0.self_attn.k_proj.lora_magnitude_vector"},
                    good, 3, GRAFT_MISMATCH, "lora_magnitude_vector is of DoRA");
    refused_tensors(
        (const char *const[]){P "0.self_attn.q_proj.lora_A.weight", P "0.self_attn.q_proj.lora_B.weight"},
        good, 2, GRAFT_MISMATCH, "q_proj.lora_B.weight does not fit");
    static const int64_t ranks[][2] = {{4, 64}, {32, 5}};
    refused_tensors(
        (const char *const[]){P "0.self_attn.k_proj.lora_A.weight", P "0.self_attn.k_proj.lora_B.weight"},
        ranks, 2, GRAFT_MISMATCH, "lora_B.weight does not fit");
    static const int64_t turned[][2] = {{64, 4}, {4, 32}};
    refused_tensors(
        (const char *const[]){P "0.self_attn.k_proj.lora_A.weight", P "0.self_attn.k_proj.lora_B.weight"},
        turned, 2, GRAFT_MISMATCH, "lora_A.weight does not fit");
    refused_tensors((const char *const[]){"model.norm.weight"}, good, 1, GRAFT_UNSUPPORTED, "not an adapter");
}

/* Files of two saves in one directory, as a crash between them leaves them. */
/* A path that is not there is named itself, not a file that it might have had. */
static void missing_path(void **state) {
    (void)state;
    static const char *const paths[] = {"nowhere", "nowhere/adapters.safetensors"};
    for (int i = 0; i < 2; i++) {
        graft_error err = {0};
        gr_tuning *tuning;
        float *params;
        char *path = tiny_join(root, paths[i]);
        assert_int_equal(gr_adapter_load(&tuning, &params, path, &config, NULL, &err), GRAFT_NOT_FOUND);
        assert_string_equal(err.where, path);
        assert_null(strstr(err.where, "adapter_config"));
        free(path);
    }
}

static void torn_pairs(void **state) {
    (void)state;
    made m = lora("extended", 4, 2, 8);
    char *old = save("old", &m);
    m.params[3] += 1;
    char *dir = save("a", &m);
    static const char *const names[] = {"adapters.safetensors", "adapter_model.safetensors",
                                        "adapter_config.json"};
    for (int i = 0; i < 3; i++) {
        size_t now, then;
        char *own = tiny_read(dir, names[i], &now), *other = tiny_read(old, names[i], &then);
        char *path = tiny_join(dir, names[i]);
        graft_error err = {0};
        assert_int_equal(gr_file_replace(path, other, then, &err), GRAFT_OK);
        refused(&config, dir, names[0], "{}", GRAFT_MISMATCH, "not of one save");
        refused(&config, dir, names[1], "{}", GRAFT_MISMATCH, "--resume");
        assert_int_equal(gr_file_replace(path, own, now, &err), GRAFT_OK);
        equal(&m, dir);
        free(path);
        free(other);
        free(own);
    }
    tiny_write(dir, names[1], "damaged"); /* the one that is read is whole */
    equal(&m, dir);
    tiny_remove(dir);
    tiny_remove(old);
    drop(&m);
}

/* A hub reads the head of a card as YAML, and knows bases by their names there alone. */
static void cards(void **state) {
    (void)state;
    static const struct {
        const char *base, *said;
    } cases[] = {{"Qwen/Qwen2.5-0.5B", "\nbase_model: \"Qwen/Qwen2.5-0.5B\"\n"},
                 {"/home/me/models/x", NULL},
                 {"./models/x", NULL},
                 {"../x", NULL},
                 {"a/b/c", NULL},
                 {"x", NULL},
                 {"a/x.gguf", NULL},
                 {"it: [is/not", NULL}};
    made m = lora("q_proj", 4, 2, 8);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_buf card = {0};
        gr_adapter_card_head(&card, "Trained", cases[i].base, &config, m.tuning, 0);
        if (cases[i].said ? !strstr(card.data, cases[i].said) : !!strstr(card.data, "base_model:"))
            fail_msg("%s", card.data);
        gr_buf_free(&card);
    }
    drop(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),     cmocka_unit_test(of_a_whole_model),
        cmocka_unit_test(cards),           cmocka_unit_test(orientation),
        cmocka_unit_test(config_of_both),  cmocka_unit_test(refused_configs),
        cmocka_unit_test(foreign_tensors), cmocka_unit_test(torn_pairs),
        cmocka_unit_test(missing_path),
    };
    return cmocka_run_group_tests_name("adapter", tests, setup, teardown);
}
