/* convert: a tiny GGUF and a tiny Hugging Face directory become MLX directories. tools/peers/check_convert.py
 * compares with mlx-lm and the gguf package. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "convert/convert.h"
#include "convert/gguf_names.h"
#include "files/json_read.h"
#include "files/safetensors.h"
#include "gguf_bytes.h"
#include "temp_dir.h"
#include "weights/affine.h"
#include "weights/gguf_blocks.h"
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>

/* Two layers, 2 heads and 1 kv head of 32, mlp 96: 64 divides the rows of all linears but down_proj's. */
enum { HIDDEN = 64, HEADS = 2, HEAD = 32, MLP = 96, VOCAB = 8, LAYERS = 2 };

/* ---- a Hugging Face directory */

/* Values that bf16 holds, different in every tensor. */
static float value_of(const char *name, int64_t i) {
    uint32_t hash = (uint32_t)i * 2654435761u;
    for (; *name; name++) hash = (hash ^ (uint8_t)*name) * 16777619u;
    return gr_bf16_to_f32(gr_f32_to_bf16(((float)(hash >> 8) / (float)(1 << 24) - 0.5f) * 2));
}

typedef struct tensors {
    gr_tensor items[64];
    char names[64][80];
    size_t count;
} tensors;

static void add_tensor(tensors *t, const char *name, int64_t rows, int64_t cols) {
    gr_tensor *x = &t->items[t->count];
    snprintf(t->names[t->count], sizeof t->names[0], "%s", name);
    *x = (gr_tensor){.name = t->names[t->count++], .dtype = GR_BF16, .ndim = rows ? 2 : 1};
    int64_t n = rows ? rows * cols : cols;
    x->shape[0] = rows ? rows : cols;
    if (rows) x->shape[1] = cols;
    x->bytes = (size_t)n * 2;
    uint16_t *data = calloc((size_t)n, 2);
    assert_non_null(data);
    for (int64_t i = 0; i < n; i++) data[i] = gr_f32_to_bf16(value_of(name, i));
    x->data = (const uint8_t *)data;
}

static void make_llama(temp_dir *dir, const char *config) {
    tensors t = {0};
    graft_error err = {0};
    static const struct {
        const char *name;
        int64_t rows, cols;
    } parts[] = {{"self_attn.q_proj", 64, HIDDEN},       {"self_attn.k_proj", 32, HIDDEN},
                 {"self_attn.v_proj", 32, HIDDEN},       {"self_attn.o_proj", HIDDEN, 64},
                 {"mlp.gate_proj", MLP, HIDDEN},         {"mlp.up_proj", MLP, HIDDEN},
                 {"mlp.down_proj", HIDDEN, MLP},         {"input_layernorm", 0, HIDDEN},
                 {"post_attention_layernorm", 0, HIDDEN}};
    for (int l = 0; l < LAYERS; l++) {
        for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
            char name[80];
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, parts[p].name);
            add_tensor(&t, name, parts[p].rows, parts[p].cols);
        }
    }
    add_tensor(&t, "model.embed_tokens.weight", VOCAB, HIDDEN);
    add_tensor(&t, "lm_head.weight", VOCAB, HIDDEN);
    add_tensor(&t, "model.norm.weight", 0, HIDDEN);
    add_tensor(&t, "model.layers.0.self_attn.rotary_emb.inv_freq", 0, HEAD / 2);
    assert_int_equal(gr_safetensors_save(temp_path(dir, "model.safetensors"), t.items, t.count, NULL, &err),
                     GRAFT_OK);
    for (size_t i = 0; i < t.count; i++) free((void *)(uintptr_t)t.items[i].data);
    temp_file(dir, "config.json", config, strlen(config));
    temp_file(dir, "tokenizer.json", "{}", 2);
}

#define SHAPE                                                                                                \
    "\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":2,"          \
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":32,\"vocab_size\":8,\"rms_norm_eps\":" \
    "1e-5,"                                                                                                  \
    "\"max_position_embeddings\":128"
#define LLAMA                                                                                                \
    "{" SHAPE ",\"tie_word_embeddings\":false,\"dtype\":\"bfloat16\",\"_name_or_path\":\"x\","               \
    "\"rope_parameters\":{\"rope_type\":\"llama3\",\"rope_theta\":50000.0,\"factor\":8.0,\"low_freq_"        \
    "factor\":1.0,"                                                                                          \
    "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":64}}"

static graft_status run(const char *model, const char *out, gr_convert_options options,
                        gr_convert_result *result) {
    graft_error err = {0};
    options.model = model;
    options.out = out;
    graft_status st = gr_convert(&options, result, &err);
    assert_int_equal(st, err.status);
    if (st != GRAFT_OK) {
        assert_true(err.what[0] != 0);
        assert_int_equal(result->note_count, 0);
    }
    return st;
}

static json_t *load_json(const char *dir, const char *name) {
    graft_error err = {0};
    json_t *root;
    char path[300];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(gr_json_load(&root, path, GR_JSON_LIMIT, &err), GRAFT_OK);
    return root;
}

static gr_safetensors *load(const char *dir) {
    graft_error err = {0};
    gr_safetensors *file;
    if (gr_safetensors_open(&file, dir, &err) != GRAFT_OK) fail_msg("%s: %s", err.where, err.what);
    return file;
}

/* Codes, scales and biases must be those of gr_affine_quantize on the source's values. */
static void check_module(const gr_safetensors *file, const char *path, int64_t rows, int64_t cols, int bits,
                         int group) {
    char name[96], source[96];
    snprintf(source, sizeof source, "%s.weight", path);
    float *w = calloc((size_t)(rows * cols), 4);
    uint8_t *codes = calloc((size_t)(rows * cols), 1), *scales = calloc((size_t)(rows * cols), 2),
            *biases = calloc((size_t)(rows * cols), 2);
    for (int64_t i = 0; i < rows * cols; i++) w[i] = value_of(source, i);
    gr_affine_quantize(codes, scales, biases, w, rows, cols, bits, group, GR_BF16);
    const uint8_t *want[] = {codes, scales, biases};
    static const char *const suffix[] = {"weight", "scales", "biases"};
    for (int k = 0; k < 3; k++) {
        snprintf(name, sizeof name, "%s.%s", path, suffix[k]);
        const gr_tensor *t = gr_safetensors_find(file, name);
        assert_non_null(t);
        assert_int_equal(t->dtype, k ? GR_BF16 : GR_U32);
        assert_int_equal(t->bytes, k ? rows * cols / group * 2 : rows * cols * bits / 8);
        assert_memory_equal(t->data, want[k], t->bytes);
    }
    free(w);
    free(codes);
    free(scales);
    free(biases);
}

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
    assert_int_equal(result.note_count, LAYERS); /* 64 does not divide down_proj's rows of 96 */
    assert_non_null(strstr(result.notes[0], "down_proj"));
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
        {{.quant_predicate = "mixed_2_6"}, GRAFT_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(run(src.path, out, cases[i].options, &result), cases[i].status);
    static const struct {
        const char *config;
        graft_status status;
    } configs[] = {
        {"{\"model_type\":\"mamba\"}", GRAFT_UNSUPPORTED},
        {"{}", GRAFT_NOT_FOUND},
        {"[]", GRAFT_CORRUPT},
        {"{\"model_type\":\"llama\"", GRAFT_CORRUPT},
        {"{" SHAPE ",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":128}}",
         GRAFT_UNSUPPORTED},
        {"{" SHAPE ",\"quantization\":{\"mode\":\"mxfp4\",\"bits\":4,\"group_size\":32}}", GRAFT_UNSUPPORTED},
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

/* Names of a directory, beside "." and "..". */
static int entries(const char *path) {
    DIR *dir = opendir(path);
    int n = -2;
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

/* A conversion that fails half-way leaves what was there as it was, and nothing of its own. */
static void half_done_leaves_no_trace(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    tensors t = {0};
    graft_error err = {0};
    make_llama(&src, LLAMA);
    assert_int_equal(run(src.path, out.path, (gr_convert_options){0}, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    assert_true(gr_path_exists(temp_path(&out, "config.json")));
    int before = entries(out.path);
    /* one value that float16 cannot hold, in an extra tensor */
    add_tensor(&t, "zzz.weight", 0, 4);
    uint16_t *data = (uint16_t *)(uintptr_t)t.items[0].data;
    data[3] = gr_f32_to_bf16(1e30f);
    assert_int_equal(gr_safetensors_save(temp_path(&src, "model-extra.safetensors"), t.items, 1, NULL, &err),
                     GRAFT_OK);
    assert_int_equal(rename(temp_path(&src, "model.safetensors"), temp_path(&src, "model-a.safetensors")), 0);
    assert_int_equal(run(src.path, out.path, (gr_convert_options){.dtype = "float16"}, &result), GRAFT_RANGE);
    assert_int_equal(entries(out.path), before);
    gr_safetensors_close(load(out.path));
    const char *fresh = temp_path(&src, "fresh");
    assert_int_equal(run(src.path, fresh, (gr_convert_options){.dtype = "float16"}, &result), GRAFT_RANGE);
    assert_false(gr_path_exists(fresh));
    assert_int_equal(entries(src.path), 4); /* config, tokenizer, two files of weights */
    free(data);
    temp_dir_free(&src);
    temp_dir_free(&out);
}

/* The second call of progress either stops, or does the same conversion to its end meanwhile. */
typedef struct meddler {
    const char *model, *out;
    bool stops;
} meddler;

static bool meddle(void *context, const char *tensor, size_t done, size_t total) {
    const meddler *m = context;
    gr_convert_result result;
    (void)tensor;
    (void)total;
    if (done != 1) return true;
    if (m->stops) return false;
    assert_int_equal(run(m->model, m->out, (gr_convert_options){.dtype = "float32"}, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    return true;
}

static void stops_and_races(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), place = temp_dir_new();
    char out[256];
    gr_convert_result result;
    make_llama(&src, LLAMA);
    snprintf(out, sizeof out, "%s/deep/out", place.path);
    meddler m = {src.path, out, true};
    gr_convert_options options = {.progress = meddle, .context = &m};
    assert_int_equal(run(src.path, out, options, &result), GRAFT_INTERRUPTED);
    assert_int_equal(entries(temp_path(&place, "deep")), 0);
    m.stops = false; /* the other is done first: its conversion stays */
    assert_int_equal(run(src.path, out, options, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    assert_int_equal(entries(temp_path(&place, "deep")), 1);
    gr_safetensors *file = load(out);
    assert_int_equal(gr_safetensors_find(file, "model.norm.weight")->dtype, GR_F32);
    gr_safetensors_close(file);
    m.stops = true; /* an earlier one survives a stop .. */
    int before = entries(out);
    assert_int_equal(run(src.path, out, options, &result), GRAFT_INTERRUPTED);
    assert_int_equal(entries(out), before);
    /* .. and is replaced by one that ends; what is not ours stays */
    temp_file(&place, "deep/out/notes.txt", "x", 1);
    assert_int_equal(run(src.path, out, (gr_convert_options){0}, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    assert_int_equal(entries(out), before + 1);
    file = load(out);
    assert_int_equal(gr_safetensors_find(file, "model.norm.weight")->dtype, GR_BF16);
    gr_safetensors_close(file);
    temp_dir_free(&src);
    temp_dir_free(&place);
}

static uint64_t key_of(const char *path) {
    graft_error err = {0};
    uint64_t key;
    assert_int_equal(gr_convert_key(&key, path, &err), GRAFT_OK);
    return key;
}

/* The same size and second is not the same file. */
static void keys_tell_files_apart(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    uint64_t key;
    char a[256], b[256];
    snprintf(a, sizeof a, "%s", temp_file(&dir, "a.gguf", "one", 3));
    snprintf(b, sizeof b, "%s", temp_file(&dir, "b.gguf", "one", 3));
    struct timespec times[2] = {{.tv_sec = 1000000000, .tv_nsec = 5}, {.tv_sec = 1000000000, .tv_nsec = 5}};
    assert_int_equal(utimensat(AT_FDCWD, a, times, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, b, times, 0), 0);
    uint64_t first = key_of(a);
    assert_true(first == key_of(a));
    assert_true(first != key_of(b)); /* another inode */
    FILE *f = fopen(a, "r+b");
    assert_non_null(f);
    assert_int_equal(fwrite("two", 1, 3, f), 3);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(utimensat(AT_FDCWD, a, times, 0), 0);
    assert_true(first != key_of(a)); /* other bytes */
    uint64_t second = key_of(a);
    times[1].tv_nsec = 6;
    assert_int_equal(utimensat(AT_FDCWD, a, times, 0), 0);
    assert_true(second != key_of(a));
    assert_int_equal(gr_convert_key(&key, dir.path, &err), GRAFT_IO);
    temp_dir_free(&dir);
}

/* ---- GGUF */

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
    static const char *const tokens[VOCAB] = {"a", "b", "c", "ab", "<s>", "</s>", "d", "e"};
    put_header(&b, 3, GGUF_TENSORS, 14);
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
    put_key_u32(&b, "tokenizer.ggml.eos_token_id", 5);
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
    assert_int_equal(run(gguf, out.path, (gr_convert_options){.dequantize = true}, &result), GRAFT_OK);
    assert_int_equal(result.note_count, 1); /* all but o_proj, which is f16 in the file */
    assert_string_equal(result.notes[0], "7 matrices decoded from the file's blocks, rounded to float16");
    gr_convert_result_free(&result);
    gr_convert_options three = {.quantize = true, .q_bits = 3, .q_group_size = 32};
    assert_int_equal(run(out.path, again.path, three, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    assert_int_equal(run(again.path, out.path, other_group, &result), GRAFT_USAGE);
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
    static const char *const pairs[][2] = {
        {"blk.12.attn_q.weight", "model.layers.12.self_attn.q_proj.weight"},
        {"blk.0.attn_k.bias", "model.layers.0.self_attn.k_proj.bias"},
        {"blk.3.attn_q_norm.weight", "model.layers.3.self_attn.q_norm.weight"},
        {"blk.3.ffn_norm.weight", "model.layers.3.post_attention_layernorm.weight"},
        {"output.weight", "lm_head.weight"},
        {"blk.01.attn_q.weight", NULL},
        {"blk..attn_q.weight", NULL},
        {"blk.1", NULL},
        {"blk.1.weight", NULL},
        {"blk.1.ffn_gate_inp.weight", NULL},
        {"attn_q.weight", NULL},
        {"output", NULL},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        gr_buf hf = {0};
        assert_int_equal(gr_gguf_name_to_hf(&hf, pairs[i][0]), pairs[i][1] != NULL);
        if (pairs[i][1]) assert_string_equal(hf.data, pairs[i][1]);
        gr_buf_free(&hf);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(quantizes_linears),
                                       cmocka_unit_test(group_32_and_embeddings_and_back),
                                       cmocka_unit_test(refuses),
                                       cmocka_unit_test(half_done_leaves_no_trace),
                                       cmocka_unit_test(stops_and_races),
                                       cmocka_unit_test(keys_tell_files_apart),
                                       cmocka_unit_test(gguf_keeps_its_codes),
                                       cmocka_unit_test(codes_are_not_made_twice),
                                       cmocka_unit_test(gguf_is_checked),
                                       cmocka_unit_test(gguf_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
