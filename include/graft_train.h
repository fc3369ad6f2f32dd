/* graft_train.h - training: a whole run in one call, or a trainer that the host steps through.
 */
#ifndef GRAFT_TRAIN_H
#define GRAFT_TRAIN_H
#include "graft_plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a run did, and what it cost. */
typedef struct graft_train_result {
    int64_t iterations, updates, trained_tokens;
    int64_t skipped_updates;              /* not among updates: loss or gradient was not a number */
    int64_t loss_spikes, gradient_spikes; /* updates far above the level of those before */
    graft_packing packing;
    double train_loss;                                   /* last report */
    double val_loss_first, val_loss_last, val_loss_best; /* NaN when there was no validation */
    double seconds;
    graft_memory forecast;
    uint64_t peak_memory_bytes;
    bool interrupted;
    bool stopped_early; /* options.patience */
    /* options.verify_frozen: every frozen tensor's bytes are what they were, every trainable tensor moved
     * (one update cannot move an A whose B was zero: not among trained_tensors then); not verified when the
     * run made no update */
    bool verified;
    int64_t frozen_tensors, trained_tensors;
    uint64_t frozen_digest; /* of all frozen tensors */
} graft_train_result;

/* Trains and writes the adapter directory. GRAFT_INTERRUPTED when the stop flag was raised: a resumable
 * checkpoint was written. result may be NULL. */
graft_status graft_train(const graft_options *options, const graft_hooks *hooks, graft_train_result *result,
                         graft_error *err);

/* A training that the host steps through, and whose tensors it can ask about:
 *
 *     graft_trainer *t;
 *     if (graft_trainer_open(&t, &o, NULL, &err) != GRAFT_OK) ..;      // o stays the host's until free
 *     graft_trainer_freeze(t, true, &err);                             // adapters alone train
 *     for (size_t i = 0; i < graft_trainer_count(t); i++) graft_trainer_parameter(t, i, &p);
 *     for (int i = 0; i < 100; i++) graft_trainer_step(t, &loss, &err);
 *     graft_trainer_save(t, "adapters", &err);
 *     graft_trainer_free(t);
 */

typedef struct graft_trainer graft_trainer;

/* One tensor of a trainer. */
typedef struct graft_parameter {
    const char *name; /* "model.layers.0.self_attn.q_proj.weight", ".bias"; adapters ".lora_A", ".lora_B",
                         ".magnitude"; borrowed until freeze or free */
    int64_t shape[2]; /* [out, in]; A [rank, in], B [rank, out]; norms, biases and magnitudes [n, 0]. All
                         experts of a mixture are one tensor, one expert's rows after another's: [experts *
                         out, in], A [experts * rank, in], B [experts * rank, out] */
    bool trainable;   /* else frozen */
    bool adapter;     /* beside a tensor of the base, not one of it */
    int bits;         /* of an element as it is held: trainable tensors are f32 */
} graft_parameter;

/* Opens what graft_train would run, up to the first step; with options.resume behind the newest checkpoint in
 * options.adapter_path, where there is one (GRAFT_MISMATCH as in graft_train). When to report, to validate
 * and to save is the host's to say: steps_per_report, steps_per_eval, val_batches and save_every have no part
 * in it, and patience, keep_best, verify_frozen, watch and report_to are refused (GRAFT_USAGE). options are
 * borrowed until graft_trainer_free, hooks too. Nothing is written. Owned by caller until graft_trainer_free.
 */
graft_status graft_trainer_open(graft_trainer **trainer, const graft_options *options,
                                const graft_hooks *hooks, graft_error *err);
/* Every tensor of base and adapter, in a fixed order; index < graft_trainer_count. */
size_t graft_trainer_count(const graft_trainer *trainer);
/* Name, shape and kind of one of them. */
void graft_trainer_parameter(const graft_trainer *trainer, size_t index, graft_parameter *parameter);
/* Digest of the tensor's bytes as they are now: two that differ are two values. */
uint64_t graft_trainer_digest(const graft_trainer *trainer, size_t index);
/* What a trainable tensor holds now: shape[0] x max(shape[1], 1) numbers, row by row. NULL for a frozen one.
 * Borrowed until freeze or free, and changed by every step: for hosts that keep an adapter without a file
 * system. */
const float *graft_trainer_values(const graft_trainer *trainer, size_t index);
/* lora_only: adapters alone stay trainable; GRAFT_OK at any time where that is so already. false: everything
 * trains, the base's tensors too, as f32. Before the first step; the numbering of parameters begins anew.
 * GRAFT_UNSUPPORTED names a quantized tensor: codes of a few bits cannot follow a gradient, and the hint has the
 * command that dequantizes. */
graft_status graft_trainer_freeze(graft_trainer *trainer, bool lora_only, graft_error *err);
/* One update, with all iterations that make it up; *loss (may be NULL) is its mean loss, NaN where there is
 * none. An update whose loss or gradient is not a number changes nothing; GRAFT_RANGE after
 * options.max_bad_steps of them in a row. GRAFT_USAGE when options.iters are done. */
graft_status graft_trainer_step(graft_trainer *trainer, double *loss, graft_error *err);
/* What trains as it is now, as graft_train writes it, into dir (made if missing). After freeze(false)
 * adapters are folded into the tensors that they adapt, and dir holds those whole, as --fine-tune-type full
 * writes them; for the time of the save that takes 4 bytes more for every element. */
graft_status graft_trainer_save(graft_trainer *trainer, const char *dir, graft_error *err);
/* A checkpoint in options.adapter_path, from which a trainer opened with options.resume, or graft_train, goes
 * on with the bits that this one would come to. The newest options.keep_last stay; those of another run are
 * removed before the first, and no other run may use the directory until graft_trainer_free. GRAFT_RANGE
 * where no row has a loss any more, GRAFT_UNSUPPORTED after a freeze: what trains is not what the options say
 * then. */
graft_status graft_trainer_checkpoint(graft_trainer *trainer, graft_error *err);
void graft_trainer_free(graft_trainer *trainer); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
