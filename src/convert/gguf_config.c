/* config.json from GGUF metadata. */
#include "base/number.h"
#include "convert/conversion.h"
#include "convert/gguf_names.h"
#include "files/json_write.h"
#include <math.h>
#include <stdio.h>

/* What is being read, and whether memory sufficed so far. */
typedef struct reader {
    const gr_gguf *file;
    const char *path;
    const gr_gguf_arch *arch;
    unsigned traits;
    json_t *config;
    bool good;
} reader;

static void full_key(char key[96], const reader *r, const char *name) {
    snprintf(key, 96, "%s.%s", r->arch->gguf, name);
}

static void put(reader *r, const char *key, json_t *value) {
    r->good = gr_put(r->config, key, value) && r->good;
}

/* The shortest decimal that is this f32: 9.99999975e-06 was written as 1e-05. */
static double plain_decimal(double value) {
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        gr_format(text, sizeof text, "%.*g", digits, value);
        if ((float)gr_to_real(text, NULL) == (float)value) break;
    }
    return (double)(float)value == value ? gr_to_real(text, NULL) : value;
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

/* Phi's longrope: what each pair's frequency is divided by, for short rows and for long ones. */
static graft_status long_factors(reader *r, int64_t rotary, graft_error *err) {
    static const char *const names[][2] = {{"rope_factors_short.weight", "short_factor"},
                                           {"rope_factors_long.weight", "long_factor"}};
    json_t *scaling = json_pack("{s:s}", "type", "longrope");
    bool good = scaling != NULL;
    for (int i = 0; i < 2; i++) {
        const gr_gguf_tensor *t = gr_gguf_find(r->file, names[i][0]);
        json_t *list = json_array();
        bool fits = t && t->type == GR_GGUF_F32 && t->ndim == 1 && t->shape[0] == rotary / 2;
        for (int64_t k = 0; fits && k < rotary / 2; k++) {
            float value;
            memcpy(&value, t->data + 4 * k, 4);
            good = json_array_append_new(
                       list, json_real(isfinite(value) ? plain_decimal((double)value) : 0)) == 0 &&
                   good;
        }
        good = gr_put(scaling, names[i][1], list) && good;
        if (fits) continue;
        json_decref(scaling);
        return missing(r, names[i][0], "(a tensor) is missing, or is not one f32 for each pair that rotates",
                       err);
    }
    double factor = optional_real(r, "rope.scaling.attn_factor", 0);
    if (factor > 0) good = gr_put(scaling, "attention_factor", json_real(factor)) && good;
    r->good = good && r->good;
    put(r, "rope_scaling", scaling);
    put(r, "original_max_position_embeddings",
        json_integer(optional_int(r, "rope.scaling.original_context_length", 4096)));
    return GRAFT_OK;
}

static graft_status rope(reader *r, int64_t head_dim, graft_error *err) {
    char key[96];
    const char *type;
    size_t len;
    double theta = optional_real(r, "rope.freq_base", 10000),
           older = optional_real(r, "rope.scale_linear", 1),
           factor = optional_real(r, "rope.scaling.factor", older);
    if (!(theta > 1) || !isfinite(theta)) return missing(r, "rope.freq_base", "is out of range", err);
    int64_t rotary = optional_int(r, "rope.dimension_count", head_dim);
    if (rotary != head_dim && (!(r->traits & GR_ARCH_PARTIAL) || rotary < 2 || rotary > head_dim)) {
        gr_fail(err, GRAFT_UNSUPPORTED, "rotation of a part of each head");
        return gr_where(err, "%s: rope.dimension_count", r->path);
    }
    if (r->traits & GR_ARCH_PARTIAL)
        put(r, "partial_rotary_factor", json_real((double)rotary / (double)head_dim));
    put(r, "rope_theta", json_real(theta));
    if (gr_gguf_find(r->file, "rope_factors_short.weight")) return long_factors(r, rotary, err);
    full_key(key, r, "rope.scaling.type");
    bool named = gr_gguf_string(r->file, key, &type, &len),
         none = named && len == 4 && !memcmp(type, "none", 4);
    if (!named) type = "linear", len = 6; /* source: llama.cpp src/llama-model.cpp, load_hparams */
    if (factor == 0) factor = 1;          /* likewise */
    if (!none && (named || factor != 1)) {
        bool twice = gr_gguf_find(r->file, "rope_freqs.weight") != NULL && factor != 1;
        if (len != 6 || memcmp(type, "linear", 6) != 0 || !(factor > 0) || !isfinite(factor) || twice) {
            gr_fail(err, GRAFT_UNSUPPORTED, "this rope scaling");
            gr_where(err, "%s: %s", r->path, key);
            gr_expected(err, "none, linear with a factor above 0, or Llama 3's rope_freqs.weight");
            return gr_found(err, "%.*s, factor %g%s", (int)(len < 64 ? len : 64), type, factor,
                            twice ? ", and rope_freqs.weight" : "");
        }
        if (factor == 1) return rope_freqs(r, theta, head_dim, err);
        put(r, "rope_scaling",
            json_pack("{s:s, s:s, s:f}", "type", "linear", "rope_type", "linear", "factor", factor));
        return GRAFT_OK;
    }
    return rope_freqs(r, theta, head_dim, err);
}

/* ---- the rest */

static graft_status architecture(reader *r, graft_error *err) {
    const char *name = "";
    size_t len = 0;
    gr_gguf_string(r->file, "general.architecture", &name, &len);
    const gr_gguf_arch *arch = gr_gguf_arch_by_name(name, len);
    if (!arch || arch->only_adapters) {
        gr_buf known = {0};
        gr_gguf_arch_list(&known);
        gr_fail(err, GRAFT_UNSUPPORTED, "architecture cannot be converted");
        gr_where(err, "%s: general.architecture", r->path);
        gr_expected(err, "one of %s", known.data ? known.data : "");
        gr_buf_free(&known);
        return gr_found(err, "%.*s", (int)(len < 64 ? len : 64), name);
    }
    const char *type = arch->model_type;
    r->arch = arch;
    r->traits = gr_arch_find(type)->traits;
    if (optional_int(r, "expert_count", 0) > 0 && !(r->traits & GR_ARCH_EXPERTS)) {
        gr_fail(err, GRAFT_UNSUPPORTED, "this mixture of experts cannot be converted");
        return gr_where(err, "%s", r->path);
    }
    /* llama.cpp calls Mistral a llama; its window is what tells them apart */
    int64_t window = optional_int(r, "attention.sliding_window", 0);
    if (strcmp(type, "llama") == 0 && window > 0) {
        type = "mistral";
        put(r, "sliding_window", json_integer(window));
    }
    r->traits = gr_arch_find(type)->traits;
    const unsigned windowed = GR_ARCH_WINDOW | GR_ARCH_PATTERN | GR_ARCH_LAYER_WINDOW | GR_ARCH_SOME_ROPE;
    if (window > 0 && !(r->traits & windowed)) { /* OLMo 3 calls itself olmo2 */
        gr_fail(err, GRAFT_UNSUPPORTED, "a window of attention in this architecture is not supported");
        gr_where(err, "%s: %s.attention.sliding_window", r->path, arch->gguf);
        return gr_found(err, "%lld", (long long)window);
    }
    put(r, "model_type", json_string(type));
    put(r, "architectures", json_pack("[s]", gr_arch_find(type)->class_name));
    return GRAFT_OK;
}

static graft_status token_ids(reader *r, int64_t vocab, graft_error *err) {
    const char *model = "";
    size_t len = 0;
    gr_gguf_string(r->file, "tokenizer.ggml.model", &model, &len);
    bool spm = len == 5 && !memcmp(model, "llama", 5) && vocab > 2; /* its tokens where no key says others */
    int64_t bos = spm ? 1 : -1, eos = spm ? 2 : -1, eot = -1;
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

/* A number of the metadata under the config's name, if it is there. */
static void copy_real(reader *r, const char *gguf, const char *name) {
    char key[96];
    double value;
    full_key(key, r, gguf);
    if (gr_gguf_float(r->file, key, &value) && isfinite(value)) put(r, name, json_real(plain_decimal(value)));
}

/* Gemma's numbers; llama.cpp knows the largest models, whose scale of queries differs, by their blocks.
 * source: llama.cpp src/models/gemma2.cpp, gemma3.cpp */
static void put_gemma(reader *r, int64_t hidden, int64_t heads, int64_t layers, int64_t head_dim) {
    bool three = r->traits & GR_ARCH_LOCAL_ROPE, largest = layers == (three ? 62 : 46);
    put(r, "hidden_activation", json_string("gelu_pytorch_tanh"));
    put(r, "query_pre_attn_scalar", json_integer(largest ? hidden / heads : head_dim));
    copy_real(r, "attn_logit_softcapping", "attn_logit_softcapping");
    copy_real(r, "final_logit_softcapping", "final_logit_softcapping");
    if (three) put(r, "rope_local_base_freq", json_real(optional_real(r, "rope.freq_base_swa", 10000)));
}

/* A mixture's numbers. Whether weights are divided by their sum is not among a file's: llama.cpp knows it of
 * the architecture. source: llama.cpp src/models/qwen3moe.cpp, olmoe.cpp */
static graft_status put_experts(reader *r, graft_error *err) {
    const gr_arch *arch = gr_arch_find(r->arch->model_type);
    int64_t value;
    GR_TRY(copy_int(r, "expert_count", "num_experts", GR_MAX_EXPERTS, &value, err));
    GR_TRY(copy_int(r, "expert_used_count", "num_experts_per_tok", value, &value, err));
    put(r, "norm_topk_prob", json_boolean(strcmp(arch->model_type, "qwen3_moe") == 0));
    if (!arch->mlp_key) return GRAFT_OK;
    put(r, "decoder_sparse_step", json_integer(1));
    put(r, "mlp_only_layers", json_array());
    return copy_int(r, "expert_feed_forward_length", arch->mlp_key, 1 << 24, &value, err);
}

/* What some architectures' files say beside what all do. */
static void put_traits(reader *r, int64_t hidden, int64_t heads, int64_t layers, int64_t head_dim) {
    const unsigned windowed = GR_ARCH_WINDOW | GR_ARCH_PATTERN;
    int64_t window = optional_int(r, "attention.sliding_window", 0);
    bool plain = r->traits & GR_ARCH_PLAIN_MLP;
    if (r->traits & windowed && !json_object_get(r->config, "sliding_window"))
        put(r, "sliding_window", window > 0 ? json_integer(window) : json_null());
    if (r->traits & GR_ARCH_GEMMA)
        put_gemma(r, hidden, heads, layers, head_dim);
    else
        put(r, "hidden_act", json_string(plain ? "gelu_pytorch_tanh" : "silu"));
    if (r->traits & GR_ARCH_MULTIPLIERS) {
        copy_real(r, "embedding_scale", "embedding_multiplier");
        copy_real(r, "residual_scale", "residual_multiplier");
        copy_real(r, "attention.scale", "attention_multiplier");
        copy_real(r, "logit_scale", "logits_scaling");
    }
    if (r->traits & GR_ARCH_USE_QKV_BIAS)
        put(r, "use_qkv_bias", json_boolean(gr_gguf_find(r->file, "blk.0.attn_q.bias") != NULL));
    if (r->traits & GR_ARCH_USE_BIAS)
        put(r, "use_bias", json_boolean(gr_gguf_find(r->file, "blk.0.attn_q.bias") != NULL));
}

static graft_status refuse_split(const reader *r, graft_error *err) {
    int64_t count = 0;
    if (!gr_gguf_int(r->file, "split.count", &count) || count < 2) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "one part of a GGUF file that is split");
    gr_where(err, "%s: split.count", r->path);
    gr_found(err, "%lld", (long long)count);
    return gr_hint(err, "llama-gguf-split --merge FIRST-PART OUT makes one file of them");
}

static graft_status read_all(reader *r, graft_error *err) {
    int64_t layers, hidden, mlp, heads, kv_heads, context;
    GR_TRY(refuse_split(r, err));
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
    const char *eps_key = r->traits & GR_ARCH_LAYER_NORM ? "attention.layer_norm_epsilon"
                                                         : "attention.layer_norm_rms_epsilon",
               *config_key = gr_arch_find(r->arch->model_type)->eps_key;
    double eps = optional_real(r, eps_key, -1);
    if (!(eps >= 0 && eps < 1)) return missing(r, eps_key, "is missing or out of range", err);
    put(r, config_key ? config_key : "rms_norm_eps", json_real(eps));
    const gr_gguf_tensor *embedding = gr_gguf_find(r->file, "token_embd.weight");
    if (!embedding || embedding->ndim != 2)
        return missing(r, "token_embd.weight", "(a tensor) is missing or no matrix", err);
    put(r, "vocab_size", json_integer(embedding->shape[0]));
    put(r, "tie_word_embeddings", json_boolean(!gr_gguf_find(r->file, "output.weight")));
    put_traits(r, hidden, heads, layers, head_dim);
    if (r->traits & GR_ARCH_EXPERTS) GR_TRY(put_experts(r, err));
    if (strcmp(r->arch->gguf, "qwen2") != 0) { /* Qwen2's biases are part of its architecture */
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
