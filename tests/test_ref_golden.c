/* ref/ against transformers in float64: logits, loss and LoRA gradients of one small model per architecture.
 * The files tests/golden/tiny_*.json name the program that made them; both sides make the weights from one
 * formula.
 *
 * Tolerance: values are sums of up to a few thousand rounded products behind one another; with eps = 2.2e-16
 * a factor of 5e4 leaves room for the growth through two blocks: 1e-11 of the largest, while any wrong
 * formula shows at 1e-3. */
#include "ref/ref.h"
#include "tests/ref_check.h"
#include <jansson.h>

#define RELATIVE 1e-11
enum { MAX_TOKENS = 64, MAX_ROWS = 4 };

static const json_t *member(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (value == NULL) fail_msg("golden file lacks %s", key);
    return value;
}

static double number(const json_t *object, const char *key) {
    return json_number_value(member(object, key));
}
static int integer(const json_t *object, const char *key) {
    return (int)json_integer_value(member(object, key));
}

/* A number that is not there is 0. */
static double optional(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static bool is_type(const json_t *golden, const char *type) {
    return strcmp(json_string_value(member(golden, "model_type")), type) == 0;
}

/* What the architecture's name says, and the numbers that only it has. */
static void set_traits(ref_tiny *s, const json_t *golden, const json_t *c) {
    bool gemma3 = is_type(golden, "gemma3_text"), gemma = gemma3 || is_type(golden, "gemma2");
    s->qkv_bias = is_type(golden, "qwen2");
    s->behind = is_type(golden, "olmo2");
    s->wide_norm = s->behind || is_type(golden, "olmoe");
    s->qk_norm = s->wide_norm || gemma3 || is_type(golden, "qwen3") || is_type(golden, "qwen3_moe");
    s->experts = (int)optional(c, "num_experts");
    s->expert_rank = s->rank;
    s->experts_used = (int)optional(c, "num_experts_per_tok");
    s->experts_normed = json_is_true(json_object_get(c, "norm_topk_prob"));
    if (is_type(golden, "qwen3_moe")) s->mlp = integer(c, "moe_intermediate_size");
    s->one_plus = s->gelu = s->sandwich = gemma;
    if (gemma) {
        s->pattern = 2;
        s->local_theta = optional(c, "rope_local_base_freq");
        s->embedding_scale = sqrt(s->hidden);
        s->attention_scale = 1 / sqrt(number(c, "query_pre_attn_scalar"));
        s->attention_cap = optional(c, "attn_logit_softcapping");
        s->logit_cap = optional(c, "final_logit_softcapping");
    }
    if (is_type(golden, "ministral")) s->pattern = 2; /* as its layer_types say */
    s->fused = is_type(golden, "phi3");
    s->layer_norm = is_type(golden, "stablelm") || is_type(golden, "starcoder2");
    s->plain = s->all_bias = is_type(golden, "starcoder2");
    s->gelu |= s->plain;
    s->qkv_bias |= json_is_true(json_object_get(c, "use_qkv_bias"));
    s->partial = optional(c, "partial_rotary_factor");
    if (s->layer_norm) s->eps = optional(c, "layer_norm_eps") + optional(c, "norm_epsilon");
    s->rope_interval = (int)optional(c, "no_rope_layer_interval");
    if (!is_type(golden, "granite")) return;
    s->embedding_scale = number(c, "embedding_multiplier");
    s->residual_scale = number(c, "residual_multiplier");
    s->attention_scale = number(c, "attention_multiplier");
    s->logit_scale = 1 / number(c, "logits_scaling");
}

static ref_model *model_from(const json_t *golden) {
    const json_t *c = member(golden, "config"), *scaling = json_object_get(c, "rope_scaling");
    const json_t *window = json_object_get(c, "sliding_window");
    ref_rope_llama3_scaling llama3 = {0};
    ref_rope_yarn_scaling yarn;
    double divisor[16];
    ref_tiny spec = {.vocab = integer(c, "vocab_size"),
                     .hidden = integer(c, "hidden_size"),
                     .layers = integer(c, "num_hidden_layers"),
                     .heads = integer(c, "num_attention_heads"),
                     .kv_heads = integer(c, "num_key_value_heads"),
                     .head_dim = (int)optional(c, "head_dim"),
                     .mlp = integer(c, "intermediate_size"),
                     .rank = integer(golden, "rank"),
                     .scale = number(golden, "scale"),
                     .eps = optional(c, "rms_norm_eps"),
                     .theta = number(c, "rope_theta"),
                     .window = (int)json_integer_value(window),
                     .tied = json_is_true(member(c, "tie_word_embeddings")),
                     .dora = json_is_true(member(golden, "dora"))};
    if (spec.head_dim == 0) spec.head_dim = spec.hidden / spec.heads;
    set_traits(&spec, golden, c);
    if (is_type(golden, "ministral3")) {
        double scale = number(scaling, "mscale"), all = number(scaling, "mscale_all_dim");
        yarn = (ref_rope_yarn_scaling){.factor = number(scaling, "factor"),
                                       .fast = number(scaling, "beta_fast"),
                                       .slow = number(scaling, "beta_slow"),
                                       .original_positions =
                                           number(scaling, "original_max_position_embeddings")};
        yarn.fractions = json_is_false(json_object_get(scaling, "truncate"));
        spec.yarn = &yarn;
        spec.growth = number(scaling, "llama_4_scaling_beta");
        spec.step = (int)yarn.original_positions;
        spec.magnitude = (1 + 0.1 * scale * log(yarn.factor)) / (1 + 0.1 * all * log(yarn.factor));
    } else if (is_type(golden, "phi3") && scaling != NULL) {
        double positions = number(c, "original_max_position_embeddings"), longer = 64 / positions;
        for (size_t i = 0; i < json_array_size(member(scaling, "short_factor")); i++)
            divisor[i] = json_number_value(json_array_get(member(scaling, "short_factor"), i));
        spec.divisor = divisor;
        spec.magnitude = sqrt(1 + log(longer) / log(positions)); /* of 64 positions, as the script says */
    } else if (scaling != NULL) {
        llama3 = (ref_rope_llama3_scaling){.factor = number(scaling, "factor"),
                                           .low_freq_factor = number(scaling, "low_freq_factor"),
                                           .high_freq_factor = number(scaling, "high_freq_factor"),
                                           .original_positions =
                                               number(scaling, "original_max_position_embeddings")};
        spec.llama3 = &llama3;
    }
    return ref_tiny_new(&spec);
}

typedef struct golden_batch {
    int cu_seqlens[MAX_ROWS + 1], ids[MAX_TOKENS], mask[MAX_TOKENS], target[MAX_TOKENS];
    ref_batch batch;
} golden_batch;

static void read_batch(golden_batch *g, const json_t *golden) {
    const json_t *rows = member(golden, "rows"), *masks = member(golden, "masks");
    size_t b, i;
    json_t *row, *id;
    int t = 0;
    assert_in_range(json_array_size(rows), 1, MAX_ROWS);
    g->cu_seqlens[0] = 0;
    json_array_foreach(rows, b, row) {
        json_array_foreach(row, i, id) {
            assert_in_range(t, 0, MAX_TOKENS - 1);
            g->ids[t] = (int)json_integer_value(id);
            g->mask[t++] = (int)json_integer_value(json_array_get(json_array_get(masks, b), i));
        }
        g->cu_seqlens[b + 1] = t;
    }
    int count = (int)json_array_size(rows);
    assert_int_equal(ref_targets(g->target, g->ids, g->mask, g->cu_seqlens, count),
                     integer(golden, "targets"));
    g->batch = (ref_batch){
        .rows = count, .tokens = t, .cu_seqlens = g->cu_seqlens, .ids = g->ids, .target = g->target};
}

/* A sampled tensor: every stride-th value and the norm of all. Returns how far the farthest value is, of the
 * tensor's largest. */
static double compare(const char *name, const double *actual, long n, const json_t *sample) {
    double sum = 0, norm = number(sample, "norm"), largest = 0, worst = 0;
    for (long i = 0; i < n; i++) {
        sum += actual[i] * actual[i];
        largest = fmax(largest, fabs(actual[i]));
    }
    if (!(fabs(sqrt(sum) - norm) <= RELATIVE * norm))
        fail_msg("%s: norm %.15g, golden %.15g", name, sqrt(sum), norm);
    size_t k;
    json_t *value;
    long stride = (long)json_integer_value(member(sample, "stride"));
    assert_true(json_array_size(member(sample, "values")) > 0);
    json_array_foreach(member(sample, "values"), k, value) {
        assert_in_range((long)k * stride, 0, n - 1);
        double expected = json_number_value(value), found = actual[(long)k * stride];
        worst = fmax(worst, fabs(found - expected));
        if (!(fabs(found - expected) <= RELATIVE * largest))
            fail_msg("%s[%ld]: %.15g, golden %.15g", name, (long)k * stride, found, expected);
    }
    return largest > 0 ? worst / largest : 0;
}

static void check_golden(const char *file) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s", GRAFT_SOURCE_DIR, file);
    json_t *golden = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (golden == NULL) fail_msg("cannot read %s", path);
    golden_batch g;
    read_batch(&g, golden);
    ref_model *m = model_from(golden);
    ref_run *run = ref_run_new(m, g.batch.tokens);
    double loss = ref_model_forward(run, m, &g.batch), expected = number(golden, "loss");
    assert_near(loss, expected, RELATIVE * expected);
    double of_gradients = 0, of_logits = compare("logits", run->logits, (long)g.batch.tokens * m->vocab,
                                                 member(golden, "logits"));
    ref_model_backward(run, m, &g.batch);
    const json_t *gradients = member(golden, "gradients");
    int count = ref_model_tensors(NULL, m);
    ref_tensor *all = calloc((size_t)count, sizeof *all);
    assert_non_null(all);
    ref_model_tensors(all, m);
    size_t compared = 0;
    for (int k = 0; k < count; k++)
        if (all[k].g != NULL) {
            double off = compare(all[k].name, all[k].g, all[k].n, member(gradients, all[k].name));
            of_gradients = fmax(of_gradients, off);
            compared++;
        }
    print_message("%s: logits %.1e, gradients %.1e of the largest\n", file, of_logits, of_gradients);
    assert_int_equal(compared, json_object_size(gradients));
    free(all);
    ref_run_free(run);
    ref_tiny_free(m);
    json_decref(golden);
}

static void test_llama(void **state) {
    (void)state;
    check_golden("tiny_llama.json");
    check_golden("tiny_llama_tied.json");
}

static void test_dora(void **state) {
    (void)state;
    check_golden("tiny_llama_dora.json");
}

static void test_mistral(void **state) {
    (void)state;
    check_golden("tiny_mistral.json");
}

static void test_qwen2(void **state) {
    (void)state;
    check_golden("tiny_qwen2.json");
}

static void test_qwen3(void **state) {
    (void)state;
    check_golden("tiny_qwen3.json");
}

static void test_gemma(void **state) {
    (void)state;
    check_golden("tiny_gemma2.json");
    check_golden("tiny_gemma3.json");
}

static void test_smollm3(void **state) {
    (void)state;
    check_golden("tiny_smollm3.json");
}

static void test_granite(void **state) {
    (void)state;
    check_golden("tiny_granite.json");
}

static void test_olmo2(void **state) {
    (void)state;
    check_golden("tiny_olmo2.json");
}

static void test_phi(void **state) {
    (void)state;
    check_golden("tiny_phi3.json");
    check_golden("tiny_phi4.json");
}

static void test_layer_norms(void **state) {
    (void)state;
    check_golden("tiny_stablelm.json");
    check_golden("tiny_starcoder2.json");
}

static void test_mixtures(void **state) {
    (void)state;
    check_golden("tiny_qwen3_moe.json");
    check_golden("tiny_olmoe.json");
}

static void test_ministral(void **state) {
    (void)state;
    check_golden("tiny_ministral.json");
    check_golden("tiny_ministral3.json");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),     cmocka_unit_test(test_dora),    cmocka_unit_test(test_mistral),
        cmocka_unit_test(test_qwen2),     cmocka_unit_test(test_qwen3),   cmocka_unit_test(test_gemma),
        cmocka_unit_test(test_smollm3),   cmocka_unit_test(test_granite), cmocka_unit_test(test_olmo2),
        cmocka_unit_test(test_ministral), cmocka_unit_test(test_phi),     cmocka_unit_test(test_layer_norms),
        cmocka_unit_test(test_mixtures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
