/* Mixtures of experts on disk: each expert alone as Hugging Face has them, all of a block in one tensor as
 * MLX does, and what convert makes of them: the same model, to the bit where nothing is rounded. */
#include "convert/convert.h"
#include "convert/gguf_names.h"
#include "model/identity.h"
#include "net/runtime.h"
#include "tests/tiny_adapter.h"

static int setup(void **state) {
    (void)state;
    root = tiny_temp();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tiny_remove(root);
    return 0;
}

enum { TOKENS = 9 };

/* Logits of a few tokens (malloc'ed), and the base's digest. */
static float *logits_of(const char *dir, uint64_t *digest) {
    static const int32_t ids[TOKENS] = {3, 140, 15, 92, 6, 53, 58, 97, 200};
    static const int64_t start[] = {0, TOKENS};
    graft_error err = {0};
    gr_model *m = NULL;
    gr_runtime rt;
    if (gr_model_open(&m, dir, &err) != GRAFT_OK) fail_msg("%s: %s %s", dir, err.what, err.found);
    assert_int_equal(gr_runtime_init(&rt, m, 2, true, &err), GRAFT_OK);
    assert_int_equal(gr_model_identify(m, rt.pool, &err), GRAFT_OK);
    *digest = m->digest;
    gr_net_config config = {.tokens = TOKENS, .longest = TOKENS};
    assert_int_equal(gr_runtime_bind(&rt, &config, &err), GRAFT_OK);
    gr_batch batch = {.ids = ids, .start = start, .nrows = 1, .tokens = TOKENS};
    gr_net_forward(&rt.net, &batch);
    float *logits = calloc(TOKENS * TINY_VOCAB, sizeof *logits);
    assert_non_null(logits);
    for (int64_t t = 0; t < TOKENS; t++)
        gr_head_logits(&rt.net.compute, &rt.net.head, logits + t * TINY_VOCAB, rt.net.saved[TINY_LAYERS].x, t,
                       1);
    gr_runtime_free(&rt);
    return logits;
}

/* A tensor has another name. */
static void rename_tensor(const char *dir, const char *name, const char *from, const char *to) {
    graft_error err = {0};
    gr_safetensors *file;
    char *path = tiny_join(dir, name);
    assert_int_equal(gr_safetensors_open(&file, path, &err), GRAFT_OK);
    size_t n = gr_safetensors_count(file), found = 0;
    gr_tensor *all = calloc(n, sizeof *all);
    assert_non_null(all);
    for (size_t i = 0; i < n; i++) {
        all[i] = *gr_safetensors_at(file, i);
        if (strcmp(all[i].name, from) == 0) all[i].name = to, found++;
    }
    assert_int_equal(found, 1);
    assert_int_equal(gr_safetensors_save(path, all, n, NULL, &err), GRAFT_OK);
    gr_safetensors_close(file);
    free(all);
    free(path);
}

/* How far apart two directories' logits are, of those of the first. */
static double apart(const char *a, const char *b, bool *same_base) {
    uint64_t own, other;
    float *x = logits_of(a, &own), *y = logits_of(b, &other);
    double d = 0, n = 0;
    for (int i = 0; i < TOKENS * TINY_VOCAB; i++)
        d += pow((double)x[i] - (double)y[i], 2), n += pow((double)x[i], 2);
    *same_base = own == other;
    free(x);
    free(y);
    return sqrt(d / n);
}

static graft_status convert(const char *from, const char *to, gr_convert_options o, graft_error *err) {
    gr_convert_result result;
    o.model = from;
    o.out = to;
    graft_status st = gr_convert(&o, &result, err);
    if (st == GRAFT_OK) gr_convert_result_free(&result);
    return st;
}

static void must_convert(const char *from, const char *to, gr_convert_options o) {
    graft_error err = {0};
    if (convert(from, to, o, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
}

/* A directory has that tensor, and none with those words in its name. */
static void names(const char *dir, const char *has, const char * not ) {
    graft_error err = {0};
    gr_safetensors *file;
    assert_int_equal(gr_safetensors_open(&file, dir, &err), GRAFT_OK);
    assert_non_null(gr_safetensors_find(file, has));
    for (size_t i = 0; i < gr_safetensors_count(file); i++)
        if (strstr(gr_safetensors_at(file, i)->name, not )) fail_msg("%s", gr_safetensors_at(file, i)->name);
    gr_safetensors_close(file);
}

static void stacked(const char *type, gr_dtype dtype) {
    char *model = tiny_model_dir(root, "model", &(tiny_spec){.type = type, .dtype = dtype, .untied = true}),
         *mlx = tiny_join(root, "mlx"), *codes = tiny_join(root, "codes"), *back = tiny_join(root, "back");
    graft_error err = {0};
    gr_safetensors *file;
    bool same;
    must_convert(model, mlx, (gr_convert_options){0});
    assert_true(apart(model, mlx, &same) == 0 && same);
    names(mlx, "model.layers.1.mlp.experts.3.down_proj.weight",
          "switch_mlp"); /* as transformers loads them */
    must_convert(model, codes, (gr_convert_options){.quantize = true, .q_bits = 8, .q_group_size = 32});
    double off =
        apart(model, codes, &same); /* 8 bits round by 2^-9 of a group's width, in each of a dozen products */
    assert_true(off > 0 && off < 0.05 && !same);
    must_convert(codes, back, (gr_convert_options){.dequantize = true, .dtype = "float32"});
    assert_true(apart(codes, back, &same) < 1e-5);
    names(back, "model.layers.0.mlp.experts.0.gate_proj.weight", "switch_mlp");
    assert_int_equal(gr_safetensors_open(&file, codes, &err), GRAFT_OK);
    const gr_tensor *w = gr_safetensors_find(file, "model.layers.1.mlp.switch_mlp.down_proj.weight"),
                    *s = gr_safetensors_find(file, "model.layers.1.mlp.switch_mlp.down_proj.scales"),
                    *r = gr_safetensors_find(file, "model.layers.1.mlp.gate.weight");
    assert_true(w && w->dtype == GR_U32 && w->ndim == 3 && w->shape[0] == TINY_EXPERTS &&
                w->shape[1] == TINY_HIDDEN && w->shape[2] == TINY_EXPERT_MLP / 4);
    assert_true(s && s->ndim == 3 && s->shape[2] == TINY_EXPERT_MLP / 32);
    assert_true(r && r->dtype == dtype && r->ndim == 2); /* the router stays as it is */
    assert_null(gr_safetensors_find(file, "model.layers.1.mlp.experts.0.down_proj.weight"));
    gr_safetensors_close(file);
    char *const all[] = {model, mlx, codes, back};
    for (int i = 0; i < 4; i++) tiny_remove(all[i]);
}

static void test_stacked(void **state) {
    (void)state;
    stacked("qwen3_moe", GR_F32);
    stacked("qwen3_moe", GR_BF16);
    stacked("olmoe", GR_F32);
}

/* A router of 8 bits, as mlx-lm writes it. */
static void test_router_codes(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "model", &(tiny_spec){.type = "qwen3_moe"}),
         *out = tiny_join(root, "out");
    bool same;
    must_convert(model, out,
                 (gr_convert_options){.quantize = true, .q_bits = 8, .quant_predicate = "mlp.gate=8:64"});
    double off = apart(model, out, &same);
    assert_true(off > 0 && off < 0.05);
    tiny_remove(model);
    tiny_remove(out);
}

static void test_refused(void **state) {
    (void)state;
    static const char name[] = "model.layers.1.mlp.experts.2.up_proj.weight";
    static const struct {
        tiny_spec spec;
        const char *said;
    } cases[] = {{{.type = "qwen3_moe", .skip = name}, "experts.2.up_proj"},
                 {{.type = "qwen3_moe", .misshapen = name}, "experts.2.up_proj"},
                 {{.type = "qwen3_moe", .extra = ",\"num_local_experts\":4"}, NULL},
                 {{.type = "qwen3_moe", .extra = ",\"num_local_experts\":8"}, "num_local_experts 8"},
                 {{.type = "olmoe", .skip = "model.layers.0.mlp.gate.weight"}, "mlp.gate"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *model = tiny_model_dir(root, "model", &cases[i].spec), *out = tiny_join(root, "out"), said[800];
        graft_error err = {0};
        gr_model *m = NULL;
        graft_status opened = gr_model_open(&m, model, &err);
        snprintf(said, sizeof said, "%s %s", err.what, err.found);
        assert_int_equal(opened == GRAFT_OK, !cases[i].said);
        if (cases[i].said && !strstr(said, cases[i].said)) fail_msg("%zu: %s", i, said);
        err = (graft_error){0};
        graft_status converted = convert(model, out, (gr_convert_options){0}, &err);
        snprintf(said, sizeof said, "%s %s", err.what, err.found);
        assert_int_equal(converted == GRAFT_OK, !cases[i].said);
        if (cases[i].said && !strstr(said, cases[i].said)) fail_msg("%zu: %s", i, said);
        gr_model_free(m);
        tiny_remove(model);
        tiny_remove(out);
    }
}

/* Names that only look like an expert's, layouts that are not read, and both at once: each is said. */
static void test_names(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *opened, *converted;
    } cases[] = {
        {"experts.0.up_proj.weight", "experts.00.up_proj.weight", "experts.0.up_proj has no weight",
         "experts.0.up_proj.weight is missing"},
        {"experts.2.up_proj.weight", "experts.+2.up_proj.weight", "experts.2.up_proj has no weight",
         "experts.2.up_proj.weight is missing"},
        {"experts.2.up_proj.weight", "experts.-1.up_proj.weight", "experts.2.up_proj has no weight",
         "experts.2.up_proj.weight is missing"},
        {"experts.0.up_proj.weight", "other", "experts.0.up_proj has no weight",
         "experts.0.up_proj.weight is missing"},
        {"self_attn.q_proj.weight", "switch_mlp.up_proj.weight", "second time", "there twice"},
        {"self_attn.q_proj.weight", "experts.gate_up_proj", "transformers' stack", "transformers' stack"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *model = tiny_model_dir(root, "model", &(tiny_spec){.type = "qwen3_moe"}),
             *out = tiny_join(root, "out"), from[160], to[160], said[1200];
        bool attention = strncmp(cases[i].from, "self_attn", 9) == 0;
        snprintf(from, sizeof from, "model.layers.1.%s%s", attention ? "" : "mlp.", cases[i].from);
        snprintf(to, sizeof to, "model.layers.1.mlp.%s", cases[i].to);
        rename_tensor(model, "model.safetensors", from, to);
        graft_error err = {0};
        gr_model *m = NULL;
        assert_int_equal(gr_model_open(&m, model, &err), GRAFT_MISMATCH);
        if (!strstr(err.found, cases[i].opened)) fail_msg("%zu: %s", i, err.found);
        err = (graft_error){0};
        assert_int_not_equal(convert(model, out, (gr_convert_options){0}, &err), GRAFT_OK);
        snprintf(said, sizeof said, "%s %s", err.what, err.found);
        if (!strstr(said, cases[i].converted)) fail_msg("%zu: %s", i, said);
        tiny_remove(model);
        tiny_remove(out);
    }
}

/* Fewer experts in the config than in the files. */
static void test_too_many(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "model", &(tiny_spec){.type = "olmoe"}), *out = tiny_join(root, "out"),
         *path = tiny_join(model, "config.json");
    graft_error err = {0};
    json_t *config = json_load_file(path, 0, NULL);
    assert_non_null(config);
    json_object_set_new(config, "num_experts", json_integer(3));
    char *text = json_dumps(config, JSON_COMPACT);
    tiny_write(model, "config.json", text);
    assert_int_equal(convert(model, out, (gr_convert_options){0}, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.what, "experts.3."));
    free(text);
    free(path);
    json_decref(config);
    tiny_remove(model);
    tiny_remove(out);
}

/* Adapters of experts in mlx-lm's file and llama.cpp's: three dimensions, B turned, every number in its
 * place. */
static void test_adapters(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "model", &(tiny_spec){.type = "qwen3_moe"});
    graft_error err = {0};
    gr_model_config config;
    gr_safetensors *file;
    assert_int_equal(gr_config_open(&config, model, &err), GRAFT_OK);
    made m = make(
        &config,
        (gr_tuning_request){.targets = "all-linear", .rank = 3, .alpha = 6, .scale = NAN, .num_layers = -1});
    assert_int_equal(m.tuning->rank, 3);
    char *dir = save("adapter", &m), *path = tiny_join(dir, "adapters.safetensors"),
         *other = tiny_join(dir, "adapter_model.safetensors"), *ex = tiny_join(root, "ex");
    equal(&m, dir);
    assert_false(gr_path_exists(other)); /* PEFT's, which cannot hold them */
    assert_int_equal(gr_safetensors_open(&file, path, &err), GRAFT_OK);
    const gr_tensor *a = gr_safetensors_find(file, "model.layers.1.mlp.switch_mlp.down_proj.lora_a"),
                    *b = gr_safetensors_find(file, "model.layers.1.mlp.switch_mlp.down_proj.lora_b");
    assert_true(a && a->ndim == 3 && a->shape[0] == TINY_EXPERTS && a->shape[1] == 3 &&
                a->shape[2] == TINY_EXPERT_MLP);
    assert_true(b && b->ndim == 3 && b->shape[1] == TINY_HIDDEN && b->shape[2] == 3);
    float x; /* expert 2, output 5, rank 1 */
    memcpy(&x, b->data + 4 * ((2 * TINY_HIDDEN + 5) * 3 + 1), 4);
    assert_true(x == m.params[m.tuning->block[1][GR_EXPERT_DOWN].b + (2 * 3 + 1) * TINY_HIDDEN + 5]);
    gr_safetensors_close(file);
    gr_adapter_info info = {
        .base = "some/base", .model = &base_model, .iteration = 12, .formats = 1u << 2}; /* GGUF alone */
    assert_int_equal(gr_adapter_save(ex, &config, m.tuning, m.params, &info, &err), GRAFT_OK);
    graft_error lost = {0}; /* PEFT's alone would hold nothing: what was there stays */
    info.formats = GR_ADAPTER_PEFT;
    assert_int_equal(gr_adapter_save(ex, &config, m.tuning, m.params, &info, &lost), GRAFT_UNSUPPORTED);
    assert_non_null(strstr(lost.found, "experts"));
    made back = load(&m, ex);
    assert_memory_equal(back.params, m.params, (size_t)m.tuning->parameters * sizeof(float));
    drop(&back);
    drop(&m);
    gr_config_free(&config);
    char *const all[] = {path, other};
    for (int i = 0; i < 2; i++) free(all[i]);
    tiny_remove(dir);
    tiny_remove(ex);
    tiny_remove(model);
}

/* PEFT's adapters of transformers' stacks, gate and up in one: A is [experts * rank, in], and a row of B, for
 * one output, has rank after rank each expert's number. source: PEFT 0.21 ParamWrapper.get_delta_weight;
 * tools/peers/check_adapter_kinds.py compares with PEFT itself. */
static void test_peft_stacks(void **state) {
    (void)state;
    enum { RANK = 3, ALL = RANK * TINY_EXPERTS, GATE_UP = 2 * TINY_EXPERT_MLP };
    static const char stem[] = "base_model.model.model.layers.1.mlp.experts";
    char *model = tiny_model_dir(root, "model", &(tiny_spec){.type = "qwen3_moe"}),
         *dir = tiny_subdir(root, "peft"), *path = tiny_join(dir, "adapter_model.safetensors");
    graft_error err = {0};
    gr_model_config config;
    assert_int_equal(gr_config_open(&config, model, &err), GRAFT_OK);
    for (int with = 1; with <= 3; with++) { /* bits: gate and up, down */
        const bool gate_up = with & 1, down = with & 2;
        const int64_t in[] = {TINY_HIDDEN, TINY_EXPERT_MLP}, out[] = {GATE_UP, TINY_HIDDEN};
        gr_tensor all[4];
        char names[4][120], text[400];
        float *numbers[2][2] = {0}; /* of which stack; A, B */
        size_t n = 0;
        for (int s = 0; s < 2; s++) {
            if (!(s ? down : gate_up)) continue;
            for (int b = 0; b < 2; b++) {
                const int64_t rows = b ? out[s] : ALL, cols = b ? ALL : in[s];
                float *x = numbers[s][b] = calloc((size_t)(rows * cols), sizeof *x);
                assert_non_null(x);
                for (int64_t i = 0; i < rows * cols; i++) x[i] = (float)(i + 7 * b + 13 * s + 1);
                snprintf(names[n], sizeof names[n], "%s%s.lora_%s.weight", stem,
                         with == 3 && !s ? ".base_layer" : "", b ? "B" : "A");
                all[n] = (gr_tensor){.name = names[n],
                                     .dtype = GR_F32,
                                     .ndim = 2,
                                     .shape = {rows, cols},
                                     .data = (const uint8_t *)x,
                                     .bytes = (size_t)(rows * cols) * sizeof *x};
                n++;
            }
        }
        assert_int_equal(gr_safetensors_save(path, all, n, NULL, &err), GRAFT_OK);
        snprintf(text, sizeof text,
                 "{\"peft_type\":\"LORA\",\"r\":3,\"lora_alpha\":6,\"target_modules\":[],\"target_"
                 "parameters\":[%s%s%s]}",
                 down ? "\"mlp.experts.down_proj\"" : "", with == 3 ? "," : "",
                 gate_up ? "\"mlp.experts.gate_up_proj\"" : "");
        tiny_write(dir, "adapter_config.json", text);
        made m = {.config = &config}, back = load(&m, dir);
        assert_int_equal(back.tuning->adapted, 2 * gate_up + down);
        static const gr_role roles[] = {GR_EXPERT_GATE, GR_EXPERT_UP, GR_EXPERT_DOWN};
        for (int k = 0; k < 3; k++) {
            const int s = k == 2;
            const gr_tuned *x = &back.tuning->block[1][roles[k]];
            const int64_t own = s ? TINY_HIDDEN : TINY_EXPERT_MLP, first = k == 1 ? own : 0;
            assert_int_equal(x->rank, numbers[s][0] ? RANK : 0);
            for (int64_t e = 0; x->rank && e < TINY_EXPERTS; e++)
                for (int64_t r = 0; r < RANK; r++) {
                    for (int64_t i = 0; i < in[s]; i++)
                        assert_true(back.params[x->a + (e * RANK + r) * in[s] + i] ==
                                    numbers[s][0][(e * RANK + r) * in[s] + i]);
                    for (int64_t o = 0; o < own; o++)
                        assert_true(back.params[x->b + (e * RANK + r) * own + o] ==
                                    numbers[s][1][(first + o) * ALL + r * TINY_EXPERTS + e]);
                }
            assert_true(!x->rank || x->scale == 2);
        }
        drop(&back);
        const char *const file = "adapter_model.safetensors";
        refused(&config, dir, file, "{\"r\":4}", GRAFT_MISMATCH, "rank 4");
        refused(&config, dir, file, "{\"alpha_pattern\":{\"experts\":3}}", GRAFT_UNSUPPORTED,
                "alpha_pattern");
        refused(&config, dir, file, "{\"target_parameters\":[\"mlp.gate.weight\"]}", GRAFT_UNSUPPORTED,
                "experts.down");
        refused(&config, dir, file, "{\"target_parameters\":[]}", GRAFT_MISMATCH,
                "is not an adapter of this base");
        for (int s = 0; s < 4; s++) free(numbers[s / 2][s % 2]);
    }
    gr_config_free(&config);
    free(path);
    tiny_remove(dir);
    tiny_remove(model);
}

/* What an adapter adds to one number of an expert's matrix. */
static double added(const gr_tuning *t, const float *params, int64_t e, int64_t o, int64_t i) {
    const gr_tuned *x = &t->block[1][GR_EXPERT_DOWN];
    const float *a = params + x->a + e * x->rank * TINY_EXPERT_MLP,
                *b = params + x->b + e * x->rank * TINY_HIDDEN;
    double sum = 0;
    for (int64_t r = 0; r < x->rank; r++)
        sum += (double)a[r * TINY_EXPERT_MLP + i] * (double)b[r * TINY_HIDDEN + o];
    return sum * (double)x->scale;
}

/* A weighted sum of adapters of experts is, expert by expert, the sum of what they add; and so is its
 * decomposition with all ranks. */
static void test_sums(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "model", &(tiny_spec){.type = "qwen3_moe"}), *dir[2], list[600];
    graft_error err = {0};
    gr_model_config config;
    made m[2];
    assert_int_equal(gr_config_open(&config, model, &err), GRAFT_OK);
    for (int k = 0; k < 2; k++) {
        m[k] = make(&config,
                    (gr_tuning_request){.targets = "down_proj", .rank = 3 - k, .alpha = 6, .scale = NAN});
        for (int64_t i = 0; i < m[k].tuning->parameters; i++)
            m[k].params[i] = sinf((float)(i * (7 + k) % 1013));
        dir[k] = save(k ? "second" : "first", &m[k]);
    }
    snprintf(list, sizeof list, "%s=0.5,%s=-2", dir[0], dir[1]);
    for (int how = GR_MERGE_CAT; how <= GR_MERGE_SVD; how++) {
        gr_tuning *t;
        float *params;
        if (how == GR_MERGE_LINEAR) continue;
        if (gr_adapter_load_merged(&t, &params, list, (gr_adapter_merging)how, 5, &config, NULL, &err) !=
            GRAFT_OK)
            fail_msg("%s %s", err.what, err.where);
        assert_int_equal(t->block[1][GR_EXPERT_DOWN].rank, 5);
        for (int64_t e = 0; e < TINY_EXPERTS; e++)
            for (int64_t n = 0; n < 50; n++) {
                int64_t o = n * 29 % TINY_HIDDEN, i = n * 17 % TINY_EXPERT_MLP;
                double want = 0.5 * added(m[0].tuning, m[0].params, e, o, i) -
                              2 * added(m[1].tuning, m[1].params, e, o, i);
                assert_near(added(t, params, e, o, i), want, 1e-5);
            }
        free(params);
        gr_tuning_free(t);
    }
    /* mlx-lm's default adapts the router too */
    gr_adapter_base base = {.model = &base_model};
    gr_tuning *none;
    float *nothing;
    rename_tensor(dir[0], "adapters.safetensors", "model.layers.1.mlp.switch_mlp.down_proj.lora_a",
                  "model.layers.1.mlp.gate.lora_a");
    assert_int_equal(gr_adapter_load(&none, &nothing, dir[0], &config, &base, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.found, "mlp.gate.lora_a trains a mixture's router"));
    assert_non_null(strstr(err.hint, "keys"));
    for (int k = 0; k < 2; k++) {
        drop(&m[k]);
        tiny_remove(dir[k]);
    }
    gr_config_free(&config);
    tiny_remove(model);
}

/* Of equal scores the lower number; all of them; one, whose weight is then 1. */
static void test_choice(void **state) {
    (void)state;
    enum { N = 5 };
    static const float scores[N] = {1, 3, 2, 3, 3};
    static const int32_t order[N] = {1, 3, 4, 2, 0};
    for (int used = 1; used <= N; used++)
        for (int normed = 0; normed < 2; normed++) {
            const gr_experts x = {.used = used, .normed = normed, .router = {.rows = N}};
            int32_t expert[N];
            float weight[N], p[N];
            double sum = 0, picked = 0, all = 3 + exp(-1) + exp(-2);
            for (int i = 0; i < used; i++) picked += exp((double)scores[order[i]] - 3) / all;
            memcpy(p, scores, sizeof p);
            gr_experts_choose(&x, expert, weight, p);
            for (int i = 0; i < used; i++) sum += (double)weight[i];
            for (int i = 0; i < used; i++) {
                assert_int_equal(expert[i], order[i]);
                double own = exp((double)scores[order[i]] - 3) / all;
                assert_near((double)weight[i], normed ? own / picked : own, 1e-6);
            }
            if (normed) assert_near(sum, 1, 1e-6);
            if (normed && used == 1) assert_true(weight[0] == 1);
        }
}

/* Picks are counted in 32 bits: more of them at once are refused before anything is bound. */
static void test_picks_fit(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "model", &(tiny_spec){.type = "qwen3_moe"});
    graft_error err = {0};
    gr_model *m = NULL;
    gr_runtime rt;
    uint64_t saved, scratch;
    assert_int_equal(gr_model_open(&m, model, &err), GRAFT_OK);
    assert_int_equal(gr_runtime_init(&rt, m, 1, true, &err), GRAFT_OK);
    gr_net_config config = {.tokens = INT32_MAX / 2, .longest = TOKENS};
    assert_int_equal(gr_runtime_measure(&rt, &config, &saved, &scratch, &err), GRAFT_OK);
    config.tokens++;
    assert_int_equal(gr_runtime_measure(&rt, &config, &saved, &scratch, &err), GRAFT_RANGE);
    assert_non_null(strstr(err.what, "too many tokens"));
    gr_runtime_free(&rt);
    tiny_remove(model);
}

static void test_gguf_names(void **state) {
    (void)state;
    static const char *const names[][2] = {
        {"blk.7.ffn_gate_inp", "model.layers.7.mlp.gate"},
        {"blk.7.ffn_gate_exps", "model.layers.7.mlp.switch_mlp.gate_proj"},
        {"blk.7.ffn_up_exps", "model.layers.7.mlp.switch_mlp.up_proj"},
        {"blk.7.ffn_down_exps", "model.layers.7.mlp.switch_mlp.down_proj"}};
    const gr_gguf_arch *arch = gr_gguf_arch_by_name("qwen3moe", 8);
    assert_true(arch && strcmp(arch->model_type, "qwen3_moe") == 0 && gr_gguf_arch_of("olmoe"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char own[100], with[120];
        gr_buf hf = {0};
        snprintf(with, sizeof with, "%s.weight", names[i][0]);
        assert_true(gr_gguf_name_to_hf(&hf, arch, with));
        assert_memory_equal(hf.data, names[i][1], strlen(names[i][1]));
        assert_true(gr_gguf_name_of_hf(own, sizeof own, names[i][1]));
        assert_string_equal(own, names[i][0]);
        gr_buf_free(&hf);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stacked),   cmocka_unit_test(test_router_codes),
                                       cmocka_unit_test(test_refused),   cmocka_unit_test(test_too_many),
                                       cmocka_unit_test(test_adapters),  cmocka_unit_test(test_peft_stacks),
                                       cmocka_unit_test(test_picks_fit), cmocka_unit_test(test_names),
                                       cmocka_unit_test(test_sums),      cmocka_unit_test(test_choice),
                                       cmocka_unit_test(test_gguf_names)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
