#include "base/memory.h"
#include "optim/optim_table.h"
#include <math.h>

void gr_optim_run(gr_pool *pool, gr_task *task, void *context, int64_t count) {
    if (pool)
        gr_pool_run(pool, task, context, (int)count);
    else
        for (int64_t i = 0; i < count; i++) task(context, (int)i, 0);
}

#define PIECE                                                                                                \
    16384 /* elements per task; also the unit of the norm's sum, so that it does not depend on threads */

typedef struct collect_job {
    float *grad;
    float *const *slots;
    double *sums;
    uint64_t rows;
    float factor;
    int64_t n;
} collect_job;

#define CHUNK 512 /* elements summed at once, in L1: grad may be one of the slots */

static void collect_piece(void *context, int task, int worker) {
    collect_job *j = context;
    int64_t i0 = (int64_t)task * PIECE, i1 = gr_min_i64(i0 + PIECE, j->n);
    double squares = 0;
    (void)worker;
    for (; i0 < i1; i0 += CHUNK) {
        float sum[CHUNK] = {0};
        int64_t n = gr_min_i64(CHUNK, i1 - i0);
        bool first = true;
        for (int level = 0; j->rows >> level; level++) {
            if (!(j->rows >> level & 1)) continue;
            const float *slot = j->slots[level] + i0;
            for (int64_t i = 0; i < n; i++) sum[i] = first ? slot[i] : slot[i] + sum[i];
            first = false;
        }
        for (int64_t i = 0; i < n; i++) {
            float g = sum[i] * j->factor;
            j->grad[i0 + i] = g;
            squares += (double)g * (double)g;
        }
    }
    j->sums[task % 256] = squares;
}

double gr_optim_collect(gr_pool *pool, float *grad, float *const *slots, uint64_t rows, int64_t targets,
                        int64_t n) {
    double sums[256], total = 0;
    float factor = (float)(1.0 / (double)gr_max_i64(targets, 1));
    for (int64_t at = 0; at < n; at += 256 * (int64_t)PIECE) { /* 256 pieces at a time: no allocation */
        float *shifted[GR_TREE_LEVELS];
        for (int level = 0; level < GR_TREE_LEVELS; level++)
            shifted[level] = rows >> level & 1 ? slots[level] + at : NULL;
        int64_t part = gr_min_i64(n - at, 256 * (int64_t)PIECE);
        int pieces = (int)((part + PIECE - 1) / PIECE);
        collect_job j = {grad + at, shifted, sums, rows, factor, part};
        gr_pool_run(pool, collect_piece, &j, pieces);
        for (int i = 0; i < pieces; i++) total += sums[i];
    }
    return sqrt(total);
}

/* ---- layout */

static int64_t elements(const gr_optim_tensor *x) {
    int64_t n;
    if (x->cols == 0) return x->rows;
    return gr_mul_i64(x->rows, x->cols, &n) ? n : INT64_MAX;
}

static int by_place(const void *a, const void *b) {
    const gr_optim_tensor *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

/* Neighbours with one rate become one span. */
static void lay_spans(gr_optim *o) {
    for (int64_t i = 0; i < o->count; i++) {
        const gr_optim_tensor *x = &o->tensors[i];
        gr_optim_span *last = o->nspans ? &o->spans[o->nspans - 1] : NULL;
        if (last && last->at + last->n == x->at && last->rate == x->rate && last->no_decay == x->no_decay)
            last->n += elements(x);
        else
            o->spans[o->nspans++] =
                (gr_optim_span){.at = x->at, .n = elements(x), .rate = x->rate, .no_decay = x->no_decay};
    }
    for (int64_t i = 0; i < o->nspans; i++) {
        o->spans[i].first_piece = o->pieces;
        o->pieces += (o->spans[i].n + PIECE - 1) / PIECE;
    }
}

static void lay_states(gr_optim *o) {
    for (int s = 0; s < o->row->states; s++)
        if (!o->row->floats) o->state_floats[s] = o->parameters;
    for (int64_t i = 0; i < o->count; i++) {
        gr_optim_tensor *x = &o->tensors[i];
        for (int s = 0; o->row->floats && s < o->row->states; s++) {
            if (s == 0) x->stat = o->state_floats[0];
            int64_t n = o->row->floats(&o->config, x, s);
            o->state_floats[s] = n == GR_OPTIM_WHOLE ? o->parameters : o->state_floats[s] + n;
        }
        if (o->row->scratch) o->scratch_floats = gr_max_i64(o->scratch_floats, o->row->scratch(x));
    }
}

graft_status gr_optim_init(gr_optim *o, const gr_optim_row *row, const gr_optim_config *config,
                           const gr_optim_tensor *tensors, int64_t count, int64_t parameters, const char *isa,
                           graft_error *err) {
    *o = (gr_optim){.row = row, .config = *config, .count = count, .parameters = parameters};
    o->tensors = gr_calloc((size_t)count, sizeof *o->tensors);
    o->spans = gr_calloc((size_t)count, sizeof *o->spans);
    if (!o->tensors || !o->spans) {
        gr_optim_free(o);
        return gr_no_memory(err, (size_t)count * sizeof *tensors);
    }
    memcpy(o->tensors, tensors, (size_t)count * sizeof *tensors);
    qsort(o->tensors, (size_t)count, sizeof *tensors, by_place);
    for (int64_t i = 0; i < count; i++) {
        const gr_optim_tensor *x = &o->tensors[i];
        if (x->at >= 0 && x->at <= parameters && elements(x) <= parameters - x->at) continue;
        gr_optim_free(o);
        return gr_fail(err, GRAFT_INTERNAL, "a trained tensor lies outside the parameters");
    }
    lay_spans(o);
    lay_states(o);
    graft_status st = row->products ? gr_kernels_init(&o->kernels, isa, true, err) : GRAFT_OK;
    if (st != GRAFT_OK) gr_optim_free(o);
    return st;
}

void gr_optim_free(gr_optim *o) {
    free(o->tensors);
    free(o->spans);
    *o = (gr_optim){0};
}

void gr_optim_bind(gr_optim *o, gr_arena *arena, gr_pool *pool) {
    for (int s = 0; s < GR_OPTIM_STATES; s++)
        o->state[s] = o->state_floats[s] ? gr_arena_array(arena, o->state_floats[s], sizeof(float)) : NULL;
    o->scratch = o->scratch_floats ? gr_arena_array(arena, o->scratch_floats, sizeof(float)) : NULL;
    if (!o->row->products) return;
    size_t each = gr_matmul_scratch(&o->kernels);
    o->compute = (gr_compute){.k = &o->kernels, .pool = pool, .scratch_bytes = each};
    o->compute.scratch = gr_arena_array(arena, gr_pool_threads(pool), each);
}

/* ---- one update */

typedef struct update_job {
    const gr_optim *optim;
    gr_optim_step step;
    double rate;
} update_job;

static gr_optim_step step_of(const update_job *j, double rate, bool no_decay) {
    gr_optim_step step = j->step;
    step.rate = j->rate * rate;
    step.decay = no_decay ? 0 : j->optim->config.weight_decay;
    return step;
}

static void update_piece(void *context, int task, int worker) {
    const update_job *j = context;
    const gr_optim *o = j->optim;
    int64_t low = 0, high = o->nspans - 1;
    (void)worker;
    while (low < high) { /* the last span that starts at or before this piece */
        int64_t mid = (low + high + 1) / 2;
        if (o->spans[mid].first_piece <= task)
            low = mid;
        else
            high = mid - 1;
    }
    const gr_optim_span *span = &o->spans[low];
    int64_t i0 = (task - span->first_piece) * PIECE, i1 = gr_min_i64(i0 + PIECE, span->n);
    gr_optim_step step = step_of(j, span->rate, span->no_decay);
    o->row->elements(&step, span->at + i0, span->at + i1);
}

/* A tensor from here on has its own work cut for the threads; the smaller ones are a task each. */
#define LARGE (1 << 18)

static void update_tensor(const update_job *j, const gr_optim_tensor *x, gr_pool *pool) {
    gr_optim_step step = step_of(j, x->rate, x->no_decay);
    j->optim->row->tensor(&step, x, pool);
}

static void update_small(void *context, int task, int worker) {
    const update_job *j = context;
    const gr_optim_tensor *x = &j->optim->tensors[task];
    (void)worker;
    if (elements(x) < LARGE) update_tensor(j, x, NULL);
}

void gr_optim_update(gr_optim *o, gr_pool *pool, float *params, float *grad, double rate, double clip,
                     int64_t update) {
    update_job j = {.optim = o,
                    .rate = rate,
                    .step = {.optim = o, .params = params, .grad = grad, .clip = clip, .update = update}};
    if (o->row->elements) {
        gr_pool_run(pool, update_piece, &j, (int)o->pieces);
        return;
    }
    bool shared = o->row->scratch != NULL; /* one scratch: one tensor at a time, each on all threads */
    if (!shared) gr_pool_run(pool, update_small, &j, (int)o->count);
    for (int64_t i = 0; i < o->count; i++)
        if (shared || elements(&o->tensors[i]) >= LARGE) update_tensor(&j, &o->tensors[i], pool);
}
