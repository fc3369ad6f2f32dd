/* hub/hub_cache.h - models by name: the directory in which the programs of Hugging Face keep what they
 * fetched.
 *
 *     CACHE/models--OWNER--NAME/refs/REVISION            the commit it stands for
 *                              /snapshots/COMMIT/FILE    a link to the blob
 *                              /blobs/DIGEST             the bytes; DIGEST.incomplete while they arrive
 *
 * What this room does: finds models there, and fetches them into it. May include: base, files. Never: knows
 * what a model's files mean.
 */
#ifndef GR_HUB_HUB_CACHE_H
#define GR_HUB_HUB_CACHE_H
#include "base/os.h"

typedef struct gr_hub_name {
    char name[200];     /* owner/name */
    char revision[200]; /* branch, tag or commit; main unless given */
    bool given;         /* the wish named a revision */
} gr_hub_name;
/* Reads owner/name or owner/name@revision; false for what cannot be one (and is a path, perhaps). */
bool gr_hub_name_read(gr_hub_name *name, const char *wish);

/* HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub. malloc'ed; NULL:
 * none of the variables is set, or no memory. */
char *gr_hub_cache_dir(void);
/* CACHE/models--OWNER--NAME, likewise. */
char *gr_hub_repository(const gr_hub_name *name);

/* *path (malloc'ed): the snapshot of the revision. GRAFT_NOT_FOUND, without a text in err, when the cache has
 * none. GRAFT_CORRUPT, which names the file, when a link leads nowhere or some of the weights' parts are not
 * there. */
graft_status gr_hub_find(char **path, const gr_hub_name *name, graft_error *err) GR_MUST_CHECK;

#endif
