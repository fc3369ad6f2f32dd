/* model/config.h - what a model is, as data: config.json to checked numbers, one architecture row, one layer
 * row. What it does: reads both styles of config.json (rope_theta + rope_scaling; rope_parameters). May
 * include: base, files. Never: opens weights.
 */
#ifndef GR_MODEL_CONFIG_H
#define GR_MODEL_CONFIG_H
#include "files/json_read.h"
#include "weights/micro.h"

/* Traits of an architecture beyond plain Llama. */
enum {
    GR_ARCH_QKV_BIAS = 1 << 0, /* q, k, v always have biases (Qwen2) */
    GR_ARCH_QK_NORM = 1 << 1,  /* RMSNorm over each head of q and k (Qwen3) */
    GR_ARCH_WINDOW = 1 << 2,   /* config's sliding_window holds for every layer (Mistral) */
    GR_ARCH_LAYER_WINDOW =
        1 << 3, /* sliding window from layer max_window_layers on, if use_sliding_window (Qwen) */
    GR_ARCH_BIAS_OPTION = 1 << 4 /* config's attention_bias, mlp_bias are read (Llama, Qwen3) */
};

typedef struct gr_arch {
    const char *model_type; /* config.json's model_type */
    const char *class_name; /* config.json's architectures[0] */
    unsigned traits;
    const char *about;
} gr_arch;

/* Ended by model_type == NULL. A new architecture is a row here. */
extern const gr_arch gr_arch_table[];
const gr_arch *gr_arch_find(const char *model_type); /* NULL if unknown */

typedef enum gr_rope_kind { GR_ROPE_DEFAULT, GR_ROPE_LINEAR, GR_ROPE_LLAMA3 } gr_rope_kind;

typedef struct gr_rope_config {
    gr_rope_kind kind;
    double theta, factor, low_freq_factor, high_freq_factor;
    int64_t original_max_position;
} gr_rope_config;

#define GR_MAX_LAYERS   1024
#define GR_MAX_HEADS    512  /* attention keeps a turn per kv head on the stack */
#define GR_MAX_HEAD_DIM 4096 /* a head's f32 vector fits on the stack */

typedef struct gr_model_config {
    const gr_arch *arch;
    int64_t hidden, layers, heads, kv_heads, head_dim, mlp, vocab, max_position;
    double norm_eps;
    bool tied; /* lm_head is embed_tokens */
    bool qkv_bias, o_bias, mlp_bias, qk_norm;
    gr_rope_config rope;
    int64_t window[GR_MAX_LAYERS]; /* per layer: keys a query sees, itself included; 0: all */
    int bits, group;               /* config's quantization defaults; 0 if none */
    const gr_micro_row *micro;     /* the default mode when it is not affine */
    json_t *quantization; /* the config's quantization object (owned), NULL if none: per-path entries */
} gr_model_config;

/* Reads DIR/config.json, or JSON text (`name` for errors). On success the caller owns quantization:
 * gr_config_free. */
graft_status gr_config_open(gr_model_config *config, const char *dir, graft_error *err) GR_MUST_CHECK;
graft_status gr_config_parse(gr_model_config *config, const char *text, size_t len, const char *name,
                             graft_error *err) GR_MUST_CHECK;
void gr_config_free(gr_model_config *config);

/* Inverse frequencies [head_dim/2] of the rotary embedding with scaling applied. source: transformers
 * modeling_rope_utils (default, linear, llama3) */
void gr_rope_frequencies(double *inv_freq, const gr_model_config *config);

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
