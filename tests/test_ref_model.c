/* The whole decoder of ref/ against central differences, for every architecture it knows. */
#include "ref/ref.h"
#include "tests/ref_check.h"

typedef struct model_case {
    ref_model *m;
    ref_run *run;
    ref_batch batch;
} model_case;

static double model_value(void *context) {
    model_case *c = context;
    return ref_model_forward(c->run, c->m, &c->batch);
}

/* Two rows of 7 and 4 tokens in one batch; some tokens are masked. */
static void check_model(const ref_tiny *spec) {
    enum { T = 11 };
    static const int rows[] = {0, 7, T}, ids[T] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5};
    static const int mask[T] = {0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1};
    int target[T];
    assert_int_equal(ref_targets(target, ids, mask, rows, 2), 6);
    assert_int_equal(target[6], -1); /* no row predicts the next row's first token */
    model_case c = {.m = ref_tiny_new(spec),
                    .batch = {.rows = 2, .tokens = T, .cu_seqlens = rows, .ids = ids, .target = target}};
    c.run = ref_run_new(c.m, T);
    model_value(&c);
    ref_model_backward(c.run, c.m, &c.batch);
    int count = ref_model_tensors(NULL, c.m), checked = 0;
    ref_tensor *all = calloc((size_t)count, sizeof *all);
    assert_non_null(all);
    ref_model_tensors(all, c.m);
    for (int k = 0; k < count; k++)
        if (all[k].g != NULL) {
            check_gradient(all[k].name, all[k].p, all[k].g, all[k].n, all[k].n / 7 + 1, model_value, &c);
            checked++;
        }
    int linears = spec->experts ? REF_GATE + 3 * spec->experts : REF_LINEARS;
    assert_int_equal(checked, spec->train_all ? count : 2 * linears * spec->layers);
    assert_int_equal(all[1].n == spec->end_rank * spec->hidden, spec->end_rank > 0); /* the embedding's A */
    free(all);
    ref_run_free(c.run);
    ref_tiny_free(c.m);
}

static const ref_tiny llama = {.vocab = 11,
                               .hidden = 8,
                               .layers = 2,
                               .heads = 4,
                               .kv_heads = 2,
                               .head_dim = 4,
                               .mlp = 12,
                               .rank = 2,
                               .scale = 2,
                               .eps = 1e-5,
                               .theta = 10000,
                               .train_all = true};

static void test_model_llama(void **state) {
    (void)state;
    ref_tiny spec = llama;
    check_model(&spec);
    spec.train_all = false;
    check_model(&spec);
}

static void test_model_tied(void **state) {
    (void)state;
    ref_rope_llama3_scaling scaling = {
        .factor = 8, .low_freq_factor = 1, .high_freq_factor = 4, .original_positions = 16};
    ref_tiny spec = llama;
    spec.tied = true, spec.llama3 = &scaling;
    check_model(&spec);
}

static void test_model_ends(void **state) {
    (void)state;
    ref_tiny spec = llama;
    spec.end_rank = 3;
    check_model(&spec);
    spec.tied = true;
    check_model(&spec);
}

static void test_model_mistral_window(void **state) {
    (void)state;
    ref_tiny spec = llama;
    spec.window = 3;
    check_model(&spec);
}

static void test_model_qwen2_bias(void **state) {
    (void)state;
    ref_tiny spec = llama;
    spec.qkv_bias = true, spec.tied = true;
    check_model(&spec);
}

static void test_model_qwen3_norms(void **state) {
    (void)state;
    ref_tiny spec = llama;
    spec.qk_norm = true, spec.head_dim = 6, spec.kv_heads = 1; /* heads * head_dim is not hidden */
    check_model(&spec);
}

/* What Gemma 2 and 3, OLMo 2, SmolLM3 and Granite have between them. */
static void test_model_other_traits(void **state) {
    (void)state;
    ref_tiny gemma = llama, olmo = llama, granite = llama;
    gemma.one_plus = gemma.gelu = gemma.sandwich = gemma.qk_norm = gemma.tied = true;
    gemma.window = 3, gemma.pattern = 2, gemma.local_theta = 100;
    gemma.eps = 0.3, gemma.embedding_scale = 1.5, gemma.attention_scale = 0.2, gemma.attention_cap = 2,
    gemma.logit_cap = 4;
    check_model(&gemma);
    olmo.behind = olmo.wide_norm = olmo.qk_norm = true;
    olmo.rope_interval = 2, olmo.magnitude = 1.2;
    check_model(&olmo);
    granite.embedding_scale = 0.7, granite.residual_scale = 0.4, granite.logit_scale = 0.3,
    granite.end_rank = 2;
    check_model(&granite);
    ref_tiny phi = llama, star = llama;
    phi.fused = true, phi.partial = 0.5;
    check_model(&phi);
    star.plain = star.gelu = star.layer_norm = star.all_bias = true;
    check_model(&star);
}

/* The picks are the same at both sides of a difference: they are far from a tie. */
static void test_model_experts(void **state) {
    (void)state;
    ref_tiny spec = llama;
    spec.experts = 3, spec.experts_used = 2, spec.expert_rank = 2;
    check_model(&spec);
    spec.experts_normed = true, spec.train_all = false;
    check_model(&spec);
}

/* A row's logits do not depend on the rows beside it. */
static void test_rows_are_alone(void **state) {
    (void)state;
    enum { T = 9, V = 11 };
    static const int rows[] = {0, 5, T}, ids[T] = {3, 1, 4, 1, 5, 9, 2, 6, 5}, alone[] = {0, 4};
    int target[T] = {0};
    ref_model *m = ref_tiny_new(&llama);
    ref_batch both = {.rows = 2, .tokens = T, .cu_seqlens = rows, .ids = ids, .target = target};
    ref_batch second = {.rows = 1, .tokens = 4, .cu_seqlens = alone, .ids = ids + 5, .target = target};
    ref_run *a = ref_run_new(m, T), *b = ref_run_new(m, 4);
    ref_model_forward(a, m, &both);
    ref_model_forward(b, m, &second);
    assert_memory_equal(a->logits + 5 * V, b->logits, 4 * V * sizeof(double));
    ref_run_free(a);
    ref_run_free(b);
    ref_tiny_free(m);
}

/* Gradients of batches add up to those of one big batch. */
static void test_accumulation(void **state) {
    (void)state;
    static const int rows[] = {0, 5, 9}, ids[9] = {3, 1, 4, 1, 5, 9, 2, 6, 5}, first[] = {0, 5},
                     second[] = {0, 4};
    static const int mask[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    int target[9];
    ref_targets(target, ids, mask, rows, 2);
    ref_model *one = ref_tiny_new(&llama), *two = ref_tiny_new(&llama);
    ref_run *run = ref_run_new(one, 9);
    ref_batch all = {2, 9, rows, ids, target},
              parts[] = {{1, 5, first, ids, target}, {1, 4, second, ids + 5, target + 5}};
    double loss = ref_model_forward(run, one, &all);
    ref_model_backward(run, one, &all);
    for (int i = 0; i < 2; i++) {
        loss -= ref_model_forward(run, two, &parts[i]);
        ref_model_backward(run, two, &parts[i]);
    }
    assert_near(loss, 0, 1e-12);
    ref_tensor a[64], b[64];
    int count = ref_model_tensors(NULL, one);
    assert_in_range(count, 1, 64);
    ref_model_tensors(a, one);
    ref_model_tensors(b, two);
    for (int k = 0; k < count; k++)
        for (long i = 0; i < a[k].n; i++) assert_near(a[k].g[i], b[k].g[i], 1e-11);
    ref_zero_gradients(two);
    for (int k = 0; k < count; k++)
        for (long i = 0; i < b[k].n; i++) assert_near(b[k].g[i], 0, 0);
    ref_run_free(run);
    ref_tiny_free(one);
    ref_tiny_free(two);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_llama),        cmocka_unit_test(test_model_tied),
        cmocka_unit_test(test_model_ends),         cmocka_unit_test(test_model_mistral_window),
        cmocka_unit_test(test_model_qwen2_bias),   cmocka_unit_test(test_model_qwen3_norms),
        cmocka_unit_test(test_model_other_traits), cmocka_unit_test(test_model_experts),
        cmocka_unit_test(test_rows_are_alone),     cmocka_unit_test(test_accumulation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
