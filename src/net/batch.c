#include "net/batch.h"

graft_status gr_batch_init(gr_batch_buffer *b, int64_t max_tokens, int64_t max_rows, graft_error *err) {
    *b = (gr_batch_buffer){.max_tokens = max_tokens, .max_rows = max_rows};
    b->ids = gr_calloc((size_t)max_tokens, sizeof *b->ids);
    b->target = gr_calloc((size_t)max_tokens, sizeof *b->target);
    b->start = gr_calloc((size_t)max_rows + 1, sizeof *b->start);
    b->segment = gr_calloc((size_t)max_tokens + 1, sizeof *b->segment);
    b->weight = gr_calloc((size_t)max_tokens, sizeof *b->weight);
    if (!b->ids || !b->target || !b->start || !b->segment || !b->weight) {
        gr_batch_free(b);
        return gr_no_memory(err, (size_t)max_tokens * 20);
    }
    gr_batch_clear(b, 0);
    return GRAFT_OK;
}

void gr_batch_free(gr_batch_buffer *b) {
    free(b->ids);
    free(b->target);
    free(b->start);
    free(b->segment);
    free(b->weight);
    *b = (gr_batch_buffer){0};
}

void gr_batch_clear(gr_batch_buffer *b, uint64_t first) {
    b->start[0] = 0;
    b->batch = (gr_batch){.ids = b->ids, .target = b->target, .start = b->start, .first = first};
}

int64_t gr_batch_cost(const gr_row *row) {
    int64_t last = row->count - 1;
    while (last > 0 && !row->mask[last]) last--;
    return gr_max_i64(last, 0);
}

/* The row's own targets: the token after its last one is never among them, so no loss crosses a seam. */
static bool append(gr_batch_buffer *b, const gr_row *row) {
    gr_batch *batch = &b->batch;
    int64_t cost = gr_batch_cost(row), at = batch->tokens;
    if (at + cost > b->max_tokens) return false;
    for (int64_t i = 0; i < cost; i++) {
        b->ids[at + i] = row->ids[i];
        b->target[at + i] = row->mask[i + 1] ? row->ids[i + 1] : -1;
    }
    batch->tokens += cost;
    if (batch->segment) b->segment[++batch->nsegments] = batch->tokens;
    return true;
}

bool gr_batch_add(gr_batch_buffer *b, const gr_row *row) {
    if (b->batch.nrows == b->max_rows || !append(b, row)) return false;
    b->start[++b->batch.nrows] = b->batch.tokens;
    return true;
}

bool gr_batch_join(gr_batch_buffer *b, const gr_row *row) {
    gr_batch *batch = &b->batch;
    if (!batch->segment) { /* so far every row was its own */
        memcpy(b->segment, b->start, ((size_t)batch->nrows + 1) * sizeof *b->segment);
        batch->segment = b->segment;
        batch->nsegments = batch->nrows;
    }
    if (!append(b, row)) return false;
    b->start[batch->nrows] = batch->tokens;
    return true;
}
