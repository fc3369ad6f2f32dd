/* layers/linear.h - linears over a common input, with LoRA inside, forward and backward.
 *
 *     y_i[T, out_i] = x[T, in] W_i^T + bias_i + (scale * x A_i^T) B_i      A_i [r_i, in]  B_i [r_i, out_i],
 * f32
 *
 * What it does: one group of linears (q k v, or gate up) at a time, so that they share x A^T and one sum of
 * dx. May include: base, kernels, plan/tuning.h. Never: allocates; knows which linear it is.
 */
#ifndef GR_LAYERS_LINEAR_H
#define GR_LAYERS_LINEAR_H
#include "layers/dropout.h"
#include "layers/gradients.h"
#include "plan/tuning.h"

/* The rows (sequences) of a batch, one after another without padding. Borrowed. */
typedef struct gr_batch {
    const int32_t *ids;    /* [tokens] inputs */
    const int32_t *target; /* [tokens] id that the token predicts, -1: no loss there; NULL for prompts */
    const int64_t *start;  /* [nrows + 1]; row j is tokens start[j] .. start[j+1], at least one */
    int64_t nrows, tokens;
    uint64_t first;            /* number of row 0 within the update: the leaf of the tree its gradient is */
    const gr_dropout *dropout; /* NULL: none, as everywhere but in training; borrowed */
} gr_batch;

typedef struct gr_linear {
    const gr_mat *w;   /* [out, in] */
    const float *bias; /* [out] or NULL */
    int64_t rank;      /* 0: no adapter */
    const float *b;    /* [rank, out]; NULL when rank is 0 */
    int64_t b_at;      /* its place in the parameter vector */
} gr_linear;

typedef struct gr_linear_group {
    int count;
    gr_linear linear[GR_GROUP_MOST];
    int64_t in, ranks; /* input width; sum of the ranks, 0: no adapter in the group */
    const float *a;    /* [ranks, in] */
    int64_t a_at;
    float scale;
} gr_linear_group;

/* y[i][T, out_i] (act); saves xa [T, ranks] (act) = scale * x A^T for backward; may be NULL when ranks is 0.
 * residual (act [T, out_0], or NULL) is added to y[0]; it may not be y[0]. */
void gr_linear_forward(const gr_compute *c, const gr_linear_group *g, void *const *y, void *xa, const void *x,
                       int64_t tokens, const void *residual);

/* Scratch of backward, act: three of [T, ranks]. */
typedef struct gr_linear_scratch {
    void *dxa, *dxa_t, *xa_t;
} gr_linear_scratch;

/* dx[T, in] (act, =; NULL: not wanted) = sum of dy_i W_i + dxa A; adds dA, dB of every row into `gradients`
 * (NULL when the group has no adapter). dy_i act [T, out_i]; x, xa as in forward. dx must not alias dy or x.
 */
void gr_linear_backward(const gr_compute *c, const gr_linear_group *g, void *dx,
                        const gr_gradients *gradients, const void *const *dy, const void *x, const void *xa,
                        const gr_batch *batch, const gr_linear_scratch *scratch);

#endif
