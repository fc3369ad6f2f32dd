/* bench/bench_run.h - a training set up on fixed rows, for everything that measures steps. May include: what
 * fit may. Never: writes files, depends on the order of the data.
 */
#ifndef GR_BENCH_BENCH_RUN_H
#define GR_BENCH_BENCH_RUN_H
#include "train/trainer.h"

/* Rows of exactly seq_length inputs, every one with a target: the data's tokens one after another, or a fixed
 * walk over the vocabulary. With options.pack they are packs: of the data's rows, or of rows of a quarter of
 * seq_length. Every run of the same options sees the same rows. */
typedef struct gr_bench_run {
    gr_trainer t; /* t.train: the data, or NULL; t.buffer holds the batch */
    int64_t row, at, counter, unit;
    double tokens, squares; /* inputs so far; sum over the rows that attention sees of the square of theirs */
    uint64_t skip;          /* as in gr_dropout, of the next gr_bench_run_batch */
} gr_bench_run;

/* Opens the data if options.data is set (dir must be), the model (dir NULL: options.shape with random
 * weights), the adapter; forecasts into run->t.forecast. RUN reserves, binds and initializes. `options` is
 * borrowed and must outlive the run. Owned by caller until gr_bench_run_close (after a failure *run is closed
 * already). */
graft_status gr_bench_run_open(gr_bench_run *run, const char *dir, const graft_options *options,
                               const graft_hooks *hooks, gr_trainer_purpose purpose,
                               graft_error *err) GR_MUST_CHECK;
void gr_bench_run_close(gr_bench_run *run);

/* The next batch_size rows into t.buffer; `first` as in gr_batch. */
void gr_bench_run_fill(gr_bench_run *run, uint64_t first);
/* Forward, loss and backward of what t.buffer holds; adds to *loss, returns the number of targets. */
int64_t gr_bench_run_batch(gr_bench_run *run, double *loss);
/* One update of grad_accumulation_steps batches; the mean loss of its targets before the update. */
double gr_bench_run_step(gr_bench_run *run);
/* GRAFT_INTERRUPTED once the caller asks to stop. */
graft_status gr_bench_run_stopped(const gr_bench_run *run, graft_error *err) GR_MUST_CHECK;

/* Sorts ascending. */
void gr_bench_sort(double *values, int64_t count);

#endif
