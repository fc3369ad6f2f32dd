/* train/checkpoint_files.h - the files of a run's checkpoints: names, which are there, which go.
 * May include: train/trainer.h. Never: looks inside them.
 */
#ifndef GR_TRAIN_CHECKPOINT_FILES_H
#define GR_TRAIN_CHECKPOINT_FILES_H
#include "train/trainer.h"

/* DIR/checkpoints, and in it the file of an iteration. malloc'ed; NULL when out of memory. */
char *gr_checkpoint_dir(const gr_trainer *t);
char *gr_checkpoint_path(const gr_trainer *t, int64_t iteration);
/* The newest checkpoint below `limit`; -1: none, and the directory could be read or is not there. */
graft_status gr_checkpoint_find(int64_t *newest, const gr_trainer *t, int64_t limit,
                                graft_error *err) GR_MUST_CHECK;
/* The same where nothing is lost by not knowing: -1 also means that. */
int64_t gr_checkpoint_newest(const gr_trainer *t, int64_t limit);
/* Removes those below `iteration` except for the newest `keep` - 1 of them. */
void gr_checkpoint_rotate(const gr_trainer *t, int64_t iteration, int64_t keep);
/* Gives those above `iteration` a name that counts as none, checkpoint-N.safetensors.damaged: nobody mistakes
 * them for the newest, and they can still be looked at. */
void gr_checkpoint_set_aside(const gr_trainer *t, int64_t iteration);

#endif
