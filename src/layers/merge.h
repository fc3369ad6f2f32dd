/* layers/merge.h - an adapter as part of the weight it adapts, row by row: what fusing writes, and what
 * quantization-aware training computes with. Both call this, so that both get the same bits.
 * May include: base. Never: allocates, quantizes.
 */
#ifndef GR_LAYERS_MERGE_H
#define GR_LAYERS_MERGE_H
#include "base/memory.h"

/* An adapted linear; A [rank, in], or [rank, in / pool], B [rank, out] as everywhere. */
typedef struct gr_merge {
    const float *a, *b;
    const float *magnitude; /* [out]: DoRA; NULL: none */
    int64_t rank, in, out;
    int64_t pool; /* 0: none */
    float scale;
} gr_merge;

/* w[in], row `row` of W, becomes that row of W + scale (A^T B)^T; with DoRA, of the whole at the length that
 * the magnitude says. A value whose delta is zero keeps every bit, and so does a row whose length is the
 * magnitude up to f32's rounding. */
void gr_merge_row(float *w, const gr_merge *m, int64_t row);

/* With a pool: what that row's columns get, sums[in / pool]. */
void gr_merge_sums(float *sums, const gr_merge *m, int64_t row);

#endif
