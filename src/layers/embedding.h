/* layers/embedding.h - the lookup of token vectors, frozen, with an adapter, or trained itself; forward and
 * backward. May include: base, kernels, layers/linear.h (gr_batch).
 *
 *     x[t] = multiplier * (W[id] + scale * sum_r B[r, id] A[r])        A [rank, hidden]  B [rank, vocab], f32
 *
 * which is the adapter of a tied head (y = x W^T + scale (x A^T) B) read backwards.
 */
#ifndef GR_LAYERS_EMBEDDING_H
#define GR_LAYERS_EMBEDDING_H
#include "layers/linear.h"

typedef struct gr_embedding {
    const gr_mat *table; /* [vocab, hidden]; trained: f32 */
    float multiplier;    /* of the whole vector; backward wants dx multiplied by it already */
    int64_t rank;        /* 0: no adapter */
    float scale;
    const float *a, *b;
    int64_t a_at, b_at, w_at; /* places of what trains, or GR_NOWHERE */
    bool shared;              /* with the head, which has written its part into each row's leaf */
} gr_embedding;

/* row[hidden] f32 = the vector of one id, times the multiplier. */
void gr_embedding_row(const gr_embedding *e, float *row, int64_t id);

/* x[T, hidden] act = vectors of ids (which were checked against the table).
 * scratch: f32 [hidden] per worker is taken from the compute's scratch. */
void gr_embedding_forward(const gr_compute *c, const gr_embedding *e, void *x, const int32_t *ids,
                          int64_t tokens);

/* Every row's gradient joins its tree. dx f32 [T, hidden]: gradient of the forward's x. With `shared` the
 * batch is one row, after gr_head_loss of the same row. */
void gr_embedding_backward(const gr_compute *c, const gr_embedding *e, const gr_gradients *gradients,
                           const float *dx, const gr_batch *batch);

#endif
