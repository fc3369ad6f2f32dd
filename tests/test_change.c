/* What an adapter changes, as a report measures it: against the sum over all elements of scale * A B. */
#include "report/run.h"
#include "tests/tiny_root.h"
#include <math.h>

static graft_error err;
enum { IN = 6, RANK = 3, OUT = 5 };

static double product_norm(const float a[IN][RANK], const float b[RANK][OUT], double scale) {
    double sum = 0;
    for (int i = 0; i < IN; i++)
        for (int o = 0; o < OUT; o++) {
            double x = 0;
            for (int r = 0; r < RANK; r++) x += (double)a[i][r] * b[r][o];
            sum += x * x;
        }
    return scale * sqrt(sum);
}

static gr_tensor tensor_of(const char *name, const float *values, int64_t rows, int64_t cols) {
    return (gr_tensor){.name = name,
                       .dtype = GR_F32,
                       .ndim = 2,
                       .shape = {rows, cols},
                       .data = (const uint8_t *)values,
                       .bytes = (size_t)(rows * cols) * sizeof *values};
}

static void save(const char *dir, const char *name, gr_tensor a, gr_tensor b) {
    gr_tensor tensors[] = {a, b};
    char *path = tiny_join(dir, name);
    gr_error_clear(&err);
    if (gr_safetensors_save(path, tensors, 2, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    free(path);
}

/* A and B of one module, and the same transposed. */
typedef struct pair {
    float a[IN][RANK], b[RANK][OUT], at[RANK][IN], bt[OUT][RANK];
} pair;

static pair pair_of(void) {
    pair p;
    for (int i = 0; i < IN; i++)
        for (int r = 0; r < RANK; r++) p.at[r][i] = p.a[i][r] = sinf((float)(i * RANK + r));
    for (int r = 0; r < RANK; r++)
        for (int o = 0; o < OUT; o++) p.bt[o][r] = p.b[r][o] = cosf((float)(r * OUT + o));
    return p;
}

static void save_mlx(const char *dir, const pair *p, const char *module) {
    char a[300], b[300];
    snprintf(a, sizeof a, "%s.lora_a", module);
    snprintf(b, sizeof b, "%s.lora_b", module);
    save(dir, "adapters.safetensors", tensor_of(a, &p->a[0][0], IN, RANK),
         tensor_of(b, &p->b[0][0], RANK, OUT));
}

static void save_peft(const char *dir, const pair *p, const char *module) {
    char a[300], b[300];
    snprintf(a, sizeof a, "base_model.model.%s.lora_A.weight", module);
    snprintf(b, sizeof b, "base_model.model.%s.lora_B.weight", module);
    save(dir, "adapter_model.safetensors", tensor_of(a, &p->at[0][0], RANK, IN),
         tensor_of(b, &p->bt[0][0], OUT, RANK));
}

static gr_change read_change(const char *dir, const char *earlier) {
    gr_change c;
    gr_error_clear(&err);
    if (gr_change_read(&c, dir, earlier, &err) != GRAFT_OK) fail_msg("%s: %s", err.what, err.where);
    return c;
}

static void none_is_said(const char *dir, const char *earlier, const char *text) {
    gr_change c = read_change(dir, earlier);
    assert_non_null(c.none);
    if (!strstr(c.none, text)) fail_msg("%s", c.none);
    gr_change_free(&c);
}

/* One module that moved by `norm`. */
static void one_moved(const char *dir, const char *module, bool outside, double norm) {
    gr_change c = read_change(dir, NULL);
    if (c.none) fail_msg("%s", c.none);
    assert_true(c.outside == outside && c.modules == 1 && c.left_out == 0);
    assert_string_equal(c.module[0], module);
    double last = c.norm[(c.rows - 1) * GR_CHANGE_MODULES];
    if (!(fabs(last - norm) < 1e-6 * norm)) fail_msg("%s: %.9g is not %.9g", module, last, norm);
    assert_true(c.most == last);
    gr_change_free(&c);
}

static const char mlx_config[] = "{\"lora_parameters\": {\"scale\": 2.5}}";

static void mlx_and_peft(void **state) {
    (void)state;
    const pair p = pair_of();
    char *dir = tiny_subdir(root, "change"), stamp[GR_CHANGE_STAMP];
    none_is_said(dir, NULL, "no adapter");
    tiny_write(dir, "adapter_config.json",
               "{\"lora_parameters\": {\"scale\": 2.5}, \"r\": 3, \"lora_alpha\": 6, "
               "\"alpha_pattern\": {\"lm_head\": 12}}");
    none_is_said(dir, NULL, "no adapter");
    save_peft(dir, &p, "lm_head");
    one_moved(dir, "lm_head", true, product_norm(p.a, p.b, 12.0 / RANK));
    /* mlx-lm's file is read before PEFT's */
    save_mlx(dir, &p, "model.layers.1.self_attn.q_proj");
    gr_change c = read_change(dir, NULL);
    assert_true(c.rows == 2 && isnan(c.norm[0]));
    gr_change_free(&c);
    one_moved(dir, "self_attn.q_proj", false, product_norm(p.a, p.b, 2.5));
    /* what an earlier run left is not shown as this one's */
    gr_change_stamp(stamp, dir);
    assert_true(strlen(stamp) > 10);
    none_is_said(dir, stamp, "no adapter was saved yet");
    gr_change_stamp(stamp, root);
    assert_string_equal(stamp, "");
    free(dir);
}

/* A stack of matrices counts as all of them. */
static void experts_are_summed(void **state) {
    (void)state;
    const pair p = pair_of();
    char *dir = tiny_subdir(root, "experts");
    float as[2][RANK][IN], bs[2][OUT][RANK];
    for (int e = 0; e < 2; e++) {
        memcpy(as[e], p.at, sizeof p.at);
        for (int i = 0; i < OUT * RANK; i++) (&bs[e][0][0])[i] = (e ? 3.0f : 1.0f) * (&p.bt[0][0])[i];
    }
    const gr_tensor stack_a = {.name = "model.layers.0.mlp.switch_mlp.up_proj.lora_a",
                               .dtype = GR_F32,
                               .ndim = 3,
                               .shape = {2, RANK, IN},
                               .data = (const uint8_t *)as,
                               .bytes = sizeof as},
                    stack_b = {.name = "model.layers.0.mlp.switch_mlp.up_proj.lora_b",
                               .dtype = GR_F32,
                               .ndim = 3,
                               .shape = {2, OUT, RANK},
                               .data = (const uint8_t *)bs,
                               .bytes = sizeof bs};
    tiny_write(dir, "adapter_config.json", mlx_config);
    save(dir, "adapters.safetensors", stack_a, stack_b);
    one_moved(dir, "mlp.switch_mlp.up_proj", false, sqrt(10) * product_norm(p.a, p.b, 2.5));
    free(dir);
}

/* PEFT names an embedding's matrices otherwise: A [rank, rows], B [width, rank]. */
static void embeddings_of_peft(void **state) {
    (void)state;
    const pair p = pair_of();
    char *dir = tiny_subdir(root, "embedding");
    tiny_write(dir, "adapter_config.json", "{\"r\": 3, \"lora_alpha\": 6}");
    save(dir, "adapter_model.safetensors",
         tensor_of("base_model.model.model.embed_tokens.lora_embedding_A", &p.at[0][0], RANK, IN),
         tensor_of("base_model.model.model.embed_tokens.lora_embedding_B", &p.bt[0][0], OUT, RANK));
    one_moved(dir, "model.embed_tokens", true, product_norm(p.a, p.b, 6.0 / RANK));
    free(dir);
}

/* The rules by which the adapter is loaded: a pattern is a regular expression at the end of a path, and the
 * rank that rsLoRA takes the root of is the declared one. */
static void scales_of_peft(void **state) {
    (void)state;
    const pair p = pair_of();
    static const struct {
        const char *config;
        double scale; /* NaN: no sense */
    } cases[] = {
        {"{\"r\": 3, \"lora_alpha\": 6, \"alpha_pattern\": {\"q_proj\": 9}}", 3},
        {"{\"r\": 3, \"lora_alpha\": 6, \"alpha_pattern\": {\".*\\\\.self_attn\\\\.[qk]_proj\": 12}}", 4},
        {"{\"r\": 8, \"lora_alpha\": 6, \"rank_pattern\": {\"q_proj\": 3}, \"use_rslora\": true}", 3.4641016},
        {"{\"r\": 3, \"lora_alpha\": 6, \"alpha_pattern\": {\"k_proj\": 9}}", 2},
        {"{\"r\": 8, \"lora_alpha\": 6}", NAN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *dir = tiny_subdir(root, "scales");
        tiny_write(dir, "adapter_config.json", cases[i].config);
        save_peft(dir, &p, "model.layers.0.self_attn.q_proj");
        if (isnan(cases[i].scale))
            none_is_said(dir, NULL, "no low-rank pairs");
        else
            one_moved(dir, "self_attn.q_proj", false, product_norm(p.a, p.b, cases[i].scale));
        free(dir);
    }
}

/* Names that agree in their first 63 bytes, and end in the middle of a character there. */
static void long_names_stay_apart(void **state) {
    (void)state;
    const pair p = pair_of();
    char *dir = tiny_subdir(root, "long"), name[4][200];
    gr_tensor tensors[4];
    for (int i = 0; i < 4; i++) {
        snprintf(name[i], sizeof name[i], "%062d\xc3\xa4%s.lora_%c", 0, i < 2 ? ".one" : ".two", 'a' + i % 2);
        tensors[i] =
            i % 2 ? tensor_of(name[i], &p.b[0][0], RANK, OUT) : tensor_of(name[i], &p.a[0][0], IN, RANK);
    }
    tiny_write(dir, "adapter_config.json", mlx_config);
    char *path = tiny_join(dir, "adapters.safetensors");
    assert_int_equal(gr_safetensors_save(path, tensors, 4, NULL, &err), GRAFT_OK);
    gr_change c = read_change(dir, NULL);
    assert_true(c.modules == 2 && c.left_out == 0 && c.rows == 1);
    for (size_t i = 0; i < 2; i++) {
        assert_true(gr_ends_with(c.module[i], i ? "\xc3\xa4.two" : "\xc3\xa4.one"));
        assert_true(fabs(c.norm[i] - product_norm(p.a, p.b, 2.5)) < 1e-9);
    }
    gr_change_free(&c);
    free(path);
    free(dir);
}

/* A measure of matrices would stride over them wrongly: of other sizes than these, out of the file. */
static void four_dimensions_are_left_out(void **state) {
    (void)state;
    const pair p = pair_of();
    char *dir = tiny_subdir(root, "four");
    gr_tensor tensors[] = {tensor_of("base_model.model.x.lora_A.weight", &p.at[0][0], RANK, IN),
                           tensor_of("base_model.model.x.lora_B.weight", &p.bt[0][0], OUT, RANK),
                           tensor_of("base_model.model.lm_head.lora_A.weight", &p.at[0][0], RANK, IN),
                           tensor_of("base_model.model.lm_head.lora_B.weight", &p.bt[0][0], OUT, RANK)};
    for (int i = 0; i < 2; i++) {
        gr_tensor *t = &tensors[i];
        const int64_t shape[] = {1, 1, t->shape[0], t->shape[1]};
        t->ndim = 4;
        memcpy(t->shape, shape, sizeof shape);
    }
    tiny_write(dir, "adapter_config.json", "{\"r\": 3, \"lora_alpha\": 6}");
    char *path = tiny_join(dir, "adapter_model.safetensors");
    assert_int_equal(gr_safetensors_save(path, tensors, 4, NULL, &err), GRAFT_OK);
    gr_change c = read_change(dir, NULL);
    assert_true(!c.none && c.modules == 1 && c.left_out == 1);
    assert_string_equal(c.module[0], "lm_head");
    gr_change_free(&c);
    free(path);
    free(dir);
}

static void what_cannot_be_read_is_said(void **state) {
    (void)state;
    const pair p = pair_of();
    char *dir = tiny_subdir(root, "unread");
    tiny_write(dir, "adapter_config.json", mlx_config);
    tiny_write(dir, "adapters.safetensors", "no");
    none_is_said(dir, NULL, "adapter's file cannot be read");
    save_mlx(dir, &p, "lm_head");
    tiny_write(dir, "adapter_config.json", "{\"fine_tune_type\": \"ia3\"}");
    none_is_said(dir, NULL, "adapter_config.json");
    tiny_write(dir, "adapter_config.json", "{\"fine_tune_type\": \"full\"}");
    none_is_said(dir, NULL, "whole tensors");
    free(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mlx_and_peft),
        cmocka_unit_test(experts_are_summed),
        cmocka_unit_test(embeddings_of_peft),
        cmocka_unit_test(scales_of_peft),
        cmocka_unit_test(long_names_stay_apart),
        cmocka_unit_test(what_cannot_be_read_is_said),
        cmocka_unit_test(four_dimensions_are_left_out),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
