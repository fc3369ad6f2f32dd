/* convert/gguf_config.c: every key of a GGUF's metadata that becomes config.json, and what is refused there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "convert/conversion.h"
#include "gguf_bytes.h"
#include "temp_dir.h"
#include <math.h>

enum { HIDDEN = 64, VOCAB = 8, HEAD = 16 };
#define INTEGER GR_GGUF_U32
#define REAL    GR_GGUF_FLOAT
#define STRING  GR_GGUF_STRING
typedef struct entry {
    const char *key; /* without "llama."; a key with a dot at its front stands alone */
    int form;        /* the type that it is written in */
    double number;
    const char *text; /* of a string; NULL with form STRING: the key is left out */
} entry;

static const entry base[] = {
    {".general.architecture", STRING, 0, "llama"}, {"block_count", INTEGER, 1, NULL},
    {"embedding_length", INTEGER, HIDDEN, NULL},   {"feed_forward_length", INTEGER, 96, NULL},
    {"attention.head_count", INTEGER, 4, NULL},    {"attention.head_count_kv", INTEGER, 2, NULL},
    {"context_length", INTEGER, 128, NULL},        {"attention.layer_norm_rms_epsilon", REAL, 1e-5, NULL},
};
enum { BASE = sizeof base / sizeof *base, EDITS = 2 };

typedef struct sample {
    entry edit[EDITS];    /* replaces the key of this name, or is one more */
    const char *expected; /* in config.json, or in the error's text; NULL: anything that is accepted */
    graft_status status;
    const char *tensor;          /* its name; NULL: token_embd.weight */
    float frequencies[HEAD / 2]; /* of rope_freqs.weight; the first 0: no such tensor */
} sample;

static void put_entry(gr_buf *b, const entry *e) {
    char key[96];
    int64_t whole = e->number < 0x1p63 ? (int64_t)e->number : INT64_MIN; /* the latter's bits as u64: 2^63 */
    float real = (float)e->number;
    snprintf(key, sizeof key, "%s%s", e->key[0] == '.' ? "" : "llama.", e->key + (e->key[0] == '.'));
    put_string(b, key);
    put_u32(b, (uint32_t)e->form);
    switch (e->form) {
    case GR_GGUF_STRING: put_string(b, e->text); break;
    case GR_GGUF_FLOAT: gr_buf_add(b, &real, 4); break;
    case GR_GGUF_DOUBLE: gr_buf_add(b, &e->number, 8); break;
    case GR_GGUF_U8:
    case GR_GGUF_I8:
    case GR_GGUF_BOOL: gr_buf_add(b, &whole, 1); break;
    case GR_GGUF_U16:
    case GR_GGUF_I16: gr_buf_add(b, &whole, 2); break;
    case GR_GGUF_U32:
    case GR_GGUF_I32: gr_buf_add(b, &whole, 4); break;
    default: gr_buf_add(b, &whole, 8); break;
    }
}

static const char *make(temp_dir *dir, const sample *s) {
    gr_buf keys = {0}, b = {0};
    uint64_t count = 0, tensors = s->frequencies[0] != 0 ? 2 : 1;
    for (int i = 0; i < BASE + EDITS; i++) {
        const entry *e = i < BASE ? &base[i] : &s->edit[i - BASE];
        for (int k = 0; i < BASE && k < EDITS; k++)
            if (s->edit[k].key && strcmp(s->edit[k].key, e->key) == 0) e = NULL, k = EDITS;
        if (!e || !e->key || (e->form == STRING && !e->text)) continue;
        put_entry(&keys, e);
        count++;
    }
    put_header(&b, 3, tensors, count);
    gr_buf_add(&b, keys.data, keys.len);
    put_tensor(&b, s->tensor ? s->tensor : "token_embd.weight", VOCAB, HIDDEN, GR_GGUF_F32, 0);
    if (tensors == 2)
        put_tensor(&b, "rope_freqs.weight", 0, HEAD / 2, GR_GGUF_F32, (uint64_t)VOCAB * HIDDEN * 4);
    put_padding(&b, 32);
    for (int i = 0; i < VOCAB * HIDDEN * 4; i++) gr_buf_putc(&b, 0);
    gr_buf_add(&b, s->frequencies, sizeof s->frequencies);
    put_padding(&b, 32);
    const char *path = temp_file(dir, "m.gguf", b.data, b.len);
    gr_buf_free(&keys);
    gr_buf_free(&b);
    return path;
}

static void check(const sample *s, size_t index) {
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    gr_convert_options options = {.model = make(&dir, s)};
    gr_conversion c = {.options = &options};
    if (gr_gguf_open(&c.gguf, options.model, &err) != GRAFT_OK) fail_msg("%zu: %s", index, err.what);
    graft_status st = gr_conversion_gguf_config(&c, &err);
    char *config = c.config ? json_dumps(c.config, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL, said[2048];
    snprintf(said, sizeof said, "%s %s %s", err.what, err.where, err.found);
    if (st != s->status) fail_msg("%zu: status %d, %s", index, st, said);
    if (s->expected && !strstr(st == GRAFT_OK ? config : said, s->expected))
        fail_msg("%zu: no %s in %s", index, s->expected, st == GRAFT_OK ? config : said);
    free(config);
    json_decref(c.config);
    gr_gguf_close(c.gguf);
    temp_dir_free(&dir);
}

static void accepted(void **state) {
    (void)state;
    const sample samples[] = {
        {.expected = "\"model_type\":\"llama\""},
        {.expected = "\"rms_norm_eps\":1e-5"},
        {.expected = "\"rope_theta\":10000"},
        {.expected = "\"tie_word_embeddings\":true"},
        {.expected = "\"head_dim\":16"},
        {.edit = {{"attention.key_length", INTEGER, 32, NULL}, {"attention.value_length", INTEGER, 32, NULL}},
         .expected = "\"head_dim\":32"},
        {.edit = {{"attention.sliding_window", INTEGER, 6, NULL}}, .expected = "\"model_type\":\"mistral\""},
        {.edit = {{"attention.sliding_window", INTEGER, 6, NULL}}, .expected = "\"sliding_window\":6"},
        {.edit = {{"rope.freq_base", REAL, 5e5, NULL}}, .expected = "\"rope_theta\":500000"},
        {.edit = {{"rope.dimension_count", INTEGER, HEAD, NULL}}, .expected = "\"rope_theta\""},
        {.edit = {{"rope.scaling.type", STRING, 0, "none"}}, .expected = "\"rope_theta\""},
        {.edit = {{"rope.scaling.type", STRING, 0, "linear"}, {"rope.scaling.factor", REAL, 4, NULL}},
         .expected = "\"rope_type\":\"linear\",\"factor\":4"},
        /* as llama.cpp's load_hparams takes them: linear unless said otherwise, an older key, 0 for none */
        {.edit = {{"rope.scaling.factor", REAL, 4, NULL}},
         .expected = "\"rope_type\":\"linear\",\"factor\":4"},
        {.edit = {{"rope.scale_linear", REAL, 2, NULL}}, .expected = "\"rope_type\":\"linear\",\"factor\":2"},
        {.edit = {{"rope.scale_linear", REAL, 2, NULL}, {"rope.scaling.factor", REAL, 8, NULL}},
         .expected = "\"factor\":8"},
        {.edit = {{"rope.scaling.type", STRING, 0, "none"}, {"rope.scaling.factor", REAL, 4, NULL}},
         .expected = "\"rope_theta\":10000.0}"},
        {.edit = {{"rope.scaling.type", STRING, 0, "linear"}, {"rope.scaling.factor", REAL, 0, NULL}},
         .expected = "\"rope_theta\":10000.0}"},
        {.edit = {{".split.count", GR_GGUF_U16, 1, NULL}}, .expected = "\"llama\""},
        {.edit = {{".tokenizer.ggml.model", STRING, 0, "llama"}},
         .expected = "\"bos_token_id\":1,\"eos_token_id\":2"},
        {.frequencies = {1, 1, 1, 1, 1, 1, 1, 1}, .expected = "\"rope_theta\""},
        {.edit = {{".tokenizer.ggml.bos_token_id", INTEGER, 1, NULL}}, .expected = "\"bos_token_id\":1"},
        {.edit = {{".tokenizer.ggml.eos_token_id", INTEGER, 2, NULL}}, .expected = "\"eos_token_id\":2"},
        {.edit = {{".tokenizer.ggml.eos_token_id", INTEGER, 2, NULL},
                  {".tokenizer.ggml.eot_token_id", INTEGER, 3, NULL}},
         .expected = "\"eos_token_id\":[2,3]"},
        {.edit = {{"expert_count", INTEGER, 0, NULL}}, .expected = "\"llama\""},
    };
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) check(&samples[i], i);
}

#define BAD(status_, expected_, ...)                                                                         \
    { .edit = {__VA_ARGS__}, .status = GRAFT_##status_, .expected = (expected_) }

static void refused(void **state) {
    (void)state;
    const sample samples[] = {
        BAD(UNSUPPORTED, "gemma", {".general.architecture", STRING, 0, "gemma"}),
        BAD(UNSUPPORTED, "general.architecture", {".general.architecture", STRING, 0, NULL}),
        BAD(UNSUPPORTED, "mixture of experts", {"expert_count", INTEGER, 8, NULL}),
        BAD(CORRUPT, "llama.block_count is missing", {"block_count", STRING, 0, NULL}),
        BAD(CORRUPT, "llama.block_count is missing", {"block_count", STRING, 0, "many"}),
        BAD(CORRUPT, "llama.block_count is out of range", {"block_count", INTEGER, 0, NULL}),
        BAD(CORRUPT, "llama.block_count is out of range", {"block_count", INTEGER, 4097, NULL}),
        BAD(CORRUPT, "llama.embedding_length is out", {"embedding_length", INTEGER, 4e9, NULL}),
        BAD(CORRUPT, "llama.feed_forward_length is out", {"feed_forward_length", INTEGER, 0, NULL}),
        BAD(CORRUPT, "llama.attention.head_count is out", {"attention.head_count", INTEGER, 0, NULL}),
        BAD(CORRUPT, "head_count_kv is missing", {"attention.head_count_kv", STRING, 0, NULL}),
        BAD(CORRUPT, "llama.context_length is out", {"context_length", INTEGER, 4e9, NULL}),
        BAD(CORRUPT, "key_length", {"attention.key_length", INTEGER, 1, NULL}),
        BAD(CORRUPT, "key_length", {"attention.key_length", INTEGER, 1e6, NULL}),
        BAD(CORRUPT, "value_length", {"attention.value_length", INTEGER, 8, NULL}),
        BAD(CORRUPT, "key_length", {"attention.head_count", INTEGER, 64, NULL}),
        BAD(CORRUPT, "rms_epsilon is missing", {"attention.layer_norm_rms_epsilon", STRING, 0, NULL}),
        BAD(CORRUPT, "out of range", {"attention.layer_norm_rms_epsilon", REAL, -1e-5, NULL}),
        BAD(CORRUPT, "out of range", {"attention.layer_norm_rms_epsilon", REAL, 1, NULL}),
        BAD(CORRUPT, "out of range", {"attention.layer_norm_rms_epsilon", REAL, NAN, NULL}),
        BAD(CORRUPT, "rope.freq_base is out", {"rope.freq_base", REAL, 1, NULL}),
        BAD(CORRUPT, "rope.freq_base is out", {"rope.freq_base", REAL, INFINITY, NULL}),
        BAD(UNSUPPORTED, "part of each head", {"rope.dimension_count", INTEGER, 8, NULL}),
        BAD(UNSUPPORTED, "yarn", {"rope.scaling.type", STRING, 0, "yarn"}),
        BAD(UNSUPPORTED, "longrope", {"rope.scaling.type", STRING, 0, "longrope"}),
        BAD(UNSUPPORTED, "rope scaling", {"rope.scaling.type", STRING, 0, "linear"},
            {"rope.scaling.factor", REAL, -2, NULL}),
        BAD(UNSUPPORTED, "factor -2", {"rope.scaling.factor", REAL, -2, NULL}),
        BAD(UNSUPPORTED, "factor nan", {"rope.scale_linear", REAL, NAN, NULL}),
        BAD(UNSUPPORTED, "split.count", {".split.count", GR_GGUF_U16, 3, NULL}),
        BAD(UNSUPPORTED, "rope scaling", {"rope.scaling.type", STRING, 0, "linear"},
            {"rope.scaling.factor", REAL, INFINITY, NULL}),
        BAD(CORRUPT, "beyond the vocabulary", {".tokenizer.ggml.bos_token_id", INTEGER, VOCAB, NULL}),
        BAD(CORRUPT, "beyond the vocabulary", {".tokenizer.ggml.eos_token_id", INTEGER, VOCAB, NULL}),
        BAD(CORRUPT, "beyond the vocabulary", {".tokenizer.ggml.eot_token_id", INTEGER, 4e9, NULL}),
        {.tensor = "output_norm.weight", .status = GRAFT_CORRUPT, .expected = "token_embd.weight"},
        {.edit = {{"rope.scaling.factor", REAL, 4, NULL}},
         .frequencies = {1, 1, 1, 1, 1, 1, 1, 1},
         .status = GRAFT_UNSUPPORTED,
         .expected = "rope_freqs.weight"},
        {.frequencies = {1, 1, 1, 1, 1, 1, 1, 7}, .status = GRAFT_UNSUPPORTED, .expected = "Llama 3"},
        {.frequencies = {INFINITY, 1, 1, 1, 1, 1, 1, 1}, .status = GRAFT_UNSUPPORTED, .expected = "Llama 3"},
        {.frequencies = {NAN, 1, 1, 1, 1, 1, 1, 1}, .status = GRAFT_UNSUPPORTED, .expected = "Llama 3"},
    };
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) check(&samples[i], i);
}

/* A number counts, not the width that its writer chose. */
static void every_width(void **state) {
    (void)state;
    static const int whole[] = {GR_GGUF_U8,  GR_GGUF_I8,  GR_GGUF_U16, GR_GGUF_I16,
                                GR_GGUF_U32, GR_GGUF_I32, GR_GGUF_U64, GR_GGUF_I64};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        check(&(sample){.edit = {{"block_count", whole[i], 3, NULL}}, .expected = "\"num_hidden_layers\":3"},
              i);
        if (whole[i] == GR_GGUF_I8 || whole[i] == GR_GGUF_I16 || whole[i] == GR_GGUF_I32 ||
            whole[i] == GR_GGUF_I64)
            check(&(sample)BAD(CORRUPT, "out of range", {"block_count", whole[i], -3, NULL}), i);
    }
    check(&(sample)BAD(CORRUPT, "not one integer", {"block_count", GR_GGUF_U64, 0x1p63, NULL}), 8);
    check(&(sample)BAD(CORRUPT, "not one integer", {"block_count", GR_GGUF_DOUBLE, 3, NULL}), 9);
    check(&(sample){.edit = {{"rope.freq_base", GR_GGUF_DOUBLE, 1e6, NULL}},
                    .expected = "\"rope_theta\":1000000"},
          10);
    check(
        &(sample){.edit = {{"rope.freq_base", GR_GGUF_I64, 1e6, NULL}}, .expected = "\"rope_theta\":1000000"},
        11);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(accepted), cmocka_unit_test(refused),
                                       cmocka_unit_test(every_width)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
