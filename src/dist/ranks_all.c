#include "dist/ranks.h"

#define PIECE ((size_t)1 << 28) /* bytes of a message at most: MPI counts in int */

static graft_status make_messages(gr_message **messages, size_t count, graft_error *err) {
    *messages = gr_calloc(count, sizeof **messages);
    return *messages ? GRAFT_OK : gr_no_memory(err, count * sizeof **messages);
}

/* Bytes of rank r's part from `at` of it on, a piece at most. */
static size_t piece_of(const size_t *start, int r, size_t at) {
    size_t n = start[r + 1] - start[r];
    return at < n ? gr_min_size(PIECE, n - at) : 0;
}

/* A piece of every rank's part. */
static graft_status share_pieces(gr_ranks *r, char *all, const size_t *start, size_t at, gr_message *m,
                                 graft_error *err) {
    int size = gr_ranks_size(r), me = gr_ranks_rank(r);
    size_t count = 0;
    for (int k = 1; k < size; k++) { /* each begins with its neighbour: no rank is asked by all at once */
        int from = (me + size - k) % size, to = (me + k) % size;
        gr_ranks_receive(r, &m[count++], all + start[from] + at, piece_of(start, from, at), from);
        gr_ranks_send(r, &m[count++], all + start[me] + at, piece_of(start, me, at), to);
    }
    return gr_ranks_wait(r, m, count, err);
}

graft_status gr_ranks_share(gr_ranks *r, void *all, const size_t *start, graft_error *err) {
    int size = gr_ranks_size(r);
    size_t longest = 0;
    gr_message *m;
    for (int i = 0; i < size; i++)
        if (start[i + 1] - start[i] > longest) longest = start[i + 1] - start[i];
    GR_TRY(make_messages(&m, 2 * (size_t)size, err));
    graft_status st = GRAFT_OK;
    for (size_t at = 0; st == GRAFT_OK && at < longest; at += PIECE)
        st = share_pieces(r, all, start, at, m, err);
    free(m);
    return st;
}

graft_status gr_ranks_share_each(gr_ranks *r, void *all, size_t n, graft_error *err) {
    size_t size = (size_t)gr_ranks_size(r);
    size_t *start = gr_calloc(size + 1, sizeof *start);
    if (!start) return gr_no_memory(err, (size + 1) * sizeof *start);
    for (size_t i = 0; i <= size; i++) start[i] = i * n;
    graft_status st = gr_ranks_share(r, all, start, err);
    free(start);
    return st;
}

/* One piece down a tree: a rank's parent is the rank without its highest bit. */
static graft_status spread_piece(gr_ranks *r, void *bytes, size_t n, graft_error *err) {
    int size = gr_ranks_size(r), me = gr_ranks_rank(r), bit = 1;
    gr_message m[32];
    size_t count = 0;
    while (bit <= me) bit *= 2;
    if (me) {
        gr_ranks_receive(r, &m[0], bytes, n, me - bit / 2);
        GR_TRY(gr_ranks_wait(r, m, 1, err));
    }
    for (; bit < size - me; bit *= 2) gr_ranks_send(r, &m[count++], bytes, n, me + bit);
    return gr_ranks_wait(r, m, count, err);
}

graft_status gr_ranks_spread(gr_ranks *r, void *bytes, size_t n, graft_error *err) {
    for (size_t at = 0; at < n; at += PIECE)
        GR_TRY(spread_piece(r, (char *)bytes + at, gr_min_size(PIECE, n - at), err));
    return GRAFT_OK;
}

graft_status gr_ranks_spread_text(gr_ranks *r, char **text, graft_error *err) {
    bool mine = gr_ranks_rank(r) == 0;
    uint64_t n = mine ? strlen(*text) : 0;
    if (!mine) *text = NULL;
    GR_TRY(gr_ranks_spread(r, &n, sizeof n, err));
    if (mine) return gr_ranks_spread(r, *text, n, err);
    *text = n < SIZE_MAX ? gr_calloc((size_t)n + 1, 1) : NULL;
    if (!*text) return gr_no_memory(err, (size_t)n);
    return gr_ranks_spread(r, *text, n, err);
}
