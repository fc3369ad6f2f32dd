/* layers/attention_parts.h - what attention's forward and backward share. Nobody else includes it.
 *
 * Scores are computed with keys down and queries across: A is the keys where they lie, 64 queries are a
 * panel. So a softmax runs along the columns of a block without sums across a vector, its result is the next
 * product's panel as it stands, and a panel of queries needs no product with the keys behind its last one.
 */
#ifndef GR_LAYERS_ATTENTION_PARTS_H
#define GR_LAYERS_ATTENTION_PARTS_H
#include "layers/attention.h"

#define GR_QUERIES 128 /* queries of one step: two panels */
#define GR_PANELS  (GR_QUERIES / GR_NR)

/* One head of keys of one row. Sizes in elements. */
typedef struct gr_attention_view {
    const gr_compute *c;
    const gr_attention *a;
    int64_t row, kv, group; /* row number, head of keys, heads of queries that share it */
    int64_t t0, len;        /* the row's first token and their number */
    int64_t ldq, ldkv;      /* from token to token */
} gr_attention_view;

/* Units of work: the blocks of `size` tokens of every row, one after another; a row's may be followed by one
 * that is empty. */
static inline int64_t gr_attention_units(const gr_batch *b, int64_t size) {
    return b->start[b->nrows] / size - b->start[0] / size + b->nrows;
}

/* View of head kv of the unit's row, and its block's number there; false: an empty unit. */
static inline bool gr_attention_unit(gr_attention_view *w, int64_t *block, const gr_compute *c,
                                     const gr_attention *a, const gr_batch *b, int64_t size, int64_t unit,
                                     int64_t kv) {
    int64_t row = 0, end = b->nrows, first = b->start[0] / size;
    while (end - row > 1) { /* the last row whose first unit is not behind this one */
        int64_t middle = row + (end - row) / 2;
        if (b->start[middle] / size - first + middle <= unit)
            row = middle;
        else
            end = middle;
    }
    *w = (gr_attention_view){.c = c,
                             .a = a,
                             .row = row,
                             .kv = kv,
                             .group = a->heads / a->kv_heads,
                             .t0 = b->start[row],
                             .len = b->start[row + 1] - b->start[row],
                             .ldq = a->heads * a->d,
                             .ldkv = a->kv_heads * a->d};
    *block = unit - (b->start[row] / size - first + row);
    return *block * size < w->len;
}

/* Token t of the row: of query head `head`, and of the view's head of keys. */
static inline int64_t gr_attention_q(const gr_attention_view *w, int64_t head, int64_t t) {
    return (w->t0 + t) * w->ldq + head * w->a->d;
}
static inline int64_t gr_attention_kv(const gr_attention_view *w, int64_t t) {
    return (w->t0 + t) * w->ldkv + w->kv * w->a->d;
}
static inline const char *gr_attention_at(const gr_attention_view *w, const void *x, int64_t at) {
    return (const char *)x + at * w->c->k->act_bytes;
}

/* The first key that query q sees. */
static inline int64_t gr_attention_first(const gr_attention *a, int64_t q) {
    return a->window ? gr_max_i64(0, q - a->window + 1) : 0;
}

/* Keys of [k0, k0 + nk) that any of the 64 queries from q0 on sees: the first so many, 0 if none. */
static inline int gr_attention_keys(const gr_attention *a, int64_t k0, int64_t nk, int64_t q0) {
    if (k0 + nk <= gr_attention_first(a, q0)) return 0;
    return (int)gr_max_i64(0, gr_min_i64(nk, q0 + GR_NR - k0));
}

/* c[m, 64] (=, += with accumulate) the sum of terms, whose a is that of row 0. */
static inline void gr_attention_product(const gr_kernels *k, float *c, int64_t ldc, int64_t m,
                                        const gr_term *terms, int nterms, bool accumulate) {
    gr_term at[GR_PANELS];
    for (int t = 0; t < nterms; t++) at[t] = terms[t];
    for (int64_t i = 0; i < m; i += GR_MR) {
        k->tile(at, nterms, c + i * ldc, ldc, (int)gr_min_i64(GR_MR, m - i), accumulate);
        for (int t = 0; t < nterms; t++) at[t].a = (const char *)at[t].a + GR_MR * at[t].lda * k->act_bytes;
    }
}

/* The next part of a block of scratch that begins at base (NULL: only measures) and is *bytes long so far. */
static inline void *gr_attention_take(char *base, size_t *bytes, size_t size) {
    char *at = base ? base + *bytes : NULL;
    *bytes += gr_round_up(size, 64);
    return at;
}

/* Bytes of scratch that one worker of the backward pass needs. */
size_t gr_attention_back_scratch(const gr_kernels *k, const gr_attention *a);

#endif
