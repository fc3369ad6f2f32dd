/* train/stepped.c - checkpoints of a run whose steps a host makes: it says when, and what graft_train would
 * write beside them (metrics, the adapter) it does without. */
#include "train/checkpoint_files.h"
#include "train/trainer.h"

static graft_status lock(gr_trainer *t, graft_error *err) {
    GR_TRY(gr_make_dirs(t->dir, err));
    return gr_dir_lock_take(&t->lock, t->dir, "wait for it, or give another adapter_path", err);
}

graft_status gr_trainer_take_up(gr_trainer *t, graft_error *err) {
    bool found;
    if (gr_checkpoint_newest(t, INT64_MAX) < 0) {
        gr_trainer_note(t, "no checkpoint in %s: starting from the beginning", t->dir);
        return GRAFT_OK;
    }
    GR_TRY(lock(t, err));
    GR_TRY(gr_checkpoint_resume(t, &found, err));
    if (!found) return gr_fail(err, GRAFT_IO, "the checkpoints went away while they were looked for");
    t->saved = t->p.iteration;
    gr_trainer_note(t, "resuming at iteration %lld of %lld", (long long)t->p.iteration, (long long)t->iters);
    return GRAFT_OK;
}

graft_status gr_trainer_checkpoint(gr_trainer *t, graft_error *err) {
    if (t->refrozen) {
        gr_fail(err, GRAFT_UNSUPPORTED, "a trainer that was frozen anew has no checkpoints");
        return gr_hint(err,
                       "what trains would not be what its options say; graft_trainer_save keeps the numbers");
    }
    if (!gr_trainer_sound(t)) return gr_trainer_not_saved(t, true, err);
    if (t->saved < 0) { /* a run from the beginning: an earlier one's are not its own */
        if (!t->lock.held) GR_TRY(lock(t, err));
        GR_TRY(gr_checkpoint_clear(t, err));
    }
    GR_TRY(gr_checkpoint_save(t, err));
    t->saved = t->p.iteration;
    return GRAFT_OK;
}
