/* adapters/export.c: every format to every other, with all that the formats can hold; what one cannot is
 * refused by name, and nothing is written over. */
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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_to_each), cmocka_unit_test(what_cannot_be_held),
                                       cmocka_unit_test(carried_along), cmocka_unit_test(same_place),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests_name("export", tests, setup, teardown);
}
