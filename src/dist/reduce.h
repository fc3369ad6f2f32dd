/* dist/reduce.h - the gradients of all ranks become the sum over all rows, with the bits of one rank.
 * What it does: the parameter vector is cut into chunks, one for a block of the model or more, and each chunk
 * into a piece for each rank, its owner. A chunk whose gradient is complete goes out, while the backward pass
 * goes on below it: every rank sends the nodes of its leaves to the owners, who add them up as the tree says.
 * At the end of an update every owner sends its pieces of the sum to all. May include: base, kernels, layers,
 * dist. Never: decides which rows a rank has.
 *
 *     gr_reduce_begin(x, before, leaves);          // which leaves each rank has in this iteration
 *     .. gr_reduce_ready(x, layer) as the last backward pass leaves that block, -1 at its end ..
 *     gr_reduce_join(x, err);                      // the nodes are in the tree
 *     gr_reduce_total(x, rows, sum, err);          // after the last iteration of an update
 */
#ifndef GR_DIST_REDUCE_H
#define GR_DIST_REDUCE_H
#include "dist/ranks.h"
#include "dist/share.h"
#include "layers/gradients.h"

/* Parameters [at, at + n), complete when the backward pass has left `layer`; -1: at its end. */
typedef struct gr_chunk {
    int64_t at, n, layer;
} gr_chunk;

typedef struct gr_reduction {
    gr_ranks *ranks;
    const gr_kernels *k;
    gr_chunk *chunks; /* in the order in which they are complete; owned */
    int count;
    int64_t own;                   /* floats of this rank's pieces together */
    int64_t *own_at;               /* [count] where those of a chunk lie in what follows; owned */
    float *levels[GR_TREE_LEVELS]; /* [own] sums of 2^i rows; some of them NULL: an update has fewer rows */
    float *received;               /* [nodes][own] */
    int nodes_most;                /* of all other ranks together in one iteration */
    const gr_gradients *local;     /* the nodes of this rank's leaves are its first slots */
    /* of the iteration */
    uint64_t before; /* leaves of the update so far */
    uint64_t *begin; /* [size + 1] first leaf of each rank; owned */
    gr_message *in;  /* [count][nodes of all others] */
    gr_message *out; /* [count][size - 1][own nodes] */
    size_t in_each, in_room, out_count, out_room;
    int next;       /* first chunk that did not go out yet */
    uint64_t early; /* bytes so far that went out before their backward pass had left the first block */
} gr_reduction;

/* The chunks of what trains. blocks [layers + 1]: first parameter of each block, the last the first behind
 * them. Owned by caller until gr_reduce_free (zeroed: harmless). */
graft_status gr_reduce_init(gr_reduction *x, gr_ranks *ranks, const gr_kernels *k, const int64_t *blocks,
                            int64_t layers, int64_t parameters, graft_error *err) GR_MUST_CHECK;
void gr_reduce_free(gr_reduction *x);
/* Places the sums of an update of `rows` rows, of which an iteration adds `batch`, or only counts. */
void gr_reduce_bind(gr_reduction *x, gr_arena *arena, int64_t rows, int64_t batch);

/* An iteration adds leaves after the `before` of its update: rank r has [begin[r], begin[r + 1]). */
graft_status gr_reduce_begin(gr_reduction *x, uint64_t before, const uint64_t *begin,
                             const gr_gradients *local, graft_error *err) GR_MUST_CHECK;
/* The gradients of block `layer` and of all above it are complete; -1: all are. */
void gr_reduce_ready(gr_reduction *x, int64_t layer);
/* Everything is ready: waits for the others' nodes and adds them. */
graft_status gr_reduce_join(gr_reduction *x, graft_error *err) GR_MUST_CHECK;
/* sum [parameters] over the rows of the update, on every rank. */
graft_status gr_reduce_total(gr_reduction *x, uint64_t rows, float *sum, graft_error *err) GR_MUST_CHECK;

/* The tree after `rows` rows, level by level: to rank 0, which puts it into level[] (whole vectors; the other
 * ranks' are not looked at), and back from vectors that every rank has. */
graft_status gr_reduce_gather(gr_reduction *x, uint64_t rows, float *const *level,
                              graft_error *err) GR_MUST_CHECK;
void gr_reduce_restore(gr_reduction *x, uint64_t rows, float *const *level);

#endif
