/* graft_sweep.h - a few settings of a training tried in turn or side by side, and the best kept.
 */
#ifndef GRAFT_SWEEP_H
#define GRAFT_SWEEP_H
#include "graft_hooks.h"
#include "graft_options.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Not started, or cut off: it has to go on. */
#define GRAFT_SWEEP_WAITING "waiting"
/* Trained to its end. */
#define GRAFT_SWEEP_DONE "done"
/* The sweep's time was over. */
#define GRAFT_SWEEP_STOPPED "stopped"
/* options.halving: it waits for the next round. */
#define GRAFT_SWEEP_PAUSED "paused"
/* options.halving: others were better. */
#define GRAFT_SWEEP_DROPPED "dropped"
/* It diverged: error says how. */
#define GRAFT_SWEEP_FAILED "failed"

/* One combination of settings, and what came of it. */
typedef struct graft_sweep_trial {
    char *name, *values; /* directory below the sweep's; "lora-rank 8, learning-rate 1e-4" */
    const char *state;   /* one of the above; static */
    char *error;         /* NULL: none */
    int64_t iterations;
    double train_loss;                                   /* last report; NaN: none */
    double val_loss_first, val_loss_last, val_loss_best; /* NaN: none */
    double seconds;
    uint64_t peak_memory_bytes, forecast_bytes;
} graft_sweep_trial;

/* All combinations, in their order. Free it. */
typedef struct graft_sweep_result {
    graft_sweep_trial *trials;
    size_t ntrials;
    int64_t best;     /* of trials: the lowest validation loss; -1: none has one */
    char *best_path;  /* leads to its best adapter; NULL: none */
    bool out_of_time; /* options.time_limit ended it; options.resume goes on */
    double seconds;   /* of this call */
} graft_sweep_result;

/* Trains with every combination of options.grid in directories below options.adapter_path ("sweep"), and
 * keeps sweep.json there and `best`, a link to the best adapter of the trial with the lowest validation loss
 * (best_path leads to it also where the file system has no links). All trials are checked and forecast before
 * the first one starts: GRAFT_USAGE, and nothing is written, where one does not fit options.budget, or all do
 * not fit options.time_limit.
 * options.jobs trials run at once in threads of this process, with the same adapters as in turn: they share
 * options.threads, one copy of the base and options.budget; fewer run where so many do not fit it. Events
 * come in the calling thread, each with its trial. peak_memory_bytes is then that of all together. With
 * options.halving N only the better 1/N of the trials go on after each part of the iterations, from their
 * checkpoints and with the bits of a run without pauses, until one is left; the others are dropped.
 * GRAFT_USAGE where validations are too rare for that.
 * With options.resume what was done is not done again. A trial that diverges is a result (failed).
 * GRAFT_UNSUPPORTED with ranks. GRAFT_INTERRUPTED when the stop flag was raised. *result is filled as far as
 * the sweep came, also after an error. */
graft_status graft_sweep(const graft_options *options, const graft_hooks *hooks, graft_sweep_result *result,
                         graft_error *err);
void graft_sweep_result_free(graft_sweep_result *result);

#ifdef __cplusplus
}
#endif
#endif
