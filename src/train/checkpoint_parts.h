/* train/checkpoint_parts.h - what checkpoint.c and resume_check.c share: the part of a checkpoint that says
 * what it was made from. May include: train/trainer.h.
 */
#ifndef GR_TRAIN_CHECKPOINT_PARTS_H
#define GR_TRAIN_CHECKPOINT_PARTS_H
#include "base/digest.h"
#include "files/json_bits.h"
#include "files/json_read.h"
#include "train/settings_changed.h"
#include "train/trainer.h"

/* base, data, rows, valid, valid_rows, adapter (its shape), isa and settings of this run. NULL when out of
 * memory. */
json_t *gr_checkpoint_inputs(const gr_trainer *t);
/* What a checkpoint was made from against this run. GRAFT_MISMATCH names all differences at once that
 * --allow-changes does not name; those that it does are in *c (owned by caller, also after failure). */
graft_status gr_checkpoint_check(const gr_trainer *t, const gr_json_scope *root, const gr_train_progress *p,
                                 gr_changes *c, graft_error *err) GR_MUST_CHECK;
/* Says aloud what was allowed, and another instruction set. */
void gr_checkpoint_say(const gr_trainer *t, const gr_json_scope *root, const gr_changes *c);

#endif
