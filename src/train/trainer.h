/* train/trainer.h - one training run: opens what it needs, forecasts its memory, steps, validates, saves,
 * resumes. May include: everything above train. Never: prints; reports leave through the hooks.
 *
 * Files: open.c (what a run consists of), run_length.c (what it will go through), budget.c (settings that
 * change no number), reserve.c (its memory), state.c (the parameter vectors), init_params.c (their first
 * values), freeze.c and tensor_digests.c (what is frozen), fold.c (adapters and their tensors as one), step.c
 * (rows to gradients to an update), health.c (may the update be made?), skipped_updates.c (what follows),
 * checkpoint.c (what one holds), checkpoint_files.c (which there are), resume_check.c and settings_changed.c
 * (what must be as it was), stepped.c (checkpoints of a host's steps), step_pairs.c (a step over
 * preferences), pairs.c and preference_loss.c (pairs, and what they cost), ranks_step.c (several ranks as
 * one), ranks_agree.c (are they at the same run?), best_adapter.c (adapter and best), validate.c (the loss on
 * other rows), metrics.c, run_record.c, card.c, trainer.c (the loop).
 */
#ifndef GR_TRAIN_TRAINER_H
#define GR_TRAIN_TRAINER_H
#include "adapters/adapter.h"
#include "base/os.h"
#include "data/rows.h"
#include "dist/reduce.h"
#include "graft.h"
#include "net/runtime.h"
#include "optim/optim_table.h"
#include "options/options.h"
#include "report/events.h"
#include "train/health.h"
#include "train/tensor_digests.h"

/* Everything a checkpoint must hold beside the vectors. */
typedef struct gr_train_progress {
    int64_t iteration;          /* iterations done */
    int64_t update;             /* updates done, skipped ones too */
    int64_t pending_iterations; /* since the last update */
    uint64_t pending_rows;      /* units with targets in them: the state of the gradient tree */
    int64_t pending_targets;
    uint64_t epoch;
    int64_t position;   /* units (rows, or packs with --pack) taken from the epoch */
    double report_loss; /* sum over targets since the last report */
    int64_t report_tokens;
    int64_t report_iterations;            /* since the last report, also of an earlier process */
    double train_loss;                    /* of the last report; NaN: none yet */
    int64_t trained_tokens;               /* since the start */
    double grad_norm, rate;               /* of the last update */
    double first_val, last_val, best_val; /* NaN: none yet */
    int64_t best_iteration;
    int64_t stale;          /* validations since the best one */
    int64_t validated;      /* iteration of the last complete validation; -1: none */
    uint64_t metrics_bytes; /* length of metrics.jsonl */
    gr_health health;
    gr_preference_sums preference; /* since the last report, as report_loss */
} gr_train_progress;

/* Most tokens, and most targets, of a slice where slices have at most `limit` tokens; a row above it is a
 * slice. targets 0: unknown. */
typedef struct gr_slice {
    int64_t limit, tokens, targets;
} gr_slice;

/* What came of one row of data in an iteration. */
typedef struct gr_row_result {
    double loss;            /* sum over its targets */
    double logp, reference; /* of a pair's half: of its answer, and what the reference says to that */
    bool gradient;          /* what came back through it is all numbers */
} gr_row_result;

/* What several ranks need to train as one. What long messages go through lives until close: one that was
 * given up may still be on its way. */
typedef struct gr_together {
    gr_ranks *ranks; /* NULL: this process is alone, and nothing of this is used */
    gr_reduction reduction;
    struct gr_wire *wire;       /* [rows of an iteration + size]: results under way */
    size_t *wire_start;         /* [size + 1] bytes */
    uint64_t *leaves;           /* [size + 1] first leaf of each rank */
    struct gr_score *scores;    /* of a validation under way */
    char *texts[2];             /* of the agreement: this rank's, and rank 0's */
    bool stop, save;            /* all agree: to stop, and to save after this iteration */
    gr_train_progress boundary; /* after the last whole update: what the vectors hold until the next */
    graft_error broken;         /* why an iteration or update could not end; status GRAFT_OK: it could */
} gr_together;

/* What a run will go through. */
#define GR_SLICES 12
typedef struct gr_work {
    gr_slice slice[GR_SLICES]; /* falling limits */
    int64_t longest, batch; /* tokens of the longest row and of the largest iteration; longest 0: unknown */
    int64_t unit;           /* of the largest part that no slice cuts: the longest row, or the fullest pack */
} gr_work;

/* The best validation, and validations since then. */
typedef struct gr_best {
    double val; /* NaN: none */
    int64_t iteration, stale;
} gr_best;

#define GR_SLICE_ROWS 256 /* units of a slice at most */

/* A run beside others of this process: what it cannot measure itself. */
typedef struct gr_beside {
    gr_model *base; /* open and identified; the run becomes an owner. NULL: it opens its own */
    uint64_t other; /* bytes: forecast.other, as it was with nothing beside it */
    int runs;       /* that share the memory that is free */
} gr_beside;

typedef struct gr_trainer {
    const gr_beside *beside; /* NULL: alone */
    const graft_options *o;
    const graft_hooks *hooks;
    const char *dir;  /* adapter directory */
    unsigned formats; /* that the run saves in, as gr_adapter_info has them */
    gr_dir_lock lock; /* on dir, from the start of the run to close */
    int64_t now;      /* seconds since 1970 that templates see: of the run's start, also after a resume */
    gr_tokenizer *tok;
    gr_chat *chat;          /* NULL: the model has no template */
    gr_rows *train, *valid; /* valid may be NULL */
    gr_runtime rt;
    gr_arena state;
    float *params, *grad;
    float *reference;    /* of dpo: the parameters that --resume-adapter-file brought; NULL: the base alone */
    bool kept_reference; /* the checkpoint to go on from has them */
    gr_gradients gradients;
    gr_together together;
    gr_optim optim;
    gr_batch_buffer buffer;
    gr_dropout dropout;   /* of the update in progress */
    int64_t slice_tokens; /* most tokens of one forward and backward; a batch above it is cut between units */
    int64_t slice_rows;   /* most units of one */
    gr_recompute recompute;
    gr_net_config net_config; /* what the buffers are bound for */
    gr_work work;
    bool refrozen;                  /* what trains is no longer what the options say */
    float *start;                   /* parameters of --resume-adapter-file until the start; owned */
    bool mlx_loss;                  /* --loss mlx-lm: mean of means, partial batches dropped */
    gr_preference preference;       /* --loss dpo, orpo: rows are pairs, a unit is one */
    int64_t pair_at[GR_SLICE_ROWS]; /* rows that the pairs in the buffer begin with */
    double nll_share;               /* of the iteration: what a token counts for in orpo's likelihood */
    gr_order order;
    int64_t *indices;       /* [batch_size] units of the iteration */
    gr_row_result *results; /* of its rows with a target, in their order */
    int64_t iters, updates; /* in all */
    int64_t pause;          /* iteration at which gr_trainer_run ends as if stopped, without error; 0: none */
    uint64_t total_tokens;  /* inputs of all iterations */
    gr_train_progress p;
    graft_memory fixed; /* mapped, state and other, which no setting changes */
    graft_memory forecast;
    gr_tensor_digests ledger; /* --verify-frozen */
    uint64_t *before;         /* digests of its tensors; NULL: nothing is watched */
    int64_t moving;           /* updates applied since then whose rate was not 0 */
    gr_verdict verdict;       /* on the update that the last iteration completed; zero: it did not */
    int64_t saved;            /* iteration of the newest checkpoint; -1: none */
    int64_t save_iterations;  /* --save-every; 0: by time */
    double save_seconds;      /* 0: by iterations */
    double saved_at;          /* gr_clock of the last save, or of the start */
    gr_events *events;        /* --report-to tensorboard, from the start of the run to close; else NULL */
    bool best_due;            /* the state is the best so far, and best/ does not have it yet */
    gr_best best_before;      /* what was best until then */
    double report_seconds;    /* training time since the last report */
    int64_t timed_iterations; /* in report_seconds */
    int64_t timed_tokens;
} gr_trainer;

/* What open is for. */
typedef enum gr_trainer_purpose {
    GR_TRAINER_RUN, /* weights, data, buffers bound */
    GR_TRAINER_PLAN /* measured only; weights and data are used if they are there */
} gr_trainer_purpose;

/* Reads options, tokenizer, rows, model; selects and places the adapter; forecasts; for RUN reserves all
 * memory and initializes the adapter (or reads --resume-adapter-file). dir: the model's directory (already
 * located). Owned by caller until gr_trainer_close (also after failure: *t is zeroed then). */
graft_status gr_trainer_open(gr_trainer *t, const char *dir, const graft_options *o, const graft_hooks *hooks,
                             gr_trainer_purpose purpose, graft_error *err) GR_MUST_CHECK;
/* A run, beside others in other threads. beside lives as long as the trainer. */
graft_status gr_trainer_open_beside(gr_trainer *t, const gr_beside *beside, const char *dir,
                                    const graft_options *o, const graft_hooks *hooks,
                                    graft_error *err) GR_MUST_CHECK;
/* The same as one of several; ranks of gr_trainer_meet, which the run, or a failure here, closes. NULL:
 * alone. */
graft_status gr_trainer_open_among(gr_trainer *t, gr_ranks *ranks, const char *dir, const graft_options *o,
                                   const graft_hooks *hooks, graft_error *err) GR_MUST_CHECK;
void gr_trainer_close(gr_trainer *t);

/* The optimizer of the options over what t->rt.tuning trains. A second call replaces the first's. */
graft_status gr_trainer_optimizer(gr_trainer *t, graft_error *err) GR_MUST_CHECK;
/* The base as adapter_config.json names it: what --model said, but where a preset quantized that, the kept
 * directory, since the adapter belongs to its bits. Lives as long as the run. */
const char *gr_trainer_base(const gr_trainer *t);
/* LoRA+: rate and decay of one tensor, rate being the peak of A's. */
void gr_trainer_loraplus(gr_optim_tensor *tensor, const gr_param *param, double ratio, double rate);
/* Bytes of the parameter vectors (params, gradient, tree slots, optimizer), placed in the arena or only
 * counted. */
void gr_trainer_bind_state(gr_trainer *t, gr_arena *arena);
/* The adapter of the options into t->rt.tuning: chosen, or read from --resume-adapter-file, then *start
 * (malloc'ed) has its parameters. t->rt has its model. */
graft_status gr_trainer_select(gr_trainer *t, float **start, graft_error *err) GR_MUST_CHECK;
/* "dora, rank 8, scale 2": what trains, appended to *text. */
void gr_trainer_kind(const gr_trainer *t, gr_buf *text);
/* Settles, forecasts and, for RUN, reserves and binds. config->longest is set, and config->tokens where
 * t->work is unknown. What the process holds now counts as held to the end. */
graft_status gr_trainer_reserve(gr_trainer *t, gr_net_config *config, gr_trainer_purpose purpose,
                                graft_error *err) GR_MUST_CHECK;
/* Turns an opened plan, with weights and data, into a run: reserves, binds, and sets the parameters. */
graft_status gr_trainer_ready(gr_trainer *t, graft_error *err) GR_MUST_CHECK;
/* Memory with those settings, after the fixed parts are known. */
graft_status gr_trainer_memory(const gr_trainer *t, const gr_net_config *config, graft_memory *memory,
                               graft_error *err) GR_MUST_CHECK;
/* Chooses what changes no number into config, t->slice_tokens and t->forecast: with --budget the fastest
 * settings that fit (GRAFT_USAGE names the least where none do), else --grad-checkpoint auto by the free
 * memory. */
graft_status gr_trainer_fit_budget(gr_trainer *t, gr_net_config *config, graft_error *err) GR_MUST_CHECK;
/* The least that an opened run can take, whatever it has been given, in bytes. */
graft_status gr_trainer_least(const gr_trainer *t, uint64_t *bytes, graft_error *err) GR_MUST_CHECK;
/* Iterations, updates and t->work, by taking the rows as training will. */
graft_status gr_trainer_count_work(gr_trainer *t, graft_error *err) GR_MUST_CHECK;
/* Iterations and updates of a run that goes on from t->p: with --epochs what is left of them, and updates as
 * they are made from here on, where --allow-changes gave it other batches or accumulation. Without changes
 * both are what gr_trainer_count_work counted. */
void gr_trainer_go_on(gr_trainer *t);
/* What --pack came to. */
graft_packing gr_trainer_packing(const gr_trainer *t);
/* t->work as if every row had `row` tokens. */
void gr_trainer_full_rows(gr_trainer *t, int64_t row);
/* Units of an update at most. */
int64_t gr_trainer_update_rows(const gr_trainer *t);
/* init_params.c: A ~ U(-1/sqrt(in), 1/sqrt(in)) from the seed, B = 0; everything else as in the base. */
void gr_trainer_init_params(gr_trainer *t);

/* What drops elements of the update in progress; NULL: nothing does. Borrowed from t. */
const gr_dropout *gr_trainer_dropout(gr_trainer *t);
/* Units of the next iteration into t->indices; how many. */
int64_t gr_trainer_take(gr_trainer *t);
/* Inputs that a unit costs; 0: it has no target. */
int64_t gr_trainer_unit_cost(const gr_trainer *t, int64_t unit);
int64_t gr_trainer_unit_targets(const gr_trainer *t, int64_t unit);
/* One iteration's units, each a leaf: gradients join the tree, losses the sums. Returns the number of
 * targets. */
int64_t gr_trainer_rows(gr_trainer *t, const int64_t *units, int64_t n);
/* step_pairs.c. Pairs over targets of the chosen halves: orpo's likelihood is the mean over an iteration's
 * tokens, as TRL's is over a batch's. */
double gr_trainer_nll_share(const gr_trainer *t, const int64_t *units, int64_t n);
/* The slice of pairs in the buffer, at most GR_SLICE_ROWS: forward, losses, backward, a result for each half.
 * Returns the number of halves. */
int64_t gr_trainer_run_pairs(gr_trainer *t, const gr_gradients *gradients, gr_row_result *results);
/* The iteration's pairs in their order, from t->results. */
void gr_trainer_account_pairs(gr_trainer *t, const int64_t *units, int64_t n);
/* Is there neither infinity nor NaN among them? */
bool gr_all_finite(const float *x, int64_t n);
/* What report_loss is the sum of: targets, with mlx_loss iterations, with preferences pairs. */
int64_t gr_trainer_loss_parts(const gr_trainer *t);
/* Units whose leaves follow each other in `gradients`, from number `first` there, with `skip` leaves of the
 * update before that tree's. last: t->together hears of blocks that are complete. Results of their rows with
 * a target; returns how many those are. */
int64_t gr_trainer_run_units(gr_trainer *t, const int64_t *units, int64_t n, const gr_gradients *gradients,
                             uint64_t first, uint64_t skip, bool last, gr_row_result *results);
/* The gradient of `rows` rows, divided, from the tree into t->grad, which ends the tree; its norm. */
double gr_trainer_collect(gr_trainer *t, uint64_t rows, int64_t divisor);
/* Ends the update: mean gradient, clip, optimizer; or, where a number went wrong, nothing but the count of
 * the update and t->verdict. */
void gr_trainer_update(gr_trainer *t);

/* One iteration, and the update that it may complete. */
void gr_trainer_iteration(gr_trainer *t);
/* Iterations up to and with the next update; *loss is their mean over targets, NaN where none has one.
 * GRAFT_USAGE when the run is over, GRAFT_RANGE after max-bad-steps skipped updates. */
graft_status gr_trainer_step(gr_trainer *t, double *loss, graft_error *err) GR_MUST_CHECK;

/* stepped.c: checkpoints between such steps, in t->dir, which is locked from the first of these calls to
 * close. Goes on from the newest one; where there is none, says so and changes nothing. As
 * gr_checkpoint_resume. */
graft_status gr_trainer_take_up(gr_trainer *t, graft_error *err) GR_MUST_CHECK;
/* Writes one. Those of a run that this one did not go on from are removed before the first. GRAFT_UNSUPPORTED
 * after gr_trainer_freeze; GRAFT_RANGE where no row has a loss. */
graft_status gr_trainer_checkpoint(gr_trainer *t, graft_error *err) GR_MUST_CHECK;

/* skipped_updates.c. Says what the verdict of the last iteration is, and with `write` puts it into
 * metrics.jsonl. */
graft_status gr_trainer_count_skipped(gr_trainer *t, bool write, graft_error *err) GR_MUST_CHECK;
/* The last update was skipped, as were max-bad-steps in a row. */
bool gr_trainer_lost(const gr_trainer *t);
/* GRAFT_RANGE that says so. sound: as below. */
graft_status gr_trainer_fail_lost(const gr_trainer *t, bool sound, graft_error *err);
/* Does some row of training have a loss with the parameters as they are? Runs one forward: the row that had
 * one last, or a few while none is known. */
bool gr_trainer_sound(gr_trainer *t);
/* Says that the state is not saved since it is not sound; GRAFT_RANGE if it is the run's last. */
graft_status gr_trainer_not_saved(gr_trainer *t, bool last, graft_error *err) GR_MUST_CHECK;
/* What trains as it is now into dir, made if missing; adapters whose tensor trains too are folded into it. */
graft_status gr_trainer_save(gr_trainer *t, const char *dir, graft_error *err) GR_MUST_CHECK;

/* freeze.c. lora_only: adapters alone train; else every tensor of the base trains too. Before the first step;
 * what trained already keeps its values. Where t->params is NULL after an error, t can only be closed. */
graft_status gr_trainer_freeze(gr_trainer *t, bool lora_only, graft_error *err) GR_MUST_CHECK;
/* Values of the tensors that both tunings train, from[then] into to[now]. */
void gr_trainer_carry(float *to, const gr_tuning *now, const float *from, const gr_tuning *then);
/* fold.c. Adapters beside a tensor that trains, which only a freeze gives, fold into it: W + scale B A, with
 * DoRA at the magnitude's length. *tuning and *params (malloc'ed; owned by caller) are what is left, laid out
 * as full training where nothing else is; both NULL where nothing folds. t is unchanged. */
graft_status gr_trainer_fold(const gr_trainer *t, gr_tuning **tuning, float **params,
                             graft_error *err) GR_MUST_CHECK;
/* Remembers digests of all tensors; a later gr_trainer_prove compares and fills result's part of it. */
graft_status gr_trainer_watch(gr_trainer *t, graft_error *err) GR_MUST_CHECK;
graft_status gr_trainer_prove(gr_trainer *t, graft_train_result *result, graft_error *err) GR_MUST_CHECK;
void gr_trainer_unwatch(gr_trainer *t);

/* ranks_step.c: several ranks as one. Alone all of it does nothing. */
/* Gets in touch with the ranks of the hooks; *ranks stays NULL where this process is alone. begun: how
 * the run began; where *err holds an error already, only to tell them (gr_ranks_close). Returns err->status.
 */
graft_status gr_trainer_meet(gr_ranks **ranks, graft_status begun, const graft_options *o,
                             const graft_hooks *hooks, graft_error *err);
/* GRAFT_USAGE where the ranks cannot share the batch. What rank 0's checkpoint says before it is read, t->now
 * and t->kept_reference, is everybody's. */
graft_status gr_trainer_join(gr_trainer *t, graft_error *err) GR_MUST_CHECK;
/* Leaves them, saying how it went: *err is the run's outcome, also that of the others. Returns its status. */
graft_status gr_trainer_part(gr_trainer *t, graft_error *err);
/* Is it this rank that writes files? */
bool gr_trainer_writes(const gr_trainer *t);
/* Room for the iterations' results; the chunks of what trains. */
graft_status gr_trainer_wire(gr_trainer *t, int64_t rows, graft_error *err) GR_MUST_CHECK;
graft_status gr_trainer_chunks(gr_trainer *t, graft_error *err) GR_MUST_CHECK;
/* This rank's part of an iteration of `leaves` units with a target; then everybody's results are in
 * t->results and the tree has all leaves. False: t->together.broken. */
bool gr_trainer_run_share(gr_trainer *t, const int64_t *units, int64_t n, int64_t leaves);
/* Sums over validation rows [0, n), each rank scoring its part; each as in gr_runtime_score. */
graft_status gr_trainer_score(gr_trainer *t, int64_t n, gr_score *score,
                              void (*each)(void *user, int64_t row, const gr_score *own), void *user,
                              graft_error *err) GR_MUST_CHECK;
/* Something that every rank did alone is over: does the host of one of them want to stop? */
graft_status gr_trainer_agree_to_stop(gr_trainer *t, graft_error *err) GR_MUST_CHECK;
/* What rank 0 took up from a checkpoint is everybody's. */
graft_status gr_trainer_spread(gr_trainer *t, graft_error *err) GR_MUST_CHECK;
/* Before a checkpoint: rank 0 gets the tree, and all parameters are the same. */
graft_status gr_trainer_gather(gr_trainer *t, graft_error *err) GR_MUST_CHECK;
/* Says what being several cost this rank, from `start` (gr_clock) to now. */
void gr_trainer_say_ranks(const gr_trainer *t, double start);
/* The stop flag of all ranks. */
bool gr_trainer_stopping(const gr_trainer *t);
/* ranks_agree.c: GRAFT_MISMATCH, on all ranks, names what differs and whose it is. */
graft_status gr_trainer_agree(gr_trainer *t, graft_error *err) GR_MUST_CHECK;

/* validate.c. At iteration 0, every --steps-per-eval, after the last; also one that a stop cut short before
 * this run resumed. */
bool gr_trainer_validation_due(const gr_trainer *t);
/* Rows, or pairs, of a validation. */
int64_t gr_trainer_validation_rows(const gr_trainer *t);
/* Measures, reports and remembers; sets t->best_due where it was the best so far. Nothing is remembered where
 * the host stopped it. */
graft_status gr_trainer_validate(gr_trainer *t, graft_error *err) GR_MUST_CHECK;

/* The whole run from the current progress. */
graft_status gr_trainer_run(gr_trainer *t, graft_train_result *result, graft_error *err) GR_MUST_CHECK;

/* checkpoint.c: one safetensors file holds progress and vectors; the newest --keep-last are kept. */
graft_status gr_checkpoint_save(gr_trainer *t, graft_error *err) GR_MUST_CHECK;
/* Continues from the newest checkpoint of dir; *found false: there is none. Other data, base or settings:
 * GRAFT_MISMATCH names all that differs. A damaged one is left for the one before it, aloud, and set aside
 * once that has been read; GRAFT_CORRUPT when none is left. */
graft_status gr_checkpoint_resume(gr_trainer *t, bool *found, graft_error *err) GR_MUST_CHECK;
/* Is every byte of that file as it was written? GRAFT_CORRUPT if not. *iteration: of the checkpoint. */
graft_status gr_checkpoint_verify(const char *path, int64_t *iteration, graft_error *err) GR_MUST_CHECK;
/* Of the run in dir what must be known before data are read and vectors laid out, from the newest checkpoint
 * that is intact: its `now`, and whether dpo's reference is one that it holds. False: there is none. */
bool gr_checkpoint_peek(const gr_trainer *t, int64_t *now, bool *reference);
/* Removes the checkpoints of an earlier run. */
graft_status gr_checkpoint_clear(const gr_trainer *t, graft_error *err) GR_MUST_CHECK;

/* best_adapter.c: the adapters that a run leaves beside its checkpoints. */
/* The state as the best so far into DIR/best. Its checkpoint is written already: whatever happens meanwhile,
 * best/ can be made again. */
graft_status gr_best_save(gr_trainer *t, graft_error *err) GR_MUST_CHECK;
/* An earlier run's best adapter is not this run's. */
void gr_best_forget(const gr_trainer *t);
/* After a checkpoint was read: the adapter's files are written anew from it, aloud if they were not of one
 * save, and best/ is made to agree with it. */
graft_status gr_saved_settle(gr_trainer *t, graft_error *err) GR_MUST_CHECK;

/* metrics.c: lines of metrics.jsonl. */
graft_status gr_metrics_start(gr_trainer *t,
                              graft_error *err) GR_MUST_CHECK; /* cuts back to progress.metrics_bytes */
/* Lines written so far are on the disk afterwards: a checkpoint counts on them. */
graft_status gr_metrics_sync(const gr_trainer *t, graft_error *err) GR_MUST_CHECK;
graft_status gr_metrics_train(gr_trainer *t, const graft_event *event, graft_error *err) GR_MUST_CHECK;
graft_status gr_metrics_valid(gr_trainer *t, const graft_event *event, graft_error *err) GR_MUST_CHECK;
graft_status gr_metrics_skipped(gr_trainer *t, const gr_verdict *verdict, graft_error *err) GR_MUST_CHECK;
graft_status gr_metrics_spike(gr_trainer *t, const char *what, double value, double usual,
                              graft_error *err) GR_MUST_CHECK;

/* run_record.c: run.json, what the run was given and expects; once, when it starts or goes on. anew: an
 * adapter that is in the directory is not this run's. */
graft_status gr_record_save(const gr_trainer *t, bool anew, graft_error *err) GR_MUST_CHECK;
/* card.c: README.md of the adapter directory. */
graft_status gr_card_save(const gr_trainer *t, const graft_train_result *result,
                          graft_error *err) GR_MUST_CHECK;

/* Sends an event; harmless without hooks. */
void gr_trainer_event(const gr_trainer *t, const graft_event *event);
void gr_trainer_note(const gr_trainer *t, const char *fmt, ...) GR_PRINTF(2, 3);

#endif
