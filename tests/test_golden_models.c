/* model/, net/: one small model of every architecture as a directory, opened as any other, against the logits
 * that transformers computed in float64 (tests/golden/tiny_*.json: the file names the versions and the
 * script). What is in the directory follows from the table of architectures: a trait too many or too few
 * lacks a tensor, or computes other numbers.
 *
 * Tolerance: 24 bits round each product by 6e-8, sums of a hundred of them grow by its root, and a dozen
 * stand behind one another: 1e-4 of the largest logit, while any wrong formula shows at 1e-2. */
#include "net/runtime.h"
#include "ref/ref.h"
#include "tests/tiny_root.h"

enum { MOST = 64, TENSORS = 512 };

/* ------------------------------------------------------------------------------------------ the directory */

/* tools/tiny_formula.py value() */
static void fill(float *to, const char *name, int64_t n) {
    const bool norm = strstr(name, "norm") != NULL;
    const double amplitude = strstr(name, "embed")    ? 2
                             : norm                   ? 1
                             : strstr(name, "lora_B") ? 0.25
                                                      : 0.5,
                 offset = norm && !gr_ends_with(name, "bias") ? 1 : 0;
    for (int64_t i = 0; i < n; i++) to[i] = (float)(offset + amplitude * ref_formula(name, (long)i));
}

typedef struct weights {
    gr_tensor tensor[TENSORS];
    char name[TENSORS][120];
    size_t count;
} weights;

static void add(weights *w, const char *base, const char *suffix, int64_t rows, int64_t cols) {
    assert_true(w->count < TENSORS);
    char *name = w->name[w->count];
    gr_tensor *t = &w->tensor[w->count++];
    const int64_t n = rows * gr_max_i64(cols, 1);
    snprintf(name, sizeof w->name[0], "%.110s%s", base, suffix);
    float *values = calloc((size_t)n, sizeof *values);
    assert_non_null(values);
    fill(values, name, n);
    *t = (gr_tensor){.name = name,
                     .dtype = GR_F32,
                     .ndim = cols ? 2 : 1,
                     .shape = {rows, cols},
                     .data = (const uint8_t *)values,
                     .bytes = (size_t)n * sizeof *values};
}

static void add_role(weights *w, const gr_model_config *c, gr_role role, int64_t layer) {
    char base[140];
    int64_t rows, cols;
    gr_role_shape(role, c, &rows, &cols);
    for (int64_t e = 0; gr_role_expert(role) && e < c->experts; e++) {
        gr_expert_name(base, sizeof base, role, layer, e);
        add(w, base, ".weight", rows / c->experts, cols);
    }
    if (gr_role_expert(role)) return;
    gr_role_name(base, sizeof base, role, layer);
    add(w, base, ".weight", rows, cols);
    if (gr_role_has_bias(role, c)) add(w, base, ".bias", rows, 0);
}

static char *write_model(const json_t *golden) {
    char *dir = tiny_subdir(root, "m"), *path = tiny_join(dir, "model.safetensors");
    json_t *config = json_copy(json_object_get(golden, "config"));
    graft_error err = {0};
    gr_model_config c;
    json_object_set(config, "model_type", json_object_get(golden, "model_type"));
    json_object_set_new(config, "max_position_embeddings", json_integer(64)); /* the script's */
    char *text = json_dumps(config, 0);
    tiny_write(dir, "config.json", text);
    if (gr_config_open(&c, dir, &err) != GRAFT_OK) fail_msg("%s %s %s", err.what, err.where, err.found);
    weights *w = calloc(1, sizeof *w);
    assert_non_null(w);
    for (gr_role role = 0; role < GR_ROLES; role++)
        for (int64_t l = 0; gr_role_exists(role, &c) && l < (gr_role_table[role].in_block ? c.layers : 1);
             l++)
            add_role(w, &c, role, l);
    if (gr_safetensors_save(path, w->tensor, w->count, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    for (size_t i = 0; i < w->count; i++) free((void *)(uintptr_t)w->tensor[i].data);
    gr_config_free(&c);
    json_decref(config);
    free(w);
    free(text);
    free(path);
    return dir;
}

/* -------------------------------------------------------------------------------------------- the adapter */

/* A and B of every linear, of each expert its own. */
static void adapt(gr_runtime *rt, const json_t *golden) {
    graft_error err = {0};
    const gr_tuning_request r = {.targets = "all-linear",
                                 .rank = json_integer_value(json_object_get(golden, "rank")),
                                 .scale = json_number_value(json_object_get(golden, "scale")),
                                 .alpha = 1,
                                 .num_layers = -1};
    if (gr_tuning_select(&rt->tuning, &rt->model->config, &r, &err) != GRAFT_OK)
        fail_msg("%s %s", err.what, err.found);
    const gr_tuning *t = rt->tuning;
    rt->params = rt->owned_params = gr_calloc((size_t)t->parameters, sizeof *rt->params);
    assert_non_null(rt->params);
    size_t matrices = 0;
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        const int64_t each = p->rows / p->stack * p->cols;
        char base[140], name[160];
        for (int64_t e = 0; e < p->stack; e++) {
            if (gr_role_expert(p->role))
                gr_expert_name(base, sizeof base, p->role, p->layer, e);
            else
                gr_role_name(base, sizeof base, p->role, p->layer);
            snprintf(name, sizeof name, "%s.%s", base, p->kind == GR_PARAM_A ? "lora_A" : "lora_B");
            if (!json_object_get(json_object_get(golden, "gradients"), name)) fail_msg("%s is adapted", name);
            fill(rt->params + p->at + e * each, name, each);
            matrices++;
        }
    }
    assert_int_equal(matrices, json_object_size(json_object_get(golden, "gradients")));
}

/* ------------------------------------------------------------------------------------------------- checks */

typedef struct golden_rows {
    int32_t ids[MOST];
    int64_t start[8], count, tokens, longest;
} golden_rows;

static golden_rows rows_of(const json_t *golden) {
    golden_rows g = {0};
    size_t b, i;
    json_t *row, *id;
    json_array_foreach(json_object_get(golden, "rows"), b, row) {
        json_array_foreach(row, i, id) {
            assert_true(g.tokens < MOST);
            g.ids[g.tokens++] = (int32_t)json_integer_value(id);
        }
        g.start[++g.count] = g.tokens;
        g.longest = gr_max_i64(g.longest, (int64_t)json_array_size(row));
    }
    return g;
}

static void compare(const char *file, const float *logits, int64_t n, const json_t *sample) {
    const json_t *values = json_object_get(sample, "values");
    const int64_t stride = json_integer_value(json_object_get(sample, "stride"));
    double sum = 0, largest = 0, norm = json_number_value(json_object_get(sample, "norm"));
    for (int64_t i = 0; i < n; i++) {
        sum += (double)logits[i] * (double)logits[i];
        largest = fmax(largest, fabs((double)logits[i]));
    }
    if (!(fabs(sqrt(sum) - norm) <= 1e-4 * norm))
        fail_msg("%s: norm %.9g, golden %.9g", file, sqrt(sum), norm);
    assert_true(json_array_size(values) > 100);
    for (size_t k = 0; k < json_array_size(values); k++) {
        assert_in_range((int64_t)k * stride, 0, n - 1);
        const double expected = json_number_value(json_array_get(values, k)),
                     found = (double)logits[(int64_t)k * stride];
        if (!(fabs(found - expected) <= 1e-4 * largest))
            fail_msg("%s: logit %zu is %.9g, golden %.9g", file, k * (size_t)stride, found, expected);
    }
}

static void check(const char *file) {
    char path[512];
    graft_error err = {0};
    gr_model *m = NULL;
    gr_runtime rt;
    snprintf(path, sizeof path, GRAFT_SOURCE_DIR "/tests/golden/%s", file);
    json_t *golden = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (!golden) fail_msg("cannot read %s", path);
    const golden_rows g = rows_of(golden);
    char *dir = write_model(golden);
    if (gr_model_open(&m, dir, &err) != GRAFT_OK) fail_msg("%s: %s %s", file, err.what, err.found);
    assert_int_equal(gr_runtime_init(&rt, m, 1, true, &err), GRAFT_OK);
    adapt(&rt, golden);
    const gr_net_config config = {.tokens = g.tokens, .longest = g.longest};
    if (gr_runtime_bind(&rt, &config, &err) != GRAFT_OK) fail_msg("%s: %s %s", file, err.what, err.found);
    const gr_batch batch = {.ids = g.ids, .start = g.start, .nrows = g.count, .tokens = g.tokens};
    gr_net_forward(&rt.net, &batch);
    const int64_t vocab = m->config.vocab;
    float *logits = calloc((size_t)(g.tokens * vocab), sizeof *logits);
    assert_non_null(logits);
    for (int64_t t = 0; t < g.tokens; t++)
        gr_head_logits(&rt.net.compute, &rt.net.head, logits + t * vocab, rt.net.saved[m->config.layers].x, t,
                       1);
    compare(file, logits, g.tokens * vocab, json_object_get(golden, "logits"));
    free(logits);
    gr_runtime_free(&rt);
    json_decref(golden);
    tiny_remove(dir);
}

static void every_architecture(void **state) {
    (void)state;
    static const char *const files[] = {
        "tiny_llama.json",     "tiny_llama_tied.json", "tiny_mistral.json",   "tiny_qwen2.json",
        "tiny_qwen3.json",     "tiny_gemma2.json",     "tiny_gemma3.json",    "tiny_smollm3.json",
        "tiny_granite.json",   "tiny_olmo2.json",      "tiny_ministral.json", "tiny_ministral3.json",
        "tiny_phi3.json",      "tiny_phi4.json",       "tiny_stablelm.json",  "tiny_starcoder2.json",
        "tiny_qwen3_moe.json", "tiny_olmoe.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) check(files[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_architecture)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
