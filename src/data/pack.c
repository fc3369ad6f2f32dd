#include "data/pack.h"

/* Rooms are looked up in a bitmap of those that some pack has, and a bitmap of its words. */
enum { BITS = 64 };

void gr_packs_free(gr_packs *p) {
    if (!p) return;
    free(p->cost);
    free(p->row);
    free(p->start);
    free(p->sorted);
    free(p->pack_of);
    free(p->room);
    free(p->below);
    free(p->top);
    free(p->some);
    free(p->somewhere);
    free(p);
}

static graft_status sum_up(gr_packs *p, int64_t rows, graft_error *err) {
    for (int64_t i = 0; i < rows; i++) {
        if (p->cost[i] < 0 || p->cost[i] > p->capacity) {
            gr_fail(err, GRAFT_RANGE, "a row is longer than a pack");
            gr_expected(err, "at most %lld tokens", (long long)p->capacity);
            return gr_found(err, "%lld", (long long)p->cost[i]);
        }
        p->rows += p->cost[i] > 0;
        p->tokens += p->cost[i];
    }
    p->most = gr_min_i64(p->capacity, p->tokens);
    return p->rows ? GRAFT_OK : gr_fail(err, GRAFT_RANGE, "no row has a token to pack");
}

static graft_status reserve(gr_packs *p, int64_t rows, graft_error *err) {
    size_t n = (size_t)rows + 1, rooms = (size_t)p->most + 1, words = rooms / BITS + 1;
    p->row = gr_calloc(n, sizeof *p->row);
    p->start = gr_calloc(n, sizeof *p->start);
    p->sorted = gr_calloc(n, sizeof *p->sorted);
    p->pack_of = gr_calloc(n, sizeof *p->pack_of);
    p->room = gr_calloc(n, sizeof *p->room);
    p->below = gr_calloc(n, sizeof *p->below);
    p->top = gr_calloc(rooms, sizeof *p->top);
    p->some = gr_calloc(words, sizeof *p->some);
    p->somewhere = gr_calloc(words / BITS + 1, sizeof *p->somewhere);
    if (p->row && p->start && p->sorted && p->pack_of && p->room && p->below && p->top && p->some &&
        p->somewhere)
        return GRAFT_OK;
    return gr_no_memory(err, n * 6 * sizeof *p->row + rooms * sizeof *p->top);
}

graft_status gr_packs_new(gr_packs **out, int32_t *cost, int64_t rows, int64_t capacity, graft_error *err) {
    gr_packs *p = gr_calloc(1, sizeof *p);
    *out = NULL;
    if (!p) {
        free(cost);
        return gr_no_memory(err, sizeof *p);
    }
    *p = (gr_packs){.cost = cost, .capacity = capacity};
    graft_status st = sum_up(p, rows, err);
    if (st == GRAFT_OK) st = reserve(p, rows, err);
    if (st != GRAFT_OK) {
        gr_packs_free(p);
        return st;
    }
    *out = p;
    return GRAFT_OK;
}

static int32_t at(const int32_t *order, int64_t i) {
    return order ? order[i] : (int32_t)i;
}

/* sorted[rows] by falling cost, equals in the epoch's order: a counting sort. */
static void sort_rows(gr_packs *p, const int32_t *order, int64_t rows) {
    int32_t *next = p->top, before = 0; /* [cost] place of the next row of that cost */
    memset(next, 0, ((size_t)p->most + 1) * sizeof *next);
    for (int64_t i = 0; i < rows; i++) next[p->cost[i]]++;
    for (int64_t c = p->most; c > 0; c--) {
        int32_t count = next[c];
        next[c] = before;
        before += count;
    }
    for (int64_t i = 0; i < rows; i++) {
        int32_t row = at(order, i);
        if (p->cost[row]) p->sorted[next[p->cost[row]]++] = row;
    }
}

/* First bit set at or after `from`; -1: none among `words`. */
static int64_t next_bit(const uint64_t *bits, int64_t words, int64_t from) {
    int64_t w = from / BITS;
    if (w >= words) return -1;
    uint64_t word = bits[w] >> (from % BITS);
    if (word) return from + __builtin_ctzll(word);
    while (++w < words)
        if (bits[w]) return w * BITS + __builtin_ctzll(bits[w]);
    return -1;
}

/* The least room of at least `cost` that some pack has; -1: none has it. */
static int64_t find_room(const gr_packs *p, int64_t cost) {
    int64_t words = p->most / BITS + 1, w = cost / BITS;
    int64_t found = next_bit(p->some, w + 1, cost);
    if (found >= 0) return found;
    w = next_bit(p->somewhere, words / BITS + 1, w + 1);
    return w < 0 ? -1 : next_bit(p->some, w + 1, w * BITS);
}

/* Of packs with the same room the one that was put last is taken first. */
static void put(gr_packs *p, int32_t pack, int64_t room) {
    if (!room) return;
    p->room[pack] = (int32_t)room;
    p->below[pack] = p->top[room];
    p->top[room] = pack;
    p->some[room / BITS] |= UINT64_C(1) << room % BITS;
    p->somewhere[room / BITS / BITS] |= UINT64_C(1) << room / BITS % BITS;
}

static int32_t take(gr_packs *p, int64_t room) {
    int32_t pack = p->top[room];
    p->top[room] = p->below[pack];
    if (p->top[room] >= 0) return pack;
    p->some[room / BITS] &= ~(UINT64_C(1) << room % BITS);
    if (!p->some[room / BITS]) p->somewhere[room / BITS / BITS] &= ~(UINT64_C(1) << room / BITS % BITS);
    return pack;
}

/* pack_of[rows] of the sorted rows; the first row of each pack is the longest in it. */
static void best_fit(gr_packs *p) {
    size_t words = (size_t)p->most / BITS + 1;
    for (int64_t i = 0; i <= p->most; i++) p->top[i] = -1;
    memset(p->some, 0, words * sizeof *p->some);
    memset(p->somewhere, 0, (words / BITS + 1) * sizeof *p->somewhere);
    p->count = p->largest = 0;
    for (int64_t i = 0; i < p->rows; i++) {
        int64_t cost = p->cost[p->sorted[i]], room = find_room(p, cost), left = p->most - cost;
        int32_t pack = room < 0 ? (int32_t)p->count++ : take(p, room);
        if (room >= 0) left = room - cost;
        put(p, pack, left);
        p->pack_of[i] = pack;
        p->largest = gr_max_i64(p->largest, p->most - left);
    }
}

/* Numbers the packs as their first rows follow each other in the epoch: number[pack]. */
static void number_packs(gr_packs *p, int32_t *number, int32_t *opens, const int32_t *order, int64_t rows) {
    int32_t next = 0;
    for (int64_t i = 0; i < rows; i++) opens[i] = -1;
    for (int64_t i = 0, seen = 0; i < p->rows; i++)
        if (p->pack_of[i] == seen) opens[p->sorted[i]] = (int32_t)seen++; /* packs opened in this order */
    for (int64_t i = 0; i < rows; i++) {
        int32_t pack = opens[at(order, i)];
        if (pack >= 0) number[pack] = next++;
    }
}

void gr_packs_fill(gr_packs *p, const int32_t *order, int64_t rows) {
    int32_t *number = p->room, *place = p->below; /* rooms are needed no more */
    sort_rows(p, order, rows);
    best_fit(p);
    number_packs(p, number, p->row, order, rows);
    memset(p->start, 0, ((size_t)p->count + 1) * sizeof *p->start);
    for (int64_t i = 0; i < p->rows; i++) p->start[number[p->pack_of[i]] + 1]++;
    for (int64_t k = 0; k < p->count; k++) {
        p->start[k + 1] += p->start[k];
        place[k] = p->start[k];
    }
    for (int64_t i = 0; i < p->rows; i++) p->row[place[number[p->pack_of[i]]]++] = p->sorted[i];
}
