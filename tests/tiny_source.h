/* tests/tiny_source.h - models of a few kilobytes to convert, and reading what came out. */
#ifndef TINY_SOURCE_H
#define TINY_SOURCE_H
#include "convert/convert.h"
#include "files/json_read.h"
#include "files/safetensors.h"
#include "temp_dir.h"
#include "weights/affine.h"
#include <dirent.h>

/* Two layers, 2 heads and 1 kv head of 32, mlp 96: 64 divides the rows of all linears but down_proj's. */
enum { HIDDEN = 64, HEADS = 2, HEAD = 32, MLP = 96, VOCAB = 8, LAYERS = 2 };

/* ---- a Hugging Face directory */

/* Values that bf16 holds, different in every tensor. */
static inline float value_of(const char *name, int64_t i) {
    uint32_t hash = (uint32_t)i * 2654435761u;
    for (; *name; name++) hash = (hash ^ (uint8_t)*name) * 16777619u;
    return gr_bf16_to_f32(gr_f32_to_bf16(((float)(hash >> 8) / (float)(1 << 24) - 0.5f) * 2));
}

typedef struct tensors {
    gr_tensor items[64];
    char names[64][80];
    size_t count;
} tensors;

static inline void add_tensor(tensors *t, const char *name, int64_t rows, int64_t cols) {
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

static inline void make_llama(temp_dir *dir, const char *config) {
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

/* Makes an output an unfinished one, which any conversion may fill. */
static inline void unfinish(temp_dir *out) {
    assert_int_equal(remove(temp_path(out, "config.json")), 0);
}

static inline graft_status run(const char *model, const char *out, gr_convert_options options,
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

static inline json_t *load_json(const char *dir, const char *name) {
    graft_error err = {0};
    json_t *root;
    char path[300];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(gr_json_load(&root, path, GR_JSON_LIMIT, &err), GRAFT_OK);
    return root;
}

static inline gr_safetensors *load(const char *dir) {
    graft_error err = {0};
    gr_safetensors *file;
    if (gr_safetensors_open(&file, dir, &err) != GRAFT_OK) fail_msg("%s: %s", err.where, err.what);
    return file;
}

/* Codes, scales and biases must be those of gr_affine_quantize on the source's values. */
static inline void check_module(const gr_safetensors *file, const char *path, int64_t rows, int64_t cols,
                                int bits, int group) {
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

/* Names of a directory, beside "." and "..". */
static inline int entries(const char *path) {
    DIR *dir = opendir(path);
    int n = -2;
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

#endif
