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
    int64_t ldq, ldkv;      /* from token to token, of q; of k and v */
    int64_t ldo, ldg;       /* .. of out, dout and dq; of dk and dv */
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
                             .ldq = a->ldq,
                             .ldkv = a->ldkv,
                             .ldo = a->heads * a->d,
                             .ldg = a->kv_heads * a->d};
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
/* The same of out and the gradients. */
static inline int64_t gr_attention_out(const gr_attention_view *w, int64_t head, int64_t t) {
    return (w->t0 + t) * w->ldo + head * w->a->d;
}
static inline int64_t gr_attention_dkv(const gr_attention_view *w, int64_t t) {
    return (w->t0 + t) * w->ldg + w->kv * w->a->d;
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

/* Rows of tokens that will be needed soon: products fetch them from L3 into L2, a few lines with each tile.
 * They lie too far apart for the processor to foresee. */
typedef struct gr_attention_ahead {
    struct {
        const char *at;
        int64_t step; /* bytes from row to row */
        int rows, lines;
    } part[4];
    int parts, now, per_tile;
} gr_attention_ahead;

static inline void gr_attention_expect(gr_attention_ahead *h, const void *at, int64_t step, int64_t rows,
                                       int64_t bytes) {
    if (rows <= 0) return;
    h->part[h->parts].at = at;
    h->part[h->parts].step = step;
    h->part[h->parts].rows = (int)rows;
    h->part[h->parts++].lines = (int)((bytes + 63) / 64);
}

/* Before the first of so many tiles. */
static inline void gr_attention_spread(gr_attention_ahead *h, int64_t tiles) {
    int64_t lines = 0;
    for (int i = 0; i < h->parts; i++) lines += h->part[i].rows * h->part[i].lines;
    h->per_tile = (int)(lines / gr_max_i64(1, tiles)) + 1;
}

static inline void gr_attention_fetch(gr_attention_ahead *h) {
    for (int left = h->per_tile; left > 0 && h->now < h->parts;) {
        for (int i = 0; i < h->part[h->now].lines; i++, left--)
            __builtin_prefetch(h->part[h->now].at + 64 * i, 0, 2);
        h->part[h->now].at += h->part[h->now].step;
        if (--h->part[h->now].rows == 0) h->now++;
    }
}

/* c[m, 64] (=, += with accumulate) one term, whose a is that of row 0. */
static inline void gr_attention_product(const gr_kernels *k, float *c, int64_t ldc, int64_t m, gr_term term,
                                        bool accumulate, gr_attention_ahead *ahead) {
    for (int64_t i = 0; i < m; i += GR_MR) {
        k->tile(&term, 1, c + i * ldc, ldc, (int)gr_min_i64(GR_MR, m - i), accumulate);
        term.a = (const char *)term.a + GR_MR * term.lda * k->act_bytes;
        if (ahead) gr_attention_fetch(ahead);
    }
}

/* What softmax multiplies scores by: capped ones have been already. */
static inline float gr_attention_scale(const gr_attention *a) {
    return a->cap > 0 ? 1 : a->scale;
}

/* Rows [0, rows) of d elements next to each other: rows that lie a power of two apart share few places of L1.
 */
static inline void gr_attention_gather(const gr_attention_view *w, char *y, const char *x, int64_t rows) {
    size_t bytes = (size_t)(w->a->d * w->c->k->act_bytes);
    for (int64_t i = 0; i < rows; i++)
        memcpy(y + (size_t)i * bytes, x + i * w->ldkv * w->c->k->act_bytes, bytes);
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
