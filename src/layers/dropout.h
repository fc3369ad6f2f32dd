/* layers/dropout.h - dropout on the input of adapters: which elements are kept is a pure function of where
 * they are, so that recompute, slices of a batch, threads, instruction sets and a resumed run all drop the
 * same.
 *
 * The mask. Integers have 32 bits, sums and products are modulo 2^32:
 *
 *     mix(x):      x ^= x >> 16;  x *= 0x7FEB352D;  x ^= x >> 15;  x *= 0x846CA68B;  x ^= x >> 16
 *     fold(h, v):  mix((h ^ v) + 0x9E3779B9)
 *     site    = 0, folded in this order with: the seed's low 32 bits, its high 32 bits, update, row,
 *               layer * 4 + group
 *     token   = fold(site, position)
 *     kept    = fold(token, feature) >= threshold          threshold = floor(p * 2^32)
 *
 *   update    updates that were complete before this one, 0 for the first
 *   row       number of the row within its update, over all its micro-batches, counting rows that carry loss;
 * a pack counts as one layer     of the block, from 0; the head counts as the layer after the last block,
 * group 0 group     0 {q k v}, 1 {o}, 2 {gate up}, 3 {down}: linears that read one input share one mask,
 * where PEFT and mlx-lm draw one for each position  of the token within its row or pack, from 0 feature
 * column of the linear's input, from 0
 *
 * The input of A is x * kept / (1 - p); nothing else sees the mask. In particular DoRA's base product takes
 * the whole x, as in mlx-lm. Only training drops: gr_batch.dropout is NULL everywhere else.
 *
 * May include: base, kernels. Never: state; the mask is not kept, but made again.
 */
#ifndef GR_LAYERS_DROPOUT_H
#define GR_LAYERS_DROPOUT_H
#include "kernels/kernels.h"

typedef struct gr_dropout {
    double p; /* share that is dropped, 0 <= p < 1 */
    uint64_t seed, update;
    uint64_t skip; /* rows of the update before those that a batch counts: of other ranks, or run already */
} gr_dropout;

/* The key of one row of data at one group of linears: `site` above. */
uint32_t gr_dropout_site(const gr_dropout *d, uint64_t row, int64_t layer, int group);
/* `token` above. */
uint32_t gr_dropout_token(uint32_t site, int64_t position);
uint32_t gr_dropout_threshold(const gr_dropout *d);

/* y[T, n] = x[T, n] where kept, else 0, act; y may be x. The factor 1 / (1 - p) is left to the scale of the
 * product that follows. start, nrows, first as in gr_batch. */
void gr_dropout_rows(const gr_compute *c, const gr_dropout *d, int64_t layer, int group, void *y,
                     const void *x, int64_t n, const int64_t *start, int64_t nrows, uint64_t first);

/* An adapter's scale with the factor that gr_dropout_rows leaves to it; d NULL: nothing is dropped. */
static inline float gr_dropout_scale(const gr_dropout *d, float scale) {
    return d ? (float)((double)scale / (1 - d->p)) : scale;
}

#endif
