/* kernels/matmul.c - the one matmul driver, for every direction and weight format.
 *
 * A task is 64 columns times a block of rows. It walks over k in passes: panels of the pass are made in the
 * worker's scratch (L2), then every strip of 6 rows runs through them. How k is cut depends on the K of the
 * products alone, so an element's sum is the same whatever M, the blocking and the threads are.
 */
#include "kernels/kernels.h"

/* A pass may exceed kc by an eighth: a LoRA's rank rides along with a full chunk of its base product instead
 * of costing a pass of its own. */
static int pass_capacity(const gr_kernels *k) {
    return k->kc + k->kc / 8;
}

static size_t panels_bytes(const gr_kernels *k) {
    return gr_panel_bytes(k, pass_capacity(k) + GR_MAX_PRODUCTS);
}

size_t gr_matmul_scratch(const gr_kernels *k) {
    return gr_round_up(panels_bytes(k) + sizeof(float) * GR_MBLK * GR_NR, 64);
}

/* A part of one product in one pass. */
typedef struct chunk {
    int product;
    int64_t k0;
    int kc;
} chunk;

/* Where a walk over the products stands. */
typedef struct cursor {
    int product;
    int64_t k0;
} cursor;

typedef struct job {
    const gr_compute *c;
    int64_t m, n;
    const gr_product *products;
    int nproducts;
    const gr_epilogue *epilogue;
    int64_t panels, rows_per_block;
    int64_t whole, parts; /* units that are one task each; tasks of each unit after them */
    bool single;          /* one pass: a tile is finished as soon as it is summed */
} job;

/* The next pass: consecutive chunks that fit together, at most one of each product. A product is cut at
 * multiples of kc. Returns their number, 0 at the end. */
static int next_pass(const job *j, cursor *at, chunk *chunks) {
    const gr_kernels *k = j->c->k;
    int count = 0, left = pass_capacity(k);
    while (at->product < j->nproducts) {
        const gr_product *p = &j->products[at->product];
        int64_t rest = p->k - at->k0;
        if (rest > 0) {
            int kc = rest <= pass_capacity(k) ? (int)rest : k->kc;
            if (kc > left) break;
            chunks[count++] = (chunk){at->product, at->k0, kc};
            left -= kc;
            at->k0 += kc;
            if (kc < rest) break;
        }
        *at = (cursor){at->product + 1, 0};
    }
    return count;
}

/* Makes the pass's panels for columns n0.. and the terms of row m0. */
static void make_panels(const job *j, const chunk *chunks, int count, char *scratch, int64_t n0, int ncols,
                        gr_term *terms) {
    const gr_kernels *k = j->c->k;
    for (int i = 0; i < count; i++) {
        const gr_product *p = &j->products[chunks[i].product];
        if (p->w)
            k->panel(scratch, p->w, p->trans, n0, ncols, p->k_first + chunks[i].k0, chunks[i].kc);
        else
            k->panel_act(scratch, p->w_act, p->ld_w, p->trans, n0, ncols, p->k_first + chunks[i].k0,
                         chunks[i].kc);
        terms[i] = (gr_term){NULL, p->ldx, scratch, chunks[i].kc};
        scratch += gr_panel_bytes(k, chunks[i].kc);
    }
}

static void point_terms(const job *j, const chunk *chunks, int count, int64_t row, gr_term *terms) {
    for (int i = 0; i < count; i++) {
        const gr_product *p = &j->products[chunks[i].product];
        terms[i].a = (const char *)p->x + (row * p->ldx + chunks[i].k0) * j->c->k->act_bytes;
    }
}

/* Every strip of rows m0 .. m1 through one pass. tile: the block's sums so far, NULL when this is the only
 * pass. */
static void run_strips(const job *j, const chunk *chunks, int count, gr_term *terms, float *tile, bool first,
                       bool last, int64_t m0, int64_t m1, int64_t n0, int ncols) {
    const gr_kernels *k = j->c->k;
    float one[GR_MR * GR_NR] __attribute__((aligned(64)));
    for (int64_t m = m0; m < m1; m += GR_MR) {
        int rows = (int)gr_min_i64(GR_MR, m1 - m);
        float *c = tile ? tile + (m - m0) * GR_NR : one;
        point_terms(j, chunks, count, m, terms);
        if (ncols <= GR_NR / 2 && k->tile_narrow)
            k->tile_narrow(terms, count, c, GR_NR, rows, ncols, !first);
        else
            k->tile(terms, count, c, GR_NR, rows, !first);
        if (!last) continue;
        if (j->epilogue->softmax)
            k->finish_softmax(j->epilogue->softmax, c, GR_NR, m, rows, n0, ncols);
        else
            k->finish(j->epilogue, c, GR_NR, m, rows, n0, ncols);
    }
}

static int64_t strips(int64_t rows) {
    return (rows + GR_MR - 1) / GR_MR * GR_MR;
}

/* Columns from n0 and rows m0 .. m1 of a task; none for a last part that rounding to strips leaves empty. */
static void place_task(const job *j, int64_t task, int64_t *n0, int64_t *m0, int64_t *m1) {
    int64_t unit = task, part = 0, parts = 1;
    if (task >= j->whole) {
        parts = j->parts;
        unit = j->whole + (task - j->whole) / parts;
        part = (task - j->whole) % parts;
    }
    int64_t first = unit / j->panels * j->rows_per_block, end = gr_min_i64(j->m, first + j->rows_per_block);
    int64_t rows = strips((end - first + parts - 1) / parts);
    *n0 = unit % j->panels * GR_NR;
    *m0 = first + part * rows;
    *m1 = gr_min_i64(end, *m0 + rows);
}

static void run_task(void *context, int task, int worker) {
    const job *j = context;
    char *scratch = j->c->scratch + (size_t)worker * j->c->scratch_bytes;
    float *tile = j->single ? NULL : (float *)(void *)(scratch + panels_bytes(j->c->k));
    int64_t n0, m0, m1;
    place_task(j, task, &n0, &m0, &m1);
    if (m0 >= m1) return;
    int ncols = (int)gr_min_i64(GR_NR, j->n - n0);
    cursor at = {0, 0}, ahead;
    chunk chunks[GR_MAX_PRODUCTS], unused[GR_MAX_PRODUCTS];
    gr_term terms[GR_MAX_PRODUCTS];
    for (bool first = true, last = false; !last; first = false) {
        int count = next_pass(j, &at, chunks);
        ahead = at;
        last = next_pass(j, &ahead, unused) == 0;
        make_panels(j, chunks, count, scratch, n0, ncols, terms);
        run_strips(j, chunks, count, terms, tile, first, last, m0, m1, n0, ncols);
    }
}

#define PANEL_ROWS 24 /* making a panel takes as long as this many rows of its tile, or a little less */
#define LEAST_ROWS 48 /* of a part: below it, panels would outweigh tiles */

/* How long `units` tasks of `rows` rows take on the threads, in rows; with parts, each is cut into so many.
 */
static int64_t span(int64_t units, int64_t parts, int64_t rows, int threads) {
    return (units * parts + threads - 1) / threads * (strips((rows + parts - 1) / parts) + PANEL_ROWS);
}

/* A unit is one panel times one block of rows. Where they do not share out evenly (9 panels on 2 threads),
 * the last ones are cut into parts, each making the panel anew; as many and into as many as ends first. */
static int64_t share_out(job *j, int threads) {
    int64_t blocks = (j->m + GR_MBLK - 1) / GR_MBLK, rows = strips((j->m + blocks - 1) / blocks);
    int64_t units = j->panels * ((j->m + rows - 1) / rows), cut[] = {units % threads, units};
    int64_t best = span(units, 1, rows, threads), cuts = 0;
    j->rows_per_block = rows;
    j->parts = 1;
    for (int i = 0; i < 2 && threads > 1 && units < 16 * threads; i++)
        for (int64_t parts = 2; parts <= rows / LEAST_ROWS; parts++) {
            int64_t time =
                (units - cut[i]) / threads * (rows + PANEL_ROWS) + span(cut[i], parts, rows, threads);
            if (time >= best) continue;
            best = time;
            cuts = cut[i];
            j->parts = parts;
        }
    j->whole = units - cuts;
    return j->whole + cuts * j->parts;
}

void gr_matmul(const gr_compute *c, int64_t m, int64_t n, const gr_product *products, int nproducts,
               const gr_epilogue *epilogue) {
    if (m <= 0 || n <= 0) return;
    job j = {.c = c, .m = m, .n = n, .products = products, .nproducts = nproducts, .epilogue = epilogue};
    j.panels = (n + GR_NR - 1) / GR_NR;
    int64_t tasks = share_out(&j, gr_pool_threads(c->pool));
    chunk chunks[GR_MAX_PRODUCTS];
    cursor at = {0, 0};
    next_pass(&j, &at, chunks);
    j.single = next_pass(&j, &at, chunks) == 0;
    gr_pool_run(c->pool, run_task, &j, (int)tasks);
    for (int i = 0; i < nproducts; i++)
        gr_part_work(c->profile, 2.0 * (double)m * (double)n * (double)products[i].k, 0);
}

/* ------------------------------------------------------------------ one row */

typedef struct vec_job {
    const gr_compute *c;
    float *y;
    const gr_mat *w;
    const void *x;
    int64_t rows; /* of one task */
} vec_job;

static void run_vec_task(void *context, int task, int worker) {
    const vec_job *j = context;
    (void)worker;
    int64_t row0 = task * j->rows;
    j->c->k->matvec(j->y, j->w, j->x, row0, gr_min_i64(j->rows, j->w->rows - row0));
}

void gr_matvec(const gr_compute *c, float *y, const gr_mat *w, const void *x) {
    /* Four tasks a thread, balanced at the end; fewer than 32 K weights are not worth handing out, and what
     * was fetched ahead is lost where a task ends: not more of them than half a million weights make. */
    int64_t each = w->rows * w->cols / (4 * gr_pool_threads(c->pool));
    each = gr_min_i64(512 << 10, gr_max_i64(32 << 10, each));
    vec_job j = {c, y, w, x, gr_max_i64(1, each / gr_max_i64(1, w->cols))};
    gr_pool_run(c->pool, run_vec_task, &j, (int)((w->rows + j.rows - 1) / j.rows));
}
