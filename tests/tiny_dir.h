/* tests/tiny_dir.h - model directories and data sets of a few kilobytes, written from C, so that whole runs
 * can be tested: two layers, hidden 64, a byte-level tokenizer of 261 tokens, ChatML. Every file is a
 * function of its seed. */
#ifndef TINY_DIR_H
#define TINY_DIR_H
#include "base/os.h"
#include "base/rng.h"
#include "files/safetensors.h"
#include "graft.h"
#include "tests/ref_check.h"
#include "weights/affine.h"
#include "weights/mx_float.h"
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#define TINY_VOCAB 264 /* 261 tokens, rounded up as real models do */

typedef struct tiny_spec {
    const char *type; /* model_type; NULL: llama */
    gr_dtype dtype;   /* GR_F32 or GR_BF16 */
    int bits;         /* 0, or the linears of the blocks in MLX's affine groups of 32 */
    int window;       /* mistral */
    bool untied;
    bool new_rope;         /* rope_parameters instead of rope_theta */
    uint64_t seed;         /* of the weights */
    const char *skip;      /* a tensor that is left out */
    const char *misshapen; /* a tensor with one row too many */
    const char *extra;     /* more members of config.json: ",\"x\":1" */
    const char *mode;      /* linears in mxfp4, mxfp8 or nvfp4 */
} tiny_spec;

enum { TINY_HIDDEN = 64, TINY_LAYERS = 2, TINY_HEADS = 4, TINY_KV = 2, TINY_DIM = 16, TINY_MLP = 96 };
enum { TINY_EXPERTS = 4, TINY_EXPERT_MLP = 64 }; /* of qwen3_moe and olmoe, which take two of them */

/* ------------------------------------------------------------------------------------------------ files */

static inline char *tiny_join(const char *dir, const char *name) {
    char *path = gr_path_join(dir, name);
    assert_non_null(path);
    return path;
}

static inline void tiny_write(const char *dir, const char *name, const char *text) {
    graft_error err = {0};
    char *path = tiny_join(dir, name);
    if (gr_file_replace(path, text, strlen(text), &err) != GRAFT_OK) fail_msg("%s: %s", err.what, err.where);
    free(path);
}

/* The file's bytes (malloc'ed, NUL behind them). */
static inline char *tiny_read(const char *dir, const char *name, size_t *size) {
    graft_error err = {0};
    char *path = tiny_join(dir, name), *data = NULL;
    size_t n = 0;
    if (gr_file_read(&data, &n, path, (size_t)64 << 20, &err) != GRAFT_OK)
        fail_msg("%s: %s", err.what, err.where);
    free(path);
    if (size) *size = n;
    return data;
}

static inline void tiny_same_file(const char *a, const char *b, const char *name) {
    size_t n, m;
    char *x = tiny_read(a, name, &n), *y = tiny_read(b, name, &m);
    if (n != m || memcmp(x, y, n) != 0) fail_msg("%s differs between %s and %s", name, a, b);
    free(x);
    free(y);
}

/* A new directory under TMPDIR (malloc'ed), in memory where the system has such a place: checkpoints are
 * synced to disk many times. tiny_remove deletes it. */
static inline char *tiny_temp(void) {
    const char *root = getenv("TMPDIR");
    if (!root || !*root) root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    char *path = tiny_join(root, "graft-test-XXXXXX");
    assert_non_null(mkdtemp(path));
    return path;
}

static inline void tiny_delete(const char *path) {
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *inner = tiny_join(path, entry->d_name);
        struct stat info;
        if (lstat(inner, &info) == 0 && S_ISDIR(info.st_mode)) /* links are removed, not followed */
            tiny_delete(inner);
        else
            unlink(inner);
        free(inner);
    }
    if (dir) closedir(dir);
    rmdir(path);
}

static inline void tiny_remove(char *path) {
    tiny_delete(path);
    free(path);
}

static inline char *tiny_subdir(const char *root, const char *name) {
    char *path = tiny_join(root, name);
    mkdir(path, 0777);
    return path;
}

/* ------------------------------------------------------------------------------------------- the tokenizer
 */

/* GPT-2's spelling of a byte: printable ones stand for themselves, the others for U+0100 on. */
static inline void tiny_byte_name(char name[4], int byte) {
    int code = 256;
    for (int b = 0; b < 256; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte) {
            if (plain) code = b;
            break;
        }
        if (!plain) code++;
    }
    if (code < 128)
        snprintf(name, 4, "%c", code);
    else
        snprintf(name, 4, "%c%c", 0xc0 | code >> 6, 0x80 | (code & 63));
}

#define TINY_CHATML                                                                                          \
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}"  \
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

static inline void tiny_tokenizer_write(const char *dir, bool chat) {
    static const char *const special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    json_t *vocab = json_object(), *added = json_array(), *level;
    for (int b = 0; b < 256; b++) {
        char name[4];
        tiny_byte_name(name, b);
        json_object_set_new(vocab, name, json_integer(b));
    }
    json_object_set_new(vocab, "he", json_integer(256));
    json_object_set_new(vocab, "an", json_integer(257));
    for (int i = 0; i < 3; i++)
        json_array_append_new(added, json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", 258 + i, "content",
                                               special[i], "single_word", 0, "lstrip", 0, "rstrip", 0,
                                               "normalized", 0, "special", 1));
    level = json_pack("{s:s,s:b,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                      "use_regex", 1);
    json_t *model = json_pack("{s:s,s:n,s:n,s:n,s:n,s:b,s:b,s:o,s:[[ss],[ss]]}", "type", "BPE", "dropout",
                              "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                              "byte_fallback", 0, "vocab", vocab, "merges", "h", "e", "a", "n");
    json_t *root = json_pack("{s:s,s:n,s:n,s:o,s:n,s:O,s:O,s:o,s:o}", "version", "1.0", "truncation",
                             "padding", "added_tokens", added, "normalizer", "pre_tokenizer", level,
                             "post_processor", level, "decoder", level, "model", model);
    json_t *config = json_pack("{s:s,s:s,s:n,s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "eos_token",
                               "<|im_end|>", "bos_token", "clean_up_tokenization_spaces", 0);
    assert_non_null(root);
    assert_non_null(config);
    if (chat) json_object_set_new(config, "chat_template", json_string(TINY_CHATML));
    char *text = json_dumps(root, JSON_COMPACT), *settings = json_dumps(config, JSON_COMPACT);
    tiny_write(dir, "tokenizer.json", text);
    tiny_write(dir, "tokenizer_config.json", settings);
    free(text);
    free(settings);
    json_decref(root);
    json_decref(config);
}

/* --------------------------------------------------------------------------------------------- the weights
 */

typedef struct tiny_weights {
    const tiny_spec *spec;
    gr_tensor tensor[80];
    char name[80][128];
    size_t count;
} tiny_weights;

static inline void *tiny_tensor(tiny_weights *w, const char *name, gr_dtype dtype, int64_t rows,
                                int64_t cols) {
    if (w->spec->misshapen && strcmp(w->spec->misshapen, name) == 0) rows++;
    assert_in_range(w->count, 0, 79);
    gr_tensor *t = &w->tensor[w->count];
    snprintf(w->name[w->count], sizeof w->name[0], "%s", name);
    *t = (gr_tensor){.name = w->name[w->count], .dtype = dtype, .ndim = cols ? 2 : 1, .shape = {rows, cols}};
    t->bytes = (size_t)(rows * gr_max_i64(cols, 1)) * gr_dtype_bytes(dtype);
    void *data = calloc(1, t->bytes);
    assert_non_null(data);
    t->data = data;
    if (w->spec->skip && strcmp(w->spec->skip, name) == 0)
        free(data), data = NULL;
    else
        w->count++;
    return data;
}

static inline void tiny_store(void *to, gr_dtype dtype, const float *x, int64_t n) {
    for (int64_t i = 0; to && i < n; i++) {
        if (dtype == GR_F32)
            ((float *)to)[i] = x[i];
        else
            ((uint16_t *)to)[i] = dtype == GR_F16 ? gr_f32_to_f16(x[i]) : gr_f32_to_bf16(x[i]);
    }
}

/* base + spread * u, u uniform in [-1, 1), one stream per name. */
static inline float *tiny_values(const tiny_weights *w, const char *name, int64_t n, float base,
                                 float spread) {
    gr_rng rng;
    uint64_t stream = 1;
    float *x = calloc((size_t)n, sizeof *x);
    assert_non_null(x);
    for (const char *p = name; *p; p++) stream = stream * 31 + (uint8_t)*p;
    gr_rng_seed(&rng, w->spec->seed, stream);
    for (int64_t i = 0; i < n; i++) x[i] = base + spread * (float)(2 * gr_rng_uniform(&rng) - 1);
    return x;
}

static inline void tiny_plain(tiny_weights *w, const char *name, int64_t rows, int64_t cols, float base,
                              float spread) {
    int64_t n = rows * gr_max_i64(cols, 1);
    float *x = tiny_values(w, name, n, base, spread);
    tiny_store(tiny_tensor(w, name, w->spec->dtype, rows, cols), w->spec->dtype, x, n);
    free(x);
}

/* Random codes without NaN, under scales that make them weights of a usual size. */
static inline void tiny_micro(tiny_weights *w, const char *base, int64_t rows, int64_t cols) {
    const gr_mx_row *format = gr_mx_by_mode(w->spec->mode);
    char name[128];
    int64_t bytes = rows * cols * format->bits / 8, groups = rows * cols / format->group;
    snprintf(name, sizeof name, "%s.weight", base);
    float *x = tiny_values(w, name, bytes + groups, 128, 128);
    uint8_t *codes = tiny_tensor(w, name, GR_U32, rows, cols * format->bits / 32);
    for (int64_t i = 0; codes && i < bytes; i++)
        codes[i] = (uint8_t)((int)x[i] & (format->bits == 8 ? 0xbf : 0xff)); /* E4M3 below 2 */
    snprintf(name, sizeof name, "%s.scales", base);
    uint8_t *scales = tiny_tensor(w, name, GR_U8, rows, cols / format->group);
    for (int64_t i = 0; scales && i < groups; i++) { /* 2^-6, 2^-5; E4M3: 2^-6 .. 2^-4 */
        int random = (int)x[bytes + i];
        scales[i] = (uint8_t)(format->group == 16 ? 8 + random % 16 : 121 + random % 2);
    }
    free(x);
}

static inline void tiny_linear(tiny_weights *w, const char *base, int64_t rows, int64_t cols) {
    char name[128];
    int bits = w->spec->bits, group = 32;
    float spread = 1.7f / sqrtf((float)cols);
    snprintf(name, sizeof name, "%s.weight", base);
    if (w->spec->mode) {
        tiny_micro(w, base, rows, cols);
        return;
    }
    if (!bits) {
        tiny_plain(w, name, rows, cols, 0, spread);
        return;
    }
    float *x = tiny_values(w, name, rows * cols, 0, spread);
    uint8_t *codes = tiny_tensor(w, name, GR_U32, rows, cols * bits / 32);
    snprintf(name, sizeof name, "%s.scales", base);
    void *scales = tiny_tensor(w, name, w->spec->dtype, rows, cols / group);
    snprintf(name, sizeof name, "%s.biases", base);
    void *biases = tiny_tensor(w, name, w->spec->dtype, rows, cols / group);
    if (codes && scales && biases)
        gr_affine_quantize(codes, scales, biases, x, rows, cols, bits, group, w->spec->dtype);
    free(x);
}

static inline bool tiny_mixture(const char *type) {
    return strcmp(type, "qwen3_moe") == 0 || strcmp(type, "olmoe") == 0;
}

static inline void tiny_experts(tiny_weights *w, int layer) {
    static const char *const leaves[] = {"gate_proj", "up_proj", "down_proj"};
    char name[96];
    snprintf(name, sizeof name, "model.layers.%d.mlp.gate", layer);
    tiny_linear(w, name, TINY_EXPERTS, TINY_HIDDEN);
    for (int e = 0; e < TINY_EXPERTS; e++)
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%d.%s", layer, e, leaves[i]);
            tiny_linear(w, name, i == 2 ? TINY_HIDDEN : TINY_EXPERT_MLP,
                        i == 2 ? TINY_EXPERT_MLP : TINY_HIDDEN);
        }
}

static inline void tiny_block(tiny_weights *w, int layer) {
    static const struct {
        const char *name;
        int rows, cols;
    } linears[] = {{"self_attn.q_proj", TINY_HEADS * TINY_DIM, TINY_HIDDEN},
                   {"self_attn.k_proj", TINY_KV * TINY_DIM, TINY_HIDDEN},
                   {"self_attn.v_proj", TINY_KV * TINY_DIM, TINY_HIDDEN},
                   {"self_attn.o_proj", TINY_HIDDEN, TINY_HEADS * TINY_DIM},
                   {"mlp.gate_proj", TINY_MLP, TINY_HIDDEN},
                   {"mlp.up_proj", TINY_MLP, TINY_HIDDEN},
                   {"mlp.down_proj", TINY_HIDDEN, TINY_MLP}};
    char name[96];
    const char *type = w->spec->type ? w->spec->type : "llama";
    bool mixture = tiny_mixture(type), wide = strcmp(type, "olmoe") == 0;
    if (mixture) tiny_experts(w, layer);
    for (int i = 0; i < (mixture ? 4 : 7); i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s", layer, linears[i].name);
        tiny_linear(w, name, linears[i].rows, linears[i].cols);
        if (strcmp(type, "qwen2") != 0 || i > 2) continue;
        snprintf(name, sizeof name, "model.layers.%d.%s.bias", layer, linears[i].name);
        tiny_plain(w, name, linears[i].rows, 0, 0, 0.3f);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer,
                 i ? "post_attention_layernorm" : "input_layernorm");
        tiny_plain(w, name, TINY_HIDDEN, 0, 1, 0.2f);
    }
    for (int i = 0; i < 2 && (mixture || strcmp(type, "qwen3") == 0); i++) {
        snprintf(name, sizeof name, "model.layers.%d.self_attn.%s_norm.weight", layer, i ? "k" : "q");
        tiny_plain(w, name, TINY_DIM * (!wide ? 1 : i ? TINY_KV : TINY_HEADS), 0, 1, 0.2f);
    }
}

static inline void tiny_config_write(const char *dir, const tiny_spec *s) {
    const char *type = s->type ? s->type : "llama";
    gr_buf b = {0};
    gr_buf_printf(
        &b,
        "{\"model_type\":\"%s\",\"hidden_size\":%d,\"num_hidden_layers\":%d,\"intermediate_size\":%d,"
        "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"head_dim\":%d,\"vocab_size\":%d,"
        "\"rms_norm_eps\":1e-5,\"max_position_embeddings\":512,\"hidden_act\":\"silu\","
        "\"tie_word_embeddings\":%s",
        type, TINY_HIDDEN, TINY_LAYERS, strcmp(type, "olmoe") == 0 ? TINY_EXPERT_MLP : TINY_MLP, TINY_HEADS,
        TINY_KV, TINY_DIM, TINY_VOCAB, s->untied ? "false" : "true");
    gr_buf_puts(&b, s->new_rope ? ",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":5000}"
                                : ",\"rope_theta\":5000");
    if (tiny_mixture(type))
        gr_buf_printf(&b,
                      ",\"num_experts\":%d,\"num_experts_per_tok\":2,\"moe_intermediate_size\":%d,"
                      "\"norm_topk_prob\":%s",
                      TINY_EXPERTS, TINY_EXPERT_MLP, strcmp(type, "olmoe") == 0 ? "false" : "true");
    if (s->window) gr_buf_printf(&b, ",\"sliding_window\":%d", s->window);
    if (!s->window) gr_buf_puts(&b, ",\"sliding_window\":null");
    if (s->bits) gr_buf_printf(&b, ",\"quantization\":{\"group_size\":32,\"bits\":%d}", s->bits);
    const gr_mx_row *micro = s->mode ? gr_mx_by_mode(s->mode) : NULL;
    if (micro)
        gr_buf_printf(&b, ",\"quantization\":{\"group_size\":%d,\"bits\":%d,\"mode\":\"%s\"}", micro->group,
                      micro->bits, micro->mode);
    gr_buf_printf(&b, "%s}", s->extra ? s->extra : "");
    tiny_write(dir, "config.json", b.data);
    gr_buf_free(&b);
}

static inline void tiny_weights_write(const char *dir, const tiny_spec *s) {
    tiny_weights *w = calloc(1, sizeof *w);
    graft_error err = {0};
    char *path = tiny_join(dir, "model.safetensors");
    w->spec = s;
    tiny_plain(w, "model.embed_tokens.weight", TINY_VOCAB, TINY_HIDDEN, 0, 0.5f);
    if (s->untied) tiny_plain(w, "lm_head.weight", TINY_VOCAB, TINY_HIDDEN, 0, 0.5f);
    tiny_plain(w, "model.norm.weight", TINY_HIDDEN, 0, 1, 0.2f);
    for (int l = 0; l < TINY_LAYERS; l++) tiny_block(w, l);
    if (gr_safetensors_save(path, w->tensor, w->count, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    for (size_t i = 0; i < w->count; i++) free((void *)(uintptr_t)w->tensor[i].data);
    free(path);
    free(w);
}

/* root/name with everything a model directory has (malloc'ed path). */
static inline char *tiny_model_dir(const char *root, const char *name, const tiny_spec *spec) {
    char *dir = tiny_subdir(root, name);
    tiny_config_write(dir, spec);
    tiny_weights_write(dir, spec);
    tiny_tokenizer_write(dir, true);
    return dir;
}

/* ------------------------------------------------------------------------------------------------ the data
 */

/* Text rows of uneven lengths that a model can learn: counting words. */
static inline void tiny_rows_write(const char *dir, const char *name, int rows, int first) {
    static const char *const words[] = {"one ", "two ", "three ", "four ", "five ", "six ", "seven "};
    gr_buf b = {0};
    for (int r = first; r < first + rows; r++) {
        gr_buf_puts(&b, "{\"text\": \"");
        for (int i = 0; i < 2 + r * 5 % 7; i++) gr_buf_puts(&b, words[(r + i) % 7]);
        gr_buf_puts(&b, "\"}\n");
    }
    tiny_write(dir, name, b.data);
    gr_buf_free(&b);
}

static inline char *tiny_data_dir(const char *root, const char *name, int train, int valid) {
    char *dir = tiny_subdir(root, name);
    tiny_rows_write(dir, "train.jsonl", train, 0);
    if (valid) tiny_rows_write(dir, "valid.jsonl", valid, 100);
    if (valid) tiny_rows_write(dir, "test.jsonl", valid, 200);
    return dir;
}

/* --------------------------------------------------------------------------------------------- the options
 */

/* "name value name value ..": a switch's value is "-". */
static inline void tiny_set(graft_options *o, graft_verb verb, const char *const *pairs) {
    for (; pairs && pairs[0]; pairs += 2) {
        graft_error err = {0};
        if (graft_options_set(o, verb, pairs[0], strcmp(pairs[1], "-") ? pairs[1] : NULL, &err) != GRAFT_OK)
            fail_msg("%s %s: %s", pairs[0], pairs[1], err.what);
    }
}

#endif
