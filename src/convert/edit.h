/* convert/edit.h - changes to the values of tensors on their way through a conversion. What they mean is
 * known to whoever makes them: this room only knows how the bytes follow.
 *
 * Bytes that need not change stay: a float whose value stays, and of a matrix in codes every group whose
 * values all stay. A group with another value is quantized anew; one whose values all move by the same amount
 * keeps codes and scale, and the amount goes into its bias.
 */
#ifndef GR_CONVERT_EDIT_H
#define GR_CONVERT_EDIT_H
#include "base/memory.h"
#include <stdatomic.h>

typedef struct gr_edit gr_edit;
struct gr_edit {
    const char *name;   /* of the tensor: "model.layers.0.self_attn.q_proj.weight" */
    int64_t rows, cols; /* of its values; a vector is one row */
    const void *context;
    /* values[cols] of that row become what they shall be; those that stay must keep every bit. Called by
     * several threads at once. */
    void (*row)(const gr_edit *edit, float *values, int64_t row);
    /* NULL, or by how much: sums[cols / group], the same for `group` columns each. */
    void (*sums)(const gr_edit *edit, float *sums, int64_t row);
    int64_t group;
    atomic_bool *moved; /* set once a byte of what is written is another because of it; NULL: nobody asks */
};

/* The edit of that name among `count`, which are sorted by name (gr_edits_sort); NULL: none. */
const gr_edit *gr_edits_find(const gr_edit *edits, size_t count, const char *name);
void gr_edits_sort(gr_edit *edits, size_t count);

#endif
