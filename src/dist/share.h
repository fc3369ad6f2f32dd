/* dist/share.h - the leaves of the gradient tree that a rank has, and the nodes of the tree that they make.
 * What it does: the tree is a binary counter over the rows of an update (layers/gradients.h). The leaves
 * [begin, end) of a rank are the largest whole nodes that lie inside: first rising, so that a left
 * neighbour's last leaves join elsewhere, then falling, like a counter. Who adds up the nodes of all ranks in
 * the order of their leaves gets the bits of one rank. May include: base, kernels. Never: floats.
 */
#ifndef GR_DIST_SHARE_H
#define GR_DIST_SHARE_H
#include "kernels/kernels.h"

/* Nodes of a run of leaves at most. */
#define GR_SHARE_NODES (2 * GR_TREE_LEVELS)

/* Unit or leaf number at which rank `rank`'s part of n begins; that of rank `size` is n. */
static inline int64_t gr_share_begin(int64_t n, int rank, int size) {
    return n / size * rank + gr_min_i64(rank, n % size);
}

/* End of the block that begins at leaf `at` < end: a counter that begins anew there never leaves the node
 * that it fills. Blocks of a run follow each other; all but the last are one node. */
uint64_t gr_share_block(uint64_t at, uint64_t end);
/* level[i]: node i of the run has 2^level leaves; in the order of their leaves. Returns how many. */
int gr_share_nodes(int level[GR_SHARE_NODES], uint64_t begin, uint64_t end);
/* Nodes at most of any run of so many leaves. */
int gr_share_most(uint64_t leaves);
/* Slots that a rank's own leaves need, as gr_gradients_slots. */
int gr_share_slots(uint64_t leaves, bool as_leaves);

#endif
