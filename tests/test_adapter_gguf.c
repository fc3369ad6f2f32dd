/* adapters/ in GGUF: names, orientation, order of rows and alpha as llama.cpp's own converter writes them;
 * what it cannot hold is left out by name; files of other programs are read, or refused by name. */
#include "adapters/adapter_parts.h"
#include "files/gguf.h"
#include "tests/gguf_bytes.h"
#include "tests/tiny_bases.h"
#include <math.h>

#define GGUF_FILE "adapter.gguf"
#define ALL       (GR_ADAPTER_USUAL | GR_ADAPTER_GGUF)

static char *save_as(const char *name, const made *m, unsigned formats) {
    graft_error err = {0};
    char *dir = tiny_join(root, name);
    gr_adapter_info info = {.base = "some/base", .model = &base_model, .iteration = 12, .formats = formats};
    if (gr_adapter_save(dir, m->config, m->tuning, m->params, &info, &err) != GRAFT_OK)
        fail_msg("%s: %s", err.what, err.where);
    return dir;
}

/* ---- against llama.cpp's converter */

static json_t *golden(void) {
    json_error_t error;
    json_t *root_ = json_load_file(GRAFT_SOURCE_DIR "/tests/golden/gguf_lora.json", 0, &error);
    if (!root_) fail_msg("%s", error.text);
    return root_;
}

static float *numbers(const json_t *tensor, size_t *count) {
    const json_t *data = json_object_get(tensor, "data");
    *count = json_array_size(data);
    float *out = calloc(*count, sizeof *out);
    for (size_t i = 0; i < *count; i++) out[i] = (float)json_integer_value(json_array_get(data, i));
    return out;
}

/* A directory with PEFT's files of the case. */
static char *write_peft(const json_t *all, const json_t *one) {
    gr_tensor tensors[64] = {0};
    graft_error err = {0};
    size_t n = 0;
    const char *name;
    json_t *value,
        *config = json_pack("{s:s, s:O, s:O}", "peft_type", "LORA", "r", json_object_get(all, "rank"),
                            "lora_alpha", json_object_get(all, "alpha"));
    char *dir = tiny_subdir(root, "peft"), *path = tiny_join(dir, "adapter_model.safetensors");
    char *text = json_dumps(config, 0);
    json_object_foreach(json_object_get(one, "peft"), name, value) {
        gr_tensor *t = &tensors[n++];
        size_t count;
        *t = (gr_tensor){.name = name, .dtype = GR_F32, .ndim = 2, .data = (uint8_t *)numbers(value, &count)};
        t->bytes = count * sizeof(float);
        for (int d = 0; d < 2; d++)
            t->shape[d] = json_integer_value(json_array_get(json_object_get(value, "shape"), (size_t)d));
    }
    if (gr_safetensors_save(path, tensors, n, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    tiny_write(dir, "adapter_config.json", text);
    for (size_t i = 0; i < n; i++) free((void *)(uintptr_t)tensors[i].data);
    json_decref(config);
    free(text);
    free(path);
    return dir;
}

static void same_tensors(const gr_gguf *file, const json_t *tensors) {
    const char *name;
    json_t *value;
    assert_int_equal(gr_gguf_count(file), json_object_size(tensors));
    json_object_foreach((json_t *)(uintptr_t)tensors, name, value) {
        const gr_gguf_tensor *t = gr_gguf_find(file, name);
        const json_t *shape = json_object_get(value, "shape");
        size_t count;
        float *expected = numbers(value, &count);
        if (!t) fail_msg("%s is missing", name);
        assert_int_equal(t->type, GR_GGUF_F32);
        assert_int_equal(t->ndim, 2);
        for (int d = 0; d < 2; d++)
            assert_int_equal(t->shape[d], json_integer_value(json_array_get(shape, (size_t)d)));
        if (memcmp(t->data, expected, count * sizeof *expected) != 0) fail_msg("%s has other numbers", name);
        free(expected);
    }
}

static void same_keys(const gr_gguf *file, const json_t *keys) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)keys, key, value) {
        const char *text = NULL;
        size_t len = 0;
        double number = 0;
        if (json_is_string(value)) {
            if (!gr_gguf_string(file, key, &text, &len) || len != json_string_length(value) ||
                memcmp(text, json_string_value(value), len) != 0)
                fail_msg("%s", key);
        } else if (!gr_gguf_float(file, key, &number) || number != json_number_value(value)) {
            fail_msg("%s: %g", key, number);
        }
    }
}

static void as_llama_cpp(void **state) {
    (void)state;
    json_t *all = golden(), *one;
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, one) {
        graft_error err = {0};
        gr_model_config config;
        gr_gguf *file = NULL;
        char *text = json_dumps(json_object_get(one, "config"), 0), *from = write_peft(all, one);
        if (gr_config_parse(&config, text, strlen(text), "golden", &err) != GRAFT_OK)
            fail_msg("%s", err.what);
        made m = {.config = &config}, peft = load(&m, from);
        char *to = save_as("gguf", &peft, GR_ADAPTER_GGUF), *path = tiny_join(to, GGUF_FILE);
        char *json = tiny_join(to, "adapter_config.json");
        assert_int_equal(gr_gguf_open(&file, path, &err), GRAFT_OK);
        same_tensors(file, json_object_get(one, "gguf"));
        same_keys(file, json_object_get(one, "keys"));
        gr_gguf_close(file);
        equal(&peft, path);
        assert_int_equal(unlink(json), 0); /* it says everything itself */
        equal(&peft, path);
        equal(&peft, to);
        drop(&peft);
        gr_config_free(&config);
        tiny_remove(from);
        tiny_remove(to);
        free(path);
        free(json);
        free(text);
    }
    assert_int_equal(i, 14);
    json_decref(all);
}

/* ---- scales */

/* What llama.cpp computes with: lora_b times alpha / rank is the same as graft's B times its scale. */
static void scales(void **state) {
    (void)state;
    static const struct {
        gr_tuning_request r;
        bool folded;
    } cases[] = {
        {{.targets = "q_proj,v_proj", .rank = 4, .alpha = 8, .scale = NAN}, false},
        {{.targets = "q_proj,v_proj", .rank = 4, .alpha = 8, .scale = NAN, .use_rslora = true}, false},
        {{.targets = "extended", .rank = 4, .alpha = 8, .scale = NAN, .rank_pattern = "q_proj=2"}, false},
        {{.targets = "extended", .rank = 4, .alpha = 8, .scale = NAN, .alpha_pattern = "q_proj=6"}, true},
        {{.targets = "extended", .rank = 3, .scale = 0.3, .alpha = 0.9}, false},
        {{.targets = "extended",
          .rank = 4,
          .alpha = 8,
          .scale = NAN,
          .rank_pattern = "v_proj=2",
          .use_rslora = true},
         true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_buf notes = {0};
        made m = make(&tied, cases[i].r);
        char *dir = save_as("s", &m, ALL), *path = tiny_join(dir, GGUF_FILE),
             *mlx = tiny_join(dir, "adapters.safetensors");
        made back = load(&m, path);
        assert_int_equal(back.tuning->param_count, m.tuning->param_count);
        for (size_t k = 0; k < m.tuning->param_count; k++) {
            const gr_param *p = &m.tuning->params[k], *q = &back.tuning->params[k];
            double was = (double)gr_tuning_of(m.tuning, p->role, p->layer)->scale;
            double is = (double)gr_tuning_of(back.tuning, p->role, p->layer)->scale;
            assert_int_equal(p->rows, q->rows);
            if (!cases[i].folded) assert_true(was == is);
            for (int64_t j = 0; j < gr_param_count(p); j++) {
                double x = (double)m.params[p->at + j], y = (double)back.params[q->at + j];
                if (p->kind == GR_PARAM_B) x *= was, y *= is;
                if (fabs(x - y) > 3e-7 * fabs(x)) fail_msg("case %zu: %g, not %g", i, y, x);
            }
        }
        gr_adapter_notes(&notes, m.config, m.tuning, GR_ADAPTER_GGUF);
        assert_int_equal(notes.len != 0, cases[i].folded);
        if (!cases[i].folded) equal(&m, path);
        equal(&m, dir);
        gr_buf_free(&notes);
        drop(&back);
        drop(&m);
        tiny_remove(dir);
        free(path);
        free(mlx);
    }
}

/* ---- what it cannot hold */

static void left_out(void **state) {
    (void)state;
    static const struct {
        gr_model_config *config;
        gr_tuning_request r;
        const char *said;
    } cases[] = {
        {&tied,
         {.kind = GR_TUNE_DORA, .targets = "q_proj"},
         "llama.cpp knows no DoRA (model.layers.0.self_attn.q_proj.magnitude)"},
        {&biased,
         {.targets = "q_proj", .bias = GR_BIAS_ALL},
         "biases beside adapters (model.layers.0.self_attn.q_proj.bias)"},
        {&biased,
         {.targets = "q_proj", .modules_to_save = "lm_head"},
         "whole tensors beside adapters (lm_head.weight)"},
        {&tied, {.targets = "q_proj,embed_tokens"}, "no embedding that is the head too"},
        {&tied, {.kind = GR_TUNE_FULL}, "hold adapters, and there is none"},
        {&biased, {.targets = "embed_tokens,lm_head"}, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_buf notes = {0};
        gr_tuning_request r = cases[i].r;
        r.rank = 4;
        r.alpha = 8;
        r.scale = NAN;
        made m = make(cases[i].config, r);
        char *dir = save_as("l", &m, ALL), *path = tiny_join(dir, GGUF_FILE);
        gr_adapter_notes(&notes, m.config, m.tuning, ALL);
        if (cases[i].said && (!notes.data || !strstr(notes.data, cases[i].said)))
            fail_msg("case %zu: %s", i, notes.data ? notes.data : "nothing");
        if (!cases[i].said) {
            assert_int_equal(notes.len, 0);
            equal(&m, path);
        }
        assert_int_equal(gr_path_exists(path), !cases[i].said);
        gr_buf_free(&notes);
        drop(&m);
        tiny_remove(dir);
        free(path);
    }
}

/* A save without it leaves none of an earlier one; one that belongs to another save is seen. */
static void one_save(void **state) {
    (void)state;
    graft_error err = {0};
    gr_adapter_mark mark;
    made m = make(&tied, (gr_tuning_request){.targets = "q_proj", .rank = 2, .scale = 2, .alpha = 4});
    char *dir = save_as("o", &m, ALL), *path = tiny_join(dir, GGUF_FILE), *other = tiny_join(root, "moved");
    assert_int_equal(gr_adapter_which(&mark, dir, m.config, m.tuning, ALL), GR_ADAPTER_WHOLE);
    assert_int_equal(mark.iteration, 12);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(gr_adapter_which(&mark, dir, m.config, m.tuning, ALL), GR_ADAPTER_TORN);
    assert_int_equal(gr_adapter_which(&mark, dir, m.config, m.tuning, 0), GR_ADAPTER_WHOLE);
    m.params[0] += 1;
    free(save_as("o", &m, GR_ADAPTER_USUAL));
    assert_int_equal(rename(other, path), 0);
    assert_int_equal(gr_adapter_which(&mark, dir, m.config, m.tuning, ALL), GR_ADAPTER_TORN);
    gr_tuning *tuning;
    float *params;
    assert_int_equal(gr_adapter_load(&tuning, &params, dir, m.config, NULL, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.what, "not of one save"));
    free(save_as("o", &m, GR_ADAPTER_USUAL));
    assert_false(gr_path_exists(path));
    equal(&m, dir);
    drop(&m);
    tiny_remove(dir);
    free(path);
    free(other);
}

/* ---- files of other programs */

typedef struct spec {
    const char *general, *kind, *arch, *a, *b;
    uint32_t type; /* of lora_b: 0 f32, 8 Q8_0 */
    float alpha;
    bool vector, tokens; /* lora_a as one dimension; a LoRA that tokens turn on */
} spec;

/* A file of one pair of k_proj of layer 0, rank 1 (32 where lora_b is in blocks). prefix: NULL, or a
 * prompt's. */
static char *write_file(const spec *s, const char *prefix) {
    gr_buf b = {0};
    graft_error err = {0};
    char *path = tiny_join(root, "foreign.gguf");
    uint64_t rank = s->type ? 32 : 1, bytes = rank * 64 * 4;
    put_header(&b, 3, 2, 4 + s->tokens + !!prefix);
    put_key_string(&b, "general.type", s->general);
    put_key_string(&b, "adapter.type", s->kind);
    put_key_string(&b, "general.architecture", s->arch);
    put_key_float(&b, "adapter.lora.alpha", s->alpha);
    if (s->tokens) {
        put_key_array(&b, "adapter.alora.invocation_tokens", GR_GGUF_U32, 1);
        put_u32(&b, 5);
    }
    if (prefix) put_key_string(&b, "adapter.lora.prompt_prefix", prefix);
    put_tensor(&b, s->a, s->vector ? 0 : rank, 64, GR_GGUF_F32, 0);
    put_tensor(&b, s->b, 32, rank, s->type, bytes);
    put_padding(&b, 32);
    for (uint64_t i = 0; i < rank * 64; i++) gr_buf_add(&b, &(float){1}, 4);
    for (uint64_t i = 0; i < 32; i++) {
        if (!s->type) gr_buf_add(&b, &(float){2}, 4);
        if (!s->type) continue;
        gr_buf_add(&b, &(uint16_t){0x3800}, 2); /* 0.5, times 4 */
        for (int k = 0; k < 32; k++) gr_buf_putc(&b, 4);
    }
    put_padding(&b, 32);
    if (gr_file_replace(path, b.data, b.len, &err) != GRAFT_OK) fail_msg("%s", err.what);
    gr_buf_free(&b);
    return path;
}

#define K "blk.0.attn_k.weight"

static void read_files(void **state) {
    (void)state;
    static const spec good[] = {{"adapter", "lora", "llama", K ".lora_a", K ".lora_b", 0, 3, false, false},
                                {"adapter", "lora", "llama", K ".lora_a", K ".lora_b", 0, 0, true, false},
                                {"adapter", "lora", "llama", K ".lora_a", K ".lora_b", 8, 64, false, false}};
    static const float scales_[] = {3, 1, 2};
    for (size_t i = 0; i < 3; i++) {
        char *path = write_file(&good[i], NULL);
        made m = {.config = &tied}, back = load(&m, path);
        const gr_tuned *x = &back.tuning->block[0][GR_K_PROJ];
        assert_int_equal(back.tuning->adapted, 1);
        assert_true(x->scale == scales_[i]);
        assert_true(back.params[x->a] == 1 && back.params[x->b] == 2 && back.params[x->b + 31] == 2);
        drop(&back);
        free(path);
    }
}

/* What a file asks for beside its numbers is told. */
static void wishes(void **state) {
    (void)state;
    const spec s = {"adapter", "lora", "llama", K ".lora_a", K ".lora_b", 0, 3, false, false};
    graft_error err = {0};
    gr_adapter_base of = {.model = &base_model};
    gr_tuning *tuning;
    float *params;
    char *path = write_file(&s, "query: ");
    assert_int_equal(gr_adapter_load(&tuning, &params, path, &tied, &of, &err), GRAFT_OK);
    assert_non_null(strstr(of.note, "prompt_prefix is \"query: \""));
    gr_tuning_free(tuning);
    free(params);
    free(path);
}

/* Of text that is cut, whole characters; of what is no text, nothing. */
static void untrusted_wishes(void **state) {
    (void)state;
    const spec s = {"adapter", "lora", "llama", K ".lora_a", K ".lora_b", 0, 3, false, false};
    char text[91] = {0};
    for (size_t i = 0; i < 90; i += 3) memcpy(text + i, "\xe2\x82\xac", 3);
    const struct {
        const char *prefix, *said;
    } cases[] = {{text, "\xe2\x82\xac\": nothing"}, /* 78 bytes of 90 */
                 {"\x1b[2J", "prompt_prefix is not printable"},
                 {"a\xc2\x9b", "prompt_prefix is not printable"},
                 {"a\xff", "prompt_prefix is not printable"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err = {0};
        gr_adapter_base of = {.model = &base_model};
        gr_tuning *tuning;
        float *params;
        char *path = write_file(&s, cases[i].prefix);
        assert_int_equal(gr_adapter_load(&tuning, &params, path, &tied, &of, &err), GRAFT_OK);
        if (!strstr(of.note, cases[i].said)) fail_msg("%s", of.note);
        if (i == 0) assert_null(strstr(of.note, text + 9));
        gr_tuning_free(tuning);
        free(params);
        free(path);
    }
}

/* What no file that graft writes has is told by what writes them; of several adapters, of each. */
static void exported_wishes(void **state) {
    (void)state;
    const spec s = {"adapter", "lora", "llama", K ".lora_a", K ".lora_b", 0, 3, false, false};
    graft_error err = {0};
    gr_adapter_exported done;
    char *model = tiny_subdir(root, "model"), *out = tiny_join(root, "out"), list[700];
    tiny_config_write(model, &(tiny_spec){0});
    char *path = write_file(&s, "query: "), *first = tiny_join(root, "first.gguf");
    assert_int_equal(rename(path, first), 0);
    free(path);
    path = write_file(&s, "passage: ");
    snprintf(list, sizeof list, "%s=1,%s=1", first, path);
    for (int both = 0; both < 2; both++) {
        const gr_adapter_export wish = {
            .path = both ? list : first, .to = "mlx,gguf", .out = out, .model = model};
        if (gr_adapter_export_run(&done, &wish, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
        assert_non_null(strstr(done.notes, "prompt_prefix is \"query: \": nothing is done with it"));
        assert_true(both == !!strstr(done.notes, "prompt_prefix is \"passage: \""));
        free(done.base);
        free(done.notes);
        tiny_remove(tiny_join(root, "out"));
    }
    free(first);
    free(path);
    free(model);
    free(out);
}

static void refused_files(void **state) {
    (void)state;
    static const struct {
        spec s;
        graft_status status;
        const char *said;
    } bad[] = {
        {{"model", "lora", "llama", K ".lora_a", K ".lora_b", 0, 1, false, false},
         GRAFT_UNSUPPORTED,
         "not an adapter"},
        {{"adapter", "control_vector", "llama", K ".lora_a", K ".lora_b", 0, 1, false, false},
         GRAFT_UNSUPPORTED,
         "control_vector"},
        {{"adapter", "lora", "qwen2", K ".lora_a", K ".lora_b", 0, 1, false, false}, GRAFT_MISMATCH, "qwen2"},
        {{"adapter", "lora", "llama", K ".lora_a", K ".lora_b", 0, 1, false, true},
         GRAFT_UNSUPPORTED,
         "some tokens turn on"},
        {{"adapter", "lora", "llama", K ".lora_a", K ".lora_b", 0, INFINITY, false, false},
         GRAFT_RANGE,
         "alpha"},
        {{"adapter", "lora", "llama", K ".lora_a", "blk.0.attn_q.weight.lora_b", 0, 1, false, false},
         GRAFT_MISMATCH,
         "has no partner"},
        {{"adapter", "lora", "llama", "blk.7.attn_k.weight.lora_a", "blk.7.attn_k.weight.lora_b", 0, 1, false,
          false},
         GRAFT_MISMATCH,
         "blk.7.attn_k.weight.lora_a is not an adapter"},
        {{"adapter", "lora", "llama", "blk.0.attn_norm.weight", K ".lora_b", 0, 1, true, false},
         GRAFT_MISMATCH,
         "blk.0.attn_norm.weight is not an adapter"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        graft_error e = {0};
        gr_tuning *tuning;
        float *params;
        char all[2048], *path = write_file(&bad[i].s, NULL);
        graft_status st = gr_adapter_load(&tuning, &params, path, &tied, NULL, &e);
        snprintf(all, sizeof all, "%s|%s|%s|%s", e.what, e.where, e.expected, e.found);
        if (st != bad[i].status || !strstr(all, bad[i].said)) fail_msg("case %zu: status %d, %s", i, st, all);
        assert_null(tuning);
        free(path);
    }
}

/* A directory with nothing but one file, whatever its name; two leave open which is meant. */
static void only_file(void **state) {
    (void)state;
    graft_error err = {0};
    gr_tuning *tuning;
    float *params;
    static const spec s = {"adapter", "lora", "llama", K ".lora_a", K ".lora_b", 0, 3, false, false};
    char *dir = tiny_subdir(root, "one"), *path = write_file(&s, "query: "),
         *own = tiny_join(dir, "my-lora-f32.gguf");
    assert_int_equal(rename(path, own), 0);
    made m = {.config = &tied}, back = load(&m, dir);
    assert_int_equal(back.tuning->adapted, 1);
    tiny_write(dir, "second.gguf", "GGUF");
    assert_int_equal(gr_adapter_load(&tuning, &params, dir, &tied, NULL, &err), GRAFT_NOT_FOUND);
    drop(&back);
    tiny_remove(dir);
    free(path);
    free(own);
}

/* Of a file beside the one that is read its head is enough, however long it is. */
static void only_heads(void **state) {
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"digest\":\"feedfeedfeedfeed\",\"iteration\":\"12\"},\"x\":{\"dtype\":"
        "\"F32\",\"shape\":[268435456],\"data_offsets\":[0,1073741824]}}";
    graft_error err = {0};
    gr_tuning *tuning;
    float *params;
    gr_adapter_mark mark;
    made m = make(&tied, (gr_tuning_request){.targets = "q_proj", .rank = 2, .scale = 2, .alpha = 4});
    char *dir = save_as("heads", &m, ALL), *path = tiny_join(dir, "adapter_model.safetensors");
    uint64_t n = sizeof header - 1;
    gr_buf b = {0};
    gr_buf_add(&b, &n, 8);
    gr_buf_puts(&b, header);
    assert_int_equal(gr_file_replace(path, b.data, b.len, &err), GRAFT_OK);
    assert_int_equal(truncate(path, (off_t)(b.len + 1073741824)), 0);
    bool measured = gr_peak_rss_reset();
    uint64_t before = gr_peak_rss();
    assert_int_equal(gr_adapter_load(&tuning, &params, dir, m.config, NULL, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.expected, "feedfeedfeedfeed"));
    assert_int_equal(gr_adapter_which(&mark, dir, m.config, m.tuning, ALL), GR_ADAPTER_TORN);
    if (measured) assert_true(gr_peak_rss() - before < (uint64_t)100 << 20);
    gr_buf_free(&b);
    tiny_remove(dir);
    free(path);
    drop(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_llama_cpp),     cmocka_unit_test(scales),
                                       cmocka_unit_test(left_out),         cmocka_unit_test(one_save),
                                       cmocka_unit_test(read_files),       cmocka_unit_test(wishes),
                                       cmocka_unit_test(untrusted_wishes), cmocka_unit_test(exported_wishes),
                                       cmocka_unit_test(refused_files),    cmocka_unit_test(only_file),
                                       cmocka_unit_test(only_heads)};
    return cmocka_run_group_tests_name("adapter gguf", tests, setup, teardown);
}
