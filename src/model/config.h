/* model/config.h - what a model is, as data: config.json to checked numbers, one architecture row, one layer
 * row. What it does: reads both styles of config.json (rope_theta + rope_scaling; rope_parameters). May
 * include: base, files. Never: opens weights.
 */
#ifndef GR_MODEL_CONFIG_H
#define GR_MODEL_CONFIG_H
#include "files/json_read.h"
#include "weights/awq_gptq.h"
#include "weights/mx_float.h"

/* Traits of an architecture beyond plain Llama. */
enum {
    GR_ARCH_QKV_BIAS = 1 << 0, /* q, k, v always have biases (Qwen2) */
    GR_ARCH_QK_NORM = 1 << 1,  /* RMSNorm over each head of q and k (Qwen3, Gemma 3) */
    GR_ARCH_WINDOW = 1 << 2,   /* config's sliding_window holds for every layer (Mistral) */
    GR_ARCH_LAYER_WINDOW =
        1 << 3, /* sliding window from layer max_window_layers on, if use_sliding_window (Qwen) */
    GR_ARCH_BIAS_OPTION = 1 << 4,   /* config's attention_bias, mlp_bias are read (Llama, Qwen3) */
    GR_ARCH_WIDE_QK_NORM = 1 << 5,  /* RMSNorm over all of q, and all of k (OLMo 2) */
    GR_ARCH_SANDWICH = 1 << 6,      /* attention and MLP have a norm before and one behind them (Gemma) */
    GR_ARCH_NORM_BEHIND = 1 << 7,   /* .. only the one behind (OLMo 2) */
    GR_ARCH_ONE_PLUS = 1 << 8,      /* norms multiply by 1 + weight (Gemma) */
    GR_ARCH_GEMMA = 1 << 9,         /* embedding times sqrt(hidden), query_pre_attn_scalar, soft caps */
    GR_ARCH_MULTIPLIERS = 1 << 10,  /* Granite's four multipliers */
    GR_ARCH_LOCAL_ROPE = 1 << 11,   /* layers with a window have rotary angles of their own (Gemma 3) */
    GR_ARCH_SOME_ROPE = 1 << 12,    /* no_rope_layers: some layers rotate nothing (SmolLM3) */
    GR_ARCH_PATTERN = 1 << 13,      /* every pattern-th layer sees everything, the others a window (Gemma) */
    GR_ARCH_FUSED = 1 << 15,        /* q, k, v are one matrix, gate and up another (Phi-3) */
    GR_ARCH_PARTIAL = 1 << 16,      /* partial_rotary_factor: the first part of each head rotates */
    GR_ARCH_LAYER_NORM = 1 << 17,   /* LayerNorm with bias instead of RMSNorm (StarCoder2, StableLM) */
    GR_ARCH_PLAIN_MLP = 1 << 18,    /* an MLP without gate, GELU behind its first linear (StarCoder2) */
    GR_ARCH_USE_BIAS = 1 << 19,     /* use_bias, true if silent: all linears (StarCoder2) */
    GR_ARCH_USE_QKV_BIAS = 1 << 20, /* use_qkv_bias (StableLM) */
    GR_ARCH_EXPERTS = 1 << 21,      /* the MLP is a mixture of experts with a router (Qwen3-MoE, OLMoE) */
    GR_ARCH_GROWING_QUERIES =
        1 << 14 /* llama_4_scaling_beta: queries grow with their position (Ministral 3) */
};

typedef struct gr_arch {
    const char *model_type; /* config.json's model_type */
    const char *class_name; /* config.json's architectures[0] */
    unsigned traits;
    const char *about;
    /* what transformers takes where config.json is silent; 0: as for Llama */
    bool tied;
    double theta;
    int64_t head_dim, kv_heads;
    int64_t window;
    int64_t original; /* length that longrope knows */
    int64_t pattern;  /* GR_ARCH_PATTERN */
    double eps;
    double attention_cap, logit_cap;
    double partial;      /* GR_ARCH_PARTIAL */
    const char *eps_key; /* NULL: rms_norm_eps */
    const char *mlp_key; /* NULL: intermediate_size */
} gr_arch;

/* Ended by model_type == NULL. A new architecture is a row here. */
extern const gr_arch gr_arch_table[];
const gr_arch *gr_arch_find(const char *model_type); /* NULL if unknown */

typedef enum gr_rope_kind {
    GR_ROPE_DEFAULT,
    GR_ROPE_LINEAR,
    GR_ROPE_LLAMA3,
    GR_ROPE_YARN,
    GR_ROPE_LONG
} gr_rope_kind;

#define GR_LONG_MOST 256 /* pairs of a head that LONG has a factor for */

typedef struct gr_rope_config {
    gr_rope_kind kind;
    double theta, factor, low_freq_factor, high_freq_factor;
    int64_t original_max_position;
    double beta_fast, beta_slow;  /* YARN */
    bool fractions;               /* YARN: the ends of its blend are no whole pairs */
    double divisor[GR_LONG_MOST]; /* LONG: of each pair's frequency, for rows up to original_max_position */
    double magnitude;             /* cosines and sines are multiplied by it */
    double growth; /* .. and by 1 + growth * log(1 + position / step), the quotient a whole number; 0: not */
    int64_t step;
} gr_rope_config;

/* Which activation is between gate and down. */
typedef enum gr_activation { GR_SILU, GR_GELU_TANH } gr_activation;

#define GR_MAX_LAYERS   1024
#define GR_MAX_HEADS    512   /* attention keeps a turn per kv head on the stack */
#define GR_MAX_HEAD_DIM 4096  /* a head's f32 vector fits on the stack */
#define GR_MAX_WIDE     16384 /* and so does all of q, where a norm spans it */
#define GR_MAX_EXPERTS  1024  /* the router's choices of a token fit on the stack */
#define GR_ROPES        2     /* tables of rotary angles */
#define GR_NO_ROPE      (-1)

typedef struct gr_model_config {
    const gr_arch *arch;
    int64_t hidden, layers, heads, kv_heads, head_dim, mlp, vocab, max_position;
    int64_t experts, experts_used; /* of a mixture, whose experts are each mlp wide; 0: no mixture */
    bool experts_normed;           /* the weights of a token's experts are divided by their sum */
    double norm_eps;
    bool tied; /* lm_head is embed_tokens */
    bool qkv_bias, o_bias, mlp_bias, qk_norm;
    gr_activation activation;
    double embedding_scale, residual_scale, logit_scale; /* what these are multiplied by; 1 */
    double attention_scale;                              /* of q times k; 1 / sqrt(head_dim) */
    double attention_cap, logit_cap;                     /* cap * tanh(x / cap); 0: none */
    gr_rope_config rope[GR_ROPES];
    int64_t rotary;    /* elements of a head that rotate: its first ones */
    int64_t row_limit; /* tokens that a row may have for what is computed to hold; 0: any number */
    int64_t window[GR_MAX_LAYERS]; /* per layer: keys a query sees, itself included; 0: all */
    int8_t rope_of[GR_MAX_LAYERS]; /* per layer: which of rope, or GR_NO_ROPE */
    int bits, group;               /* config's quantization defaults; 0 if none */
    const gr_mx_row *micro;        /* the default mode when it is not affine */
    json_t *quantization; /* the config's quantization object (owned), NULL if none: per-path entries */
    bool columns; /* the files hold AWQ's or GPTQ's linears: all above is as it will be when converted */
} gr_model_config;

/* Width of the MLP that a token passes: of all its experts together. */
static inline int64_t gr_mlp_width(const gr_model_config *c) {
    return c->mlp * (c->experts_used ? c->experts_used : 1);
}

/* Reads DIR/config.json, or JSON text (`name` for errors). On success the caller owns quantization:
 * gr_config_free. */
graft_status gr_config_open_as(gr_model_config *config, const char *dir, gr_reading how,
                               graft_error *err) GR_MUST_CHECK;
static inline GR_MUST_CHECK graft_status gr_config_open(gr_model_config *config, const char *dir,
                                                        graft_error *err) {
    return gr_config_open_as(config, dir, GR_MAPPED, err);
}
graft_status gr_config_parse(gr_model_config *config, const char *text, size_t len, const char *name,
                             graft_error *err) GR_MUST_CHECK;
void gr_config_free(gr_model_config *config);

/* config_awq_gptq.c: does quantization_config name a method whose codes a conversion keeps? (NULL: no.) */
bool gr_is_awq_gptq(const char *method);
/* .. what it says of that method; other orders, bits and groups are refused by name. */
graft_status gr_config_awq_gptq(gr_awq_gptq *columns, const gr_json_scope *quantization_config,
                                const char *method, graft_error *err) GR_MUST_CHECK;
/* .. and as MLX's quantization object (new reference) after a conversion; needs the config's sizes. */
graft_status gr_config_awq_gptq_kept(json_t **kept, const gr_model_config *config, const gr_awq_gptq *columns,
                                     const gr_json_scope *quantization_config,
                                     graft_error *err) GR_MUST_CHECK;

/* config_experts.c: the numbers of a mixture; part of reading a config. */
graft_status gr_config_experts(gr_model_config *config, const gr_json_scope *root,
                               graft_error *err) GR_MUST_CHECK;
/* How many experts; of two keys that a config may have both must say the same. */
graft_status gr_config_expert_count(int64_t *count, const gr_json_scope *root,
                                    graft_error *err) GR_MUST_CHECK;
/* config_rope.c: which layers rotate how; part of reading a config. */
graft_status gr_config_rope(gr_model_config *config, const gr_json_scope *root,
                            graft_error *err) GR_MUST_CHECK;
/* Inverse frequencies [rotary/2] of one of the config's rotary embeddings with scaling applied. source:
 * transformers modeling_rope_utils (default, linear, llama3, yarn, longrope) */
void gr_rope_frequencies(double *inv_freq, const gr_model_config *config, const gr_rope_config *rope);
/* How many of config->rope some layer uses: 1 or 2. */
int gr_rope_count(const gr_model_config *config);
/* Which of them the layer's queries, or its keys, use: their own where they grow; or GR_NO_ROPE. */
int gr_rope_of(const gr_model_config *config, int64_t layer, bool queries);

/* Published shapes: name and config.json text; ended by NULL. */
typedef struct gr_shape {
    const char *name, *config;
} gr_shape;
extern const gr_shape gr_shape_table[];
/* Their names, ended by NULL. */
const char *const *gr_shape_names(void);
/* GRAFT_USAGE lists the names. */
graft_status gr_shape_config(gr_model_config *config, const char *name, graft_error *err) GR_MUST_CHECK;

#endif
