/* layers/gradients.h - gradients of parameters: each row of data is one leaf of a tree, complete before it
 * joins. The tree is a binary counter over the rows of an update (gr_epilogue.slots), so the sum of n rows
 * has the same bits whatever the batches, slices and threads were. May include: base, kernels.
 */
#ifndef GR_LAYERS_GRADIENTS_H
#define GR_LAYERS_GRADIENTS_H
#include "kernels/kernels.h"

/* Gradient sums of the update so far, each a whole parameter vector. After n rows there is one sum for every
 * bit set in n, of so many rows; they lie as a stack, that of the most rows first. */
typedef struct gr_gradients {
    float *slots[GR_TREE_LEVELS];
    int count;
} gr_gradients;

/* Slots that the gradients of `rows` rows need. leaves: gr_gradients_leaf is used, which needs room of its
 * own beside the sums that it will join. */
int gr_gradients_slots(int64_t rows, bool leaves);
/* level[i] = where the sum of 2^i rows lies, or will lie, while row number `rows` joins (and `rows` rows
 * have): as gr_epilogue and gr_optim_collect take them. Of use only where there is such a sum; NULL: no slot.
 */
void gr_gradients_levels(const gr_gradients *g, uint64_t rows, float *level[GR_TREE_LEVELS]);

/* Adds left x right, [m, n] over len tokens of one row of data, at element `at` of the vector. left act [m,
 * len] with leading dimension ld_left (a transposed activation), right act [len, n]. row: as gr_batch.first
 * counts. */
void gr_gradients_add_product(const gr_compute *c, const gr_gradients *g, int64_t at, uint64_t row, int64_t m,
                              int64_t n, const void *left, int64_t ld_left, const void *right, int64_t len);

/* Adds a finished gradient v[n] of one row of data; v is spoiled. */
void gr_gradients_add_vector(const gr_compute *c, const gr_gradients *g, int64_t at, uint64_t row, float *v,
                             int64_t n);

/* Where row `row` collects its gradient at element `at` before it joins: on top of the stack. Written in any
 * way (=, +=, several parts), read by join alone. */
float *gr_gradients_leaf(const gr_gradients *g, int64_t at, uint64_t row);
/* The n floats of a complete leaf join the tree. */
void gr_gradients_join(const gr_compute *c, const gr_gradients *g, int64_t at, uint64_t row, int64_t n);

/* sum[n] (f32, =) over len tokens of dy[t, n], or of dy[t, n] * z[t, n] where z is not NULL; act [len, n]. */
void gr_column_sums(const gr_compute *c, float *sum, const void *dy, const void *z, int64_t len, int64_t n);

#endif
