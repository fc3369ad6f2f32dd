/* train/tensor_digests.h - every tensor of a run, of the base and of the adapter, each frozen or trainable,
 * and the proof that training kept to it. What it does: lists, digests, compares. May include: base, model,
 * plan. Never: changes a number.
 */
#ifndef GR_TRAIN_TENSOR_DIGESTS_H
#define GR_TRAIN_TENSOR_DIGESTS_H
#include "base/pool.h"
#include "model/model.h"
#include "plan/tuning.h"

#define GR_TENSOR_DIGESTS_PARTS 3 /* codes, scales and biases of a quantized matrix */

typedef struct gr_tensor_digests_row {
    char name[96];    /* "model.layers.0.self_attn.q_proj.weight", .bias; of adapters .lora_A, .lora_B,
                         .magnitude */
    int64_t shape[2]; /* of experts: rows are those of one after another, in A and B too */
    bool trainable;
    bool adapter; /* beside the base's tensor, not in its place */
    int bits;     /* of an element as it is held */
    gr_param_kind kind;
    bool waits; /* an A whose B is all zero: its gradient is zero until B has moved */
    const void *data[GR_TENSOR_DIGESTS_PARTS]; /* borrowed; NULL: no such part */
    size_t bytes[GR_TENSOR_DIGESTS_PARTS];
    const void *const
        *places;         /* [place_count] of experts that lie alone, bytes[0] each: data has the first */
    int64_t place_count; /* 0: no such places */
} gr_tensor_digests_row;

typedef struct gr_tensor_digests {
    gr_tensor_digests_row
        *rows; /* block by block, then what is outside; adapters after the tensor they adapt */
    size_t count;
} gr_tensor_digests;

/* params: the tuning's parameters; a tensor that trains itself is listed once, with its values there. Owned
 * by caller until gr_tensor_digests_free; borrows from all three. */
graft_status gr_tensor_digests_new(gr_tensor_digests *ledger, const gr_model *model, const gr_tuning *tuning,
                                   const float *params, graft_error *err) GR_MUST_CHECK;
void gr_tensor_digests_free(gr_tensor_digests *ledger);

/* Digest of one tensor's bytes as they are now. */
uint64_t gr_tensor_digests_digest(const gr_tensor_digests_row *row);
/* Of all of them: digests[count]. */
void gr_tensor_digests_digests(const gr_tensor_digests *ledger, gr_pool *pool, uint64_t *digests);

/* What a run shows about itself. */
typedef struct gr_proof {
    int64_t frozen, trainable;
    int64_t waiting; /* of the trainable: those that could not move yet */
    uint64_t digest; /* of all frozen tensors */
} gr_proof;
/* Compares the tensors with their digests before `updates` updates (at least one): GRAFT_INTERNAL names a
 * frozen tensor that changed, GRAFT_MISMATCH a trainable one that did not. An A that
 * waits for its B may stand still in one update. */
graft_status gr_tensor_digests_check(gr_proof *proof, const gr_tensor_digests *ledger, const uint64_t *before,
                                     const uint64_t *after, int64_t updates, graft_error *err) GR_MUST_CHECK;

#endif
