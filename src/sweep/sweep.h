/* sweep/sweep.h - a few settings of a training, each tried in a run as `graft train` makes it, in a directory
 * of its own. What it does: the grid of values, the forecast of every trial before the first starts, the
 * trials in turn or side by side, which of them go on, sweep.json with what came of them. May include:
 * everything above sweep. Never: trains by itself, compares losses that were not measured on the same rows.
 *
 * Files: sweep.c (the verb), sweep_grid.c (which trials there are), sweep_forecast.c (what they will take,
 * and how many fit at once), sweep_trial.c (one of them), sweep_jobs.c (several at once), sweep_halving.c
 * (rounds), sweep_file.c (sweep.json), sweep_dirs.c (where they are); sweep_run.h is between these.
 */
#ifndef GR_SWEEP_SWEEP_H
#define GR_SWEEP_SWEEP_H
#include "graft.h"
#include "train/trainer.h"

#define GR_SWEEP_CHOICES 8
#define GR_SWEEP_TRIALS  256

/* --grid NAME=VALUE,VALUE; each time one more. */
typedef struct gr_sweep_choice {
    char *name; /* as the option table has it */
    char **values;
    size_t count;
} gr_sweep_choice;
typedef struct gr_sweep_grid {
    gr_sweep_choice choices[GR_SWEEP_CHOICES];
    size_t count, trials; /* choices; all combinations */
} gr_sweep_grid;
/* Reads options.grid. GRAFT_USAGE for what is no option of training, says where things are, or would make
 * validation losses of other rows. Owned by caller until gr_sweep_grid_free (also after failure). */
graft_status gr_sweep_grid_read(gr_sweep_grid *grid, const graft_options *o, graft_error *err) GR_MUST_CHECK;
void gr_sweep_grid_free(gr_sweep_grid *grid);
/* Value of a choice in a trial: the last choice changes fastest. */
const char *gr_sweep_value(const gr_sweep_grid *grid, size_t trial, size_t choice);
/* Name of the trial's directory, "01_lora-rank=8", and its values for people, "lora-rank 8, ..". malloc'ed.
 */
graft_status gr_sweep_names(char **name, char **values, const gr_sweep_grid *grid, size_t trial,
                            graft_error *err) GR_MUST_CHECK;
/* Options of a trial: `o` with its values, checked. Owned by caller until graft_options_free (also after
 * failure). */
graft_status gr_sweep_options(graft_options *to, const gr_sweep_grid *grid, size_t trial,
                              const graft_options *o, graft_error *err) GR_MUST_CHECK;

/* What losses are measured with, as digests: of the base (0: it has no weights), of the rows as the model
 * sees them. */
typedef struct gr_sweep_inputs {
    uint64_t base, train, valid;
} gr_sweep_inputs;

/* Writes place/sweep.json: the grid, the settings of all trials, the inputs and what came of each. */
graft_status gr_sweep_save(const char *place, const graft_options *o, const gr_sweep_inputs *inputs,
                           const graft_sweep_result *result, graft_error *err) GR_MUST_CHECK;
/* What an earlier sweep in `place` came to, into the trials of *result, which have their names, and what it
 * measured with. *found false: there is none. GRAFT_MISMATCH names settings that differ, GRAFT_CORRUPT what
 * is no such file. */
graft_status gr_sweep_load(graft_sweep_result *result, gr_sweep_inputs *inputs, bool *found,
                           const char *place, const graft_options *o, graft_error *err) GR_MUST_CHECK;
/* GRAFT_MISMATCH names which of the inputs in `place` are not what they were: losses do not compare. */
graft_status gr_sweep_same_inputs(const gr_sweep_inputs *then, const gr_sweep_inputs *now, const char *place,
                                  graft_error *err) GR_MUST_CHECK;

/* sweep_dirs.c. Is there a sweep.json in it? */
bool gr_sweep_is(const char *place);
/* Directories of the trials that have begun, at most `most`, those with the lowest validation losses, in the
 * order of the table; dirs[most], each malloc'ed. *left_out: how many more there are. GRAFT_NOT_FOUND where
 * none has begun, GRAFT_CORRUPT what is no sweep.json; *count is 0 then. */
graft_status gr_sweep_dirs(char **dirs, size_t *count, size_t *left_out, size_t most, const char *place,
                           graft_error *err) GR_MUST_CHECK;

/* The verb behind graft.h: dir is the located model directory. */
graft_status gr_sweep(const char *dir, const graft_options *o, const graft_hooks *hooks,
                      graft_sweep_result *result, graft_error *err) GR_MUST_CHECK;

#endif
