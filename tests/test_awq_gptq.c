/* weights/columns and the conversion of AWQ and GPTQ directories, against golden values of the layouts
 * (tools/make_awq_gptq_golden.py). tools/peers/check_convert.py compares with mlx-lm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tiny_source.h"
#include "weights/awq_gptq.h"

enum { IN = 64, OUT = 64, GROUP = 32, GROUPS = IN / GROUP };
typedef struct packed_linear {
    const char *kind;
    int bits;
    uint32_t words[IN * OUT / 4], zeros[GROUPS * OUT / 4], biases[OUT * GROUPS];
    uint16_t scales[GROUPS * OUT];
    uint8_t codes[OUT * IN];
    size_t nwords, nzeros;
} packed_linear;

static size_t numbers(uint32_t *out, const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++)
        out[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    return json_array_size(list);
}

static json_t *golden(void) {
    graft_error err = {0};
    json_t *root;
    assert_int_equal(gr_json_load(&root, GRAFT_SOURCE_DIR "/tests/golden/columns.json", 1 << 20, &err),
                     GRAFT_OK);
    return root;
}

static void read_case(packed_linear *p, const json_t *row) {
    static uint32_t wide[GROUPS * OUT];
    const char *hex = json_string_value(json_object_get(row, "codes"));
    p->kind = json_string_value(json_object_get(row, "kind"));
    p->bits = (int)json_integer_value(json_object_get(row, "bits"));
    p->nwords = numbers(p->words, json_object_get(row, "qweight"));
    p->nzeros = numbers(p->zeros, json_object_get(row, "qzeros"));
    assert_int_equal(numbers(p->biases, json_object_get(row, "biases")), OUT * GROUPS);
    assert_int_equal(numbers(wide, json_object_get(row, "scales")), OUT * GROUPS);
    for (int i = 0; i < OUT * GROUPS; i++) p->scales[i] = (uint16_t)wide[i];
    for (int i = 0; i < OUT * IN; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        p->codes[i] = (uint8_t)byte;
    }
    assert_int_equal(p->nwords, IN * OUT * p->bits / 32);
}

static void rows_equal_reference(void **state) {
    (void)state;
    json_t *root = golden(), *row;
    size_t k;
    static packed_linear p;
    json_array_foreach(json_object_get(root, "cases"), k, row) {
        read_case(&p, row);
        gr_awq_gptq c = {.awq = !strcmp(p.kind, "awq"),
                         .bits = p.bits,
                         .group = GROUP,
                         .zero_add = strcmp(p.kind, "gptq") ? 0 : gr_awq_gptq_ones(p.bits),
                         .in = IN,
                         .out = OUT,
                         .words = (const uint8_t *)p.words,
                         .zeros = (const uint8_t *)p.zeros,
                         .scales = (const uint8_t *)p.scales,
                         .dtype = GR_F16};
        for (int64_t o = 0; o < OUT; o++) {
            uint8_t codes[IN];
            float scales[GROUPS], biases[GROUPS], values[IN];
            gr_awq_gptq_row(&c, o, codes, scales, biases);
            gr_awq_gptq_values(&c, o, values);
            for (int i = 0; i < IN; i++) {
                assert_int_equal(gr_affine_code(codes, i, p.bits), p.codes[o * IN + i]);
                float want = scales[i / GROUP] * (float)p.codes[o * IN + i] + biases[i / GROUP];
                assert_true(values[i] == want);
            }
            for (int g = 0; g < GROUPS; g++) {
                assert_true(scales[g] == gr_f16_to_f32(p.scales[g * OUT + o]));
                assert_memory_equal(&biases[g], &p.biases[o * GROUPS + g], 4);
            }
        }
        c.zeros = NULL; /* symmetric */
        float scale, bias[GROUPS], scales[GROUPS];
        uint8_t codes[IN];
        gr_awq_gptq_row(&c, 3, codes, scales, bias);
        scale = scales[1];
        assert_true(bias[1] == -(float)(1 << (p.bits - 1)) * scale);
    }
    json_decref(root);
}

/* ---- directories */
#define MODULE "model.layers.0.self_attn.q_proj"
typedef struct parts { /* of the packed module; what is NULL is left out */
    gr_tensor words, zeros, scales, index, bias;
} parts;

static gr_tensor tensor(const char *name, gr_dtype dtype, int64_t rows, int64_t cols, const void *data) {
    gr_tensor t = {.name = name, .dtype = dtype, .ndim = cols ? 2 : 1, .data = data};
    t.shape[0] = rows, t.shape[1] = cols;
    t.bytes = (size_t)(rows * (cols ? cols : 1)) * gr_dtype_bytes(dtype);
    return t;
}

static parts parts_of(const packed_linear *p, const int32_t *index, const uint16_t *bias) {
    bool awq = !strcmp(p->kind, "awq");
    int64_t per = 32 / p->bits;
    parts x = {.words =
                   tensor(MODULE ".qweight", GR_I32, awq ? IN : IN / per, awq ? OUT / per : OUT, p->words),
               .zeros = tensor(MODULE ".qzeros", GR_I32, GROUPS, OUT / per, p->zeros),
               .scales = tensor(MODULE ".scales", GR_F16, GROUPS, OUT, p->scales)};
    if (index) x.index = tensor(MODULE ".g_idx", GR_I32, IN, 0, index);
    if (bias) x.bias = tensor(MODULE ".bias", GR_F16, OUT, 0, bias);
    return x;
}

/* The tiny Llama with these parts for one of its linears. */
static void make_packed(temp_dir *dir, const parts *x, const char *quantization) {
    temp_dir plain = temp_dir_new();
    char config[1200];
    gr_tensor list[80];
    size_t n = 0;
    graft_error err = {0};
    make_llama(&plain, LLAMA);
    gr_safetensors *file = load(plain.path);
    for (size_t i = 0; i < gr_safetensors_count(file); i++) {
        const gr_tensor *t = gr_safetensors_at(file, i);
        if (strcmp(t->name, MODULE ".weight")) list[n++] = *t;
    }
    const gr_tensor *more[] = {&x->words, &x->zeros, &x->scales, &x->index, &x->bias};
    for (size_t i = 0; i < 5; i++)
        if (more[i]->name) list[n++] = *more[i];
    assert_int_equal(gr_safetensors_save(temp_path(dir, "model.safetensors"), list, n, NULL, &err), GRAFT_OK);
    gr_safetensors_close(file);
    snprintf(config, sizeof config,
             "{" SHAPE ",\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\","
             "\"quantization_config\":%s}",
             quantization);
    temp_file(dir, "config.json", config, strlen(config));
    temp_file(dir, "tokenizer.json", "{}", 2);
    temp_dir_free(&plain);
}

static const char *config_of(const packed_linear *p) {
    static char text[200];
    bool awq = !strcmp(p->kind, "awq");
    snprintf(text, sizeof text, "{\"quant_method\":\"%s\",\"bits\":%d,\"group_size\":32%s%s%s}",
             awq ? "awq" : "gptq", p->bits,
             awq ? ",\"version\":\"gemm\"" : ",\"desc_act\":false,\"checkpoint_format\":\"",
             awq ? "" : p->kind, awq ? "" : "\"");
    return text;
}

/* Of the golden biases, in f32, those that are no f16. */
static void says_what_is_rounded(const packed_linear *p, const gr_convert_result *result) {
    char said[100];
    int rounded = 0;
    for (int i = 0; i < OUT * GROUPS; i++) {
        float bias;
        memcpy(&bias, &p->biases[i], 4);
        rounded += gr_f16_to_f32(gr_f32_to_f16(bias)) != bias;
    }
    assert_true(rounded > 0);
    snprintf(said, sizeof said, "of %d scales and biases (zero times scale) of their groups %d are rounded",
             2 * OUT * GROUPS, rounded);
    assert_int_equal(result->note_count, 1);
    if (!strstr(result->notes[0], said)) fail_msg("%s, not %s", result->notes[0], said);
}

static void directories_convert(void **state) {
    (void)state;
    json_t *root = golden(), *row;
    size_t k;
    static packed_linear p;
    int32_t index[IN];
    static const uint16_t no_bias[OUT];
    for (int i = 0; i < IN; i++) index[i] = i / GROUP;
    json_array_foreach(json_object_get(root, "cases"), k, row) {
        temp_dir src = temp_dir_new(), out = temp_dir_new(), exact = temp_dir_new(), dense = temp_dir_new();
        gr_convert_result result;
        read_case(&p, row);
        bool awq = !strcmp(p.kind, "awq");
        parts x = parts_of(&p, awq ? NULL : index, awq ? NULL : no_bias);
        make_packed(&src, &x, config_of(&p));
        assert_int_equal(run(src.path, out.path, (gr_convert_options){0}, &result), GRAFT_OK);
        says_what_is_rounded(&p, &result);
        gr_convert_result_free(&result);
        gr_safetensors *file = load(out.path);
        const gr_tensor *weight = gr_safetensors_find(file, MODULE ".weight"),
                        *scales = gr_safetensors_find(file, MODULE ".scales"),
                        *biases = gr_safetensors_find(file, MODULE ".biases");
        assert_true(weight && scales && biases && scales->dtype == GR_F16 && biases->dtype == GR_F16);
        assert_null(gr_safetensors_find(file, MODULE ".bias"));
        assert_null(gr_safetensors_find(file, MODULE ".g_idx"));
        assert_int_equal(gr_safetensors_find(file, "model.norm.weight")->dtype,
                         GR_F16); /* one type for all */
        for (int i = 0; i < OUT * IN; i++) {
            const uint8_t *codes = weight->data + (size_t)(i / IN) * (size_t)(IN * p.bits / 8);
            assert_int_equal(gr_affine_code(codes, i % IN, p.bits), p.codes[i]);
        }
        for (int i = 0; i < OUT * GROUPS; i++) {
            float bias;
            uint16_t half, stored;
            memcpy(&bias, &p.biases[i], 4);
            half = gr_f32_to_f16(bias);
            memcpy(&stored, biases->data + 2 * i, 2);
            assert_int_equal(stored, half);
            memcpy(&stored, scales->data + 2 * i, 2);
            assert_int_equal(stored, p.scales[i % GROUPS * OUT + i / GROUPS]);
        }
        json_t *config = load_json(out.path, "config.json"), *quant = json_object_get(config, "quantization");
        assert_int_equal(json_integer_value(json_object_get(quant, "bits")), p.bits);
        assert_null(json_object_get(json_object_get(config, "quantization_config"), "quant_method"));
        json_decref(config);
        gr_safetensors_close(file);
        /* Without rounding: in f32, and back to floats. */
        assert_int_equal(run(src.path, exact.path, (gr_convert_options){.dtype = "float32"}, &result),
                         GRAFT_OK);
        assert_int_equal(result.note_count, 0);
        gr_convert_result_free(&result);
        file = load(exact.path);
        biases = gr_safetensors_find(file, MODULE ".biases");
        assert_memory_equal(biases->data, p.biases, sizeof p.biases);
        gr_safetensors_close(file);
        gr_convert_options floats = {.dequantize = true, .dtype = "float32"};
        assert_int_equal(run(src.path, dense.path, floats, &result), GRAFT_OK);
        gr_convert_result_free(&result);
        file = load(dense.path);
        weight = gr_safetensors_find(file, MODULE ".weight");
        for (int i = 0; i < OUT * IN; i++) {
            float found, bias;
            int o = i / IN, g = i % IN / GROUP;
            memcpy(&found, weight->data + 4 * i, 4);
            memcpy(&bias, &p.biases[o * GROUPS + g], 4);
            assert_true(found == gr_f16_to_f32(p.scales[g * OUT + o]) * (float)p.codes[i] + bias);
        }
        gr_safetensors_close(file);
        temp_dir_free(&src);
        temp_dir_free(&out);
        temp_dir_free(&exact);
        temp_dir_free(&dense);
    }
    json_decref(root);
}

static void expect_refusal(const parts *x, const char *quantization, gr_convert_options options,
                           graft_status status, const char *word) {
    temp_dir src = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    graft_error err = {0};
    make_packed(&src, x, quantization);
    options.model = src.path, options.out = out.path;
    graft_status st = gr_convert(&options, &result, &err);
    if (st != status || (!strstr(err.what, word) && !strstr(err.found, word)))
        fail_msg("%s: %d %s, %s", quantization, (int)st, err.what, err.found);
    assert_int_equal(entries(out.path), 0);
    temp_dir_free(&src);
    temp_dir_free(&out);
}

static void refuses(void **state) {
    (void)state;
    static const struct {
        const char *config, *word;
    } configs[] = {
        {"{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":32,\"version\":\"gemv\"}", "gemv"},
        {"{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32,\"checkpoint_format\":\"marlin\"}",
         "marlin"},
        {"{\"quant_method\":\"gptq\",\"bits\":3,\"group_size\":32}", "bits 3"},
        {"{\"quant_method\":\"awq\",\"bits\":8,\"group_size\":32}", "bits 8"},
        {"{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":-1}", "group_size -1"},
        {"{\"quant_method\":\"exl2\",\"bits\":4}", "exl2"},
    };
    static packed_linear p;
    json_t *root = golden();
    read_case(&p, json_array_get(json_object_get(root, "cases"), 1));
    int32_t index[IN];
    uint16_t bias[OUT] = {0};
    gr_convert_options plain = {0};
    for (int i = 0; i < IN; i++) index[i] = i / GROUP;
    parts good = parts_of(&p, index, NULL), x;
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++)
        expect_refusal(&good, configs[i].config, plain, GRAFT_UNSUPPORTED, configs[i].word);
    const char *config = config_of(&p);
    index[5] = 1;
    expect_refusal(&good, config, plain, GRAFT_UNSUPPORTED, "desc_act");
    index[5] = 0;
    x = good;
    x.index.shape[0] = IN - 1, x.index.bytes -= 4;
    expect_refusal(&x, config, plain, GRAFT_CORRUPT, "one group for each input");
    x = good;
    x.scales.name = NULL;
    expect_refusal(&x, config, plain, GRAFT_CORRUPT, "scales are missing");
    x = good;
    x.scales = tensor(MODULE ".scales", GR_F16, OUT, GROUPS, p.scales);
    expect_refusal(&x, config, plain, GRAFT_CORRUPT, "scales are missing");
    x = good;
    x.zeros = tensor(MODULE ".qzeros", GR_I32, GROUPS, OUT / 4, p.zeros);
    expect_refusal(&x, config, plain, GRAFT_CORRUPT, "zeros do not fit");
    x = good;
    x.words = tensor(MODULE ".qweight", GR_I32, 1, OUT, p.words);
    expect_refusal(&x, config, plain, GRAFT_CORRUPT, "no whole groups");
    gr_convert_options other = {.quantize = true, .q_bits = 8};
    expect_refusal(&good, config, other, GRAFT_USAGE, "another number of bits");
    /* A bias that is not zero is kept, and told by whoever loads the model. */
    temp_dir src = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    bias[7] = 0x3c00;
    x = parts_of(&p, index, bias);
    make_packed(&src, &x, config);
    assert_int_equal(run(src.path, out.path, plain, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    gr_safetensors *file = load(out.path);
    assert_non_null(gr_safetensors_find(file, MODULE ".bias"));
    gr_safetensors_close(file);
    temp_dir_free(&src);
    temp_dir_free(&out);
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_equal_reference),
        cmocka_unit_test(directories_convert),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
