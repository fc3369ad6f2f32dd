#include "data/duplicates.h"
#include "base/digest.h"

/* Open addressing over rows that are all different. */
typedef struct table {
    int32_t *slots; /* 1 + index of a row of `in`; 0: free */
    uint64_t mask;
    const gr_rows *in;
} table;

/* A table that is at most half full needs a few; rows that were made to collide are not worth more. */
#define PROBES 64

uint64_t gr_row_twin(const gr_rows *rows, int64_t at) {
    uint64_t h = GR_DIGEST_START;
    for (int k = 0; k < gr_rows_width(rows); k++) {
        gr_row row = gr_rows_at(rows, at + k);
        for (int64_t i = 0; i < row.count; i++)
            h = gr_digest_step(h, (uint64_t)(uint32_t)row.ids[i] << 1 | row.mask[i]);
    }
    return h ^ h >> 32; /* the low digits of a product know little of the high ones of its factors */
}

static bool same_row(const gr_row *a, const gr_row *b) {
    size_t n = (size_t)a->count;
    return a->count == b->count && memcmp(a->ids, b->ids, n * sizeof *a->ids) == 0 &&
           memcmp(a->mask, b->mask, n) == 0;
}

static bool same(const gr_rows *a, int64_t at, const gr_rows *b, int64_t bt) {
    for (int k = 0; k < gr_rows_width(a); k++) {
        gr_row x = gr_rows_at(a, at + k), y = gr_rows_at(b, bt + k);
        if (!same_row(&x, &y)) return false;
    }
    return true;
}

/* Line of the row of the table that is the same; 0: none. `insert` (1 + index of the row): it joins then. */
static uint64_t look_up(table *t, const gr_rows *rows, int64_t row, int32_t insert) {
    uint64_t at = gr_row_twin(rows, row) & t->mask;
    for (int i = 0; i < PROBES; i++, at = (at + 1) & t->mask) {
        if (!t->slots[at]) {
            if (insert) t->slots[at] = insert;
            return 0;
        }
        int64_t other = t->slots[at] - 1;
        if (same(rows, row, t->in, other)) return gr_rows_at(t->in, other).line;
    }
    return 0;
}

graft_status gr_duplicates_find(gr_duplicates *twins, const gr_rows *rows, const gr_rows *in,
                                graft_error *err) {
    int64_t count = gr_rows_count(in);
    table t = {.in = in, .mask = 1};
    *twins = (gr_duplicates){0};
    if (count >= INT32_MAX) return GRAFT_OK; /* gr_order_init refuses so many */
    while (t.mask < 2 * (uint64_t)count) t.mask *= 2;
    t.slots = gr_calloc(t.mask, sizeof *t.slots);
    if (!t.slots) return gr_no_memory(err, t.mask * sizeof *t.slots);
    t.mask--;
    int width = gr_rows_width(rows); /* that of both */
    for (int64_t i = 0; in != rows && i < count; i += width) look_up(&t, in, i, (int32_t)i + 1);
    for (int64_t i = 0; i < gr_rows_count(rows); i += width) {
        uint64_t line = look_up(&t, rows, i, in == rows ? (int32_t)i + 1 : 0);
        if (!line) continue;
        if (!twins->rows.count) twins->of = line;
        gr_lines_add(&twins->rows, gr_rows_at(rows, i).line);
    }
    free(t.slots);
    return GRAFT_OK;
}

char *gr_duplicates_note(const gr_rows *rows, const gr_rows *in, const char *name) {
    gr_duplicates twins;
    gr_buf out = {0};
    if (gr_duplicates_find(&twins, rows, in, NULL) != GRAFT_OK || !twins.rows.count) return NULL;
    bool one = twins.rows.count == 1;
    gr_buf_printf(&out, "%lld %s ", (long long)twins.rows.count, one ? "row" : "rows");
    if (in == rows)
        gr_buf_printf(&out, "%s an earlier one (", one ? "repeats" : "repeat");
    else
        gr_buf_printf(&out, "%s in %s too (", one ? "is" : "are", name);
    gr_lines_text(&twins.rows, &out);
    gr_buf_printf(&out, "; line %llu is line %llu %s)", (unsigned long long)twins.rows.lines[0],
                  (unsigned long long)twins.of, in == rows ? "again" : "there");
    return gr_buf_take(&out);
}
