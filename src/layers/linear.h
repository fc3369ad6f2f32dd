/* layers/linear.h - linears over a common input, with everything of them that can train, forward and
 * backward.
 *
 *     y_i[T, out_i] = gain_i * (x[T, in] W_i^T + scale_i (drop(x) A_i^T) B_i) + bias_i
 *     A_i [r_i, in]  B_i [r_i, out_i]  W_i [out_i, in], f32 where they train;  gain_i [out_i]: DoRA, else 1
 * Merged, W_i is quant(W_i + scale_i B_i A_i), whose gradients pass straight through the rounding.
 * With a pool, `pool` columns of W share one of A, which is kept as [r_i, in / pool]: x A^T is what the sums
 * of x over each group give.
 *
 * What it does: one group of linears (q k v, or gate up) at a time, so that they share x A^T and one sum of
 * dx. May include: base, kernels, plan/tuning.h, the files of layers that its parts live in. Never:
 * allocates.
 */
#ifndef GR_LAYERS_LINEAR_H
#define GR_LAYERS_LINEAR_H
#include "layers/dora.h"
#include "layers/dropout.h"
#include "layers/gradients.h"
#include "plan/tuning.h"

/* The rows (sequences) of a batch, one after another without padding. A row may be a pack: several rows of
 * the data, its segments, which share a leaf of the tree and see nothing of each other. Borrowed. */
typedef struct gr_batch {
    const int32_t *ids;    /* [tokens] inputs */
    const int32_t *target; /* [tokens] id that the token predicts, -1: no loss there; NULL for prompts */
    const int64_t *start;  /* [nrows + 1]; row j is tokens start[j] .. start[j+1], at least one */
    int64_t nrows, tokens;
    uint64_t first;            /* number of row 0 within the update: the leaf of the tree its gradient is */
    const gr_dropout *dropout; /* NULL: none, as everywhere but in training; borrowed */
    const int64_t *segment;    /* [nsegments + 1], `start` is part of it; NULL: every row is one */
    int64_t nsegments;
    const float *weight; /* [tokens] of each target's loss in the gradient; NULL: 1 each */
} gr_batch;

/* The batch as what mixes tokens or counts positions must see it (attention, rotary embedding): segments are
 * its rows. Its tree is not the batch's. */
static inline gr_batch gr_batch_of_segments(const gr_batch *batch) {
    gr_batch b = *batch;
    if (b.segment) b.start = b.segment, b.nrows = b.nsegments;
    b.segment = NULL;
    b.nsegments = 0;
    return b;
}

/* Places in the parameter vector are GR_NOWHERE for what does not train. */
typedef struct gr_linear {
    gr_mat w;          /* [out, in]: the base's, or the trained one */
    const float *bias; /* [out] or NULL: the base's, or the trained one */
    int64_t rank;      /* 0: no adapter */
    float scale;
    const float *b; /* [rank, out] */
    bool merged;    /* w has the adapter in it already; gradients are as if it had not */
    gr_dora dora;   /* NULL pointers: none */
    int64_t b_at, magnitude_at, bias_at, weight_at;
} gr_linear;

typedef struct gr_linear_group {
    int count;
    gr_linear linear[GR_GROUP_MOST];
    int64_t in, ranks; /* input width; sum of the ranks, 0: no adapter in the group */
    const float *a;    /* [ranks, in], or [ranks, in / pool] */
    int64_t a_at;
    bool merged;       /* the adapted ones are */
    int64_t pool;      /* 0: none */
    const void *zeros; /* with a pool: gr_linear_zeros bytes of them */
    int64_t layer;     /* which group it is: dropout's mask depends on it */
    int number;
} gr_linear_group;

/* Scratch of a group's forward and backward, act, T tokens; NULL where nothing of the model needs it. */
typedef struct gr_linear_scratch {
    void *dxa, *dxa_t, *xa_t; /* [T, ranks]: backward of adapters */
    void *dropped;            /* [T, in]: dropout */
    void *pooled;             /* [T, in / pool]: backward of a pooled A */
    void *wide;               /* [T, out]: backward of DoRA and of trained weights */
    float *sums;              /* f32 [out]: backward of DoRA and of biases */
} gr_linear_scratch;

/* Does a gradient of the group's parameters need x; does any parameter of it train? */
bool gr_linear_needs_input(const gr_linear_group *g);
bool gr_linear_trains(const gr_linear_group *g);

/* Rows [first, first + ranks) of A as an operand [ranks, in], all values times alpha. */
gr_mat gr_linear_a(const gr_linear_group *g, int64_t first, int64_t ranks, float alpha);
/* Bytes of zeros that stand in for the codes and scales of a pooled A. */
static inline int64_t gr_linear_zeros(int64_t ranks, int64_t in) {
    return (ranks * in + 3) / 4;
}

/* y[i][T, out_i] (act); saves xa [T, ranks] (act) = scale * drop(x) A^T for backward; may be NULL when ranks
 * is 0. residual (act [T, out_0], or NULL) is added to y[0]; it may not be y[0]. x may not be
 * scratch->dropped. */
void gr_linear_forward(const gr_compute *c, const gr_linear_group *g, void *const *y, void *xa, const void *x,
                       const gr_batch *batch, const void *residual, const gr_linear_scratch *scratch);
/* Only xa. */
void gr_linear_low_rank(const gr_compute *c, const gr_linear_group *g, void *xa, const void *x,
                        const gr_batch *batch, const gr_linear_scratch *scratch);

/* dx[T, in] (act, =; NULL: not wanted) = sum of gain dy_i W_i + drop(dxa A); adds the gradients of every row
 * of data into `gradients` (NULL when nothing of the group trains). dy_i act [T, out_i], spoiled with DoRA;
 * x, xa as in forward. dx may be x, which is read before it is
 * written; it must not alias dy. */
void gr_linear_backward(const gr_compute *c, const gr_linear_group *g, void *dx,
                        const gr_gradients *gradients, void *const *dy, const void *x, const void *xa,
                        const gr_batch *batch, const gr_linear_scratch *scratch);

#endif
