/* convert: a tiny GGUF becomes an MLX directory. tools/peers/check_convert.py compares with the gguf
 * package. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "convert/gguf_names.h"
#include "gguf_bytes.h"
#include "text/tokenizer.h"
#include "tiny_source.h"
#include "weights/gguf_blocks.h"
#include <math.h>

typedef struct block_tensor {
    const char *name;
    uint64_t rows, cols;
    gr_gguf_type type;
} block_tensor;

static const block_tensor gguf_tensors[] = {{"token_embd.weight", VOCAB, HIDDEN, GR_GGUF_Q8_0},
                                            {"output_norm.weight", 0, HIDDEN, GR_GGUF_F32},
                                            {"blk.0.attn_q.weight", 64, HIDDEN, GR_GGUF_Q4_1},
                                            {"blk.0.attn_k.weight", 32, HIDDEN, GR_GGUF_Q5_0},
                                            {"blk.0.attn_v.weight", 32, HIDDEN, GR_GGUF_Q8_0},
                                            {"blk.0.attn_output.weight", HIDDEN, 64, GR_GGUF_F16},
                                            {"blk.0.ffn_gate.weight", MLP, HIDDEN, GR_GGUF_Q4_1},
                                            {"blk.0.ffn_up.weight", MLP, HIDDEN, GR_GGUF_Q4_1},
                                            {"blk.0.ffn_down.weight", HIDDEN, MLP, GR_GGUF_Q4_1},
                                            {"blk.0.attn_norm.weight", 0, HIDDEN, GR_GGUF_F32},
                                            {"blk.0.ffn_norm.weight", 0, HIDDEN, GR_GGUF_F32},
                                            {"rope_freqs.weight", 0, HEAD / 2, GR_GGUF_F32}};
enum { GGUF_TENSORS = sizeof gguf_tensors / sizeof *gguf_tensors };

static size_t block_bytes(const block_tensor *t) {
    uint64_t count = (t->rows ? t->rows : 1) * t->cols;
    switch (t->type) {
    case GR_GGUF_F32: return count * 4;
    case GR_GGUF_F16: return count * 2;
    case GR_GGUF_Q4_1: return count / 32 * 20;
    case GR_GGUF_Q5_0: return count / 32 * 22;
    default: return count / 32 * 34;
    }
}

/* Bytes whose halves are all ordinary numbers (no exponent of ones): bit 6 of odd bytes is clear. */
static uint8_t byte_of(size_t tensor, size_t i) {
    uint32_t x = (uint32_t)(tensor * 7919 + i) * 2654435761u;
    uint8_t b = (uint8_t)(x >> 24);
    return i % 2 ? (uint8_t)(b & 0xbf) : b;
}

/* What llama.cpp writes for Llama 3's scaling (factor 8, low 1, high 4, original length 8192) at theta
 * 500000. */
static float rope_factor(int i) {
    double wavelength = 2 * 3.14159265358979323846 * pow(500000, 2.0 * i / HEAD);
    if (wavelength < 8192.0 / 4) return 1;
    if (wavelength > 8192.0) return 8;
    double smooth = (8192 / wavelength - 1) / 3;
    return (float)(1 / ((1 - smooth) / 8 + smooth));
}

static const char *make_gguf(temp_dir *dir, const char *arch, float rope_error) {
    gr_buf b = {0};
    char key[64];
    size_t at = 0;
    static const char *const tokens[VOCAB] = {"a", "b", "c", "ab", "<s>", "</s>", "<|eot_id|>", "<|x|>"};
    put_header(&b, 3, GGUF_TENSORS, 16);
    put_key_string(&b, "general.architecture", arch);
#define KEY(name) (snprintf(key, sizeof key, "%s.%s", arch, name), key)
    put_key_u32(&b, KEY("block_count"), 1);
    put_key_u32(&b, KEY("embedding_length"), HIDDEN);
    put_key_u32(&b, KEY("feed_forward_length"), MLP);
    put_key_u32(&b, KEY("attention.head_count"), HEADS);
    put_key_u32(&b, KEY("attention.head_count_kv"), 1);
    put_key_u32(&b, KEY("context_length"), 128);
    put_key_float(&b, KEY("attention.layer_norm_rms_epsilon"), 1e-5f);
    put_key_float(&b, KEY("rope.freq_base"), 500000);
#undef KEY
    put_key_string(&b, "tokenizer.ggml.model", "gpt2");
    put_key_string(&b, "tokenizer.ggml.pre", "gpt-2");
    put_key_array(&b, "tokenizer.ggml.tokens", GR_GGUF_STRING, VOCAB);
    for (int i = 0; i < VOCAB; i++) put_string(&b, tokens[i]);
    put_key_array(&b, "tokenizer.ggml.merges", GR_GGUF_STRING, 1);
    put_string(&b, "a b");
    put_key_array(&b, "tokenizer.ggml.token_type", GR_GGUF_I32, VOCAB);
    for (uint32_t i = 0; i < VOCAB; i++) put_u32(&b, i < 4 ? 1 : 3 /* NORMAL, CONTROL */);
    put_key_u32(&b, "tokenizer.ggml.eos_token_id", 5);
    put_key_u32(&b, "tokenizer.ggml.eom_token_id", 7);
    for (size_t t = 0; t < GGUF_TENSORS; t++) {
        put_tensor(&b, gguf_tensors[t].name, gguf_tensors[t].rows, gguf_tensors[t].cols, gguf_tensors[t].type,
                   at);
        at = gr_round_up(at + block_bytes(&gguf_tensors[t]), 32);
    }
    put_padding(&b, 32);
    for (size_t t = 0; t < GGUF_TENSORS; t++) {
        const block_tensor *x = &gguf_tensors[t];
        for (size_t i = 0; x->type != GR_GGUF_F32 && i < block_bytes(x); i++)
            gr_buf_putc(&b, (char)byte_of(t, i));
        for (uint64_t i = 0; x->type == GR_GGUF_F32 && i < x->cols; i++) {
            float value = strcmp(x->name, "rope_freqs.weight") == 0
                              ? rope_factor((int)i) * (i == 5 ? rope_error : 1)
                              : 1 + (float)i / 64;
            gr_buf_add(&b, &value, 4);
        }
        put_padding(&b, 32);
    }
    const char *path = temp_file(dir, "m.gguf", b.data, b.len);
    gr_buf_free(&b);
    return path;
}

/* The tensor's values, rows of q and k in Hugging Face's order when `heads` > 0. */
static void gguf_values(float *out, size_t t, int64_t heads) {
    const block_tensor *x = &gguf_tensors[t];
    uint8_t *bytes = malloc(block_bytes(x));
    float *stored = calloc(x->rows * x->cols, 4);
    assert_true(bytes && stored);
    for (size_t i = 0; i < block_bytes(x); i++) bytes[i] = byte_of(t, i);
    gr_gguf_dequantize(stored, bytes, x->type, (int64_t)(x->rows * x->cols));
    int64_t d = heads ? (int64_t)x->rows / heads : 2;
    for (int64_t r = 0; r < (int64_t)x->rows; r++) { /* stored row (head, i, half) goes to (head, half, i) */
        int64_t to = heads ? r / d * d + r % 2 * (d / 2) + r % d / 2 : r;
        memcpy(out + to * (int64_t)x->cols, stored + r * (int64_t)x->cols, x->cols * 4);
    }
    free(bytes);
    free(stored);
}

static void check_codes(const gr_safetensors *file, const char *path, size_t t, int64_t heads, int bits) {
    const block_tensor *x = &gguf_tensors[t];
    const gr_tensor *part[3];
    static const char *const suffix[] = {"weight", "scales", "biases"};
    float *want = calloc(x->rows * x->cols, 4), *got = calloc(x->rows * x->cols, 4);
    for (int k = 0; k < 3; k++) {
        char name[96];
        snprintf(name, sizeof name, "%s.%s", path, suffix[k]);
        part[k] = gr_safetensors_find(file, name);
        assert_non_null(part[k]);
    }
    assert_int_equal(part[0]->bytes, x->rows * x->cols * (uint64_t)bits / 8);
    gguf_values(want, t, heads);
    gr_affine_dequantize(got, part[0]->data, part[1]->data, part[2]->data, (int64_t)x->rows, (int64_t)x->cols,
                         bits, 32, part[1]->dtype);
    for (size_t i = 0; i < x->rows * x->cols; i++) assert_true(got[i] == want[i]);
    free(want);
    free(got);
}

static void gguf_keeps_its_codes(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    assert_int_equal(
        run(make_gguf(&src, "llama", 1), out.path, (gr_convert_options){.quantize = true}, &result),
        GRAFT_OK);
    gr_convert_result_free(&result);
    gr_safetensors *file = load(out.path);
    check_codes(file, "model.layers.0.self_attn.q_proj", 2, HEADS, 4);
    check_codes(file, "model.layers.0.self_attn.k_proj", 3, 1, 5);
    check_codes(file, "model.layers.0.self_attn.v_proj", 4, 0, 8);
    check_codes(file, "model.layers.0.mlp.down_proj", 8, 0, 4);
    const gr_tensor *norm = gr_safetensors_find(file, "model.norm.weight");
    assert_int_equal(norm->dtype, GR_F16); /* 1 + i/64 are numbers of f16 */
    gr_safetensors_close(file);
    json_t *config = load_json(out.path, "config.json"), *quant = json_object_get(config, "quantization");
    assert_int_equal(json_integer_value(json_object_get(quant, "group_size")), 32);
    assert_int_equal(json_integer_value(json_object_get(quant, "bits")), 4);
    json_t *k = json_object_get(quant, "model.layers.0.self_attn.k_proj"),
           *o = json_object_get(quant, "model.layers.0.self_attn.o_proj");
    assert_int_equal(json_integer_value(json_object_get(k, "bits")), 5);
    assert_int_equal(json_integer_value(json_object_get(o, "group_size")),
                     64); /* f16 in the file: -q made its codes */
    json_t *scaling = json_object_get(config, "rope_scaling");
    assert_string_equal(json_string_value(json_object_get(scaling, "rope_type")), "llama3");
    assert_true(json_number_value(json_object_get(scaling, "factor")) == 8);
    assert_true(json_number_value(json_object_get(config, "rms_norm_eps")) == 1e-5);
    assert_true(json_is_true(json_object_get(config, "tie_word_embeddings")));
    assert_int_equal(json_integer_value(json_object_get(config, "eos_token_id")), 5);
    assert_int_equal(json_integer_value(json_object_get(config, "vocab_size")), VOCAB);
    json_decref(config);
    config = load_json(out.path, "tokenizer_config.json");
    assert_string_equal(json_string_value(json_object_get(config, "eos_token")), "</s>");
    json_decref(config);
    json_decref(load_json(out.path, "tokenizer.json"));
    json_decref(load_json(out.path, "generation_config.json"));
    temp_dir_free(&src);
    temp_dir_free(&out);
}

/* A file names some of the tokens that end a turn by id, the others by their texts: the directory lists them.
 */
static void ends_of_turns_are_listed(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    graft_error err = {0};
    gr_tokenizer *tok;
    assert_int_equal(run(make_gguf(&src, "llama", 1), out.path, (gr_convert_options){0}, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    json_t *config = load_json(out.path, "generation_config.json"),
           *ids = json_object_get(config, "eos_token_id");
    char *text = json_dumps(ids, JSON_COMPACT);
    assert_string_equal(text, "[5,7,6]");
    free(text);
    json_decref(config);
    assert_int_equal(gr_tokenizer_open_as(&tok, out.path, GR_MAPPED, &err), GRAFT_OK);
    assert_int_equal(gr_tokenizer_eos(tok), 5);
    for (int32_t id = 0; id < VOCAB; id++) assert_int_equal(gr_tokenizer_is_stop(tok, id), id >= 5);
    gr_tokenizer_free(tok);
    temp_dir_free(&src);
    temp_dir_free(&out);
}

/* Codes that are there stay unless other numbers are asked for: a GGUF's are made anew, MLX's are refused. */
static void codes_are_not_made_twice(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), out = temp_dir_new(), again = temp_dir_new();
    gr_convert_result result;
    const char *gguf = make_gguf(&src, "llama", 1);
    gr_convert_options other_bits = {.quantize = true, .q_bits = 3},
                       other_group = {.quantize = true, .q_group_size = 64};
    gr_convert_options coarse = {.quantize = true, .q_bits = 3, .q_group_size = 32};
    assert_int_equal(run(gguf, out.path, coarse, &result), GRAFT_OK); /* asked for: from the blocks' values */
    gr_safetensors *file = NULL;
    graft_error err = {0};
    assert_int_equal(gr_safetensors_open(&file, out.path, &err), GRAFT_OK);
    const gr_tensor *codes = gr_safetensors_find(file, "model.layers.0.self_attn.q_proj.weight");
    const gr_tensor *scales = gr_safetensors_find(file, "model.layers.0.self_attn.q_proj.scales");
    assert_int_equal(codes->shape[1] * 32, scales->shape[1] * 32 * 3);
    assert_non_null(strstr(result.notes[0], "quantized anew"));
    gr_safetensors_close(file);
    gr_convert_result_free(&result);
    unfinish(&out);
    assert_int_equal(run(gguf, out.path, (gr_convert_options){.dequantize = true}, &result), GRAFT_OK);
    assert_int_equal(result.note_count, 1); /* all but o_proj, which is f16 in the file */
    assert_string_equal(result.notes[0], "7 matrices decoded from the file's blocks, rounded to float16");
    gr_convert_result_free(&result);
    gr_convert_options three = {.quantize = true, .q_bits = 3, .q_group_size = 32};
    assert_int_equal(run(out.path, again.path, three, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    assert_int_equal(run(again.path, out.path, other_group, &result), GRAFT_USAGE);
    unfinish(&out);
    assert_int_equal(run(again.path, out.path, other_bits, &result), GRAFT_OK); /* its own */
    gr_convert_result_free(&result);
    temp_dir_free(&src);
    temp_dir_free(&out);
    temp_dir_free(&again);
}

/* Qwen's rows are not permuted; its biases are part of the architecture, and are missing here. */
static void gguf_is_checked(void **state) {
    (void)state;
    temp_dir src = temp_dir_new();
    gr_convert_result result;
    const char *out = temp_path(&src, "out");
    assert_int_equal(run(make_gguf(&src, "qwen2", 1), out, (gr_convert_options){0}, &result),
                     GRAFT_NOT_FOUND);
    assert_int_equal(run(make_gguf(&src, "gpt2", 1), out, (gr_convert_options){0}, &result),
                     GRAFT_UNSUPPORTED);
    assert_int_equal(run(make_gguf(&src, "llama", 1.01f), out, (gr_convert_options){0}, &result),
                     GRAFT_UNSUPPORTED);
    assert_int_equal(run(temp_path(&src, "absent"), out, (gr_convert_options){0}, &result), GRAFT_NOT_FOUND);
    assert_false(gr_path_exists(out));
    temp_dir_free(&src);
}

static void gguf_names(void **state) {
    (void)state;
    static const struct {
        const char *arch, *name, *hf;
    } cases[] = {
        {"llama", "blk.12.attn_q.weight", "model.layers.12.self_attn.q_proj.weight"},
        {"llama", "blk.0.attn_k.bias", "model.layers.0.self_attn.k_proj.bias"},
        {"llama", "blk.3.attn_q_norm.weight", "model.layers.3.self_attn.q_norm.weight"},
        {"llama", "blk.3.ffn_norm.weight", "model.layers.3.post_attention_layernorm.weight"},
        {"gemma2", "blk.3.ffn_norm.weight", "model.layers.3.pre_feedforward_layernorm.weight"},
        {"gemma3", "blk.3.post_attention_norm.weight", "model.layers.3.post_attention_layernorm.weight"},
        {"olmo2", "blk.3.post_ffw_norm.weight", "model.layers.3.post_feedforward_layernorm.weight"},
        {"phi3", "blk.3.attn_qkv.weight", "model.layers.3.self_attn.qkv_proj.weight"},
        {"phi3", "blk.3.ffn_up.weight", "model.layers.3.mlp.gate_up_proj.weight"},
        {"starcoder2", "blk.3.ffn_up.bias", "model.layers.3.mlp.c_fc.bias"},
        {"starcoder2", "blk.3.ffn_norm.bias", "model.layers.3.post_attention_layernorm.bias"},
        {"llama", "blk.3.post_attention_norm.weight", NULL},
        {"llama", "output.weight", "lm_head.weight"},
        {"llama", "blk.01.attn_q.weight", NULL},
        {"llama", "blk..attn_q.weight", NULL},
        {"llama", "blk.1", NULL},
        {"llama", "blk.1.weight", NULL},
        {"llama", "blk.1.ffn_gate_inp.weight", NULL},
        {"llama", "attn_q.weight", NULL},
        {"llama", "output", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_buf hf = {0};
        const gr_gguf_arch *arch = gr_gguf_arch_by_name(cases[i].arch, strlen(cases[i].arch));
        assert_non_null(arch);
        assert_int_equal(gr_gguf_name_to_hf(&hf, arch, cases[i].name), cases[i].hf != NULL);
        if (cases[i].hf) assert_string_equal(hf.data, cases[i].hf);
        gr_buf_free(&hf);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(gguf_keeps_its_codes),
                                       cmocka_unit_test(ends_of_turns_are_listed),
                                       cmocka_unit_test(codes_are_not_made_twice),
                                       cmocka_unit_test(gguf_is_checked), cmocka_unit_test(gguf_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
