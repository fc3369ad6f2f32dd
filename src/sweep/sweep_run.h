/* sweep/sweep_run.h - a sweep while it runs; between the files of this room. */
#ifndef GR_SWEEP_SWEEP_RUN_H
#define GR_SWEEP_SWEEP_RUN_H
#include "sweep/sweep.h"

#define GR_SWEEP_ROUNDS 9 /* halvings of GR_SWEEP_TRIALS, and the last */

/* What a trial will be, from its forecast. */
typedef struct gr_sweep_size {
    int64_t iters, every; /* of the whole run; between validations */
    uint64_t other;       /* what the process holds beside the weights, with this trial alone */
    uint64_t least;       /* memory that it can do with */
} gr_sweep_size;

typedef struct gr_sweep_run {
    const char *dir, *place; /* of the model; where the trials go */
    const graft_options *o;
    const graft_hooks *hooks;
    graft_sweep_result *r;
    gr_sweep_grid grid;
    gr_dir_lock lock;
    gr_sweep_inputs inputs, then; /* as they are; of the sweep that goes on */
    bool found;                   /* there is one */
    double limit, end;            /* --time in seconds, 0: none; gr_clock when it is over */
    bool over, quiet;             /* the limit was reached; notes are not passed on */
    gr_sweep_size *sizes;         /* [ntrials] */
    uint64_t held;                /* by the process before the first trial was opened */
    uint64_t mapped;              /* of the base: what trials side by side have together */
    gr_model *base;               /* for trials side by side; NULL: each opens it */
    int jobs, threads;            /* at once; of all together */
    uint64_t budget;              /* of each of several at once; 0: none */
    int rounds;                   /* 1 without --halving */
    size_t stay[GR_SWEEP_ROUNDS]; /* trials that take part in each round */
} gr_sweep_run;

/* Hooks of one trial: its events go to the host with its number, and its stop flag follows the host's. */
typedef struct gr_sweep_line {
    gr_sweep_run *run;
    size_t trial;
    volatile int stop;
    graft_hooks hooks; /* what the trial gets */
} gr_sweep_line;

/* What came of a trial's part of the work. */
typedef struct gr_sweep_outcome {
    graft_status status;
    graft_error err;
    graft_train_result result;
    uint64_t forecast; /* bytes; 0: it was not opened */
} gr_sweep_outcome;

/* Does the host want to stop? */
bool gr_sweep_stopped(const gr_sweep_run *s);
/* Passes an event on, in the calling thread of the sweep; trial from 1, 0: none. */
void gr_sweep_hear(gr_sweep_run *s, int64_t trial, const graft_event *e);
/* Is there nothing left to do for it? */
bool gr_sweep_is_over(const graft_sweep_trial *trial);
/* Adds which trial it was. Returns st. */
graft_status gr_sweep_of_trial(const graft_sweep_trial *trial, graft_status st, graft_error *err);
/* What the trial before, or the host, held and needed is not the next one's. */
void gr_sweep_start_afresh(void);

/* sweep_forecast.c. Opens every trial without running it: sizes and inputs are known then, and what does not
 * fit is refused (GRAFT_USAGE). Nothing is written. */
graft_status gr_sweep_forecast(gr_sweep_run *s, graft_error *err) GR_MUST_CHECK;

/* sweep_trial.c. Runs a trial to the end of the round, in any thread: reads *s only. threads 0: as the
 * options say. */
void gr_sweep_try(const gr_sweep_run *s, size_t trial, int round, int threads, gr_sweep_line *line,
                  gr_sweep_outcome *outcome);
/* What came of it into the result, sweep.json and the link, in the thread of the sweep. The error is one that
 * ends the sweep. */
graft_status gr_sweep_settle(gr_sweep_run *s, size_t trial, int round, gr_sweep_outcome *outcome,
                             graft_error *err) GR_MUST_CHECK;
/* The trial with the lowest validation loss so far; of equals the first. */
void gr_sweep_choose_best(graft_sweep_result *r);
/* Makes best lead there; does nothing while there is none. */
graft_status gr_sweep_link_best(const gr_sweep_run *s, graft_error *err) GR_MUST_CHECK;

/* sweep_jobs.c. The trials of a round, list[n], in turn or side by side. */
graft_status gr_sweep_round(gr_sweep_run *s, const size_t *list, size_t n, int round,
                            graft_error *err) GR_MUST_CHECK;

/* sweep_halving.c. How many rounds there are, and of how many trials. */
void gr_sweep_plan_rounds(gr_sweep_run *s);
/* GRAFT_USAGE where validations are too rare to end the rounds. */
graft_status gr_sweep_check_rounds(const gr_sweep_run *s, graft_error *err) GR_MUST_CHECK;
/* Iterations of a trial when a round is over; 0: its whole run. */
int64_t gr_sweep_pause(const gr_sweep_run *s, size_t trial, int round);
/* Of the work of all trials, the part that is done at all; before it begins, 0 to 1. */
double gr_sweep_share(const gr_sweep_run *s);
/* All rounds from where the sweep is. */
graft_status gr_sweep_rounds(gr_sweep_run *s, graft_error *err) GR_MUST_CHECK;

#endif
