/* fuse/fuse.h - an adapter becomes part of its base: a complete model without adapter, and what that cost.
 * What it does: the adapter's tensors as edits of a conversion, which streams; losses before and after.
 * May include: everything above fuse. Never: changes a tensor that the adapter leaves as it is.
 *
 * Files: fuse.c (the verb), fuse_edits.c (a tuning as edits), fuse_gguf.c (a GGUF file out of a GGUF file).
 */
#ifndef GR_FUSE_FUSE_H
#define GR_FUSE_FUSE_H
#include "base/os.h"
#include "convert/edit.h"
#include "graft.h"
#include "model/config.h"
#include "plan/tuning.h"

/* The verb behind graft.h: dir is the located model directory, gguf the file that it was made of, or NULL. */
graft_status gr_fuse(const char *dir, const char *gguf, const graft_options *o, const graft_hooks *hooks,
                     graft_fuse_result *result, graft_error *err) GR_MUST_CHECK;

/* What a tuning changes of its base, sorted by the tensors' names. Owned by caller until
 * gr_fuse_edits_free; tuning and params are borrowed. */
typedef struct gr_fuse_edits {
    gr_edit *edits;
    struct gr_fuse_change *changes;
    atomic_bool *moved; /* by change */
    size_t count;
    uint64_t key; /* of all numbers and names */
} gr_fuse_edits;
graft_status gr_fuse_edits_new(gr_fuse_edits *edits, const gr_tuning *tuning, const float *params,
                               graft_error *err) GR_MUST_CHECK;
/* Of how many tensors bytes were written that are not the base's. */
int64_t gr_fuse_edits_moved(const gr_fuse_edits *edits);
void gr_fuse_edits_free(gr_fuse_edits *edits);

/* Writes `out`, the GGUF file with those edits: blocks whose values change are quantized anew as ggml does,
 * in Q4_1 an edit of whole blocks moves their minimum alone; all other bytes and the metadata stay. Streams;
 * the file appears whole. Fills the sizes of *result. GRAFT_UNSUPPORTED names a tensor in blocks that are
 * never written, before anything is. */
graft_status gr_fuse_gguf(const char *gguf, const char *out, gr_reading reading, int threads,
                          const gr_fuse_edits *edits, const gr_model_config *config, const graft_hooks *hooks,
                          graft_fuse_result *result, graft_error *err) GR_MUST_CHECK;

#endif
