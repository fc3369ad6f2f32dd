/* train/settings_changed.h - what differs between a checkpoint and the run that would continue it, setting by
 * setting, and what --allow-changes makes of it.
 * May include: options/options.h. Never: opens files.
 *
 *     gr_changes c = {.allow = options->allow_changes};
 *     gr_changes_settings(&c, then, now);
 *     gr_changes_add(&c, "data", "13 rows", "14 rows");
 *     .. c.refused.len ..
 *     gr_changes_free(&c);
 */
#ifndef GR_TRAIN_SETTINGS_CHANGED_H
#define GR_TRAIN_SETTINGS_CHANGED_H
#include "options/options.h"

/* Lines "NAME: THEN -> NOW\n". Zeroed but for what is allowed: none. */
typedef struct gr_changes {
    const char *allow; /* --allow-changes, borrowed; may be NULL */
    bool other_base;   /* --allow-other-base: `model` may change, too */
    gr_buf allowed;    /* those that it names */
    gr_buf refused;    /* the others; what no flag allows has its reason behind it */
    gr_buf names;      /* those of the refused that it could name: "iters,learning-rate" */
    int count, never;  /* refused; of these those that no flag allows */
} gr_changes;

/* Adds a difference. Nothing happens for settings that may change freely: they cost time or memory, or say
 * where things are. */
void gr_changes_add(gr_changes *c, const char *name, const char *then, const char *now);
/* Adds what no flag allows. */
void gr_changes_never(gr_changes *c, const char *name, const char *then, const char *now, const char *why);
/* Adds the lines of two texts of gr_options_settings that differ. */
void gr_changes_settings(gr_changes *c, const char *then, const char *now);
/* True when --allow-changes let that setting change. */
bool gr_changes_has(const gr_changes *c, const char *name);
/* Every name in `allow` is an option of train, or a setting of one of the texts: GRAFT_USAGE names the first
 * that is not. */
graft_status gr_changes_check_names(const gr_changes *c, const char *then, const char *now,
                                    graft_error *err) GR_MUST_CHECK;
void gr_changes_free(gr_changes *c);

#endif
