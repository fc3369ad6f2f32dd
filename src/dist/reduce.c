#include "dist/reduce.h"

#define SMALL ((int64_t)4096)    /* floats of a piece from which a chunk is worth messages of its own */
#define LARGE ((int64_t)1 << 24) /* and at which it is cut: 64 MB */

/* ------------------------------------------------------------------------------------------- layout */

static void add_chunk(gr_reduction *x, int64_t at, int64_t end, int64_t layer) {
    int64_t most = LARGE * gr_ranks_size(x->ranks);
    for (int64_t n; at < end; at += n) {
        n = gr_min_i64(most, end - at);
        if (x->chunks) x->chunks[x->count] = (gr_chunk){at, n, layer};
        x->count++;
    }
}

/* From the last block to the first, small ones together; what lies outside blocks is complete at the end. */
static void lay_chunks(gr_reduction *x, const int64_t *blocks, int64_t layers, int64_t parameters) {
    int64_t end = blocks[layers], small = SMALL * gr_ranks_size(x->ranks);
    x->count = 0;
    for (int64_t l = layers - 1; l >= 0; l--) {
        if (end - blocks[l] < small && l > 0) continue;
        add_chunk(x, blocks[l], end, l);
        end = blocks[l];
    }
    add_chunk(x, blocks[layers], parameters, -1);
}

/* Where rank r's piece of a chunk lies in the vector, and its length. */
static int64_t piece_at(const gr_reduction *x, const gr_chunk *c, int r, int64_t *n) {
    int64_t begin = gr_share_begin(c->n, r, gr_ranks_size(x->ranks));
    *n = gr_share_begin(c->n, r + 1, gr_ranks_size(x->ranks)) - begin;
    return c->at + begin;
}

graft_status gr_reduce_init(gr_reduction *x, gr_ranks *ranks, const gr_kernels *k, const int64_t *blocks,
                            int64_t layers, int64_t parameters, graft_error *err) {
    *x = (gr_reduction){.ranks = ranks, .k = k};
    lay_chunks(x, blocks, layers, parameters);
    size_t count = (size_t)x->count, size = (size_t)gr_ranks_size(ranks);
    x->chunks = gr_calloc(count, sizeof *x->chunks);
    x->own_at = gr_calloc(count, sizeof *x->own_at);
    x->begin = gr_calloc(size + 1, sizeof *x->begin);
    if (!x->chunks || !x->own_at || !x->begin) {
        gr_reduce_free(x);
        return gr_no_memory(err, count * sizeof *x->chunks);
    }
    lay_chunks(x, blocks, layers, parameters);
    for (int c = 0; c < x->count; c++) {
        int64_t n;
        piece_at(x, &x->chunks[c], gr_ranks_rank(ranks), &n);
        x->own_at[c] = x->own;
        x->own += n;
    }
    return GRAFT_OK;
}

void gr_reduce_free(gr_reduction *x) {
    free(x->chunks);
    free(x->own_at);
    free(x->begin);
    free(x->in);
    free(x->out);
    *x = (gr_reduction){0};
}

void gr_reduce_bind(gr_reduction *x, gr_arena *arena, int64_t rows, int64_t batch) {
    int size = gr_ranks_size(x->ranks);
    for (int i = 0; i < GR_TREE_LEVELS; i++)
        x->levels[i] = rows >> i ? gr_arena_array(arena, x->own, sizeof(float)) : NULL;
    x->nodes_most = 0;
    for (int r = 0; r < size; r++)
        if (r != gr_ranks_rank(x->ranks))
            x->nodes_most += gr_share_most(
                (uint64_t)(gr_share_begin(batch, r + 1, size) - gr_share_begin(batch, r, size)) + 1);
    int64_t floats;
    if (!gr_mul_i64(x->own, x->nodes_most, &floats)) floats = INT64_MAX;
    x->received = gr_arena_array(arena, floats, sizeof(float));
}

/* ---------------------------------------------------------------------------------------- an iteration */

static graft_status make_room(gr_message **messages, size_t *room, size_t count, graft_error *err) {
    if (count <= *room) return GRAFT_OK;
    gr_message *more = gr_realloc_array(*messages, count, sizeof **messages);
    if (!more) return gr_no_memory(err, count * sizeof **messages);
    *messages = more;
    *room = count;
    return GRAFT_OK;
}

static int nodes_of(const gr_reduction *x, int r, int level[GR_SHARE_NODES]) {
    return gr_share_nodes(level, x->begin[r], x->begin[r + 1]);
}

/* Receives of all chunks, in the order in which the others send. */
static void receive_all(gr_reduction *x) {
    int size = gr_ranks_size(x->ranks), me = gr_ranks_rank(x->ranks), level[GR_SHARE_NODES];
    gr_message *m = x->in;
    for (int c = 0; c < x->count; c++) {
        int64_t n, node = 0;
        piece_at(x, &x->chunks[c], me, &n);
        for (int r = 0; r < size; r++) {
            int nodes = r == me ? 0 : nodes_of(x, r, level);
            for (int i = 0; i < nodes; i++)
                gr_ranks_receive(x->ranks, m++, x->received + node++ * x->own + x->own_at[c],
                                 (size_t)n * sizeof(float), r);
        }
    }
}

graft_status gr_reduce_begin(gr_reduction *x, uint64_t before, const uint64_t *begin,
                             const gr_gradients *local, graft_error *err) {
    size_t size = (size_t)gr_ranks_size(x->ranks);
    int me = gr_ranks_rank(x->ranks), level[GR_SHARE_NODES];
    memcpy(x->begin, begin, (size + 1) * sizeof *begin);
    x->before = before;
    x->local = local;
    x->next = 0;
    x->in_each = x->out_count = 0;
    for (int r = 0; r < (int)size; r++)
        if (r != me) x->in_each += (size_t)nodes_of(x, r, level);
    if (x->in_each > (size_t)x->nodes_most)
        return gr_fail(err, GRAFT_INTERNAL, "the other ranks' nodes outgrew their measure");
    GR_TRY(make_room(&x->in, &x->in_room, (size_t)x->count * x->in_each, err));
    GR_TRY(make_room(&x->out, &x->out_room, (size_t)x->count * (size - 1) * (size_t)nodes_of(x, me, level),
                     err));
    receive_all(x);
    return GRAFT_OK;
}

/* early: blocks below are still to come. */
static void send_chunk(gr_reduction *x, const gr_chunk *c, bool early) {
    int size = gr_ranks_size(x->ranks), me = gr_ranks_rank(x->ranks), level[GR_SHARE_NODES];
    int nodes = nodes_of(x, me, level);
    for (int k = 1; k < size; k++) {
        int64_t n, at = piece_at(x, c, (me + k) % size, &n);
        if (early) x->early += (uint64_t)n * (uint64_t)nodes * sizeof(float);
        for (int i = 0; i < nodes; i++)
            gr_ranks_send(x->ranks, &x->out[x->out_count++], x->local->slots[i] + at,
                          (size_t)n * sizeof(float), (me + k) % size);
    }
}

void gr_reduce_ready(gr_reduction *x, int64_t layer) {
    for (; x->next < x->count && x->chunks[x->next].layer >= layer; x->next++)
        send_chunk(x, &x->chunks[x->next], layer > 0);
}

/* A node of 2^level leaves joins the tree after `rows` others; v is spoiled. */
static void join_node(gr_reduction *x, int chunk, uint64_t rows, int level, float *v, int64_t n) {
    for (; rows >> level & 1; level++) x->k->add_f32(v, x->levels[level] + x->own_at[chunk], n);
    memcpy(x->levels[level] + x->own_at[chunk], v, (size_t)n * sizeof *v);
}

/* All nodes of one chunk, in the order of their leaves. */
static void join_chunk(gr_reduction *x, int c) {
    int size = gr_ranks_size(x->ranks), me = gr_ranks_rank(x->ranks), level[GR_SHARE_NODES];
    int64_t n, at = piece_at(x, &x->chunks[c], me, &n), node = 0;
    uint64_t rows = x->before;
    for (int r = 0; r < size; r++) {
        int nodes = nodes_of(x, r, level);
        for (int i = 0; i < nodes; i++) {
            float *v = r == me ? x->local->slots[i] + at : x->received + node++ * x->own + x->own_at[c];
            join_node(x, c, rows, level[i], v, n);
            rows += (uint64_t)1 << level[i];
        }
    }
}

graft_status gr_reduce_join(gr_reduction *x, graft_error *err) {
    for (int c = 0; c < x->count; c++) {
        GR_TRY(gr_ranks_wait(x->ranks, x->in + (size_t)c * x->in_each, x->in_each, err));
        join_chunk(x, c);
    }
    return gr_ranks_wait(x->ranks, x->out, x->out_count, err);
}

/* ------------------------------------------------------------------------------------------- an update */

/* The levels of the owner's piece as gr_optim_collect adds them: those of fewer rows first. */
static void fold(const gr_reduction *x, int c, uint64_t rows, float *sum, int64_t n) {
    bool first = true;
    for (int i = 0; rows >> i; i++) {
        if (!(rows >> i & 1)) continue;
        const float *level = x->levels[i] + x->own_at[c];
        if (first)
            memcpy(sum, level, (size_t)n * sizeof *sum);
        else
            x->k->add_f32(sum, level, n);
        first = false;
    }
}

graft_status gr_reduce_total(gr_reduction *x, uint64_t rows, float *sum, graft_error *err) {
    int size = gr_ranks_size(x->ranks), me = gr_ranks_rank(x->ranks);
    size_t others = (size_t)size - 1, each = (size_t)x->count * others, in = 0, out = 0;
    int64_t n, at;
    GR_TRY(make_room(&x->in, &x->in_room, each, err));
    GR_TRY(make_room(&x->out, &x->out_room, each, err));
    for (int c = 0; c < x->count; c++)
        for (int k = 1; k < size; k++) {
            int r = (me + size - k) % size;
            at = piece_at(x, &x->chunks[c], r, &n);
            gr_ranks_receive(x->ranks, &x->in[in++], sum + at, (size_t)n * sizeof *sum, r);
        }
    for (int c = 0; c < x->count; c++) {
        at = piece_at(x, &x->chunks[c], me, &n);
        fold(x, c, rows, sum + at, n);
        for (int k = 1; k < size; k++)
            gr_ranks_send(x->ranks, &x->out[out++], sum + at, (size_t)n * sizeof *sum, (me + k) % size);
    }
    GR_TRY(gr_ranks_wait(x->ranks, x->in, in, err));
    return gr_ranks_wait(x->ranks, x->out, out, err);
}

/* ---------------------------------------------------------------------------------------- a checkpoint */

static graft_status gather_level(gr_reduction *x, int level, float *whole, graft_error *err) {
    int size = gr_ranks_size(x->ranks), me = gr_ranks_rank(x->ranks);
    size_t count = 0, most = (size_t)x->count * (size_t)(me ? 1 : size - 1);
    GR_TRY(make_room(&x->in, &x->in_room, most, err));
    for (int c = 0; c < x->count; c++) {
        int64_t n, at = piece_at(x, &x->chunks[c], me, &n);
        float *own = x->levels[level] + x->own_at[c];
        if (me)
            gr_ranks_send(x->ranks, &x->in[count++], own, (size_t)n * sizeof *own, 0);
        else
            memcpy(whole + at, own, (size_t)n * sizeof *own);
        for (int r = 1; !me && r < size; r++) {
            at = piece_at(x, &x->chunks[c], r, &n);
            gr_ranks_receive(x->ranks, &x->in[count++], whole + at, (size_t)n * sizeof *own, r);
        }
    }
    return gr_ranks_wait(x->ranks, x->in, count, err);
}

graft_status gr_reduce_gather(gr_reduction *x, uint64_t rows, float *const *level, graft_error *err) {
    for (int i = 0; rows >> i; i++)
        if (rows >> i & 1) GR_TRY(gather_level(x, i, level[i], err));
    return GRAFT_OK;
}

void gr_reduce_restore(gr_reduction *x, uint64_t rows, float *const *level) {
    for (int c = 0; c < x->count; c++) {
        int64_t n, at = piece_at(x, &x->chunks[c], gr_ranks_rank(x->ranks), &n);
        for (int i = 0; rows >> i; i++)
            if (rows >> i & 1) memcpy(x->levels[i] + x->own_at[c], level[i] + at, (size_t)n * sizeof(float));
    }
}
