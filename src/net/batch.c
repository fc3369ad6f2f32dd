#include "net/batch.h"

graft_status gr_batch_init(gr_batch_buffer *b, int64_t max_tokens, int64_t max_rows, graft_error *err) {
    *b = (gr_batch_buffer){.max_tokens = max_tokens, .max_rows = max_rows};
    b->ids = gr_calloc((size_t)max_tokens, sizeof *b->ids);
    b->target = gr_calloc((size_t)max_tokens, sizeof *b->target);
    b->start = gr_calloc((size_t)max_rows + 1, sizeof *b->start);
    if (!b->ids || !b->target || !b->start) {
        gr_batch_free(b);
        return gr_no_memory(err, (size_t)max_tokens * 8);
    }
    gr_batch_clear(b, 0);
    return GRAFT_OK;
}

void gr_batch_free(gr_batch_buffer *b) {
    free(b->ids);
    free(b->target);
    free(b->start);
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

bool gr_batch_add(gr_batch_buffer *b, const gr_row *row) {
    gr_batch *batch = &b->batch;
    int64_t cost = gr_batch_cost(row), at = batch->tokens;
    if (at + cost > b->max_tokens || batch->nrows == b->max_rows) return false;
    for (int64_t i = 0; i < cost; i++) {
        b->ids[at + i] = row->ids[i];
        b->target[at + i] = row->mask[i + 1] ? row->ids[i + 1] : -1;
    }
    batch->tokens += cost;
    b->start[++batch->nrows] = batch->tokens;
    return true;
}
