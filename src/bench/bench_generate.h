/* bench/bench_generate.h - how fast a model answers, against what the machine can. May include: what infer
 * may. */
#ifndef GR_BENCH_BENCH_GENERATE_H
#define GR_BENCH_BENCH_GENERATE_H
#include "base/status.h"
#include "graft.h"

/* dir NULL: random weights of options.shape. As graft_bench_generate. */
graft_status gr_bench_generate(const char *dir, const graft_options *o, const graft_hooks *hooks,
                               graft_bench_generate_result *result, graft_error *err) GR_MUST_CHECK;
/* As graft_bench_generate_export. */
graft_status gr_bench_generate_export(const graft_options *o, const char *out,
                                      graft_error *err) GR_MUST_CHECK;

#endif
