/* bench/bench_profile.h - where a step's time goes, for `graft bench train --profile`. May include: what fit
 * may. Never: runs while nobody asked.
 */
#ifndef GR_BENCH_BENCH_PROFILE_H
#define GR_BENCH_BENCH_PROFILE_H
#include "bench/bench.h"
#include "kernels/profile.h"

/* Ends the profile of one step and adds it to sum[GR_PARTS]. */
void gr_bench_profile_add(gr_profile_part *sum, gr_profile *profile);
/* r->parts, in the order of the step, from the sum over `steps` steps; r->peak_gflops is set. Probes the
 * bandwidth of reading, which takes 256 MB for a moment. */
graft_status gr_bench_profile_result(graft_bench_result *r, const gr_profile_part *sum, int64_t steps,
                                     gr_pool *pool, graft_error *err) GR_MUST_CHECK;

#endif
