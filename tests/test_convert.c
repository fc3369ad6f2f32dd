/* convert: a tiny Hugging Face directory becomes an MLX directory. tools/peers/check_convert.py
 * compares with mlx-lm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text/chat_templates.h"
#include "tiny_source.h"
#include <sys/stat.h>

static bool count_progress(void *context, const char *tensor, size_t done, size_t total) {
    size_t *last = context;
    assert_true(done <= total);
    assert_true(tensor[0] != 0 || done == total);
    *last = done;
    return true;
}

static void quantizes_linears(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    size_t last = 0;
    make_llama(&src, LLAMA);
    assert_int_equal(run(src.path, out.path,
                         (gr_convert_options){.quantize = true, .progress = count_progress, .context = &last},
                         &result),
                     GRAFT_OK);
    assert_int_equal(last, LAYERS * 9 + 3);
    assert_int_equal(result.note_count, 1); /* 64 does not divide down_proj's rows of 96 */
    assert_string_equal(result.notes[0], "2 matrices are not quantized, rows are not whole groups: "
                                         "model.layers.0-1.mlp.down_proj (96 values, group 64)");
    assert_int_equal(result.parameters,
                     LAYERS * (64 * 64 * 2 + 32 * 64 * 2 + 3 * 64 * 96 + 2 * 64) + 2 * 8 * 64 + 64);
    gr_convert_result_free(&result);
    gr_safetensors *file = load(out.path);
    check_module(file, "model.layers.1.self_attn.k_proj", 32, HIDDEN, 4, 64);
    check_module(file, "model.layers.0.mlp.up_proj", MLP, HIDDEN, 4, 64);
    const gr_tensor *down = gr_safetensors_find(file, "model.layers.0.mlp.down_proj.weight"),
                    *head = gr_safetensors_find(file, "lm_head.weight");
    assert_int_equal(down->dtype, GR_BF16);
    assert_int_equal(head->dtype, GR_BF16);
    assert_null(gr_safetensors_find(file, "model.layers.0.self_attn.rotary_emb.inv_freq"));
    assert_string_equal(gr_safetensors_metadata(file, "format"), "mlx");
    gr_safetensors_close(file);
    json_t *config = load_json(out.path, "config.json"), *quant = json_object_get(config, "quantization");
    assert_true(json_equal(quant, json_object_get(config, "quantization_config")));
    assert_int_equal(json_integer_value(json_object_get(quant, "bits")), 4);
    assert_int_equal(json_integer_value(json_object_get(quant, "group_size")), 64);
    assert_true(json_is_false(json_object_get(quant, "model.layers.1.mlp.down_proj")));
    assert_true(json_is_false(json_object_get(quant, "lm_head")));
    assert_int_equal(json_object_size(quant), 3 + LAYERS + 1);
    /* the old style beside the new, for readers of either */
    assert_true(json_real_value(json_object_get(config, "rope_theta")) == 50000.0);
    assert_true(json_number_value(json_object_get(json_object_get(config, "rope_scaling"), "factor")) == 8.0);
    assert_string_equal(json_string_value(json_object_get(config, "torch_dtype")), "bfloat16");
    assert_null(json_object_get(config, "_name_or_path"));
    json_decref(config);
    json_decref(load_json(out.path, "tokenizer.json"));
    config = load_json(out.path, "model.safetensors.index.json");
    assert_int_equal(json_object_size(json_object_get(config, "weight_map")), LAYERS * (6 * 3 + 3) + 3);
    json_decref(config);
    temp_dir_free(&src);
    temp_dir_free(&out);
}

/* Named chat templates stand in a folder; a conversion has none, so they go where transformers 4 has them. */
static void named_templates_are_kept(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    json_t *value;
    make_llama(&src, LLAMA);
    mkdir(temp_path(&src, "additional_chat_templates"), 0700);
    temp_file(&src, "chat_template.jinja", "D", 1);
    temp_file(&src, "additional_chat_templates/tool_use.jinja", "T", 1);
    temp_file(&src, "tokenizer_config.json", "{\"eos_token\":\"</s>\"}", 20);
    assert_int_equal(run(src.path, out.path, (gr_convert_options){.quantize = true}, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    assert_int_equal(gr_chat_templates_of_dir(&value, out.path, GR_MAPPED, NULL), GRAFT_OK);
    assert_null(value);
    json_t *config = load_json(out.path, "tokenizer_config.json");
    value = json_object_get(config, "chat_template");
    assert_string_equal(gr_chat_template_named(value, NULL), "D");
    assert_string_equal(gr_chat_template_named(value, "tool_use"), "T");
    assert_string_equal(json_string_value(json_object_get(config, "eos_token")), "</s>");
    json_decref(config);
    temp_dir_free(&src);
    temp_dir_free(&out);
}

static void settings_that_are_no_object_take_no_templates(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    make_llama(&src, LLAMA);
    mkdir(temp_path(&src, "additional_chat_templates"), 0700);
    temp_file(&src, "additional_chat_templates/tool_use.jinja", "T", 1);
    temp_file(&src, "tokenizer_config.json", "[]", 2);
    assert_int_equal(run(src.path, out.path, (gr_convert_options){.quantize = true}, &result), GRAFT_CORRUPT);
    gr_convert_result_free(&result);
    temp_dir_free(&src);
    temp_dir_free(&out);
}

static void group_32_and_embeddings_and_back(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), out = temp_dir_new(), back = temp_dir_new();
    gr_convert_result result;
    make_llama(&src, LLAMA);
    gr_convert_options q = {.quantize = true, .q_bits = 3, .q_group_size = 32, .q_embeddings = true};
    assert_int_equal(run(src.path, out.path, q, &result), GRAFT_OK);
    assert_int_equal(result.note_count, 0);
    gr_convert_result_free(&result);
    gr_safetensors *file = load(out.path), *dense;
    check_module(file, "model.layers.0.mlp.down_proj", HIDDEN, MLP, 3, 32);
    check_module(file, "model.embed_tokens", VOCAB, HIDDEN, 3, 32);
    check_module(file, "lm_head", VOCAB, HIDDEN, 3, 32);
    assert_int_equal(
        run(out.path, back.path, (gr_convert_options){.dequantize = true, .dtype = "float32"}, &result),
        GRAFT_OK);
    gr_convert_result_free(&result);
    dense = load(back.path);
    const gr_tensor *t = gr_safetensors_find(dense, "lm_head.weight");
    float want[VOCAB * HIDDEN];
    gr_affine_dequantize(want, gr_safetensors_find(file, "lm_head.weight")->data,
                         gr_safetensors_find(file, "lm_head.scales")->data,
                         gr_safetensors_find(file, "lm_head.biases")->data, VOCAB, HIDDEN, 3, 32, GR_BF16);
    assert_int_equal(t->dtype, GR_F32);
    assert_memory_equal(t->data, want, sizeof want);
    assert_null(gr_safetensors_find(dense, "lm_head.scales"));
    json_t *config = load_json(back.path, "config.json");
    assert_null(json_object_get(config, "quantization"));
    assert_null(json_object_get(config, "quantization_config"));
    json_decref(config);
    gr_safetensors_close(file);
    gr_safetensors_close(dense);
    temp_dir_free(&src);
    temp_dir_free(&out);
    temp_dir_free(&back);
}

static void check_entry(const json_t *quant, const char *path, int bits, int group) {
    const json_t *entry = json_object_get(quant, path);
    if (json_integer_value(json_object_get(entry, "bits")) != bits ||
        json_integer_value(json_object_get(entry, "group_size")) != group)
        fail_msg("%s has another entry", path);
    assert_string_equal(json_string_value(json_object_get(entry, "mode")), "affine");
}

/* A recipe writes an entry for every module, rules for those that differ; shards hold whole modules. */
static void mixed_bits(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    make_llama(&src, LLAMA);
    gr_convert_options q = {
        .quantize = true, .q_group_size = 32, .quant_predicate = "mixed_3_6", .threads = 3};
    assert_int_equal(run(src.path, out.path, q, &result), GRAFT_OK);
    double bits = result.bits_per_weight;
    gr_convert_result_free(&result);
    gr_safetensors *file = load(out.path);
    check_module(file, "model.layers.0.self_attn.v_proj", 32, HIDDEN, 3, 32);
    check_module(file, "model.layers.1.self_attn.v_proj", 32, HIDDEN, 6,
                 32); /* the last eighth, rounded up */
    check_module(file, "model.layers.1.mlp.down_proj", HIDDEN, MLP, 6, 32);
    check_module(file, "model.layers.1.self_attn.q_proj", 64, HIDDEN, 3, 32);
    assert_int_equal(gr_safetensors_find(file, "lm_head.weight")->dtype, GR_BF16);
    gr_safetensors_close(file);
    json_t *config = load_json(out.path, "config.json"), *quant = json_object_get(config, "quantization");
    assert_int_equal(json_integer_value(json_object_get(quant, "bits")), 4); /* mlx-lm's default stays */
    check_entry(quant, "model.layers.0.self_attn.v_proj", 3, 32);
    check_entry(quant, "model.layers.1.self_attn.v_proj", 6, 32);
    assert_int_equal(json_object_size(quant), 3 + LAYERS * 7 + 1);
    json_decref(config);
    unfinish(&out);
    q = (gr_convert_options){.quantize = true,
                             .quant_predicate = "lm_head=8,re:.*[.]1[.]mlp[.]down_proj=5:32,k_proj=false",
                             .shard_bytes = 12000};
    assert_int_equal(run(src.path, out.path, q, &result), GRAFT_OK);
    assert_true(result.bits_per_weight > bits);
    gr_convert_result_free(&result);
    file = load(out.path);
    check_module(file, "lm_head", VOCAB, HIDDEN, 8, 64);
    check_module(file, "model.layers.1.mlp.down_proj", HIDDEN, MLP, 5, 32);
    assert_int_equal(gr_safetensors_find(file, "model.layers.0.mlp.down_proj.weight")->dtype, GR_BF16);
    assert_int_equal(gr_safetensors_find(file, "model.layers.1.self_attn.k_proj.weight")->dtype, GR_BF16);
    assert_string_not_equal(gr_safetensors_path(file, gr_safetensors_find(file, "lm_head.weight")),
                            gr_safetensors_path(file, gr_safetensors_find(file, "model.norm.weight")));
    gr_safetensors_close(file);
    assert_true(gr_path_exists(temp_path(&out, "model-00001-of-00006.safetensors")));
    assert_false(gr_path_exists(temp_path(&out, "model.safetensors"))); /* the earlier conversion's */
    config = load_json(out.path, "config.json");
    quant = json_object_get(config, "quantization");
    check_entry(quant, "lm_head", 8, 64);
    check_entry(quant, "model.layers.1.mlp.down_proj", 5, 32);
    assert_true(json_is_false(json_object_get(quant, "model.layers.0.self_attn.k_proj")));
    json_decref(config);
    /* what is codes already keeps them; the same wishes are no contradiction, others are */
    temp_dir again = temp_dir_new();
    assert_int_equal(run(out.path, again.path, q, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    q.quant_predicate = "lm_head=6";
    assert_int_equal(run(out.path, again.path, q, &result), GRAFT_USAGE);
    q.quant_predicate = "lm_head=8";
    unfinish(&again);
    assert_int_equal(run(out.path, again.path, q, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    temp_dir_free(&src);
    temp_dir_free(&out);
    temp_dir_free(&again);
}

static void refuses(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), other = temp_dir_new();
    gr_convert_result result;
    const char *out = temp_path(&other, "out");
    make_llama(&src, LLAMA);
    static const struct {
        gr_convert_options options;
        graft_status status;
    } cases[] = {
        {{.quantize = true, .dequantize = true}, GRAFT_USAGE},
        {{.q_embeddings = true, .dequantize = true}, GRAFT_USAGE},
        {{.q_embeddings = true}, GRAFT_USAGE},
        {{.quantize = true, .q_group_size = 128}, GRAFT_USAGE}, /* no row has as many values */
        {{.quantize = true, .q_bits = 7}, GRAFT_USAGE},
        {{.quantize = true, .q_group_size = 48}, GRAFT_USAGE},
        {{.dtype = "float8"}, GRAFT_USAGE},
        {{.q_mode = "mxfp4"}, GRAFT_UNSUPPORTED},
        {{.quant_predicate = "mixed_2_6"}, GRAFT_USAGE}, /* without quantize */
        {{.quantize = true, .quant_predicate = "mixed_5_6"}, GRAFT_USAGE},
        {{.quantize = true, .quant_predicate = "x_proj=4"}, GRAFT_USAGE},    /* no such module */
        {{.quantize = true, .quant_predicate = "re:.*=false"}, GRAFT_USAGE}, /* nothing remains */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(run(src.path, out, cases[i].options, &result), cases[i].status);
    graft_error err = {0};
    gr_convert_options rule = {
        .model = src.path, .out = out, .quantize = true, .quant_predicate = "re:.*=false"};
    assert_int_equal(gr_convert(&rule, &result, &err), GRAFT_USAGE); /* and the rule is what is named */
    assert_string_equal(err.found, "re:.*=false");
    static const struct {
        const char *config;
        graft_status status;
    } configs[] = {
        {"{\"model_type\":\"mamba\"}", GRAFT_UNSUPPORTED},
        {"{}", GRAFT_NOT_FOUND},
        {"[]", GRAFT_CORRUPT},
        {"{\"model_type\":\"llama\"", GRAFT_CORRUPT},
        {"{" SHAPE ",\"quantization_config\":{\"quant_method\":\"exl2\",\"bits\":4,\"group_size\":128}}",
         GRAFT_UNSUPPORTED},
        {"{" SHAPE ",\"quantization\":{\"mode\":\"mxfp5\",\"bits\":4,\"group_size\":32}}", GRAFT_UNSUPPORTED},
        {"{" SHAPE ",\"quantization\":{\"mode\":\"mxfp4\",\"bits\":4,\"group_size\":64}}", GRAFT_UNSUPPORTED},
        {"{" SHAPE ",\"quantization\":{\"bits\":7,\"group_size\":32}}", GRAFT_UNSUPPORTED},
        {"{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":3,"
         "\"num_attention_heads\":2,"
         "\"num_key_value_heads\":1,\"head_dim\":32,\"vocab_size\":8,\"rms_norm_eps\":1e-5,\"max_position_"
         "embeddings\":128}",
         GRAFT_NOT_FOUND}, /* a third layer */
        {"{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":95,\"num_hidden_layers\":2,"
         "\"num_attention_heads\":2,"
         "\"num_key_value_heads\":1,\"head_dim\":32,\"vocab_size\":8,\"rms_norm_eps\":1e-5,\"max_position_"
         "embeddings\":128}",
         GRAFT_MISMATCH},
    };
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        temp_file(&src, "config.json", configs[i].config, strlen(configs[i].config));
        graft_status st = run(src.path, out, (gr_convert_options){.quantize = true}, &result);
        if (st != configs[i].status) fail_msg("%s: status %d", configs[i].config, (int)st);
    }
    assert_false(gr_path_exists(out)); /* refused before anything was made */
    temp_file(&src, "config.json", LLAMA, strlen(LLAMA));
    assert_int_equal(run(src.path, src.path, (gr_convert_options){0}, &result), GRAFT_USAGE); /* in place */
    temp_file(&other, "mine", "x", 1);
    assert_int_equal(run(src.path, other.path, (gr_convert_options){0}, &result),
                     GRAFT_USAGE); /* somebody's directory */
    assert_int_equal(run(src.path, out, (gr_convert_options){0}, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    assert_int_equal(run(src.path, out, (gr_convert_options){0}, &result), GRAFT_OK); /* ours: again */
    gr_convert_result_free(&result);
    temp_dir_free(&src);
    temp_dir_free(&other);
}

/* Tensors that no model has, whose sizes would make a conversion endless or as large as they say. */
static void sizes_of_nothing(void **state) {
    (void)state;
    static const struct {
        gr_tensor more;
        const char *said; /* NULL: it is carried along as it is */
    } cases[] = {
        {{.name = "x", .ndim = 2, .shape = {(int64_t)1 << 60, 0}}, "tensor x has no elements"},
        {{.name = "x", .ndim = 3, .shape = {(int64_t)1 << 30, (int64_t)1 << 30, 0}}, "x has no elements"},
        {{.name = "x.switch_mlp.up_proj.weight", .ndim = 3, .shape = {50000000, 0, 8}}, "has no elements"},
        {{.name = "x.switch_mlp.up_proj.weight", .ndim = 3, .shape = {64, 1, 1}, .bytes = 128}, NULL},
    };
    static const uint16_t zeros[64];
    temp_dir src = temp_dir_new(), made = temp_dir_new(), out = temp_dir_new();
    make_llama(&src, LLAMA);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err = {0};
        gr_convert_result result;
        gr_safetensors *file = load(src.path);
        const size_t n = gr_safetensors_count(file);
        gr_tensor all[64];
        assert_true(n < 64);
        memcpy(all, gr_safetensors_at(file, 0), n * sizeof *all);
        all[n] = cases[i].more;
        all[n].dtype = GR_BF16;
        all[n].data = (const uint8_t *)zeros;
        const char *to = temp_path(&made, "model.safetensors");
        assert_int_equal(gr_safetensors_save(to, all, n + 1, NULL, &err), GRAFT_OK);
        gr_safetensors_close(file);
        temp_file(&made, "config.json", LLAMA, strlen(LLAMA));
        gr_convert_options options = {.model = made.path, .out = out.path};
        graft_status st = gr_convert(&options, &result, &err);
        assert_int_equal(st, cases[i].said ? GRAFT_CORRUPT : GRAFT_OK);
        if (cases[i].said && !strstr(err.what, cases[i].said)) fail_msg("%zu: %s", i, err.what);
        if (cases[i].said) continue;
        gr_convert_result_free(&result);
        file = load(out.path);
        assert_non_null(gr_safetensors_find(file, cases[i].more.name));
        gr_safetensors_close(file);
    }
    temp_dir_free(&src);
    temp_dir_free(&made);
    temp_dir_free(&out);
}

/* The same model as the text part of a model of images and text, as mlx-vlm and mlx-lm quantize them: its
 * codes are kept, under the names that they have alone. */
static void codes_of_a_text_part(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), plain = temp_dir_new(), whole = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    graft_error err = {0};
    make_llama(&src, LLAMA);
    assert_int_equal(
        run(src.path, plain.path,
            (gr_convert_options){.quantize = true, .quant_predicate = "layers.1.mlp.up_proj=8:32"}, &result),
        GRAFT_OK);
    gr_convert_result_free(&result);
    gr_safetensors *file = load(plain.path);
    const size_t n = gr_safetensors_count(file);
    gr_tensor all[96];
    char names[96][120];
    assert_true(n < 95);
    for (size_t i = 0; i < n; i++) {
        all[i] = *gr_safetensors_at(file, i);
        snprintf(names[i], sizeof names[i], "language_model.%s", all[i].name);
        all[i].name = names[i];
    }
    static const uint16_t pixels[8];
    all[n] = (gr_tensor){.name = "vision_tower.patch.weight",
                         .dtype = GR_BF16,
                         .ndim = 1,
                         .shape = {8},
                         .data = (const uint8_t *)pixels,
                         .bytes = sizeof pixels};
    assert_int_equal(gr_safetensors_save(temp_path(&whole, "model.safetensors"), all, n + 1, NULL, &err),
                     GRAFT_OK);
    json_t *config = load_json(plain.path, "config.json"), *renamed = json_object(), *value;
    const char *key;
    json_object_foreach(json_object_get(config, "quantization"), key, value) {
        char name[120];
        snprintf(name, sizeof name, "%s%s", strncmp(key, "model.", 6) ? "" : "language_model.", key);
        json_object_set(renamed, name, value);
    }
    json_object_del(config, "quantization");
    json_object_del(config, "quantization_config");
    json_t *outer = json_pack("{s:s, s:b, s:o, s:o}", "model_type", "llava", "tie_word_embeddings", 0,
                              "text_config", config, "quantization", renamed);
    char *text = json_dumps(outer, 0);
    temp_file(&whole, "config.json", text, strlen(text));
    temp_file(&whole, "tokenizer.json", "{}", 2);
    json_decref(outer);
    free(text);
    gr_convert_options as_is = {.model = whole.path, .out = out.path};
    if (gr_convert(&as_is, &result, &err) != GRAFT_OK) fail_msg("%s %s %s", err.what, err.where, err.found);
    gr_convert_result_free(&result);
    gr_safetensors *again = load(out.path);
    assert_int_equal(gr_safetensors_count(again), n);
    for (size_t i = 0; i < n; i++) {
        const gr_tensor *x = gr_safetensors_at(file, i), *y = gr_safetensors_find(again, x->name);
        if (!y) fail_msg("%s", x->name);
        assert_int_equal(x->dtype, y->dtype);
        assert_int_equal(x->bytes, y->bytes);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
    gr_safetensors_close(again);
    gr_safetensors_close(file);
    config = load_json(out.path, "config.json");
    json_t *was = load_json(plain.path, "config.json");
    assert_true(json_equal(json_object_get(config, "quantization"), json_object_get(was, "quantization")));
    json_decref(config);
    json_decref(was);
    temp_dir_free(&src);
    temp_dir_free(&plain);
    temp_dir_free(&whole);
    temp_dir_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(quantizes_linears),
                                       cmocka_unit_test(group_32_and_embeddings_and_back),
                                       cmocka_unit_test(named_templates_are_kept),
                                       cmocka_unit_test(settings_that_are_no_object_take_no_templates),
                                       cmocka_unit_test(mixed_bits),
                                       cmocka_unit_test(sizes_of_nothing),
                                       cmocka_unit_test(codes_of_a_text_part),
                                       cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
