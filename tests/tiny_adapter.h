/* tests/tiny_adapter.h - adapters of a tiny model, made, saved and read back, for the tests of adapters/. */
#ifndef TINY_ADAPTER_H
#define TINY_ADAPTER_H
#include "adapters/adapter.h"
#include "tests/tiny_dir.h"

static char *root; /* the test's directory */

static const gr_model base_model = {.digest = 0xabc}; /* the one that every adapter here belongs to */

typedef struct made {
    gr_model_config *config;
    gr_tuning *tuning;
    float *params;
} made;

static inline made make(gr_model_config *config, gr_tuning_request r) {
    graft_error err = {0};
    made m = {.config = config};
    if (r.num_layers == 0) r.num_layers = -1;
    if (gr_tuning_select(&m.tuning, config, &r, &err) != GRAFT_OK) fail_msg("%s: %s", err.what, err.found);
    m.params = calloc((size_t)m.tuning->parameters, sizeof *m.params);
    for (int64_t i = 0; i < m.tuning->parameters; i++) m.params[i] = (float)(i + 1) / 8; /* each value once */
    return m;
}

static inline void drop(made *m) {
    gr_tuning_free(m->tuning);
    free(m->params);
}

static inline char *save(const char *name, const made *m) {
    graft_error err = {0};
    char *dir = tiny_join(root, name);
    gr_adapter_info info = {.base = "some/base", .model = &base_model, .iteration = 12};
    if (gr_adapter_save(dir, m->config, m->tuning, m->params, &info, &err) != GRAFT_OK)
        fail_msg("%s", err.what);
    return dir;
}

/* What is read from path. */
static inline made load(const made *m, const char *path) {
    graft_error err = {0};
    gr_adapter_base base = {.model = &base_model};
    made back = {.config = m->config};
    if (gr_adapter_load(&back.tuning, &back.params, path, m->config, &base, &err) != GRAFT_OK)
        fail_msg("%s: %s %s %s", path, err.what, err.where, err.found);
    return back;
}

/* Path holds exactly m. */
static inline void equal(const made *m, const char *path) {
    made back = load(m, path);
    assert_int_equal(back.tuning->kind, m->tuning->kind);
    assert_int_equal(back.tuning->parameters, m->tuning->parameters);
    assert_int_equal(back.tuning->param_count, m->tuning->param_count);
    assert_int_equal(back.tuning->full_last, m->tuning->full_last);
    assert_memory_equal(back.tuning->block, m->tuning->block, sizeof *m->tuning->block * TINY_LAYERS);
    assert_memory_equal(back.tuning->outside, m->tuning->outside, sizeof m->tuning->outside);
    assert_memory_equal(back.params, m->params, (size_t)m->tuning->parameters * sizeof(float));
    if (m->tuning->adapted)
        assert_near(back.tuning->scale, m->tuning->scale, 6e-8 * m->tuning->scale); /* f32 */
    drop(&back);
}

/* Loads dir/FILE after its config got the members of `patch`; the error says `said`. */
static inline void refused(gr_model_config *config, const char *dir, const char *file, const char *patch,
                           graft_status status, const char *said) {
    graft_error e = {0};
    gr_tuning *tuning = NULL;
    float *params = NULL;
    char all[2048], *path = tiny_join(dir, file), *text = tiny_read(dir, "adapter_config.json", NULL);
    json_t *j = json_loads(text, 0, NULL), *more = json_loads(patch, 0, NULL);
    assert_non_null(more);
    json_object_update(j, more);
    char *changed = json_dumps(j, 0);
    tiny_write(dir, "adapter_config.json", changed);
    gr_adapter_base base = {.model = &base_model};
    graft_status st = gr_adapter_load(&tuning, &params, path, config, &base, &e);
    snprintf(all, sizeof all, "%s|%s|%s|%s|%s", e.what, e.where, e.expected, e.found, e.hint);
    if (st != status || !strstr(all, said)) fail_msg("%s %s: status %d, %s", file, patch, st, all);
    assert_null(tuning);
    assert_null(params);
    tiny_write(dir, "adapter_config.json", text);
    json_decref(j);
    json_decref(more);
    free(changed);
    free(text);
    free(path);
}

/* Element (i, j) of a tensor that must have that shape; cols 0: a vector. */
static inline float value(const gr_safetensors *file, const char *name, int64_t rows, int64_t cols, int64_t i,
                          int64_t j) {
    const gr_tensor *t = gr_safetensors_find(file, name);
    float x;
    if (!t) fail_msg("%s is missing", name);
    assert_int_equal(t->dtype, GR_F32);
    assert_int_equal(t->ndim, cols ? 2 : 1);
    assert_int_equal(t->shape[0], rows);
    if (cols) assert_int_equal(t->shape[1], cols);
    memcpy(&x, t->data + (i * (cols ? cols : 1) + j) * 4, 4);
    return x;
}

#endif
