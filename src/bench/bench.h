/* bench/bench.h - the benchmarks behind `graft bench`. May include: everything above fit. Never: spawns
 * another program; prints.
 *
 * Files: bench_run.c (a training on fixed rows), bench.c (speed), bench_checkpoint.c (recompute),
 * bench_load.c (16-bit against quantized), bench_accumulate.c (the gradient of micro-batches),
 * bench_kernels.c (kernels alone, bench_kernels_cases.c: which), bench_tokenize.c (the tokenizer),
 * bench_curves.c (speed and memory as a setting grows), bench_export.c (the same work for another program),
 * bench_svg.c (pictures). dir is the model's directory, NULL for random weights of options.shape.
 */
#ifndef GR_BENCH_BENCH_H
#define GR_BENCH_BENCH_H
#include "forecast/forecast.h"

/* options.steps steps of batch_size rows of seq_length tokens. */
graft_status gr_bench_train(const char *dir, const graft_options *o, const graft_hooks *hooks,
                            graft_bench_result *result, graft_error *err) GR_MUST_CHECK;
/* As graft_bench_export. */
graft_status gr_bench_export(const char *dir, const graft_options *o, const graft_hooks *hooks,
                             const char *out, graft_error *err) GR_MUST_CHECK;
/* dir is not NULL. Losses stay NaN: whoever can evaluate sets them, then gr_bench_load_compare fills what
 * follows from both halves. */
graft_status gr_bench_load(const char *dir, const graft_options *o, const graft_hooks *hooks,
                           graft_bench_load_result *result, graft_error *err) GR_MUST_CHECK;
void gr_bench_load_compare(graft_bench_load_result *result);
graft_status gr_bench_checkpoint(const char *dir, const graft_options *o, const graft_hooks *hooks,
                                 graft_bench_checkpoint_result *result, graft_error *err) GR_MUST_CHECK;
graft_status gr_bench_accumulate(const char *dir, const graft_options *o, const graft_hooks *hooks,
                                 graft_bench_accumulate_result *result, graft_error *err) GR_MUST_CHECK;
/* As graft_bench_kernels. */
graft_status gr_bench_kernels(const graft_options *o, const graft_hooks *hooks,
                              graft_bench_kernels_result *result, graft_error *err) GR_MUST_CHECK;

/* As graft_bench_curves. */
graft_status gr_bench_curves(const char *dir, const graft_options *o, const graft_hooks *hooks,
                             graft_bench_curves_result *result, graft_error *err) GR_MUST_CHECK;
/* dir is the tokenizer's directory. */
graft_status gr_bench_tokenize(const char *dir, const graft_options *o, const graft_hooks *hooks,
                               graft_bench_tokenize_result *result, graft_error *err) GR_MUST_CHECK;
/* Writes out/run.json: model (the directory), data (the file), threads. out NULL: only whether it could. */
graft_status gr_bench_tokenize_export(const char *dir, const graft_options *o, const char *out,
                                      graft_error *err) GR_MUST_CHECK;

#endif
