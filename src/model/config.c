#include "model/config.h"
#include <math.h>
#include <stdio.h>

#define MAX_DIM ((int64_t)1 << 24)

/* "llama, mistral, .." for messages. */
static void arch_names(char *out, size_t size) {
    size_t used = 0;
    out[0] = 0;
    for (const gr_arch *arch = gr_arch_table; arch->model_type && used < size; arch++) {
        int n = snprintf(out + used, size - used, "%s%s", used ? ", " : "", arch->model_type);
        used += n > 0 ? (size_t)n : 0;
    }
}

static bool is_mixture(const gr_json_scope *root) {
    static const char *const keys[] = {"num_experts", "num_local_experts", "n_routed_experts"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (gr_json_field(root, keys[i])) return true;
    return false;
}

static graft_status read_arch(gr_model_config *c, const gr_json_scope *root, graft_error *err) {
    const char *type = NULL;
    char known[400];
    GR_TRY(gr_json_need(root, "model_type", err));
    GR_TRY(gr_json_string(root, "model_type", &type, err));
    if ((c->arch = gr_arch_find(type))) return GRAFT_OK;
    arch_names(known, sizeof known);
    gr_fail(err, GRAFT_UNSUPPORTED,
            is_mixture(root) ? "this mixture of experts is not supported" : "architecture is not known");
    gr_where(err, "%s: model_type", root->file);
    gr_expected(err, "one of %s", known);
    if (gr_json_field(root, "text_config"))
        gr_hint(err, "graft convert takes the text part out of a model of images and text");
    return gr_found(err, "%s", type);
}

/* A required size in [1, MAX_DIM]. */
static graft_status need_size(const gr_json_scope *root, const char *key, int64_t *value, graft_error *err) {
    GR_TRY(gr_json_need(root, key, err));
    return gr_json_int(root, key, 1, MAX_DIM, value, err);
}

static graft_status bad_relation(const gr_json_scope *root, const char *what, int64_t a, int64_t b,
                                 graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "%s", what);
    gr_where(err, "%s", root->file);
    return gr_found(err, "%lld and %lld", (long long)a, (long long)b);
}

static graft_status read_sizes(gr_model_config *c, const gr_json_scope *root, graft_error *err) {
    GR_TRY(need_size(root, "hidden_size", &c->hidden, err));
    GR_TRY(need_size(root, "num_hidden_layers", &c->layers, err));
    GR_TRY(need_size(root, c->arch->mlp_key ? c->arch->mlp_key : "intermediate_size", &c->mlp, err));
    GR_TRY(need_size(root, "num_attention_heads", &c->heads, err));
    GR_TRY(need_size(root, "vocab_size", &c->vocab, err));
    c->kv_heads = c->arch->kv_heads ? gr_min_i64(c->arch->kv_heads, c->heads) : c->heads;
    GR_TRY(gr_json_int(root, "num_key_value_heads", 1, MAX_DIM, &c->kv_heads, err));
    if (c->layers > GR_MAX_LAYERS)
        return bad_relation(root, "too many layers", c->layers, GR_MAX_LAYERS, err);
    if (c->heads % c->kv_heads)
        return bad_relation(root, "num_attention_heads is no multiple of num_key_value_heads", c->heads,
                            c->kv_heads, err);
    c->head_dim = c->arch->head_dim;
    GR_TRY(gr_json_int(root, "head_dim", 1, GR_MAX_HEAD_DIM, &c->head_dim, err));
    if (!c->head_dim) {
        if (c->hidden % c->heads)
            return bad_relation(root, "hidden_size is no multiple of num_attention_heads", c->hidden,
                                c->heads, err);
        c->head_dim = c->hidden / c->heads;
    }
    if (c->head_dim > GR_MAX_HEAD_DIM)
        return bad_relation(root, "head_dim is too large", c->head_dim, GR_MAX_HEAD_DIM, err);
    if (c->heads > GR_MAX_HEADS)
        return bad_relation(root, "num_attention_heads is too large", c->heads, GR_MAX_HEADS, err);
    if (c->head_dim % 2) return bad_relation(root, "head_dim must be even to rotate", c->head_dim, 2, err);
    if (c->heads * c->head_dim > MAX_DIM)
        return bad_relation(root, "num_attention_heads x head_dim is too large", c->heads, c->head_dim, err);
    c->max_position = 2048;
    GR_TRY(gr_json_int(root, "max_position_embeddings", 1, (int64_t)1 << 40, &c->max_position, err));
    const char *eps = c->arch->eps_key ? c->arch->eps_key : "rms_norm_eps";
    c->norm_eps = c->arch->eps > 0 ? c->arch->eps : c->arch->traits & GR_ARCH_LAYER_NORM ? 1e-5 : 1e-6;
    return gr_json_real(root, eps, 0, 1, &c->norm_eps, err);
}

/* What an architecture's files may ask for and is not computed. */
static graft_status refuse_flags(const gr_model_config *c, const gr_json_scope *root, graft_error *err) {
    /* for all; then of mixtures: they are trained on the loss of tokens alone, and have no biases or windows
     */
    static const char *const flags[] = {"qk_layernorm", "use_parallel_residual", "output_router_logits",
                                        "mlp_bias", "use_sliding_window"};
    for (int i = 0; i < (c->arch->traits & GR_ARCH_EXPERTS ? 5 : 2); i++) {
        bool set = false;
        GR_TRY(gr_json_bool(root, flags[i], &set, err));
        if (!set) continue;
        gr_fail(err, GRAFT_UNSUPPORTED, "a variant of this architecture is not supported");
        gr_where(err, "%s: %s", root->file, flags[i]);
        return gr_found(err, "true");
    }
    return GRAFT_OK;
}

static graft_status read_activation(gr_model_config *c, const gr_json_scope *root, graft_error *err) {
    bool gemma = c->arch->traits & GR_ARCH_GEMMA, plain = c->arch->traits & GR_ARCH_PLAIN_MLP;
    const char *key = gemma ? "hidden_activation" : "hidden_act",
               *name = gemma || plain ? "gelu_pytorch_tanh" : "silu";
    GR_TRY(gr_json_string(root, key, &name, err));
    if (strcmp(name, "gelu_pytorch_tanh") == 0) {
        c->activation = GR_GELU_TANH;
        return GRAFT_OK;
    }
    if (!plain && (strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0)) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "activation is not supported");
    gr_where(err, "%s: %s", root->file, key);
    gr_expected(err, plain ? "gelu_pytorch_tanh" : "silu or gelu_pytorch_tanh");
    return gr_found(err, "%s", name);
}

static graft_status read_flags(gr_model_config *c, const gr_json_scope *root, graft_error *err) {
    unsigned traits = c->arch->traits;
    c->tied = c->arch->tied;
    GR_TRY(gr_json_bool(root, "tie_word_embeddings", &c->tied, err));
    c->qkv_bias = traits & GR_ARCH_QKV_BIAS;
    c->qk_norm = traits & (GR_ARCH_QK_NORM | GR_ARCH_WIDE_QK_NORM);
    if (traits & GR_ARCH_WIDE_QK_NORM && c->heads * c->head_dim > GR_MAX_WIDE)
        return bad_relation(root, "q is too wide for a norm over all of it", c->heads * c->head_dim,
                            GR_MAX_WIDE, err);
    if (traits & GR_ARCH_BIAS_OPTION) {
        bool attention_bias = false;
        GR_TRY(gr_json_bool(root, "attention_bias", &attention_bias, err));
        GR_TRY(gr_json_bool(root, "mlp_bias", &c->mlp_bias, err));
        c->qkv_bias = c->o_bias = attention_bias;
    }
    if (traits & GR_ARCH_USE_QKV_BIAS) GR_TRY(gr_json_bool(root, "use_qkv_bias", &c->qkv_bias, err));
    if (traits & GR_ARCH_USE_BIAS) {
        bool bias = true;
        GR_TRY(gr_json_bool(root, "use_bias", &bias, err));
        c->qkv_bias = c->o_bias = c->mlp_bias = bias;
    }
    GR_TRY(refuse_flags(c, root, err));
    return read_activation(c, root, err);
}

/* A factor that config.json may give, above 0. */
static graft_status read_factor(const gr_json_scope *root, const char *key, double *value, graft_error *err) {
    return gr_json_real(root, key, 1e-6, 1e6, value, err);
}

/* A cap of tanh: null is none, as silence is where the architecture has no default. */
static graft_status read_cap(const gr_json_scope *root, const char *key, double otherwise, double *cap,
                             graft_error *err) {
    *cap = json_is_null(json_object_get(root->object, key)) ? 0 : otherwise;
    return read_factor(root, key, cap, err);
}

/* What sums and scores are multiplied by, and capped at. */
static graft_status read_numbers(gr_model_config *c, const gr_json_scope *root, graft_error *err) {
    double divisor = 1;
    bool both_ways = false;
    c->embedding_scale = c->residual_scale = c->logit_scale = 1;
    c->attention_scale = 1 / sqrt((double)c->head_dim);
    if (c->arch->traits & GR_ARCH_MULTIPLIERS) {
        c->attention_scale = 1;
        GR_TRY(read_factor(root, "embedding_multiplier", &c->embedding_scale, err));
        GR_TRY(read_factor(root, "residual_multiplier", &c->residual_scale, err));
        GR_TRY(read_factor(root, "attention_multiplier", &c->attention_scale, err));
        GR_TRY(read_factor(root, "logits_scaling", &divisor, err));
        c->logit_scale = 1 / divisor;
    }
    if (!(c->arch->traits & GR_ARCH_GEMMA)) return GRAFT_OK;
    double scalar = 256;
    c->embedding_scale = sqrt((double)c->hidden);
    GR_TRY(read_factor(root, "query_pre_attn_scalar", &scalar, err));
    c->attention_scale = 1 / sqrt(scalar);
    GR_TRY(read_cap(root, "attn_logit_softcapping", c->arch->attention_cap, &c->attention_cap, err));
    GR_TRY(read_cap(root, "final_logit_softcapping", c->arch->logit_cap, &c->logit_cap, err));
    GR_TRY(gr_json_bool(root, "use_bidirectional_attention", &both_ways, err));
    if (!both_ways) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "attention in both directions is not supported");
    return gr_where(err, "%s: use_bidirectional_attention", root->file);
}

static graft_status read_columns(gr_model_config *c, const gr_json_scope *q, const char *method,
                                 graft_error *err) {
    gr_awq_gptq columns;
    GR_TRY(gr_config_awq_gptq(&columns, q, method, err));
    c->columns = true;
    c->bits = columns.bits;
    c->group = columns.group;
    return gr_config_awq_gptq_kept(&c->quantization, c, &columns, q, err);
}

static graft_status read_quantization(gr_model_config *c, const gr_json_scope *root, graft_error *err) {
    gr_json_scope q;
    char path[128];
    int64_t bits = 0, group = 0;
    const char *mode = "affine";
    GR_TRY(gr_json_object(root, "quantization", &q, path, err));
    if (!q.object) { /* transformers' key; only MLX's content is understood, others have quant_method */
        const char *method = NULL;
        GR_TRY(gr_json_object(root, "quantization_config", &q, path, err));
        if (!q.object) return GRAFT_OK;
        GR_TRY(gr_json_string(&q, "quant_method", &method, err));
        if (gr_is_awq_gptq(method)) return read_columns(c, &q, method, err);
        if (method) {
            gr_fail(err, GRAFT_UNSUPPORTED, "quantization method is not supported");
            gr_where(err, "%s: quantization_config.quant_method", root->file);
            gr_expected(err, "MLX's affine quantization, awq, gptq, or 16-bit weights");
            return gr_found(err, "%s", method);
        }
    }
    GR_TRY(gr_json_int(&q, "bits", 2, 8, &bits, err));
    GR_TRY(gr_json_int(&q, "group_size", 16, 128, &group, err));
    GR_TRY(gr_json_string(&q, "mode", &mode, err));
    c->micro = gr_mx_by_mode(mode);
    if (!c->micro && strcmp(mode, "affine") != 0) {
        gr_fail(err, GRAFT_UNSUPPORTED, "quantization mode is not supported");
        gr_where(err, "%s: %s.mode", root->file, q.path);
        gr_expected(err, "affine, mxfp4, mxfp8 or nvfp4");
        return gr_found(err, "%s", mode);
    }
    if (c->micro && (bits || group) && gr_mx_by_format((int)bits, (int)group) != c->micro) {
        gr_fail(err, GRAFT_CORRUPT, "quantization mode does not have these bits and group_size");
        gr_where(err, "%s: %s", root->file, q.path);
        gr_expected(err, "%s: bits %d, group_size %d", mode, c->micro->bits, c->micro->group);
        return gr_found(err, "bits %lld, group_size %lld", (long long)bits, (long long)group);
    }
    c->bits = c->micro ? c->micro->bits : (int)bits;
    c->group = c->micro ? c->micro->group : (int)group;
    c->quantization = json_deep_copy(q.object);
    return c->quantization ? GRAFT_OK : gr_no_memory(err, 0);
}

static graft_status read_root(gr_model_config *c, const json_t *object, const char *name, graft_error *err) {
    gr_json_scope root = {object, name, ""};
    memset(c, 0, sizeof *c);
    if (!json_is_object(object)) {
        gr_fail(err, GRAFT_CORRUPT, "config is not a JSON object");
        return gr_where(err, "%s", name);
    }
    GR_TRY(read_arch(c, &root, err));
    GR_TRY(read_sizes(c, &root, err));
    GR_TRY(gr_config_experts(c, &root, err));
    GR_TRY(read_flags(c, &root, err));
    GR_TRY(gr_config_rope(c, &root, err));
    GR_TRY(read_numbers(c, &root, err));
    return read_quantization(c, &root, err);
}

graft_status gr_config_parse(gr_model_config *c, const char *text, size_t len, const char *name,
                             graft_error *err) {
    json_t *object = NULL;
    memset(c, 0, sizeof *c);
    GR_TRY(gr_json_parse(&object, text, len, name, err));
    graft_status st = read_root(c, object, name, err);
    json_decref(object);
    if (st != GRAFT_OK) gr_config_free(c);
    return st;
}

graft_status gr_config_open_as(gr_model_config *c, const char *dir, gr_reading how, graft_error *err) {
    json_t *object = NULL;
    memset(c, 0, sizeof *c);
    char *path = gr_path_join(dir, "config.json");
    if (!path) return gr_no_memory(err, strlen(dir));
    graft_status st = gr_json_load_as(&object, path, GR_CONFIG_LIMIT, how, err);
    if (st == GRAFT_NOT_FOUND)
        gr_hint(err, "--model takes a model directory with config.json, or a .gguf file");
    if (st == GRAFT_OK) st = read_root(c, object, path, err);
    if (st != GRAFT_OK) gr_config_free(c);
    json_decref(object);
    free(path);
    return st;
}

void gr_config_free(gr_model_config *c) {
    json_decref(c->quantization);
    c->quantization = NULL;
}
