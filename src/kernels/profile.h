/* kernels/profile.h - where the time of a step goes, by part of the work.
 *
 * What it does   the thread that drives the layers says which part begins; time, operations and bytes are
 * counted for it until the next begins. Workers add nothing: each part is a sequence of pool runs that the
 * driver waits for.
 * May include    base.
 * Never          reads a clock unless somebody asked for a profile.
 */
#ifndef GR_KERNELS_PROFILE_H
#define GR_KERNELS_PROFILE_H
#include "base/pool.h"

/* X(PART, name, limit): COMPUTE parts are held against the peak of arithmetic, BANDWIDTH parts against that
 * of reading memory. */
#define GR_PART_MAP(X)                                                                                       \
    X(EMBEDDING, "embedding", BANDWIDTH)                                                                     \
    X(NORM, "norms", BANDWIDTH)                                                                              \
    X(LINEAR, "linears: y = x W + low rank", COMPUTE)                                                        \
    X(LINEAR_DX, "linears: dx = dy W + low rank", COMPUTE)                                                   \
    X(LOW_RANK, "adapters: x A", COMPUTE)                                                                    \
    X(LOW_RANK_DX, "adapters: dy B", COMPUTE)                                                                \
    X(LOW_RANK_GRADIENT, "adapters: dA and dB", COMPUTE)                                                     \
    X(TRAINED, "other gradients of linears", COMPUTE)                                                        \
    X(ROTARY, "rotary positions", BANDWIDTH)                                                                 \
    X(ATTENTION, "attention forward", COMPUTE)                                                               \
    X(ATTENTION_BACK, "attention backward", COMPUTE)                                                         \
    X(SWIGLU, "gated activation", BANDWIDTH)                                                                 \
    X(ROUND, "rounding of gradients", BANDWIDTH)                                                             \
    X(HEAD, "head: logits", COMPUTE)                                                                         \
    X(HEAD_LOSS, "head: loss", BANDWIDTH)                                                                    \
    X(HEAD_DX, "head: dx and gradients", COMPUTE)                                                            \
    X(OPTIMIZER, "clipping and optimizer", BANDWIDTH)                                                        \
    X(REST, "the rest", BANDWIDTH)

typedef enum gr_part {
#define X(part, name, limit) GR_PART_##part,
    GR_PART_MAP(X)
#undef X
        GR_PARTS
} gr_part;

typedef enum gr_part_limit { GR_LIMIT_COMPUTE, GR_LIMIT_BANDWIDTH } gr_part_limit;

extern const char *const gr_part_name[GR_PARTS];
extern const gr_part_limit gr_part_limits[GR_PARTS];

typedef struct gr_profile_part {
    double seconds; /* of the driver */
    double busy;    /* seconds of all threads inside tasks */
    double flops;   /* useful operations: causal halves, no padding */
    double bytes;   /* that must be read or written once */
} gr_profile_part;

typedef struct gr_profile {
    gr_pool *pool; /* measured with gr_pool_measure */
    gr_part now;
    double since, busy;
    gr_profile_part part[GR_PARTS];
} gr_profile;

/* Starts counting for GR_PART_REST, from zero. The pool measures its tasks until gr_profile_end. */
void gr_profile_begin(gr_profile *profile, gr_pool *pool);
void gr_profile_end(gr_profile *profile);
/* The work from now on belongs to `part`; returns the part before, for who calls to go back to. */
gr_part gr_profile_enter(gr_profile *profile, gr_part part);

/* The same where a profile may be NULL: nothing is done then. */
static inline gr_part gr_part_enter(gr_profile *profile, gr_part part) {
    return profile ? gr_profile_enter(profile, part) : part;
}
static inline void gr_part_work(gr_profile *profile, double flops, double bytes) {
    if (!profile) return;
    profile->part[profile->now].flops += flops;
    profile->part[profile->now].bytes += bytes;
}

#endif
