/* Files that the host holds in memory: a model, its data and an adapter at paths that no disk has give the
 * bits that the same files give from a disk. */
#include "tests/tiny_run.h"

#define MAX_FILES 24

/* What a host holds. */
typedef struct held {
    graft_file file[MAX_FILES];
    size_t count;
} held;

/* Every file of the directory `dir`, at held/NAME/... */
static void hold_dir(held *h, const char *dir, const char *name) {
    DIR *list = gr_list_open(dir);
    assert_non_null(list);
    for (struct dirent *entry; (entry = readdir(list));) {
        char *path = tiny_join(dir, entry->d_name);
        if (!gr_path_is_dir(path)) {
            gr_buf at = {0};
            size_t size;
            assert_in_range(h->count, 0, MAX_FILES - 1);
            gr_buf_printf(&at, "held/%s/%s", name, entry->d_name);
            char *bytes = tiny_read(dir, entry->d_name, &size);
            h->file[h->count++] = (graft_file){gr_buf_take(&at), bytes, size};
        }
        free(path);
    }
    closedir(list);
}

static void drop(held *h) {
    for (size_t i = 0; i < h->count; i++) {
        free((void *)(uintptr_t)h->file[i].path);
        free((void *)(uintptr_t)h->file[i].data);
    }
    *h = (held){0};
}

static void options_of(graft_options *o, graft_verb verb, const char *model, const char *rows,
                       const held *h) {
    graft_options_init(o);
    tiny_set(o, verb, (const char *const[]){"model", model, "data", rows, "threads", "1", NULL});
    if (h) o->files = h->file, o->file_count = h->count;
}

/* Losses of some updates and what they left; malloc'ed. */
static float *steps(size_t *count, double losses[3], const char *model, const char *rows, const held *h) {
    graft_options o;
    graft_error err = {0};
    graft_trainer *t;
    gr_buf all = {0};
    options_of(&o, GRAFT_VERB_TRAIN, model, rows, h);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"lora-rank", "4", "batch-size", "2", "learning-rate", "1e-2", NULL});
    if (graft_trainer_open(&t, &o, NULL, &err) != GRAFT_OK) fail_msg("%s: %s", err.what, err.where);
    for (int i = 0; i < 3; i++) assert_int_equal(graft_trainer_step(t, &losses[i], &err), GRAFT_OK);
    for (size_t i = 0; i < graft_trainer_count(t); i++) {
        graft_parameter p;
        graft_trainer_parameter(t, i, &p);
        const float *values = graft_trainer_values(t, i);
        assert_int_equal(values != NULL, p.trainable);
        int64_t n = p.shape[0] * gr_max_i64(p.shape[1], 1);
        if (values) gr_buf_add(&all, values, (size_t)n * sizeof *values);
    }
    graft_trainer_free(t);
    graft_options_free(&o);
    *count = all.len / sizeof(float);
    return (float *)(void *)gr_buf_take(&all);
}

static void training(void **state) {
    (void)state;
    held h = {0};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    hold_dir(&h, model, "model");
    hold_dir(&h, data, "data");
    double a[3], b[3];
    size_t n, m;
    float *disk = steps(&n, a, model, data, NULL), *memory = steps(&m, b, "held/model", "held/data", &h);
    assert_true(n > 0);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_equal(disk, memory, n * sizeof *disk);
    free(disk);
    free(memory);
    drop(&h);
    tiny_remove(model);
}

/* The host's file is seen, not the disk's. */
static void before_the_disk(void **state) {
    (void)state;
    held h = {0};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}),
         *config = tiny_join(model, "config.json");
    graft_options o;
    graft_error err = {0};
    graft_eval_result r;
    h.file[h.count++] = (graft_file){config, "{\"model_type\": \"no_such\"}", 25};
    options_of(&o, GRAFT_VERB_EVAL, model, data, &h);
    assert_int_equal(graft_eval(&o, NULL, &r, &err), GRAFT_UNSUPPORTED);
    assert_non_null(strstr(err.where, config));
    o.file_count = 0;
    assert_int_equal(graft_eval(&o, NULL, &r, &err), GRAFT_OK);
    graft_eval_result_free(&r);
    graft_options_free(&o);
    free(config);
    tiny_remove(model);
}

static double loss_of(const char *model, const char *rows, const char *adapter, const held *h, bool no_mmap) {
    graft_options o;
    graft_error err = {0};
    graft_eval_result r;
    options_of(&o, GRAFT_VERB_EVAL, model, rows, h);
    o.no_mmap = no_mmap;
    tiny_set(&o, GRAFT_VERB_EVAL, (const char *const[]){"adapter-path", adapter, "split", "valid", NULL});
    if (graft_eval(&o, NULL, &r, &err) != GRAFT_OK) fail_msg("%s: %s", err.what, err.where);
    double loss = r.loss;
    graft_eval_result_free(&r);
    graft_options_free(&o);
    return loss;
}

static char *answer_of(const char *model, const char *adapter, const held *h) {
    graft_options o;
    graft_error err = {0};
    graft_generation g;
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE,
             (const char *const[]){"model", model, "adapter-path", adapter, "prompt", "one two", "max-tokens",
                                   "8", "threads", "1", NULL});
    if (h) o.files = h->file, o.file_count = h->count;
    if (graft_generate(&o, NULL, &g, NULL, &err) != GRAFT_OK) fail_msg("%s: %s", err.what, err.where);
    char *text = gr_strdup(g.text);
    graft_generation_free(&g);
    graft_options_free(&o);
    return text;
}

static void with_adapter(void **state) {
    (void)state;
    held h = {0};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.dtype = GR_BF16}),
         *adapter = tiny_join(root, "out");
    must_train(model, "out", NULL, NULL, NULL);
    hold_dir(&h, model, "model");
    hold_dir(&h, data, "data");
    hold_dir(&h, adapter, "adapter");
    double disk = loss_of(model, data, adapter, NULL, false);
    assert_true(disk == loss_of("held/model", "held/data", "held/adapter", &h, false));
    assert_true(disk == loss_of("held/model", "held/data", "held/adapter/adapters.safetensors", &h, true));
    assert_true(disk != loss_of("held/model", "held/data", "held/adapter=0.5", &h, false));
    char *a = answer_of(model, adapter, NULL), *b = answer_of("held/model", "held/adapter", &h);
    assert_string_equal(a, b);
    free(a);
    free(b);
    drop(&h);
    tiny_remove(adapter);
    tiny_remove(model);
}

/* What is not among them, and not on the disk, is missed by its name. */
static void missing(void **state) {
    (void)state;
    held h = {0};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    graft_options o;
    graft_error err = {0};
    graft_eval_result r;
    hold_dir(&h, model, "model");
    options_of(&o, GRAFT_VERB_EVAL, "held/model", "held/rows.jsonl", &h);
    assert_int_equal(graft_eval(&o, NULL, &r, &err), GRAFT_NOT_FOUND);
    assert_non_null(strstr(err.where, "held/rows.jsonl"));
    h.file[h.count++] = (graft_file){gr_strdup("held/rows.jsonl"), NULL, 0};
    o.file_count = h.count;
    assert_true(graft_eval(&o, NULL, &r, &err) != GRAFT_OK); /* empty: no rows */
    for (size_t i = 0; i < h.count; i++)
        if (gr_ends_with(h.file[i].path, ".safetensors")) h.file[i].bytes /= 2;
    assert_int_equal(graft_eval(&o, NULL, &r, &err), GRAFT_CORRUPT); /* cut: as of a file */
    graft_options_free(&o);
    drop(&h);
    tiny_remove(model);
}

/* A model in a file of another name, an adapter too: found by looking into the directory that the host holds.
 */
static void other_names(void **state) {
    (void)state;
    held h = {0};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.dtype = GR_BF16}),
         *adapter = tiny_join(root, "out");
    must_train(model, "out", NULL, NULL, NULL);
    hold_dir(&h, model, "model");
    hold_dir(&h, adapter, "adapter");
    for (size_t i = 0; i < h.count; i++) {
        const char *renamed =
            gr_ends_with(h.file[i].path, "/model.safetensors")           ? "held/model/weights.safetensors"
            : gr_ends_with(h.file[i].path, "/adapters.safetensors")      ? "held/adapter/mine.safetensors"
            : gr_ends_with(h.file[i].path, "/adapter_model.safetensors") ? "held/elsewhere.safetensors"
                                                                         : NULL;
        if (!renamed) continue;
        free((void *)(uintptr_t)h.file[i].path);
        h.file[i].path = gr_strdup(renamed);
    }
    assert_true(loss_of(model, data, adapter, NULL, false) ==
                loss_of("held/model", data, "held/adapter", &h, false));
    drop(&h);
    tiny_remove(adapter);
    tiny_remove(model);
}

/* Converting reads what is held; what is about files says so. */
static void other_verbs(void **state) {
    (void)state;
    held h = {0};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.dtype = GR_BF16}), *a = tiny_join(root, "a"),
         *b = tiny_join(root, "b");
    graft_options o;
    graft_error err = {0};
    graft_convert_result r;
    graft_export_result e;
    hold_dir(&h, model, "model");
    for (int i = 0; i < 2; i++) {
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_CONVERT,
                 (const char *const[]){"model", i ? "held/model/" : model, "mlx-path", i ? b : a, "quantize",
                                       "-", NULL});
        if (i) o.files = h.file, o.file_count = h.count;
        if (graft_convert(&o, NULL, &r, &err) != GRAFT_OK) fail_msg("%s: %s", err.what, err.where);
        graft_convert_result_free(&r);
        graft_options_free(&o);
    }
    tiny_same_file(a, b, "model.safetensors");
    tiny_same_file(a, b, "config.json");
    tiny_same_file(a, b, "tokenizer.json");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_EXPORT, (const char *const[]){"adapter-path", a, "out", b, NULL});
    o.files = h.file, o.file_count = h.count;
    assert_int_equal(graft_export(&o, NULL, &e, &err), GRAFT_UNSUPPORTED);
    graft_options_free(&o);
    drop(&h);
    tiny_remove(a);
    tiny_remove(b);
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(training),     cmocka_unit_test(before_the_disk),
                                       cmocka_unit_test(with_adapter), cmocka_unit_test(missing),
                                       cmocka_unit_test(other_names),  cmocka_unit_test(other_verbs)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
