/* adapters/export.c: every format to every other, with all that the formats can hold; what one cannot is
 * refused by name, and nothing is written over. */
#include "model/identity.h"
#include "tests/tiny_adapter.h"
#include <math.h>

static gr_model_config tied, biased; /* llama with one embedding; qwen2 with biases and a head of its own */
static char *tied_dir, *biased_dir;

static int open_config(gr_model_config *config, char **dir, const char *name, const tiny_spec *spec) {
    graft_error err = {0};
    *dir = tiny_subdir(root, name);
    tiny_config_write(*dir, spec);
    return gr_config_open(config, *dir, &err) == GRAFT_OK ? 0 : -1;
}

static int setup(void **state) {
    (void)state;
    root = tiny_temp();
    return open_config(&tied, &tied_dir, "tied", &(tiny_spec){0}) |
           open_config(&biased, &biased_dir, "biased", &(tiny_spec){.type = "qwen2", .untied = true});
}

static int teardown(void **state) {
    (void)state;
    gr_config_free(&tied);
    gr_config_free(&biased);
    free(tied_dir);
    free(biased_dir);
    tiny_remove(root);
    return 0;
}

static const char *base_of(const made *m) {
    return m->config == &tied ? tied_dir : biased_dir;
}

static char *save_as(const char *name, const made *m, unsigned formats) {
    graft_error err = {0};
    char *dir = tiny_join(root, name);
    gr_adapter_info info = {.base = base_of(m), .model = &base_model, .iteration = 12, .formats = formats};
    if (gr_adapter_save(dir, m->config, m->tuning, m->params, &info, &err) != GRAFT_OK)
        fail_msg("%s", err.what);
    return dir;
}

static graft_status export(const char *from, const char *to, const char *out, const char *model,
                           gr_adapter_exported *done, graft_error *err) {
    *err = (graft_error){0};
    const gr_adapter_export wish = {.path = from, .to = to, .out = out, .model = model};
    return gr_adapter_export_run(done, &wish, err);
}

static void drop_result(gr_adapter_exported *done) {
    free(done->base);
    free(done->notes);
}

/* B times its scale, A, and everything else are the same numbers within rounding of one factor. */
static void means_the_same(const made *m, const char *path) {
    made back = load(m, path);
    for (size_t k = 0; k < m->tuning->param_count; k++) {
        const gr_param *p = &m->tuning->params[k];
        const gr_tuned *x = gr_tuning_of(m->tuning, p->role, p->layer),
                       *y = gr_tuning_of(back.tuning, p->role, p->layer);
        const int64_t at = p->kind == GR_PARAM_A           ? y->a
                           : p->kind == GR_PARAM_B         ? y->b
                           : p->kind == GR_PARAM_MAGNITUDE ? y->magnitude
                           : p->kind == GR_PARAM_BIAS      ? y->bias
                                                           : y->weight;
        assert_int_not_equal(at, GR_NOWHERE);
        assert_true(y->rank >= x->rank);
        double factor = p->kind == GR_PARAM_B ? (double)x->scale / (double)y->scale : 1;
        for (int64_t i = 0; i < gr_param_count(p); i++) {
            double was = (double)m->params[p->at + i] * factor, is = (double)back.params[at + i];
            if (fabs(was - is) > 4e-7 * fabs(was)) fail_msg("%s: %g, not %g", path, is, was);
        }
    }
    drop(&back);
}

static const char *const names[] = {"mlx", "peft", "gguf"};

static void each_to_each(void **state) {
    (void)state;
    static const struct {
        gr_model_config *config;
        gr_tuning_request r;
        bool exact[3]; /* as a target */
    } cases[] = {
        {&tied, {.targets = "all-linear", .rank = 4, .alpha = 8, .scale = NAN}, {true, true, true}},
        {&tied,
         {.targets = "extended", .rank = 4, .alpha = 8, .scale = NAN, .use_rslora = true},
         {true, true, true}},
        {&tied,
         {.targets = "extended",
          .rank = 4,
          .alpha = 8,
          .scale = NAN,
          .rank_pattern = "q_proj=2",
          .alpha_pattern = "v_proj=6"},
         {false, true, false}},
        {&biased,
         {.targets = "q_proj,embed_tokens,lm_head", .rank = 2, .alpha = 8, .scale = NAN},
         {true, true, true}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        made m = make(cases[i].config, cases[i].r);
        char *dir = save_as("from", &m, 7);
        for (int from = 0; from < 3; from++)
            for (int to = 0; to < 3; to++) {
                graft_error err;
                gr_adapter_exported done;
                char *file = tiny_join(dir, gr_adapter_file_name(from)), *out = tiny_join(root, "to");
                if (export(file, names[to], out, NULL, &done, &err) != GRAFT_OK)
                    fail_msg("%s to %s: %s %s", names[from], names[to], err.what, err.where);
                assert_string_equal(done.files[0], gr_adapter_file_name(to));
                assert_null(done.files[1]);
                char *made_file = tiny_join(out, gr_adapter_file_name(to));
                means_the_same(&m, made_file);
                if (cases[i].exact[from] && cases[i].exact[to]) {
                    means_the_same(&m, out);
                    assert_string_equal(done.notes, "");
                    made back = load(&m, out);
                    assert_memory_equal(back.params, m.params, (size_t)m.tuning->parameters * sizeof(float));
                    drop(&back);
                }
                if (cases[i].exact[from]) assert_int_equal(done.notes[0] != 0, !cases[i].exact[to]);
                drop_result(&done);
                tiny_remove(out);
                free(made_file);
                free(file);
            }
        tiny_remove(dir);
        drop(&m);
    }
}

/* DoRA, biases and whole tensors go where they can, and nowhere else. */
static void what_cannot_be_held(void **state) {
    (void)state;
    static const struct {
        gr_model_config *config;
        gr_tuning_request r;
        const char *refusals[3]; /* NULL: is written */
        const char *able;
    } cases[] = {
        {&tied, {.kind = GR_TUNE_DORA, .targets = "q_proj"}, {NULL, NULL, "knows no DoRA"}, "--to mlx,peft"},
        {&biased,
         {.targets = "q_proj", .bias = GR_BIAS_ALL},
         {"takes no biases", NULL, "takes no biases"},
         "--to peft"},
        {&biased,
         {.targets = "q_proj", .modules_to_save = "lm_head"},
         {"whole tensors beside adapters (lm_head.weight)", NULL, "lm_head.weight"},
         "--to peft"},
        {&tied,
         {.targets = "embed_tokens"},
         {NULL, NULL, "the head too (model.embed_tokens.lora_A)"},
         "--to mlx,peft"},
        {&tied, {.kind = GR_TUNE_FULL}, {NULL, "there is none", "there is none"}, "--to mlx"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_tuning_request r = cases[i].r;
        r.rank = 2;
        r.alpha = 4;
        r.scale = NAN;
        made m = make(cases[i].config, r);
        char *dir = save_as("from", &m, 0), *out = tiny_join(root, "to");
        for (int to = 0; to < 3; to++) {
            graft_error err;
            gr_adapter_exported done;
            graft_status st = export(dir, names[to], out, base_of(&m), &done, &err);
            if (!cases[i].refusals[to]) {
                if (st != GRAFT_OK) fail_msg("%zu to %s: %s %s", i, names[to], err.what, err.found);
                drop_result(&done);
                equal(&m, out);
                tiny_remove(tiny_join(root, "to"));
                continue;
            }
            assert_int_equal(st, GRAFT_UNSUPPORTED);
            if (!strstr(err.found, cases[i].refusals[to]) || !strstr(err.hint, cases[i].able))
                fail_msg("%zu to %s: %s|%s|%s", i, names[to], err.what, err.found, err.hint);
            assert_false(gr_path_exists(out));
        }
        graft_error err;
        gr_adapter_exported done; /* without names: those that can, and why not the others */
        if (export(dir, NULL, out, NULL, &done, &err) != GRAFT_OK)
            fail_msg("%zu: %s %s %s %s", i, err.what, err.where, err.expected, err.found);
        assert_non_null(strstr(done.notes, "is not written"));
        drop_result(&done);
        tiny_remove(out);
        tiny_remove(dir);
        drop(&m);
    }
}

/* What is recorded goes along: the base and its digests, iteration, dropout, rsLoRA. */
static void carried_along(void **state) {
    (void)state;
    graft_error err;
    gr_adapter_exported done;
    gr_adapter_record record;
    made m = make(
        &tied,
        (gr_tuning_request){
            .targets = "q_proj", .rank = 4, .alpha = 8, .scale = NAN, .use_rslora = true, .dropout = 0.25});
    char *dir = save_as("from", &m, GR_ADAPTER_PEFT), *out = tiny_join(root, "to");
    assert_int_equal(export(dir, "mlx,peft,gguf", out, NULL, &done, &err), GRAFT_OK);
    assert_string_equal(done.base, tied_dir);
    drop_result(&done);
    made back = load(&m, out); /* checks the base's digest */
    assert_true(back.tuning->use_rslora);
    drop(&back);
    for (int f = 0; f < 4; f++) {
        const char *name = gr_adapter_file_name(f);
        char *path = name ? tiny_join(out, name) : tiny_join(root, "to");
        assert_int_equal(gr_adapter_record_read(&record, path, &err), GRAFT_OK);
        assert_string_equal(record.base, tied_dir);
        assert_string_equal(record.base_digest, "0000000000000abc");
        assert_int_equal(record.iteration, 12);
        assert_near(record.dropout, 0.25, 0);
        gr_adapter_record_free(&record);
        free(path);
    }
    char *card = tiny_read(out, "README.md", NULL), *was = tiny_read(dir, "adapter_config.json", NULL),
         *is = tiny_read(out, "adapter_config.json", NULL);
    assert_non_null(strstr(card, "library_name: peft"));
    assert_non_null(strstr(card, "`adapter.gguf` is for llama.cpp"));
    assert_string_equal(was, is);
    free(card);
    free(was);
    free(is);
    tiny_remove(dir);
    tiny_remove(out);
    drop(&m);
}

/* The card says what is there, whatever is. */
static void card_of_each(void **state) {
    (void)state;
    static const struct {
        const char *to;
        bool peft; /* model hubs know PEFT's files */
        const char *said;
    } cards[] = {
        {"mlx", false, "`adapters.safetensors` is for mlx-lm; `adapter_config.json` is for mlx-lm."},
        {"peft", true, "`adapter_model.safetensors` is for PEFT; `adapter_config.json` is for PEFT."},
        {"gguf", false, "`adapter.gguf` is for llama.cpp; `adapter_config.json` is graft's record of it."},
        {"mlx,peft", true,
         "`adapters.safetensors` is for mlx-lm, `adapter_model.safetensors` is for PEFT; "
         "`adapter_config.json` is for mlx-lm and PEFT."},
        {"mlx,gguf", false,
         "`adapters.safetensors` is for mlx-lm, `adapter.gguf` is for llama.cpp; `adapter_config.json` is "
         "for "
         "mlx-lm."},
        {"peft,gguf", true,
         "`adapter_model.safetensors` is for PEFT, `adapter.gguf` is for llama.cpp; `adapter_config.json` is "
         "for PEFT."},
        {"mlx,peft,gguf", true,
         "`adapters.safetensors` is for mlx-lm, `adapter_model.safetensors` is for PEFT, `adapter.gguf` is "
         "for llama.cpp; `adapter_config.json` is for mlx-lm and PEFT."},
    };
    for (int uneven = 0; uneven < 2; uneven++) {
        made m = make(&tied, (gr_tuning_request){.targets = "q_proj,v_proj",
                                                 .rank = 4,
                                                 .alpha = 8,
                                                 .scale = NAN,
                                                 .rank_pattern = uneven ? "q_proj=2" : NULL});
        char *dir = save_as("from", &m, GR_ADAPTER_PEFT), *out = tiny_join(root, "to");
        for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
            graft_error err;
            gr_adapter_exported done;
            assert_int_equal(export(dir, cards[i].to, out, NULL, &done, &err), GRAFT_OK);
            char *card = tiny_read(out, "README.md", NULL);
            if (!strstr(card, cards[i].said)) fail_msg("%s: %s", cards[i].to, card);
            assert_true(cards[i].peft == !!strstr(card, "library_name: peft"));
            /* no file is spoken of that is not there */
            for (int f = 0; f < 3; f++) {
                char *path = tiny_join(out, gr_adapter_file_name(f));
                if (!!strstr(card, gr_adapter_file_name(f)) != gr_path_exists(path))
                    fail_msg("%s: %s: %s", cards[i].to, gr_adapter_file_name(f), card);
                free(path);
            }
            free(card);
            drop_result(&done);
            tiny_remove(tiny_join(root, "to"));
        }
        free(out);
        tiny_remove(dir);
        drop(&m);
    }
}

/* --model says where the base's numbers are; which base it is, its digest alone can say. */
static void recorded_base(void **state) {
    (void)state;
    graft_error err;
    gr_adapter_exported done;
    gr_model *model;
    gr_pool *pool;
    char *here = tiny_model_dir(root, "here", &(tiny_spec){.seed = 1}),
         *moved = tiny_model_dir(root, "moved", &(tiny_spec){.seed = 1}),
         *other = tiny_model_dir(root, "other", &(tiny_spec){.seed = 2}), *dir = tiny_join(root, "from"),
         *out = tiny_join(root, "to");
    made m = make(&tied, (gr_tuning_request){.targets = "q_proj", .rank = 4, .alpha = 8, .scale = NAN});
    assert_int_equal(gr_model_open(&model, here, &err), GRAFT_OK);
    assert_int_equal(gr_pool_new(&pool, 1, &err), GRAFT_OK);
    assert_int_equal(gr_model_identify(model, pool, &err), GRAFT_OK);
    for (int digests = 0; digests < 2; digests++) {
        const gr_adapter_info info = {.base = here, .model = digests ? model : NULL};
        assert_int_equal(gr_adapter_save(dir, m.config, m.tuning, m.params, &info, &err), GRAFT_OK);
        const struct {
            const char *model, *base, *note;
        } cases[] = {{NULL, here, ""},
                     {here, here, ""},
                     {moved, digests ? moved : here, digests ? "" : "nothing says that it is the same one"},
                     {other, here, digests ? "is another one by its digest" : "nothing says"},
                     {tied_dir, here, "nothing says"}}; /* a config alone */
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            gr_adapter_record record;
            assert_int_equal(export(dir, "mlx,peft,gguf", out, cases[i].model, &done, &err), GRAFT_OK);
            assert_string_equal(done.base, cases[i].base);
            if (!cases[i].note[0] ? done.notes[0] != 0 : !strstr(done.notes, cases[i].note))
                fail_msg("%d %zu: %s", digests, i, done.notes);
            for (int f = 0; f < 3; f++) {
                char *path = tiny_join(out, gr_adapter_file_name(f));
                assert_int_equal(gr_adapter_record_read(&record, path, &err), GRAFT_OK);
                assert_string_equal(record.base, cases[i].base);
                gr_adapter_record_free(&record);
                free(path);
            }
            drop_result(&done);
            tiny_remove(tiny_join(root, "to"));
        }
    }
    gr_model_free(model);
    gr_pool_free(pool);
    free(out);
    tiny_remove(dir);
    free(here);
    free(moved);
    free(other);
    drop(&m);
}

/* Into the adapter's own directory a format is added; what belongs to others is left alone. */
static void same_place(void **state) {
    (void)state;
    graft_error err;
    gr_adapter_exported done;
    made m = make(&tied, (gr_tuning_request){.targets = "q_proj", .rank = 4, .alpha = 8, .scale = NAN});
    char *dir = save_as("from", &m, 0), *other = tiny_join(root, "other");
    tiny_write(dir, "README.md", "Trained by somebody.");
    assert_int_equal(export(dir, "gguf", dir, NULL, &done, &err), GRAFT_OK);
    assert_non_null(done.files[2]);
    drop_result(&done);
    for (int f = 0; f < 3; f++) {
        char *path = tiny_join(dir, gr_adapter_file_name(f));
        equal(&m, path);
        free(path);
    }
    char *card = tiny_read(dir, "README.md", NULL);
    assert_string_equal(card, "Trained by somebody.");
    free(card);
    m.params[0] += 1;
    free(save_as("other", &m, GR_ADAPTER_MLX));
    assert_int_equal(export(dir, "peft", other, NULL, &done, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.what, "holds another adapter"));
    equal(&m, other);
    tiny_remove(dir);
    tiny_remove(other);
    drop(&m);
}

static void refusals(void **state) {
    (void)state;
    graft_error err;
    gr_adapter_exported done;
    made m = make(&tied, (gr_tuning_request){.targets = "q_proj", .rank = 4, .alpha = 8, .scale = NAN});
    char *dir = save_as("from", &m, 0), *out = tiny_join(root, "to"),
         *text = tiny_read(dir, "adapter_config.json", NULL);
    assert_int_equal(export(dir, "mlx,pft", out, NULL, &done, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.expected, "mlx, peft, gguf"));
    assert_int_equal(export(dir, "", out, NULL, &done, &err), GRAFT_USAGE);
    assert_int_equal(export(dir, "mlx,", out, NULL, &done, &err), GRAFT_USAGE);
    assert_int_equal(export("/nowhere", "mlx", out, NULL, &done, &err), GRAFT_NOT_FOUND);
    assert_int_equal(export(dir, "mlx", out, "/nowhere", &done, &err), GRAFT_NOT_FOUND);
    assert_int_equal(export(dir, "mlx", out, biased_dir, &done, &err), GRAFT_OK); /* the same shapes */
    drop_result(&done);
    tiny_remove(tiny_join(root, "to"));
    json_t *j = json_loads(text, 0, NULL);
    json_object_set_new(j, "base_model_name_or_path", json_string("/gone"));
    char *gone = json_dumps(j, 0);
    tiny_write(dir, "adapter_config.json", gone);
    assert_int_equal(export(dir, "mlx", out, NULL, &done, &err), GRAFT_NOT_FOUND);
    assert_non_null(strstr(err.where, "/gone"));
    assert_non_null(strstr(err.hint, "--model"));
    json_object_del(j, "base_model_name_or_path"); /* PEFT's key, and mlx-lm's */
    json_object_del(j, "model");
    free(gone);
    gone = json_dumps(j, 0);
    tiny_write(dir, "adapter_config.json", gone);
    assert_int_equal(export(dir, "mlx", out, NULL, &done, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.what, "does not record its base"));
    assert_false(gr_path_exists(out));
    json_decref(j);
    free(gone);
    free(text);
    free(out);
    tiny_remove(dir);
    drop(&m);
}

/* ---- several adapters */

/* The change of the base that a tensor has: [out, in] of that module, in double. */
static double *delta_of(const gr_tuning *t, const float *params, gr_role role, int64_t layer,
                        const gr_model_config *c) {
    const gr_tuned *x = gr_tuning_of(t, role, layer);
    int64_t out, in;
    gr_role_shape(role, c, &out, &in);
    double *d = calloc((size_t)(out * in), sizeof *d);
    for (int64_t r = 0; r < x->rank; r++)
        for (int64_t o = 0; o < out; o++)
            for (int64_t i = 0; i < in; i++)
                d[o * in + i] +=
                    (double)x->scale * (double)params[x->b + r * out + o] * (double)params[x->a + r * in + i];
    return d;
}

static double distance(const double *a, const double *b, int64_t n, double *size) {
    double sum = 0;
    *size = 0;
    for (int64_t i = 0; i < n; i++) sum += (a[i] - b[i]) * (a[i] - b[i]), *size += a[i] * a[i];
    *size = sqrt(*size);
    return sqrt(sum);
}

/* Numbers without a pattern, for what looks at ranks. */
static void scatter(made *m, uint32_t seed) {
    for (int64_t i = 0; i < m->tuning->parameters; i++) {
        seed = seed * 1664525 + 1013904223;
        m->params[i] = (float)(seed >> 8) / (1 << 24) - 0.5f;
    }
}

static made *two(made pair[2], int64_t first, int64_t second) {
    pair[0] = make(
        &tied, (gr_tuning_request){.targets = "q_proj,down_proj", .rank = first, .alpha = 8, .scale = NAN});
    pair[1] = make(
        &tied, (gr_tuning_request){
                   .targets = "q_proj,v_proj", .rank = second, .alpha = 6, .scale = NAN, .use_rslora = true});
    scatter(&pair[0], 1);
    scatter(&pair[1], 2);
    return pair;
}

/* The loaded sum changes every module by the weighted sum of what its parts change it by. */
static void sums_are_exact(void **state) {
    (void)state;
    made m[2];
    char list[600], *a = save_as("with,comma", &two(m, 4, 3)[0], 7),
                    *b = save_as("b=2", &m[1], GR_ADAPTER_GGUF);
    snprintf(list, sizeof list, "%s/adapter.gguf=0.5,%s=-2", b, b); /* one adapter twice */
    graft_error err = {0};
    gr_tuning *t;
    float *params;
    if (gr_adapter_load(&t, &params, list, &tied, NULL, &err) != GRAFT_OK)
        fail_msg("%s %s", err.what, err.where);
    double size, *is = delta_of(t, params, GR_V_PROJ, 1, &tied),
                 *was = delta_of(m[1].tuning, m[1].params, GR_V_PROJ, 1, &tied);
    for (int64_t i = 0; i < 32 * 64; i++) was[i] *= -1.5;
    assert_true(distance(was, is, 32 * 64, &size) < 1e-6 * size && size > 0.1);
    assert_int_equal(t->block[1][GR_V_PROJ].rank, 6);
    assert_int_equal(t->block[1][GR_DOWN_PROJ].rank, 0);
    free(is);
    free(was);
    free(params);
    gr_tuning_free(t);
    made whole = load(&m[0], a); /* an existing path is no list */
    assert_int_equal(whole.tuning->parameters, m[0].tuning->parameters);
    drop(&whole);
    tiny_remove(a);
    a = save_as("a", &m[0], 7);
    snprintf(list, sizeof list, "%s,%s=0.25", a, b);
    if (gr_adapter_load(&t, &params, list, &tied, NULL, &err) != GRAFT_OK)
        fail_msg("%s %s", err.what, err.where);
    const gr_role roles[] = {GR_Q_PROJ, GR_V_PROJ, GR_DOWN_PROJ};
    for (int k = 0; k < 3; k++) {
        int64_t out, in;
        gr_role_shape(roles[k], &tied, &out, &in);
        double *x = delta_of(m[0].tuning, m[0].params, roles[k], 0, &tied),
               *y = delta_of(m[1].tuning, m[1].params, roles[k], 0, &tied);
        is = delta_of(t, params, roles[k], 0, &tied);
        for (int64_t i = 0; i < out * in; i++) x[i] += 0.25 * y[i];
        assert_true(distance(x, is, out * in, &size) < 1e-6 * size && size > 0.1);
        free(x);
        free(y);
        free(is);
    }
    assert_int_equal(t->block[0][GR_Q_PROJ].rank, 7);
    assert_int_equal(t->block[0][GR_DOWN_PROJ].rank, 4);
    free(params);
    gr_tuning_free(t);
    tiny_remove(a);
    tiny_remove(b);
    drop(&m[0]);
    drop(&m[1]);
}

/* svd: with the ranks of all it is the sum; with fewer, another sum of that rank is never nearer. linear: A
 * and B themselves, as the formula says. */
static void merged(void **state) {
    (void)state;
    made m[2];
    char list[600], *a = save_as("a", &two(m, 3, 3)[0], 7), *b = save_as("b", &m[1], 7),
                    *out = tiny_join(root, "to");
    graft_error err = {0};
    gr_tuning *sum, *t;
    float *exact, *params;
    snprintf(list, sizeof list, "%s=0.7,%s=0.3", a, b);
    assert_int_equal(gr_adapter_load(&sum, &exact, list, &tied, NULL, &err), GRAFT_OK);
    double size, last = 0, *was = delta_of(sum, exact, GR_Q_PROJ, 0, &tied);
    for (int64_t rank = 6; rank >= 1; rank--) {
        if (gr_adapter_load_merged(&t, &params, list, GR_MERGE_SVD, rank, &tied, NULL, &err) != GRAFT_OK)
            fail_msg("%s", err.what);
        assert_int_equal(t->block[0][GR_Q_PROJ].rank, rank);
        assert_int_equal(t->block[0][GR_V_PROJ].rank, rank < 3 ? rank : 3);
        double *is = delta_of(t, params, GR_Q_PROJ, 0, &tied), off = distance(was, is, 64 * 64, &size),
               dot = 0, own = 0;
        for (int64_t i = 0; i < 64 * 64; i++) dot += (was[i] - is[i]) * is[i], own += is[i] * is[i];
        assert_true(rank < 6 ? off > last && off < size : off < 1e-6 * size);
        assert_true(fabs(dot) < 1e-5 * own); /* what is cut off is orthogonal to what is kept */
        last = off;
        free(is);
        free(params);
        gr_tuning_free(t);
    }
    assert_int_equal(gr_adapter_load_merged(&t, &params, list, GR_MERGE_SVD, 0, &tied, NULL, &err), GRAFT_OK);
    assert_int_equal(t->block[0][GR_Q_PROJ].rank, 3);
    free(params);
    gr_tuning_free(t);
    assert_int_equal(gr_adapter_load_merged(&t, &params, list, GR_MERGE_LINEAR, 0, &tied, NULL, &err),
                     GRAFT_OK);
    const gr_tuned *x = &t->block[0][GR_Q_PROJ], *p = &m[0].tuning->block[0][GR_Q_PROJ],
                   *q = &m[1].tuning->block[0][GR_Q_PROJ];
    for (int i = 0; i < 2; i++) {
        int64_t at = i ? x->b : x->a, one = i ? p->b : p->a, other = i ? q->b : q->a;
        double expected = sqrt(0.7 * (double)p->scale) * (double)m[0].params[one + 5] +
                          sqrt(0.3 * (double)q->scale) * (double)m[1].params[other + 5];
        assert_near((double)params[at + 5], expected, 1e-6);
    }
    assert_true(x->scale == 1);
    free(params);
    gr_tuning_free(t);
    gr_adapter_exported done;
    if (export(list, "peft,gguf", out, NULL, &done, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    assert_int_equal(done.rank, 6);
    drop_result(&done);
    made back = load(&m[0], out);
    assert_memory_equal(back.params, exact, (size_t)sum->parameters * sizeof(float));
    drop(&back);
    tiny_remove(out);
    tiny_remove(a);
    tiny_remove(b);
    free(was);
    free(exact);
    gr_tuning_free(sum);
    drop(&m[0]);
    drop(&m[1]);
}

static void sums_refused(void **state) {
    (void)state;
    made m[2],
        dora =
            make(&tied, (gr_tuning_request){
                            .kind = GR_TUNE_DORA, .targets = "q_proj", .rank = 2, .alpha = 4, .scale = NAN});
    char *a = save_as("a", &two(m, 3, 4)[0], 7), *b = save_as("b", &m[1], 7), *d = save_as("d", &dora, 0);
    const struct {
        const char *list[2];
        gr_adapter_merging how;
        graft_status status;
        const char *said;
    } cases[] = {{{a, d}, GR_MERGE_CAT, GRAFT_UNSUPPORTED, "magnitude"},
                 {{a, b}, GR_MERGE_LINEAR, GRAFT_MISMATCH, "rank 3"},
                 {{a, "/nowhere"}, GR_MERGE_CAT, GRAFT_NOT_FOUND, "/nowhere"},
                 {{a, "x=y"}, GR_MERGE_CAT, GRAFT_USAGE, "x=y"},
                 {{a, ""}, GR_MERGE_CAT, GRAFT_USAGE, "PATH=NUMBER"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error e = {0};
        gr_tuning *t;
        float *params;
        char list[600], all[2000];
        snprintf(list, sizeof list, "%s=0.5,%s", cases[i].list[0], cases[i].list[1]);
        graft_status st = gr_adapter_load_merged(&t, &params, list, cases[i].how, 0, &tied, NULL, &e);
        snprintf(all, sizeof all, "%s|%s|%s|%s|%s", e.what, e.where, e.expected, e.found, e.hint);
        if (st != cases[i].status || !strstr(all, cases[i].said)) fail_msg("case %zu: %d %s", i, st, all);
        assert_null(t);
    }
    tiny_remove(a);
    tiny_remove(b);
    tiny_remove(d);
    drop(&dora);
    drop(&m[0]);
    drop(&m[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_to_each),  cmocka_unit_test(what_cannot_be_held),
                                       cmocka_unit_test(carried_along), cmocka_unit_test(same_place),
                                       cmocka_unit_test(card_of_each),  cmocka_unit_test(recorded_base),
                                       cmocka_unit_test(refusals),      cmocka_unit_test(sums_are_exact),
                                       cmocka_unit_test(merged),        cmocka_unit_test(sums_refused)};
    return cmocka_run_group_tests_name("export", tests, setup, teardown);
}
