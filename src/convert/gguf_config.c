/* config.json from GGUF metadata. */
#include "convert/conversion.h"
#include "files/json_write.h"
#include <math.h>
#include <stdio.h>

/* What is being read, and whether memory sufficed so far. */
typedef struct reader {
    const gr_gguf *file;
    const char *path;
    char arch[16];
    json_t *config;
    bool good;
} reader;

static void full_key(char key[96], const reader *r, const char *name) {
    snprintf(key, 96, "%s.%s", r->arch, name);
}

static void put(reader *r, const char *key, json_t *value) {
    r->good = gr_put(r->config, key, value) && r->good;
}

/* The shortest decimal that is this f32: 9.99999975e-06 was written as 1e-05. */
static double plain_decimal(double value) {
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtof(text, NULL) == (float)value) break;
    }
    return (double)(float)value == value ? strtod(text, NULL) : value;
}

static graft_status missing(const reader *r, const char *key, const char *why, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "metadata key %s %s", key, why);
    return gr_where(err, "%s", r->path);
}

/* A natural number within [1, hi] into the config as `name`; *value receives it. */
static graft_status copy_int(reader *r, const char *gguf, const char *name, int64_t hi, int64_t *value,
                             graft_error *err) {
    char key[96];
    full_key(key, r, gguf);
    if (!gr_gguf_int(r->file, key, value)) return missing(r, key, "is missing or not one integer", err);
    if (*value < 1 || *value > hi) return missing(r, key, "is out of range", err);
    put(r, name, json_integer(*value));
    return GRAFT_OK;
}

/* An optional one, with a default. */
static int64_t optional_int(const reader *r, const char *gguf, int64_t otherwise) {
    char key[96];
    int64_t value;
    full_key(key, r, gguf);
    return gr_gguf_int(r->file, key, &value) ? value : otherwise;
}

static double optional_real(const reader *r, const char *gguf, double otherwise) {
    char key[96];
    double value;
    full_key(key, r, gguf);
    return gr_gguf_float(r->file, key, &value) ? plain_decimal(value) : otherwise;
}

/* ---- rope */

/* Factors by which llama3 scaling divides the frequencies. source: transformers modeling_rope_utils */
static double llama3_factor(double theta, int64_t i, int64_t head_dim, double factor) {
    const double low = 1, high = 4, original = 8192, pi = 3.14159265358979323846;
    double wavelength = 2 * pi * pow(theta, 2.0 * (double)i / (double)head_dim);
    if (wavelength < original / high) return 1;
    if (wavelength > original / low) return factor;
    double smooth = (original / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
}

/* rope_freqs.weight holds such factors; the config's four numbers are found again from them, or it is
 * refused. */
static graft_status rope_freqs(reader *r, double theta, int64_t head_dim, graft_error *err) {
    const gr_gguf_tensor *t = gr_gguf_find(r->file, "rope_freqs.weight");
    double factor = 1;
    if (!t) return GRAFT_OK;
    bool good = t->type == GR_GGUF_F32 && t->ndim == 1 && t->shape[0] == head_dim / 2;
    for (int pass = 0; pass < 2 && good; pass++) {
        for (int64_t i = 0; i < head_dim / 2 && good; i++) {
            float value;
            memcpy(&value, t->data + 4 * i, 4);
            if (pass == 0) factor = value > factor ? (double)value : factor;
            /* f32 and the writer's own order of operations: a few units in the last place */
            else
                good =
                    fabs((double)value - llama3_factor(theta, i, head_dim, factor)) <= 1e-4 * (double)value;
        }
    }
    if (!good || !isfinite(factor)) {
        gr_fail(err, GRAFT_UNSUPPORTED,
                "rope_freqs.weight is not Llama 3's scaling with low 1, high 4, original length 8192");
        return gr_where(err, "%s", r->path);
    }
    if (factor > 1)
        put(r, "rope_scaling",
            json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor", factor, "low_freq_factor",
                      1.0, "high_freq_factor", 4.0, "original_max_position_embeddings", 8192));
    return GRAFT_OK;
}

static graft_status rope(reader *r, int64_t head_dim, graft_error *err) {
    char key[96];
    const char *type;
    size_t len;
    double theta = optional_real(r, "rope.freq_base", 10000),
           factor = optional_real(r, "rope.scaling.factor", 1);
    if (!(theta > 1) || !isfinite(theta)) return missing(r, "rope.freq_base", "is out of range", err);
    if (optional_int(r, "rope.dimension_count", head_dim) != head_dim) {
        gr_fail(err, GRAFT_UNSUPPORTED, "rotation of a part of each head");
        return gr_where(err, "%s: rope.dimension_count", r->path);
    }
    put(r, "rope_theta", json_real(theta));
    full_key(key, r, "rope.scaling.type");
    if (gr_gguf_string(r->file, key, &type, &len) && !(len == 4 && memcmp(type, "none", 4) == 0)) {
        if (len != 6 || memcmp(type, "linear", 6) != 0 || !(factor > 0) || !isfinite(factor)) {
            gr_fail(err, GRAFT_UNSUPPORTED, "this rope scaling");
            gr_where(err, "%s: %s", r->path, key);
            gr_expected(err, "none, linear, or Llama 3's rope_freqs.weight");
            return gr_found(err, "%.*s", (int)(len < 64 ? len : 64), type);
        }
        put(r, "rope_scaling",
            json_pack("{s:s, s:s, s:f}", "type", "linear", "rope_type", "linear", "factor", factor));
        return GRAFT_OK;
    }
    return rope_freqs(r, theta, head_dim, err);
}

/* ---- the rest */

static graft_status architecture(reader *r, graft_error *err) {
    static const char *const known[] = {"llama", "qwen2", "qwen3"};
    const char *name = "", *type = NULL;
    size_t len = 0;
    gr_gguf_string(r->file, "general.architecture", &name, &len);
    for (size_t i = 0; i < 3; i++)
        if (strlen(known[i]) == len && memcmp(known[i], name, len) == 0) type = known[i];
    if (!type) {
        gr_fail(err, GRAFT_UNSUPPORTED, "architecture cannot be converted");
        gr_where(err, "%s: general.architecture", r->path);
        gr_expected(err, "llama, qwen2 or qwen3");
        return gr_found(err, "%.*s", (int)(len < 64 ? len : 64), name);
    }
    snprintf(r->arch, sizeof r->arch, "%s", type);
    if (optional_int(r, "expert_count", 0) > 0) {
        gr_fail(err, GRAFT_UNSUPPORTED, "mixtures of experts cannot be converted");
        return gr_where(err, "%s", r->path);
    }
    /* llama.cpp calls Mistral a llama; its window is what tells them apart */
    int64_t window = optional_int(r, "attention.sliding_window", 0);
    if (strcmp(type, "llama") == 0 && window > 0) {
        type = "mistral";
        put(r, "sliding_window", json_integer(window));
    }
    put(r, "model_type", json_string(type));
    put(r, "architectures", json_pack("[s]", gr_arch_find(type)->class_name));
    return GRAFT_OK;
}

static graft_status token_ids(reader *r, int64_t vocab, graft_error *err) {
    int64_t bos = -1, eos = -1, eot = -1;
    gr_gguf_int(r->file, "tokenizer.ggml.bos_token_id", &bos);
    gr_gguf_int(r->file, "tokenizer.ggml.eos_token_id", &eos);
    gr_gguf_int(r->file, "tokenizer.ggml.eot_token_id", &eot);
    if (bos >= vocab || eos >= vocab || eot >= vocab)
        return missing(r, "tokenizer.ggml.*_token_id", "is beyond the vocabulary", err);
    if (bos >= 0) put(r, "bos_token_id", json_integer(bos));
    if (eos >= 0 && eot >= 0 && eot != eos)
        put(r, "eos_token_id", json_pack("[I, I]", (json_int_t)eos, (json_int_t)eot));
    else if (eos >= 0)
        put(r, "eos_token_id", json_integer(eos));
    return GRAFT_OK;
}

static graft_status read_all(reader *r, graft_error *err) {
    int64_t layers, hidden, mlp, heads, kv_heads, context;
    GR_TRY(architecture(r, err));
    GR_TRY(copy_int(r, "block_count", "num_hidden_layers", 4096, &layers, err));
    GR_TRY(copy_int(r, "embedding_length", "hidden_size", 1 << 20, &hidden, err));
    GR_TRY(copy_int(r, "feed_forward_length", "intermediate_size", 1 << 24, &mlp, err));
    GR_TRY(copy_int(r, "attention.head_count", "num_attention_heads", 1 << 16, &heads, err));
    GR_TRY(copy_int(r, "attention.head_count_kv", "num_key_value_heads", 1 << 16, &kv_heads, err));
    GR_TRY(copy_int(r, "context_length", "max_position_embeddings", INT32_MAX, &context, err));
    int64_t head_dim = optional_int(r, "attention.key_length", hidden / heads);
    if (head_dim < 2 || head_dim > 1 << 16 || optional_int(r, "attention.value_length", head_dim) != head_dim)
        return missing(r, "attention.key_length", "is out of range, or differs from value_length", err);
    put(r, "head_dim", json_integer(head_dim));
    double eps = optional_real(r, "attention.layer_norm_rms_epsilon", -1);
    if (!(eps >= 0 && eps < 1))
        return missing(r, "attention.layer_norm_rms_epsilon", "is missing or out of range", err);
    put(r, "rms_norm_eps", json_real(eps));
    const gr_gguf_tensor *embedding = gr_gguf_find(r->file, "token_embd.weight");
    if (!embedding || embedding->ndim != 2)
        return missing(r, "token_embd.weight", "(a tensor) is missing or no matrix", err);
    put(r, "vocab_size", json_integer(embedding->shape[0]));
    put(r, "tie_word_embeddings", json_boolean(!gr_gguf_find(r->file, "output.weight")));
    put(r, "hidden_act", json_string("silu"));
    if (strcmp(r->arch, "qwen2") != 0) { /* Qwen2's biases are part of its architecture */
        put(r, "attention_bias", json_boolean(gr_gguf_find(r->file, "blk.0.attn_q.bias") != NULL));
        put(r, "mlp_bias", json_boolean(gr_gguf_find(r->file, "blk.0.ffn_up.bias") != NULL));
    }
    GR_TRY(token_ids(r, embedding->shape[0], err));
    return rope(r, head_dim, err);
}

graft_status gr_conversion_gguf_config(gr_conversion *c, graft_error *err) {
    c->config = json_object();
    reader r = {.file = c->gguf, .path = c->options->model, .config = c->config, .good = c->config != NULL};
    if (!r.good) return gr_no_memory(err, sizeof *c->config);
    GR_TRY(read_all(&r, err));
    return r.good ? GRAFT_OK : gr_no_memory(err, 256);
}

graft_status gr_convert_gguf_config(gr_model_config *config, const char *path, graft_error *err) {
    const gr_convert_options options = {.model = path};
    gr_conversion c = {.options = &options};
    GR_TRY(gr_gguf_open(&c.gguf, path, err));
    graft_status st = gr_conversion_gguf_config(&c, err);
    char *text = st == GRAFT_OK ? gr_json_dump(c.config, JSON_COMPACT) : NULL;
    if (st == GRAFT_OK)
        st = text ? gr_config_parse(config, text, strlen(text), path, err) : gr_no_memory(err, 256);
    free(text);
    json_decref(c.config);
    gr_gguf_close(c.gguf);
    return st;
}
