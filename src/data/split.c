#include "data/split.h"
#include "data/duplicates.h"
#include <math.h>

typedef struct item {
    uint64_t twin; /* of tokens and mask */
    uint64_t key;  /* the smallest of those with that twin */
    int64_t row;   /* its first */
} item;

/* source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014 (the finalizer) */
static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static int by_twin(const void *a, const void *b) {
    const item *x = a, *y = b;
    if (x->twin != y->twin) return x->twin < y->twin ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

static int by_key(const void *a, const void *b) {
    const item *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->twin < y->twin ? -1 : x->twin > y->twin;
}

/* The n rows, or pairs, in the order in which they are taken: twins side by side. */
static item *ranked(const gr_rows *rows, int64_t n, uint64_t seed) {
    item *items = gr_calloc((size_t)n, sizeof *items);
    for (int64_t i = 0; items && i < n; i++) {
        int64_t at = i * gr_rows_width(rows);
        uint64_t source = gr_rows_at(rows, at).source;
        items[i] = (item){gr_row_twin(rows, at), mix(source + 0x9e3779b97f4a7c15 * (seed + 1)), at};
    }
    if (!items) return NULL;
    qsort(items, (size_t)n, sizeof *items, by_twin);
    for (int64_t i = 1; i < n; i++)
        if (items[i].twin == items[i - 1].twin) items[i].key = items[i - 1].key;
    qsort(items, (size_t)n, sizeof *items, by_key);
    return items;
}

/* Marks groups that fit into `want`, or the first one if none does. */
static int64_t choose(bool *which, const item *items, int64_t n, int width, int64_t want) {
    int64_t taken = 0;
    for (int pass = 0; pass < 2 && !taken; pass++) {
        for (int64_t i = 0, end; i < n && taken < want; i = end) {
            for (end = i + 1; end < n && items[end].twin == items[i].twin && items[end].key == items[i].key;)
                end++;
            if (pass == 0 && taken + (end - i) > want) continue;
            for (int64_t k = i; k < end; k++)
                for (int half = 0; half < width; half++) which[items[k].row + half] = true;
            taken += end - i;
            if (pass) break;
        }
    }
    return taken;
}

static graft_status check_sides(const gr_rows *valid, const gr_rows *train, graft_error *err) {
    if (gr_rows_targets(valid) && gr_rows_targets(train)) return GRAFT_OK;
    gr_fail(err, GRAFT_CORRUPT, "no row %s has a token to train on",
            gr_rows_targets(train) ? "that --valid-split chose" : "but those that --valid-split chose");
    return gr_hint(err, "another --valid-split or --seed chooses other rows; graft tokenize shows the masks");
}

graft_status gr_rows_split(gr_rows **valid, gr_rows *train, double share, uint64_t seed, graft_error *err) {
    int width = gr_rows_width(train);
    int64_t n = gr_rows_count(train) / width,
            want = share < 1 ? gr_max_i64(1, llround(share * (double)n)) : llround(share);
    *valid = NULL;
    item *items = ranked(train, n, seed);
    bool *which = gr_calloc((size_t)(n * width), sizeof *which);
    graft_status st = items && which ? GRAFT_OK : gr_no_memory(err, (size_t)n * sizeof *items);
    if (st == GRAFT_OK && (want >= n || choose(which, items, n, width, want) >= n)) {
        gr_fail(err, GRAFT_RANGE, "--valid-split leaves no row to train on");
        st = gr_found(err, "%lld rows%s", (long long)n, want < n ? ", all the same" : "");
    }
    if (st == GRAFT_OK) st = gr_rows_take(valid, train, which, err);
    if (st == GRAFT_OK) st = check_sides(*valid, train, err);
    free(items);
    free(which);
    if (st == GRAFT_OK) return st;
    gr_rows_free(*valid);
    *valid = NULL;
    return st;
}
