#include "base/hooks.h"
#include "train/pairs.h"
#include "train/trainer.h"
#include <math.h>

/* Updates of so many iterations. */
static int64_t count_updates(const gr_trainer *t, int64_t iterations) {
    int64_t every = t->o->grad_accumulation_steps;
    return iterations / every + (iterations % every != 0 && !t->mlx_loss);
}

/* Iterations of an epoch; mlx-lm drops the batch that is not full. */
static int64_t epoch_iterations(const gr_trainer *t, int64_t units) {
    return t->mlx_loss ? units / t->o->batch_size : gr_order_iterations_per_epoch(units, t->o->batch_size);
}

/* Of --epochs from the start. */
static int64_t count_iterations(const gr_trainer *t) {
    return (int64_t)ceil(t->o->epochs * (double)epoch_iterations(t, gr_order_units(&t->order)) - 1e-9);
}

/* Of --epochs behind a place in the data; below 0: it is beyond their end. */
static int64_t iterations_left(const gr_trainer *t, uint64_t epoch, int64_t position) {
    int64_t units = gr_order_units(&t->order), all = count_iterations(t), done,
            each = epoch_iterations(t, units);
    if (epoch > INT64_MAX || !gr_mul_i64((int64_t)epoch, each, &done)) return 0;
    done += each - epoch_iterations(t, units - gr_min_i64(position, units));
    return all - done;
}

void gr_trainer_go_on(gr_trainer *t) {
    const gr_train_progress *p = &t->p;
    if (!isnan(t->o->epochs))
        t->iters = gr_max_i64(p->iteration + iterations_left(t, p->epoch, p->position), 0);
    int64_t left = gr_max_i64(t->iters - p->iteration, 0);
    t->updates = p->update + count_updates(t, p->pending_iterations + left);
}

/* Inputs of the longest row. */
static int64_t longest_row(const gr_rows *rows) {
    int64_t longest = 1;
    for (int64_t i = 0; i < gr_rows_count(rows); i++) {
        gr_row row = gr_rows_at(rows, i);
        longest = gr_max_i64(longest, gr_batch_cost(&row));
    }
    return longest;
}

/* Likewise of the largest unit, where units are rows or pairs. */
static int64_t largest_unit(const gr_rows *rows) {
    int64_t largest = 1;
    if (gr_rows_width(rows) == 1) return longest_row(rows);
    for (int64_t i = 0; i < gr_rows_count(rows); i += 2) largest = gr_max_i64(largest, gr_pair_cost(rows, i));
    return largest;
}

/* Most tokens of one slice: the last has every row alone. */
static const int64_t slice_limits[GR_SLICES] = {2048, 1536, 1024, 768, 512, 384, 256, 192, 128, 96, 64, 1};

static bool one_row(const gr_trainer *t) {
    return gr_net_one_row(&t->rt.model->config, t->rt.tuning);
}

/* Batches cut into slices as gr_trainer_rows cuts them, for every limit at once. */
typedef struct cutter {
    gr_work *work;
    int64_t tokens[GR_SLICES], targets[GR_SLICES]; /* of the slice in progress */
    int64_t batch;                                 /* of the batch in progress */
    bool one_row;                                  /* what trains wants every row alone */
} cutter;

static void begin_batch(cutter *c) {
    memset(c->tokens, 0, sizeof c->tokens);
    memset(c->targets, 0, sizeof c->targets);
    c->batch = 0;
}

static void add_unit(cutter *c, int64_t cost, int64_t targets) {
    gr_work *w = c->work;
    for (int i = 0; i < GR_SLICES; i++) {
        gr_slice *slice = &w->slice[i];
        if (c->one_row || c->tokens[i] + cost > slice->limit) c->tokens[i] = c->targets[i] = 0;
        c->tokens[i] += cost;
        c->targets[i] += targets;
        slice->tokens = gr_max_i64(slice->tokens, c->tokens[i]);
        slice->targets = gr_max_i64(slice->targets, c->targets[i]);
    }
    c->batch += cost;
    w->batch = gr_max_i64(w->batch, c->batch);
    w->unit = gr_max_i64(w->unit, cost);
}

/* Units that are looked at beforehand: all of a usual run, else three epochs or this many. */
#define WALKED_UNITS 4000000

/* Takes the units as training will. A run too long for that is measured by its start: its batches then have
 * at most a batch of largest units, its tokens follow from the mean. */
static graft_status walk_order(gr_trainer *t, graft_error *err) {
    const graft_options *o = t->o;
    gr_work *w = &t->work;
    cutter cut = {.work = w, .one_row = one_row(t)};
    int64_t count = gr_order_units(&t->order), walked = 0, it = 0;
    int64_t limit = gr_max_i64(WALKED_UNITS, 3 * count);
    for (; it < t->iters && walked < limit; it++) {
        int64_t n = gr_trainer_take(t);
        begin_batch(&cut);
        for (int64_t i = 0; i < n; i++) {
            int64_t unit = t->indices[i];
            add_unit(&cut, gr_trainer_unit_cost(t, unit), gr_trainer_unit_targets(t, unit));
        }
        walked += n;
        t->total_tokens += (uint64_t)cut.batch;
        if ((it & 0xffff) == 0xffff && gr_stopped(t->hooks))
            return gr_fail(err, GRAFT_INTERRUPTED, "stopped before the first iteration");
    }
    for (int i = 0; t->together.ranks && i < GR_SLICES; i++) w->slice[i].targets = 0; /* cut elsewhere */
    if (it == t->iters) return GRAFT_OK;
    w->unit = t->order.packs ? t->order.packs->largest : largest_unit(t->train);
    w->batch = w->unit * gr_min_i64(o->batch_size, count);
    for (int i = 0; i < GR_SLICES; i++) {
        w->slice[i].tokens =
            one_row(t) ? w->unit : gr_min_i64(w->batch, gr_max_i64(w->unit, w->slice[i].limit));
        w->slice[i].targets = 0;
    }
    double tokens = (double)t->total_tokens * ((double)t->iters / (double)it);
    t->total_tokens = (uint64_t)fmin(tokens, 0x1p62);
    return GRAFT_OK;
}

void gr_trainer_full_rows(gr_trainer *t, int64_t row) {
    int64_t batch = t->o->batch_size, unit = t->preference.loss ? 2 * row : row;
    t->work = (gr_work){.longest = row, .unit = unit, .batch = unit * batch};
    for (int i = 0; i < GR_SLICES; i++) {
        int64_t units = one_row(t) ? 1 : gr_min_i64(batch, gr_max_i64(1, slice_limits[i] / unit));
        t->work.slice[i] = (gr_slice){slice_limits[i], unit * units, 0};
    }
}

/* The order that training takes, of packs with --pack. */
static graft_status order_rows(gr_trainer *t, graft_error *err) {
    const graft_options *o = t->o;
    int width = gr_rows_width(t->train);
    int64_t count = gr_rows_count(t->train) / width;
    GR_TRY(gr_order_init(&t->order, count, !o->no_shuffle, o->seed, err));
    /* rows of an iteration are of one epoch */
    int64_t most = o->pack ? count : gr_min_i64(count, o->batch_size) * width;
    t->results = gr_calloc((size_t)most, sizeof *t->results);
    if (!t->results) return gr_no_memory(err, (size_t)most * sizeof *t->results);
    t->order.width = width;
    GR_TRY(gr_trainer_wire(t, most, err));
    if (!o->pack) return GRAFT_OK;
    int32_t *cost = gr_calloc((size_t)count, sizeof *cost);
    if (!cost) return gr_no_memory(err, (size_t)count * sizeof *cost);
    for (int64_t i = 0; i < count; i++) {
        gr_row row = gr_rows_at(t->train, i);
        cost[i] = (int32_t)gr_batch_cost(&row); /* at most max-seq-length */
    }
    GR_TRY(gr_order_pack(&t->order, cost, o->max_seq_length, err));
    graft_packing p = gr_trainer_packing(t);
    gr_trainer_note(t, "--pack: %lld rows in %lld packs of up to %lld tokens, %.0f %% full",
                    (long long)p.rows, (long long)p.packs, (long long)p.capacity, p.percent_full);
    return GRAFT_OK;
}

graft_packing gr_trainer_packing(const gr_trainer *t) {
    const gr_packs *p = t->order.packs;
    if (!p) return (graft_packing){0};
    return (graft_packing){.rows = p->rows,
                           .packs = p->count,
                           .tokens = p->tokens,
                           .capacity = p->capacity,
                           .percent_full =
                               100 * (double)p->tokens / ((double)p->count * (double)p->capacity)};
}

/* Validation fills the same buffers with as many rows as fit. */
static void add_validation(gr_trainer *t) {
    gr_work *w = &t->work;
    int width = gr_rows_width(t->valid);
    int64_t largest = largest_unit(t->valid);
    w->longest = gr_max_i64(w->longest, longest_row(t->valid));
    for (int i = 0; i < GR_SLICES; i++) {
        gr_slice *slice = &w->slice[i];
        int64_t tokens = 0, targets = 0;
        slice->tokens = gr_max_i64(slice->tokens, largest);
        for (int64_t k = 0; slice->targets && k < gr_rows_count(t->valid); k += width) {
            gr_row row = gr_rows_at(t->valid, k);
            int64_t cost = width > 1 ? gr_pair_cost(t->valid, k) : gr_batch_cost(&row);
            if (tokens + cost > slice->tokens) tokens = targets = 0;
            tokens += cost;
            targets += row.targets + (width > 1 ? gr_rows_at(t->valid, k + 1).targets : 0);
            slice->targets = gr_max_i64(slice->targets, targets);
        }
    }
}

graft_status gr_trainer_count_work(gr_trainer *t, graft_error *err) {
    const graft_options *o = t->o;
    t->iters = o->iters;
    t->work = (gr_work){.longest = 1, .batch = 1, .unit = 1};
    for (int i = 0; i < GR_SLICES; i++) t->work.slice[i] = (gr_slice){slice_limits[i], 1, 0};
    if (!t->train) { /* a plan without data */
        gr_trainer_full_rows(t, o->max_seq_length);
        t->updates = count_updates(t, t->iters);
        t->total_tokens = 0;
        return GRAFT_OK;
    }
    GR_TRY(order_rows(t, err));
    int64_t count = gr_order_units(&t->order);
    if (t->mlx_loss && count < o->batch_size) {
        gr_fail(err, GRAFT_MISMATCH,
                "--loss mlx-lm drops batches that are not full, and there is no full one");
        gr_expected(err, "at least %lld %s", (long long)o->batch_size, o->pack ? "packs" : "rows");
        return gr_found(err, "%lld", (long long)count);
    }
    if (!isnan(o->epochs)) t->iters = count_iterations(t);
    t->updates = count_updates(t, t->iters);
    if (t->updates == 0)
        gr_trainer_note(t, "--loss mlx-lm makes no update before %lld iterations, and this run has %lld",
                        (long long)o->grad_accumulation_steps, (long long)t->iters);
    GR_TRY(walk_order(t, err));
    t->work.longest = o->pack || t->order.width > 1 ? longest_row(t->train) : t->work.unit;
    if (t->valid) add_validation(t);
    return gr_order_seek(&t->order, 0, 0, err);
}
