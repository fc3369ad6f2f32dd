/* layers/head.h - final norm, lm_head and cross-entropy over the tokens that carry loss, in tiles of rows.
 * What it does: softmax of a tile -> loss per target -> dlogits -> straight back; full logits never exist,
 * and rows without a target cost nothing. May include: base, kernels, layers.
 */
#ifndef GR_LAYERS_HEAD_H
#define GR_LAYERS_HEAD_H
#include "layers/norm.h"

typedef struct gr_head {
    const gr_mat *w;   /* [vocab, hidden] */
    gr_norm norm;      /* [hidden] */
    float norm_factor; /* the gradient of its weight is that of what it multiplies with, times this */
    int64_t hidden, vocab;
    float weight; /* the gradient is that of weight x summed loss, beside the batch's weights; bind sets 1 */
    int64_t tile; /* rows at once */
    /* what trains, at its places in the parameter vector or GR_NOWHERE; rank 0: no adapter */
    int64_t rank;
    float scale;
    const float *a, *b; /* [rank, hidden], [rank, vocab] */
    int64_t a_at, b_at, w_at, norm_at, norm_bias_at;
    int64_t layer; /* dropout's number of the head */
    bool shared; /* a, b and w are the embedding's: its backward completes each row's leaf and lets it join */
    /* scratch, from bind */
    gr_softmax softmax;            /* [tile, vocab]; dlogits take p's place; p is NULL without backward */
    int32_t *target;               /* [tile] */
    float *lse;                    /* [tile]; NULL unless logits are capped */
    void *x_in, *x;                /* act [tile, hidden]: gathered, normalized */
    float *rstd;                   /* [tile] */
    float *dx;                     /* f32 [tile, hidden] */
    int64_t *at;                   /* [tile]: token of each row */
    void *xa, *dxa, *xa_t, *dxa_t; /* act [tile, rank], transposed [rank, tile]; NULL: no adapter */
    void *dlogits_t;               /* act [vocab, tile]; NULL unless w trains */
    void *dropped, *low;           /* act [tile, hidden]: x under dropout's mask, dxa A; NULL without */
} gr_head;

/* Loss of one target. */
typedef struct gr_target {
    double loss;  /* -log p(target) */
    bool correct; /* the target has the largest logit (first of equals) */
} gr_target;

/* Rows per tile: as many as keep the tile's softmax within 54 MB (in bf16), GR_HEAD_TILE_LEAST .. GR_MBLK. */
#define GR_HEAD_TILE_LEAST (2 * GR_MR)
int64_t gr_head_tile(int64_t vocab);
/* As few tiles of at most `tile` rows as hold so many targets, of one size: a small last one would pay for
 * its panels alone. At least 1. */
int64_t gr_head_even_tile(int64_t tile, int64_t targets);

/* For every token t with a target: predicts it from x[t] (act [T, hidden], the last block's output).
 * targets[n] are filled in token order; returns n. gradients (NULL: no backward) receives what trains here,
 * row by row; dx (f32 [T, hidden], +=; NULL: not wanted) the gradient of the summed loss. With `shared` the
 * batch is one row. */
int64_t gr_head_loss(const gr_compute *c, const gr_head *h, gr_target *targets, float *dx,
                     const gr_gradients *gradients, const void *x, const gr_batch *batch);

/* logits[n, vocab] f32 of tokens t0 .. t0+n, n <= tile. */
void gr_head_logits(const gr_compute *c, const gr_head *h, float *logits, const void *x, int64_t t0,
                    int64_t n);

#endif
