/* model/model.h - a model opened: its config, and where every weight is.
 * What it does: binds each role of each layer to mapped bytes, with every shape checked.
 * May include: base, files, model/config.h, model/roles.h, kernels/kernels.h (gr_mat only). Never: computes.
 */
#ifndef GR_MODEL_MODEL_H
#define GR_MODEL_MODEL_H
#include "files/safetensors.h"
#include "kernels/kernels.h"
#include "model/roles.h"
#include <stdatomic.h>

typedef struct gr_layer {
    gr_mat linear[GR_LINEARS];                    /* borrowed from the mapping */
    const void *const *expert[GR_EXPERT_LINEARS]; /* [experts]: where each expert's matrix lies; NULL: one
                                                     after another, in linear[] */
    const float *bias[GR_ROLES];                  /* [out] or NULL; of norms, too (LayerNorm) */
    const float *norm[GR_ROLES];      /* as stored; NULL for what is no norm of this model's blocks */
    const float *used_norm[GR_ROLES]; /* .. as multiplied with: the same, or 1 + each (GR_ARCH_ONE_PLUS) */
    int64_t window;                   /* keys a query sees; 0: all */
} gr_layer;

typedef struct gr_model {
    gr_model_config config;
    char *dir;
    gr_safetensors *file;                      /* NULL for a shape or a config without weights */
    gr_reading reading;                        /* of file */
    gr_layer *layer;                           /* [layers] */
    gr_mat embed, head;                        /* [vocab, hidden]; the same bytes when tied */
    const float *final_norm, *used_final_norm; /* [hidden]; the latter times logit_scale, too */
    const float *final_bias;                   /* [hidden] or NULL */
    double *inv_freq[GR_ROPES];                /* [rotary/2]; the second NULL where no layer has it */
    float *small;                              /* norms and biases as f32, owned */
    float *used; /* norms as multiplied with where that is not as stored, owned */
    const void *
        *experts; /* [layers][GR_EXPERT_LINEARS][experts]: places, where files have each alone; owned */
    char *random; /* weights made up by gr_model_from_shape, owned */
    /* of all that it computes with, every byte of it: model/identity.h. 0: not asked for */
    uint64_t digest;
    uint32_t config_digest, *part_digests; /* [layers][GR_ROLES], owned */
    atomic_int others;                     /* owners beside the first */
} gr_model;

/* Opens a model directory in Hugging Face's or MLX's layout. Missing tensors and wrong shapes are collected
 * and reported at once. Owned by caller until gr_model_free. The model is immutable. */
graft_status gr_model_open_as(gr_model **model, const char *dir, gr_reading how,
                              graft_error *err) GR_MUST_CHECK;
/* Mapped. */
GR_MUST_CHECK static inline graft_status gr_model_open(gr_model **model, const char *dir, graft_error *err) {
    return gr_model_open_as(model, dir, GR_MAPPED, err);
}
/* A model without files, for plans (weights NULL) or with random weights (for benchmarks): linears 4-bit
 * group 64, embedding and head bf16. */
graft_status gr_model_from_shape(gr_model **model, const char *name, bool weights,
                                 graft_error *err) GR_MUST_CHECK;
/* Only config.json, without weights: each matrix has shape and type but no bytes. Linears have the config's
 * bits and group; embedding and head only where an entry of their own says so, since only the weights could
 * tell: an upper bound. Without a quantization linears are 4-bit, group 64, wherever
 * their rows divide, as gr_convert quantizes. */
graft_status gr_model_from_config(gr_model **model, const char *dir, graft_error *err) GR_MUST_CHECK;
/* Every matrix in a fixed order (without bytes where the model lacks that role); NULL after the last. */
gr_mat *gr_model_matrix_at(gr_model *model, int64_t i);
/* True when any matrix has fewer bits than 16. */
bool gr_model_quantized(const gr_model *model);
/* Of a model without weights: as if it were stored in 16 bits, whatever would be its policy. */
void gr_model_assume_16_bit(gr_model *model);
/* One more owner, who frees it too; it is not changed any more, and identified if it is to be. Returns it. */
gr_model *gr_model_share(gr_model *model);
void gr_model_free(gr_model *model);

/* Cosines and sines [rotary/2] of one of the rotary embeddings at a position. */
void gr_model_angles(float *cosine, float *sine, const gr_model *model, int rope, int64_t position);

/* The base's matrix of a role; NULL for norms. Its norm [n]; NULL for matrices. layer is ignored outside
 * blocks. Borrowed from the model. */
const gr_mat *gr_model_matrix(const gr_model *model, gr_role role, int64_t layer);
const float *gr_model_norm(const gr_model *model, gr_role role, int64_t layer);
/* The bias of a linear or a norm; NULL: none. */
const float *gr_model_bias(const gr_model *model, gr_role role, int64_t layer);
/* The matrices of a role's experts; count 0 for other roles. Borrowed. */
gr_stack gr_model_stack(const gr_model *model, gr_role role, int64_t layer);
/* Is what a norm multiplies with not its weight? Then it is (one + weight) * factor, into used[n]. */
bool gr_norm_differs(const gr_model_config *config);
void gr_norm_used(float *used, const float *weight, const gr_model_config *config, gr_role role);
/* factor of that: a gradient of what is multiplied with, times it, is the weight's. */
float gr_norm_factor(const gr_model_config *config, gr_role role);
/* What a norm multiplies with. */
const float *gr_model_used_norm(const gr_model *model, gr_role role, int64_t layer);

/* Bytes a matrix takes in its file. */
uint64_t gr_mat_bytes(const gr_mat *mat);
/* Bytes of memory that the base takes: of its files where they were read, else what is touched of them. */
uint64_t gr_model_held_bytes(const gr_model *model);
/* Base parameters, tied ones once. */
int64_t gr_model_parameters(const gr_model *model);
/* Bytes of norms and biases, which are kept as f32. */
uint64_t gr_model_small_bytes(const gr_model *model);
/* Bytes of weights a forward and backward pass touches (mapped and small). */
uint64_t gr_model_weight_bytes(const gr_model *model);

#endif
