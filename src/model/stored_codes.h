/* model/stored_codes.h - matrices stored as codes: which format, from config.json and the tensors' shapes;
 * and a mixture's experts, many matrices in one tensor or in many (bind_experts.c). What it does: fills a
 * gr_mat or says in words why it cannot. May include: base, files, weights, kernels (gr_mat), model/config.h,
 * model/roles.h. Never: reads codes.
 */
#ifndef GR_MODEL_STORED_CODES_H
#define GR_MODEL_STORED_CODES_H
#include "files/safetensors.h"
#include "kernels/kernels.h"
#include "model/roles.h"

/* The tensors of one module; NULL where the file has none. */
typedef struct gr_stored_codes_tensors {
    const gr_tensor *weight, *scales, *biases, *global_scale;
} gr_stored_codes_tensors;

/* The format as the shapes have it (rows and cols of mat are set: the packed width gives bits, the scales'
 * width the group, their type the mode), as mlx-lm infers it too: the config's default is only a default. An
 * entry of the module's own in the config must agree. NULL, or what is wrong. */
const char *gr_stored_codes_bind(gr_mat *mat, const gr_model_config *config, const char *module,
                                 const gr_stored_codes_tensors *tensors);

/* Without weights: what the config says; the usual policy (docs/weights.md) where it says nothing, as far as
 * the group divides the row. NULL, or what is wrong. */
const char *gr_stored_codes_plan(gr_mat *mat, const gr_model_config *config, gr_role role,
                                 const char *module);

/* The experts of a role in a block, all in one tensor, which mat then is (quantized or not), or each in its
 * own: mat's data stays NULL then, and places[experts] says where each one's first element lies. NULL, or
 * what is wrong with the module `name`. */
const char *gr_experts_bind(gr_mat *mat, const void **places, char *name, size_t size,
                            const gr_safetensors *file, const gr_model_config *config, gr_role role,
                            int64_t layer);
/* .. of a model in memory, whose gate and up are one matrix. */
#define GR_EXPERTS_IN_MEMORY                                                                                 \
    "is transformers' stack of experts in memory; its save_pretrained writes each alone"

#endif
