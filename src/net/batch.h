/* net/batch.h - rows of data as one ragged batch, without work that nothing depends on: tokens after a row's
 * last target are left out, and rows without any target.
 */
#ifndef GR_NET_BATCH_H
#define GR_NET_BATCH_H
#include "data/rows.h"
#include "layers/linear.h"

typedef struct gr_batch_buffer {
    int32_t *ids, *target;
    int64_t *start, *segment;
    float *weight; /* for who gives the targets weights: the batch has it then */
    int64_t max_tokens, max_rows;
    gr_batch batch; /* what the layers see */
} gr_batch_buffer;

graft_status gr_batch_init(gr_batch_buffer *b, int64_t max_tokens, int64_t max_rows,
                           graft_error *err) GR_MUST_CHECK;
void gr_batch_free(gr_batch_buffer *b);
/* Empties; `first` as in gr_batch. */
void gr_batch_clear(gr_batch_buffer *b, uint64_t first);
/* Inputs that a row costs: the index of its last target; 0: none. */
int64_t gr_batch_cost(const gr_row *row);
/* Appends a row of cost > 0; false when it does not fit any more. */
bool gr_batch_add(gr_batch_buffer *b, const gr_row *row);
/* Likewise, as one more segment of the last row: a pack grows. */
bool gr_batch_join(gr_batch_buffer *b, const gr_row *row);

#endif
