/* model/config.h: config.json in both styles, and everything it refuses. */
#include "model/model.h"
#include "ref/ref.h"
#include "tests/tiny_root.h"

static const char base_config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":4,\"intermediate_size\":96,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":16,\"vocab_size\":264,"
    "\"rms_norm_eps\":1e-5,\"max_position_embeddings\":512}";

/* base_config with the members of `patch` set (null deletes). */
static graft_status parse(gr_model_config *c, const char *patch, graft_error *err) {
    json_t *config = json_loads(base_config, 0, NULL), *more = json_loads(patch, 0, NULL), *value;
    const char *key;
    assert_non_null(config);
    if (!more) fail_msg("patch %s", patch);
    json_object_foreach(more, key, value) {
        if (json_is_null(value))
            json_object_del(config, key);
        else
            json_object_set(config, key, value);
    }
    char *text = json_dumps(config, JSON_COMPACT);
    graft_status st = gr_config_parse(c, text, strlen(text), "config.json", err);
    free(text);
    json_decref(config);
    json_decref(more);
    return st;
}

static void must_parse(gr_model_config *c, const char *patch) {
    graft_error err = {0};
    if (parse(c, patch, &err) != GRAFT_OK) fail_msg("%s: %s %s", patch, err.what, err.where);
}

#define MOE_WITH(more)                                                                                       \
    "{\"model_type\":\"qwen3_moe\",\"num_experts\":8,\"num_experts_per_tok\":2,\"moe_intermediate_size\":"   \
    "32" more "}"
#define MOE(more) MOE_WITH("," more)

static void refused_configs(void **state) {
    (void)state;
    static const struct {
        const char *patch;
        graft_status status;
        const char *said; /* somewhere in the error */
    } cases[] = {
        {"{\"model_type\":\"gpt9\"}", GRAFT_UNSUPPORTED, "llama, mistral, qwen2, qwen3"},
        {"{\"model_type\":null}", GRAFT_NOT_FOUND, "model_type"},
        {"{\"model_type\":7}", GRAFT_CORRUPT, "model_type"},
        {"{\"hidden_size\":null}", GRAFT_NOT_FOUND, "hidden_size"},
        {"{\"num_hidden_layers\":null}", GRAFT_NOT_FOUND, "num_hidden_layers"},
        {"{\"intermediate_size\":null}", GRAFT_NOT_FOUND, "intermediate_size"},
        {"{\"num_attention_heads\":null}", GRAFT_NOT_FOUND, "num_attention_heads"},
        {"{\"vocab_size\":null}", GRAFT_NOT_FOUND, "vocab_size"},
        {"{\"hidden_size\":0}", GRAFT_RANGE, "hidden_size"},
        {"{\"hidden_size\":-64}", GRAFT_RANGE, "hidden_size"},
        {"{\"hidden_size\":\"64\"}", GRAFT_CORRUPT, "hidden_size"},
        {"{\"hidden_size\":64.5}", GRAFT_CORRUPT, "hidden_size"},
        {"{\"hidden_size\":4294967360}", GRAFT_RANGE, "hidden_size"},
        {"{\"vocab_size\":9223372036854775807}", GRAFT_RANGE, "vocab_size"},
        {"{\"intermediate_size\":1e300}", GRAFT_CORRUPT, "intermediate_size"},
        {"{\"num_hidden_layers\":5000}", GRAFT_CORRUPT, "layers"},
        {"{\"num_key_value_heads\":3}", GRAFT_CORRUPT, "num_key_value_heads"},
        {"{\"num_key_value_heads\":0}", GRAFT_RANGE, "num_key_value_heads"},
        {"{\"num_attention_heads\":5,\"num_key_value_heads\":null,\"head_dim\":null}", GRAFT_CORRUPT,
         "multiple"},
        {"{\"head_dim\":15}", GRAFT_CORRUPT, "even"},
        {"{\"num_attention_heads\":16777216,\"num_key_value_heads\":1,\"head_dim\":4096}", GRAFT_CORRUPT,
         "large"},
        {"{\"rms_norm_eps\":-1}", GRAFT_RANGE, "rms_norm_eps"},
        {"{\"tie_word_embeddings\":\"yes\"}", GRAFT_CORRUPT, "tie_word_embeddings"},
        {"{\"hidden_act\":\"gelu\"}", GRAFT_UNSUPPORTED, "silu"},
        {"{\"rope_theta\":0}", GRAFT_RANGE, "rope_theta"},
        {"{\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":2}}", GRAFT_UNSUPPORTED, "dynamic"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2}}", GRAFT_NOT_FOUND,
         "original_max_position"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2,\"truncate\":0}}", GRAFT_CORRUPT,
         "truncate"},
        {"{\"model_type\":\"gemma2\",\"hidden_activation\":\"gelu\"}", GRAFT_UNSUPPORTED,
         "hidden_activation"},
        {"{\"model_type\":\"gemma2\",\"attn_logit_softcapping\":0}", GRAFT_RANGE, "attn_logit_softcapping"},
        {"{\"model_type\":\"gemma3_text\",\"use_bidirectional_attention\":true}", GRAFT_UNSUPPORTED,
         "both directions"},
        {"{\"model_type\":\"gemma3_text\",\"sliding_window_pattern\":0}", GRAFT_RANGE,
         "sliding_window_pattern"},
        {"{\"model_type\":\"qwen2_moe\",\"num_experts\":128}", GRAFT_UNSUPPORTED, "mixture of experts"},
        {MOE("\"num_experts\":null"), GRAFT_NOT_FOUND, "num_experts"},
        {MOE("\"num_experts\":0"), GRAFT_RANGE, "num_experts"},
        {MOE("\"num_experts\":1025"), GRAFT_RANGE, "num_experts"},
        {MOE("\"num_experts\":\"8\""), GRAFT_CORRUPT, "num_experts"},
        {MOE("\"num_experts_per_tok\":null"), GRAFT_NOT_FOUND, "num_experts_per_tok"},
        {MOE("\"num_experts_per_tok\":9"), GRAFT_RANGE, "num_experts_per_tok"},
        {MOE("\"num_experts_per_tok\":0"), GRAFT_RANGE, "num_experts_per_tok"},
        {MOE("\"moe_intermediate_size\":null"), GRAFT_NOT_FOUND, "moe_intermediate_size"},
        {MOE("\"moe_intermediate_size\":16777216,\"hidden_size\":65536"), GRAFT_CORRUPT, "too large"},
        {MOE("\"decoder_sparse_step\":2"), GRAFT_UNSUPPORTED, "decoder_sparse_step"},
        {MOE("\"mlp_only_layers\":[0]"), GRAFT_UNSUPPORTED, "mlp_only_layers"},
        {MOE("\"mlp_only_layers\":0"), GRAFT_CORRUPT, "mlp_only_layers"},
        {MOE("\"output_router_logits\":true"), GRAFT_UNSUPPORTED, "output_router_logits"},
        {MOE("\"use_sliding_window\":true"), GRAFT_UNSUPPORTED, "use_sliding_window"},
        {MOE("\"mlp_bias\":true"), GRAFT_UNSUPPORTED, "mlp_bias"},
        {MOE("\"clip_qkv\":8.0"), GRAFT_UNSUPPORTED, "clip_qkv"},
        {"{\"model_type\":\"gemma3\",\"text_config\":{}}", GRAFT_UNSUPPORTED, "convert takes the text part"},
        {"{\"model_type\":\"stablelm\",\"qk_layernorm\":true}", GRAFT_UNSUPPORTED, "qk_layernorm"},
        {"{\"model_type\":\"stablelm\",\"use_parallel_residual\":true}", GRAFT_UNSUPPORTED,
         "parallel_residual"},
        {"{\"model_type\":\"stablelm\",\"partial_rotary_factor\":0.01}", GRAFT_UNSUPPORTED, "partial_rotary"},
        {"{\"model_type\":\"starcoder2\",\"hidden_act\":\"silu\"}", GRAFT_UNSUPPORTED, "hidden_act"},
        {"{\"model_type\":\"phi3\",\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1,2]}}",
         GRAFT_CORRUPT, "short_factor"},
        {"{\"model_type\":\"phi3\",\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1,2,1,1,1,1,1,0]"
         "}}",
         GRAFT_CORRUPT, "0.001"},
        {"{\"model_type\":\"granite\",\"logits_scaling\":0}", GRAFT_RANGE, "logits_scaling"},
        {"{\"model_type\":\"olmo2\",\"head_dim\":4096,\"num_attention_heads\":8}", GRAFT_CORRUPT, "too wide"},
        {"{\"model_type\":\"smollm3\",\"no_rope_layers\":[1,0]}", GRAFT_CORRUPT, "no_rope_layers"},
        {"{\"model_type\":\"smollm3\",\"no_rope_layers\":[1,0,1,\"0\"]}", GRAFT_CORRUPT, "list of 0 and 1"},
        {"{\"rope_scaling\":{\"type\":\"linear\"}}", GRAFT_NOT_FOUND, "factor"},
        {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}}", GRAFT_RANGE, "rope_scaling"},
        {"{\"rope_scaling\":[1]}", GRAFT_CORRUPT, "rope_scaling"},
        {"{\"rope_parameters\":{\"rope_type\":\"dynamic\",\"factor\":2}}", GRAFT_UNSUPPORTED,
         "rope_parameters"},
        {"{\"partial_rotary_factor\":0.5}", GRAFT_UNSUPPORTED, "partial"},
        {"{\"rope_parameters\":{\"partial_rotary_factor\":0.5}}", GRAFT_UNSUPPORTED,
         "rope_parameters.partial_rotary_factor"},
        {"{\"rope_scaling\":{\"type\":\"default\",\"partial_rotary_factor\":0.25}}", GRAFT_UNSUPPORTED,
         "rope_scaling.partial_rotary_factor"},
        {"{\"quantization\":4}", GRAFT_CORRUPT, "quantization"},
        {"{\"quantization\":{\"bits\":9,\"group_size\":64}}", GRAFT_RANGE, "bits"},
        {"{\"quantization\":{\"bits\":4,\"group_size\":1024}}", GRAFT_RANGE, "group_size"},
        {"{\"quantization\":{\"bits\":4,\"group_size\":32,\"mode\":\"mxfp5\"}}", GRAFT_UNSUPPORTED, "mxfp5"},
        {"{\"quantization\":{\"bits\":4,\"group_size\":32,\"mode\":\"nvfp4\"}}", GRAFT_CORRUPT,
         "group_size 16"},
        {"{\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}}", GRAFT_UNSUPPORTED, "bitsandbytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_model_config c;
        graft_error e = {0};
        char all[2048];
        graft_status st = parse(&c, cases[i].patch, &e);
        snprintf(all, sizeof all, "%s|%s|%s|%s|%s", e.what, e.where, e.expected, e.found, e.hint);
        if (st != cases[i].status || e.status != st || !strstr(all, cases[i].said))
            fail_msg("%s: status %d, %s", cases[i].patch, st, all);
        assert_null(c.quantization);
    }
    gr_model_config c;
    graft_error err = {0};
    assert_int_equal(gr_config_parse(&c, "[]", 2, "config.json", &err), GRAFT_CORRUPT);
    err = (graft_error){0};
    assert_int_equal(gr_config_parse(&c, "{", 1, "config.json", &err), GRAFT_CORRUPT);
    err = (graft_error){0};
    assert_int_equal(gr_config_open(&c, root, &err), GRAFT_NOT_FOUND);
    assert_non_null(strstr(err.hint, "--model"));
}

/* Both styles of config.json give the frequencies that ref/ computes. */
static void rope_styles(void **state) {
    (void)state;
    static const char *const llama3[] = {
        "{\"rope_theta\":500000,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":"
        "1,"
        "\"high_freq_factor\":4,\"original_max_position_embeddings\":64}}",
        "{\"rope_parameters\":{\"rope_theta\":500000,\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_"
        "factor\":1.0,"
        "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":64}}"};
    static const char *const linear[] = {
        "{\"rope_theta\":500000,\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}",
        "{\"rope_parameters\":{\"rope_type\":\"linear\",\"rope_theta\":500000,\"factor\":4}}"};
    static const char *const plain[] = {
        "{\"rope_theta\":500000,\"rope_scaling\":null}",
        "{\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":500000}}"};
    double want[8], found[8];
    for (int style = 0; style < 2; style++)
        for (int kind = 0; kind < 3; kind++) {
            gr_model_config c;
            must_parse(&c, kind == 0 ? plain[style] : kind == 1 ? linear[style] : llama3[style]);
            gr_rope_frequencies(found, &c, &c.rope[0]);
            if (kind == 0) ref_rope_default(want, 16, 500000);
            if (kind == 1) ref_rope_linear(want, 16, 500000, 4);
            if (kind == 2) ref_rope_llama3(want, 16, 500000, &(ref_rope_llama3_scaling){8, 1, 4, 64});
            for (int i = 0; i < 8; i++)
                assert_near(found[i], want[i], 1e-13 * want[i]); /* pow and rounding */
            gr_config_free(&c);
        }
    gr_model_config c;
    must_parse(&c, "{}");
    gr_rope_frequencies(found, &c, &c.rope[0]);
    ref_rope_default(want, 16, 10000); /* transformers' default */
    for (int i = 0; i < 8; i++) assert_near(found[i], want[i], 1e-13 * want[i]);
}

static void windows_and_flags(void **state) {
    (void)state;
    static const struct {
        const char *patch;
        int window[4];
    } cases[] = {
        {"{\"sliding_window\":9}", {0, 0, 0, 0}}, /* llama has none */
        {"{\"model_type\":\"mistral\",\"sliding_window\":9}", {9, 9, 9, 9}},
        {"{\"model_type\":\"mistral\"}", {4096, 4096, 4096, 4096}}, /* test_identity has a null */
        {"{\"model_type\":\"qwen2\",\"sliding_window\":9,\"use_sliding_window\":false,\"max_window_layers\":"
         "0}",
         {0, 0, 0, 0}},
        {"{\"model_type\":\"qwen2\",\"sliding_window\":9,\"use_sliding_window\":true,\"max_window_layers\":"
         "3}",
         {0, 0, 0, 9}},
        {"{\"model_type\":\"qwen3\",\"sliding_window\":9,\"use_sliding_window\":true,\"max_window_layers\":4,"
         "\"layer_types\":[\"sliding_attention\",\"full_attention\",\"sliding_attention\",\"full_attention\"]"
         "}",
         {9, 0, 9, 0}},
    };
    gr_model_config c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        must_parse(&c, cases[i].patch);
        for (int l = 0; l < 4; l++) assert_int_equal(c.window[l], cases[i].window[l]);
    }
    must_parse(&c, "{\"model_type\":\"qwen2\"}");
    assert_true(c.qkv_bias && !c.o_bias && !c.qk_norm && !c.tied);
    must_parse(&c, "{\"attention_bias\":true,\"mlp_bias\":true,\"tie_word_embeddings\":true}");
    assert_true(c.qkv_bias && c.o_bias && c.mlp_bias && c.tied);
    must_parse(&c, "{\"model_type\":\"qwen3\"}");
    assert_true(c.qk_norm && !c.qkv_bias);
    must_parse(&c, "{\"head_dim\":null,\"num_key_value_heads\":null}");
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.kv_heads, 4);
}

/* What transformers takes where config.json is silent, and what it says in either style. */
static void other_architectures(void **state) {
    (void)state;
    gr_model_config c;
    must_parse(&c, "{\"model_type\":\"gemma2\",\"head_dim\":null}");
    assert_true(c.tied && c.activation == GR_GELU_TANH && !c.qk_norm);
    assert_int_equal(c.head_dim, 256);
    assert_true(c.attention_cap == 50 && c.logit_cap == 30 && c.embedding_scale == 8);
    assert_near(c.attention_scale, 1.0 / 16, 0);
    for (int l = 0; l < 4; l++) assert_int_equal(c.window[l], l % 2 ? 0 : 4096);
    assert_int_equal(gr_norm_role(&c, GR_BEHIND_ATTENTION), GR_POST_ATTENTION_LAYERNORM);
    assert_int_equal(gr_norm_role(&c, GR_BEFORE_MLP), GR_PRE_FEEDFORWARD_LAYERNORM);
    must_parse(&c, "{\"model_type\":\"gemma3_text\",\"sliding_window\":9,\"sliding_window_pattern\":3,"
                   "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":8},\"query_pre_attn_scalar\":64}");
    assert_true(c.qk_norm && c.attention_cap == 0 && c.logit_cap == 0);
    for (int l = 0; l < 4; l++) {
        assert_int_equal(c.window[l], l == 2 ? 0 : 9);
        assert_int_equal(c.rope_of[l], l != 2);
    }
    assert_true(c.rope[0].theta == 1e6 && c.rope[0].kind == GR_ROPE_LINEAR && c.rope[0].factor == 8);
    assert_true(c.rope[1].theta == 10000 && c.rope[1].kind == GR_ROPE_DEFAULT);
    assert_int_equal(gr_rope_count(&c), 2);
    must_parse(&c,
               "{\"model_type\":\"gemma3_text\",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":5000,"
               "\"rope_type\":\"default\"},\"sliding_attention\":{\"rope_theta\":300}}}");
    assert_true(c.rope[0].theta == 5000 && c.rope[1].theta == 300);
    must_parse(&c, "{\"model_type\":\"smollm3\"}");
    assert_true(c.tied && c.rope[0].theta == 2e6);
    for (int l = 0; l < 4; l++) assert_int_equal(c.rope_of[l], l == 3 ? GR_NO_ROPE : 0);
    must_parse(&c, "{\"model_type\":\"smollm3\",\"no_rope_layers\":[0,1,1,0],\"use_sliding_window\":true,"
                   "\"sliding_window\":7}");
    for (int l = 0; l < 4; l++) {
        assert_int_equal(c.rope_of[l], l % 3 ? 0 : GR_NO_ROPE);
        assert_int_equal(c.window[l], l % 3 ? 0 : 7);
    }
    must_parse(&c, "{\"model_type\":\"granite\",\"embedding_multiplier\":12,\"residual_multiplier\":0.25,"
                   "\"attention_multiplier\":0.0625,\"logits_scaling\":8}");
    assert_true(c.embedding_scale == 12 && c.residual_scale == 0.25 && c.logit_scale == 0.125);
    assert_true(c.attention_scale == 0.0625);
    must_parse(
        &c, "{\"model_type\":\"phi3\",\"partial_rotary_factor\":0.5,\"original_max_position_embeddings\":128,"
            "\"rope_scaling\":{\"type\":\"su\",\"short_factor\":[1,2,3,4],\"long_factor\":[1,2,3,4]}}");
    assert_true(c.rotary == 8 && c.row_limit == 128 && c.rope[0].divisor[3] == 4);
    assert_near(c.rope[0].magnitude, sqrt(1 + log(4) / log(128)), 1e-15);
    assert_true(gr_role_exists(GR_QKV_PROJ, &c) && !gr_role_exists(GR_Q_PROJ, &c) &&
                !gr_role_exists(GR_UP_PROJ, &c));
    graft_error err = {0};
    static const char *const phis[] = {"phi-3.5-mini", "phi-4-mini", "phi-4"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gr_shape_config(&c, phis[i], &err), GRAFT_OK);
        assert_int_equal(c.row_limit, i < 2 ? 4096 : 0);
    }
    must_parse(&c, "{\"model_type\":\"stablelm\",\"layer_norm_eps\":1e-3,\"use_qkv_bias\":true}");
    assert_true(c.rotary == 4 && c.norm_eps == 1e-3 && c.qkv_bias && !c.o_bias &&
                gr_role_has_bias(GR_NORM, &c));
    must_parse(&c, "{\"model_type\":\"starcoder2\",\"norm_epsilon\":1e-4,\"sliding_window\":9}");
    assert_true(c.tied && c.norm_eps == 1e-4 && c.mlp_bias && c.o_bias && c.activation == GR_GELU_TANH);
    assert_true(gr_role_exists(GR_C_FC, &c) && !gr_role_exists(GR_DOWN_PROJ, &c) && c.window[3] == 9);
    assert_int_equal(gr_mlp_matrices(&c), 2);
    must_parse(&c, MOE_WITH(",\"norm_topk_prob\":true,\"mlp_only_layers\":[],\"use_sliding_window\":false"));
    assert_true(c.qk_norm && c.experts == 8 && c.experts_used == 2 && c.experts_normed && c.mlp == 32);
    assert_true(gr_role_exists(GR_ROUTER, &c) && !gr_role_exists(GR_UP_PROJ, &c) && gr_mlp_width(&c) == 64);
    must_parse(&c, MOE("\"num_attention_heads\":8,\"num_key_value_heads\":null")); /* transformers' default */
    assert_int_equal(c.kv_heads, 4);
    must_parse(&c, MOE("\"num_experts\":null,\"num_local_experts\":5"));
    assert_true(c.experts == 5 && !c.experts_normed);
    must_parse(&c,
               "{\"model_type\":\"olmoe\",\"num_experts\":8,\"num_experts_per_tok\":2,\"clip_qkv\":null}");
    assert_true(c.mlp == 96 && c.qk_norm && !c.experts_normed);
    must_parse(&c, "{\"model_type\":\"olmo2\"}");
    assert_true(gr_norm_role(&c, GR_BEFORE_ATTENTION) == GR_ROLES && !gr_role_exists(GR_INPUT_LAYERNORM, &c));
    int64_t out, in;
    gr_role_shape(GR_K_NORM, &c, &out, &in);
    assert_int_equal(out, 32);
    must_parse(&c, "{\"model_type\":\"ministral\",\"sliding_window\":9,\"layer_types\":[\"full_attention\","
                   "\"sliding_attention\",\"sliding_attention\",\"sliding_attention\"]}");
    for (int l = 0; l < 4; l++) assert_int_equal(c.window[l], l ? 9 : 0);
    must_parse(&c, "{\"model_type\":\"ministral3\",\"rope_parameters\":{\"type\":\"yarn\",\"rope_theta\":1e6,"
                   "\"factor\":16,\"truncate\":false,\"original_max_position_embeddings\":64,\"mscale\":1,"
                   "\"mscale_all_dim\":1,"
                   "\"llama_4_scaling_beta\":0.1}}");
    double found[8], want[8];
    gr_rope_frequencies(found, &c, &c.rope[0]);
    ref_rope_yarn(want, 16, 1e6, &(ref_rope_yarn_scaling){16, 32, 1, 64, true});
    for (int i = 0; i < 8; i++) assert_near(found[i], want[i], 1e-13 * want[i]);
    assert_true(c.rope[0].magnitude == 1 && !c.row_limit && gr_rope_count(&c) == 2);
    assert_true(gr_rope_of(&c, 3, true) == 1 && gr_rope_of(&c, 3, false) == 0);
    assert_true(c.rope[1].growth == 0.1 && c.rope[1].step == 64);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(refused_configs), cmocka_unit_test(rope_styles),
                                       cmocka_unit_test(windows_and_flags),
                                       cmocka_unit_test(other_architectures)};
    return cmocka_run_group_tests_name("config", tests, setup, teardown);
}
