/* fit/bench.h - timed training steps on fixed rows. May include: everything above fit. */
#ifndef GR_FIT_BENCH_H
#define GR_FIT_BENCH_H
#include "fit/forecast.h"

/* options.steps steps of batch_size rows of seq_length tokens; dir NULL: random weights of options.shape. */
graft_status gr_bench_train(const char *dir, const graft_options *o, const graft_hooks *hooks,
                            graft_bench_result *result, graft_error *err) GR_MUST_CHECK;

#endif
