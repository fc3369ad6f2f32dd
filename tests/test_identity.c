/* model/identity.c and what asks it: every byte of a base counts, where it lies does not; an adapter or a
 * checkpoint on another base is refused, and the tensors that differ are named. */
#include "adapters/adapter.h"
#include "base/digest.h"
#include "convert/convert.h"
#include "model/identity.h"
#include "tests/tiny_run.h"

/* Opened and identified; owned by caller. */
static gr_model *identified(const char *dir, int threads) {
    graft_error err = {0};
    gr_model *m = NULL;
    gr_pool *pool;
    if (gr_model_open(&m, dir, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    assert_true(m->digest == 0);
    assert_null(gr_identity_json(m));
    assert_int_equal(gr_pool_new(&pool, threads, &err), GRAFT_OK);
    assert_int_equal(gr_model_identify(m, pool, &err), GRAFT_OK);
    gr_pool_free(pool);
    return m;
}

/* What two directories have apart. */
static gr_base_difference apart(const char *then, const char *now) {
    gr_base_difference d;
    gr_model *a = identified(then, 1), *b = identified(now, 3);
    json_t *record = gr_identity_json(a);
    gr_identity_compare(&d, b, record);
    assert_int_equal(a->digest == b->digest, !d.count && !d.config);
    json_decref(record);
    gr_model_free(a);
    gr_model_free(b);
    return d;
}

static void flip(const char *path, size_t at) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    int byte = fgetc(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    fputc(byte ^ 0x80, f);
    fclose(f);
}

/* One bit anywhere in a tensor, also where no sample would look, makes another base, and names that tensor.
 */
static void every_byte(void **state) {
    (void)state;
    const tiny_spec specs[] = {{.type = "qwen2", .bits = 4, .untied = true, .dtype = GR_BF16},
                               {.type = "qwen3"}};
    for (size_t s = 0; s < 2; s++) {
        char *a = tiny_model_dir(root, "a", &specs[s]), *b = tiny_model_dir(root, "b", &specs[s]);
        char *path = tiny_join(b, "model.safetensors");
        graft_error err = {0};
        gr_safetensors *file;
        size_t size, seen = 0;
        assert_int_equal(apart(a, b).count, 0);
        char *bytes = tiny_read(b, "model.safetensors", &size);
        uint64_t header;
        memcpy(&header, bytes, sizeof header);
        if (gr_safetensors_open(&file, path, &err) != GRAFT_OK) fail_msg("%s", err.what);
        const uint8_t *first = gr_safetensors_at(file, 0)->data;
        for (size_t i = 0; i < gr_safetensors_count(file); i++)
            if (gr_safetensors_at(file, i)->data < first) first = gr_safetensors_at(file, i)->data;
        for (size_t i = 0; i < gr_safetensors_count(file); i++) {
            const gr_tensor *t = gr_safetensors_at(file, i);
            size_t place = sizeof header + header + (size_t)(t->data - first);
            for (size_t k = 0; k < 3; k++) {
                size_t at = place + (k == 2 ? t->bytes - 1 : k * (t->bytes / 3 + 1));
                flip(path, at);
                gr_base_difference d = apart(a, b);
                assert_int_equal(d.count, 1);
                if (strncmp(t->name, d.text, strlen(d.text)) != 0) fail_msg("%s: %s", t->name, d.text);
                flip(path, at);
            }
            seen++;
        }
        assert_true(seen > 20);
        gr_safetensors_close(file);
        free(bytes);
        free(path);
        tiny_remove(a);
        tiny_remove(b);
    }
}

/* The same weights in other files are the same base; other numbers in config.json are not. */
static void what_counts(void **state) {
    (void)state;
    char *a = tiny_model_dir(root, "a", &(tiny_spec){.bits = 4}), *b = tiny_join(root, "b");
    graft_error err = {0};
    gr_convert_result made = {0};
    gr_convert_options wish = {.model = a, .out = b, .shard_bytes = 5000};
    if (gr_convert(&wish, &made, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    gr_convert_result_free(&made);
    char *shards = tiny_join(b, "model.safetensors.index.json");
    assert_true(gr_path_exists(shards));
    gr_base_difference d = apart(a, b);
    assert_int_equal(d.count, 0);
    assert_false(d.config);
    free(shards);
    tiny_remove(b);
    b = tiny_model_dir(root, "b", &(tiny_spec){.type = "mistral", .bits = 4});
    char *c = tiny_model_dir(root, "c", &(tiny_spec){.type = "mistral", .bits = 4, .window = 6});
    assert_false(apart(a, b).config); /* only the name of the architecture */
    d = apart(b, c);
    assert_int_equal(d.count, 0);
    assert_true(d.config);
    tiny_remove(c);
    tiny_remove(b);
    /* another seed: everything; another quantization: all linears and nothing else */
    b = tiny_model_dir(root, "b", &(tiny_spec){.bits = 4, .seed = 1});
    d = apart(a, b);
    assert_int_equal(d.count, d.all);
    assert_false(d.linears_only);
    assert_non_null(strstr(d.text, "model.layers.0.self_attn.q_proj, model.layers.1.self_attn.q_proj"));
    assert_non_null(strstr(d.text, " more"));
    tiny_remove(b);
    b = tiny_model_dir(root, "b", &(tiny_spec){.bits = 8});
    d = apart(a, b);
    assert_int_equal(d.count, 7 * TINY_LAYERS);
    assert_true(d.linears_only);
    tiny_remove(b);
    tiny_remove(a);
}

/* Records that a file may hold. */
static void odd_records(void **state) {
    (void)state;
    char *a = tiny_model_dir(root, "a", &(tiny_spec){0}), *text = malloc(1 << 20);
    gr_model *m = identified(a, 1);
    gr_base_difference d;
    memset(text, '7', (1 << 20) - 1);
    text[(1 << 20) - 1] = 0;
    json_t *odd[] = {json_null(),
                     json_object(),
                     json_string("x"),
                     json_pack("{s:i}", "model.norm", 5),
                     json_pack("{s:s,s:s}", "self_attn.q_proj", text, "lm_head", "123"),
                     NULL};
    for (int i = 0; odd[i]; i++) {
        gr_identity_compare(&d, m, odd[i]);
        assert_int_equal(d.count > 0, json_is_object(odd[i]));
        assert_true(strlen(d.text) < sizeof d.text);
        json_decref(odd[i]);
    }
    gr_model_free(m);
    free(text);
    tiny_remove(a);
}

/* The digest of blocks: no single word, nor two signs, nor the length may go unseen. */
static void blocks(void **state) {
    (void)state;
    uint8_t buffer[256] = {0};
    uint64_t seen[257];
    for (size_t n = 0; n <= 256; n++) { /* zeros of any length differ */
        seen[n] = gr_digest_blocks(GR_DIGEST_START, buffer, n);
        for (size_t k = 0; k < n; k++) assert_true(seen[k] != seen[n]);
    }
    uint64_t plain = seen[256];
    for (size_t i = 0; i < 256; i++)
        for (int bit = 0; bit < 8; bit++) {
            buffer[i] ^= (uint8_t)(1 << bit);
            uint64_t one = gr_digest_blocks(GR_DIGEST_START, buffer, 256);
            assert_true(one != plain);
            for (size_t k = i + 8; k < 256; k += 8) {
                buffer[k] ^= (uint8_t)(1 << bit);
                uint64_t two = gr_digest_blocks(GR_DIGEST_START, buffer, 256);
                assert_true(two != plain && two != one);
                buffer[k] ^= (uint8_t)(1 << bit);
            }
            buffer[i] ^= (uint8_t)(1 << bit);
        }
}

/* ------------------------------------------------------------------------------------------ as a user sees
 * it */

static graft_status evaluate(const char *model, const char *adapter, const char *const *more, watch *w,
                             graft_error *err) {
    graft_options o;
    graft_eval_result e = {0};
    graft_hooks hooks = {.user = w, .event = on_event};
    char *file = tiny_join(data, "valid.jsonl");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_EVAL,
             (const char *const[]){"model", model, "data", file, "adapter-path", adapter, NULL});
    tiny_set(&o, GRAFT_VERB_EVAL, more);
    *err = (graft_error){0};
    graft_status st = graft_eval(&o, &hooks, &e, err);
    graft_eval_result_free(&e);
    graft_options_free(&o);
    free(file);
    return st;
}

static graft_status answer(const char *model, const char *adapter, const char *const *more, watch *w,
                           graft_error *err) {
    graft_options o;
    graft_generation g = {0};
    graft_hooks hooks = {.user = w, .event = on_event};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE,
             (const char *const[]){"model", model, "adapter-path", adapter, "prompt", "one", "max-tokens",
                                   "2", NULL});
    tiny_set(&o, GRAFT_VERB_GENERATE, more);
    *err = (graft_error){0};
    graft_status st = graft_generate(&o, &hooks, &g, NULL, err);
    graft_generation_free(&g);
    graft_options_free(&o);
    return st;
}

static graft_status train_on(const char *model, const char *adapter, const char *const *more, watch *w,
                             graft_error *err) {
    const char *all[8] = {"resume-adapter-file", adapter};
    for (int i = 0; more && more[i]; i++) all[2 + i] = more[i];
    *err = (graft_error){0};
    own_rank = true;
    graft_status st = train(model, "out", all, w, NULL, err);
    own_rank = false;
    if (st == GRAFT_OK) forget("out");
    return st;
}

static graft_status resume(const char *model, const char *adapter, const char *const *more, watch *w,
                           graft_error *err) {
    const char *all[8] = {"resume", "-"};
    (void)adapter;
    for (int i = 0; more && more[i]; i++) all[2 + i] = more[i];
    *err = (graft_error){0};
    return train(model, "first", all, w, NULL, err);
}

/* Evaluating, answering, training on and resuming: each refuses another base, says what differs, and takes it
 * with the flag. */
static void other_bases(void **state) {
    (void)state;
    typedef graft_status use(const char *, const char *, const char *const *, watch *, graft_error *);
    static use *const uses[] = {evaluate, answer, train_on, resume};
    static const char *const allow[] = {"allow-other-base", "-", NULL};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *adapter = tiny_join(root, "first");
    char *other = tiny_model_dir(root, "other", &(tiny_spec){.bits = 4}),
         *eight = tiny_model_dir(root, "eight", &(tiny_spec){.bits = 8});
    char *path = tiny_join(other, "model.safetensors");
    size_t size;
    free(tiny_read(other, "model.safetensors", &size));
    flip(path, size - 700);
    gr_base_difference d = apart(model, other);
    assert_int_equal(d.count, 1);
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        graft_error err = {0};
        watch w = {.stop_at = i == 3 ? 9 : 0};
        graft_status st = train(model, "first", NULL, &w, NULL, &err);
        assert_int_equal(st, i == 3 ? GRAFT_INTERRUPTED : GRAFT_OK);
        w = (watch){0};
        assert_int_equal(uses[i](other, adapter, NULL, &w, &err), GRAFT_MISMATCH);
        if (!strstr(err.what, "base model") || !strstr(err.found, "1 of 20 tensors") ||
            !strstr(err.found, d.text) || !strstr(err.hint, "--allow-other-base"))
            fail_msg("%zu: %s|%s|%s", i, err.what, err.found, err.hint);
        assert_int_equal(uses[i](eight, adapter, NULL, &w, &err), GRAFT_MISMATCH);
        assert_non_null(strstr(err.found, "14 of 20 tensors"));
        if (i < 3) assert_non_null(strstr(err.hint, "quantized otherwise"));
        w = (watch){0};
        if (uses[i](other, adapter, allow, &w, &err) != GRAFT_OK) fail_msg("%zu: %s", i, err.what);
        if (i < 3) assert_non_null(strstr(w.notes, "another base model; 1 of 20 tensors differ: "));
        forget("first");
    }
    free(path);
    free(adapter);
    tiny_remove(eight);
    tiny_remove(other);
    tiny_remove(model);
}

/* Other programs record nothing: that is said, and no error. */
static void unrecorded(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *adapter = tiny_join(root, "first");
    graft_error err = {0};
    watch w = {0};
    must_train(model, "first", NULL, NULL, NULL);
    assert_int_equal(evaluate(model, adapter, NULL, &w, &err), GRAFT_OK);
    assert_null(strstr(w.notes, "digest"));
    char *path = tiny_join(adapter, "adapters.safetensors"),
         *peft = tiny_join(adapter, "adapter_model.safetensors");
    gr_safetensors *file;
    gr_tensor tensors[64];
    char names[64][128];
    if (gr_safetensors_open(&file, path, &err) != GRAFT_OK) fail_msg("%s", err.what);
    size_t count = gr_safetensors_count(file);
    for (size_t i = 0; i < count; i++) {
        tensors[i] = *gr_safetensors_at(file, i);
        snprintf(names[i], sizeof names[i], "%s", tensors[i].name);
        tensors[i].name = names[i];
    }
    char *bare = tiny_join(adapter, "bare.safetensors");
    if (gr_safetensors_save(bare, tensors, count, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    gr_safetensors_close(file);
    assert_int_equal(rename(bare, path), 0);
    unlink(peft);
    char *text = tiny_read(adapter, "adapter_config.json", NULL);
    json_t *config = json_loads(text, 0, NULL);
    const json_t *own = json_object_get(config, "graft"), *record = json_object_get(own, "base_tensors");
    /* as promised to other programs: a few strings, one for each role */
    assert_int_equal(json_object_size(record), 12);
    assert_int_equal(json_string_length(json_object_get(record, "mlp.up_proj")), 8 * TINY_LAYERS);
    json_object_del(config, "graft");
    char *changed = json_dumps(config, 0);
    tiny_write(adapter, "adapter_config.json", changed);
    json_decref(config);
    assert_int_equal(evaluate(model, adapter, NULL, &w, &err), GRAFT_OK);
    assert_non_null(strstr(w.notes, "no digest of its base is recorded"));
    free(changed);
    free(text);
    free(bare);
    free(peft);
    free(path);
    free(adapter);
    forget("first");
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks),      cmocka_unit_test(every_byte),  cmocka_unit_test(what_counts),
        cmocka_unit_test(odd_records), cmocka_unit_test(other_bases), cmocka_unit_test(unrecorded),
    };
    return cmocka_run_group_tests_name("identity", tests, setup, teardown);
}
