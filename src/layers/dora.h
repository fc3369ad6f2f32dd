/* layers/dora.h - DoRA: the length of every row of an adapted weight.
 *
 *     y = gain * (x W^T + scale (x A^T) B) + bias      gain[o] = magnitude[o] / norm[o]
 *     norm[o] = |row o of W + scale (A^T B)^T|, a constant in backward      source: arXiv 2402.09353 eq.
 * 5, 4.3
 *
 * Norms are of the parameters, not of the tokens: one pass over W when it is bound, then one product of
 * `rank` rows with W after every update. May include: base, kernels. Never: allocates.
 */
#ifndef GR_LAYERS_DORA_H
#define GR_LAYERS_DORA_H
#include "kernels/kernels.h"

/* Of one linear, f32 [out] each; NULL: no DoRA there. */
typedef struct gr_dora {
    float *squares;  /* |W|^2 of each row */
    float *inv_norm; /* 1 / norm */
    float *gain;     /* magnitude / norm */
} gr_dora;

/* Scratch of gr_dora_refresh for the widest linear and the highest rank. */
typedef struct gr_dora_scratch {
    void *a;      /* act [rank, in] */
    void *aa;     /* act [rank, rank] */
    float *cross; /* f32 [rank, out] */
} gr_dora_scratch;

/* squares[rows] = sum of squares of each row, added in double. */
void gr_row_squares(const gr_compute *c, float *squares, const gr_mat *mat);

/* inv_norm and gain from squares and the parameters: a [rank, in], b [rank, out], magnitude [out], f32:
 *     norm^2 = |w|^2 + 2 scale sum_r b_r (A W^T + scale/2 A A^T B)_r
 * A row of zeros gets a tiny norm instead of 0. */
void gr_dora_refresh(const gr_compute *c, const gr_dora *d, const gr_mat *w, const float *a, const float *b,
                     const float *magnitude, int64_t rank, float scale, const gr_dora_scratch *scratch);

#endif
