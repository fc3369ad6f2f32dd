#include "base/os.h"
#include "optim/schedule_table.h"
#include "train/trainer.h"
#include <math.h>

const gr_dropout *gr_trainer_dropout(gr_trainer *t) {
    double p = t->rt.tuning->dropout;
    t->dropout = (gr_dropout){.p = p, .seed = t->o->seed, .update = (uint64_t)t->p.update};
    return p > 0 ? &t->dropout : NULL;
}

int64_t gr_trainer_take(gr_trainer *t) {
    int64_t n = gr_order_take(&t->order, t->indices, t->o->batch_size);
    if (t->mlx_loss && n < t->o->batch_size) n = gr_order_take(&t->order, t->indices, t->o->batch_size);
    return n;
}

static gr_row row_of(const gr_trainer *t, int64_t unit, int64_t k) {
    return gr_rows_at(t->train, gr_order_row(&t->order, unit, k));
}

int64_t gr_trainer_unit_cost(const gr_trainer *t, int64_t unit) {
    int64_t cost = 0;
    for (int64_t k = 0; k < gr_order_unit_rows(&t->order, unit); k++) {
        gr_row row = row_of(t, unit, k);
        cost += gr_batch_cost(&row);
    }
    return cost;
}

int64_t gr_trainer_unit_targets(const gr_trainer *t, int64_t unit) {
    int64_t targets = 0;
    for (int64_t k = 0; k < gr_order_unit_rows(&t->order, unit); k++) targets += row_of(t, unit, k).targets;
    return targets;
}

/* Infinity and NaN are the largest numbers by their bits. */
bool gr_all_finite(const float *x, int64_t n) {
    uint32_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    return most < 0x7f800000;
}

/* Losses of the batch's rows, and the gradient that came through them to the lowest block. */
static void note_results(gr_trainer *t, gr_row_result *results) {
    const gr_net *net = &t->rt.net;
    gr_batch rows = gr_batch_of_segments(&t->buffer.batch);
    bool known = net->tuning->lowest < net->model->config.layers;
    int64_t h = net->model->config.hidden, next = 0;
    for (int64_t j = 0; j < rows.nrows; j++) {
        int64_t begin = rows.start[j], end = rows.start[j + 1];
        gr_row_result r = {.gradient = !known || gr_all_finite(net->dres + begin * h, (end - begin) * h)};
        for (int64_t at = begin; at < end; at++)
            if (rows.target[at] >= 0) r.loss += net->targets[next++].loss;
        results[j] = r;
    }
}

/* Forward, loss and backward of the rows in the buffer; each unit is one leaf of the tree. Returns how many
 * rows of the data they are. */
static int64_t run_slice(gr_trainer *t, const gr_gradients *gradients, uint64_t skip,
                         gr_row_result *results) {
    gr_batch *batch = &t->buffer.batch;
    if (batch->nrows == 0) return 0;
    batch->dropout = gr_trainer_dropout(t);
    t->dropout.skip = skip;
    if (t->preference.loss) return gr_trainer_run_pairs(t, gradients, results);
    gr_net_forward(&t->rt.net, batch);
    gr_net_loss(&t->rt.net, batch, gradients);
    gr_net_backward(&t->rt.net, batch, gradients);
    note_results(t, results);
    return batch->segment ? batch->nsegments : batch->nrows;
}

/* The iteration's rows in their order, whoever ran them and in whatever slices. */
static void account(gr_trainer *t, const int64_t *units, int64_t n) {
    const gr_row_result *result = t->results;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < gr_order_unit_rows(&t->order, units[i]); k++) {
            gr_row from = row_of(t, units[i], k);
            if (gr_batch_cost(&from) == 0) continue;
            t->p.report_loss += result->loss;
            gr_health_add_row(&t->p.health, gr_order_row(&t->order, units[i], k), from.line, result->loss,
                              result->gradient);
            result++;
        }
}

/* Targets of an iteration before it runs. */
static int64_t count_targets(const gr_trainer *t, const int64_t *units, int64_t n) {
    int64_t targets = 0;
    for (int64_t i = 0; i < n; i++) targets += gr_trainer_unit_targets(t, units[i]);
    return targets;
}

/* All rows of a unit as one of the batch: the first opens it. */
static void add_unit(gr_trainer *t, int64_t unit) {
    if (t->preference.loss) t->pair_at[t->buffer.batch.nrows] = gr_order_row(&t->order, unit, GR_CHOSEN);
    for (int64_t k = 0; k < gr_order_unit_rows(&t->order, unit); k++) {
        gr_row row = row_of(t, unit, k);
        if (k)
            gr_batch_join(&t->buffer, &row);
        else
            gr_batch_add(&t->buffer, &row);
    }
}

/* Tells the reduction of a block whose gradients are complete. */
static void on_left(void *context, int64_t layer) {
    gr_reduce_ready(context, layer);
}

int64_t gr_trainer_run_units(gr_trainer *t, const int64_t *units, int64_t n, const gr_gradients *gradients,
                             uint64_t first, uint64_t skip, bool last, gr_row_result *results) {
    int64_t most = gr_min_i64(t->slice_tokens, t->buffer.max_tokens), rows = 0;
    gr_net *net = &t->rt.net;
    gr_batch_clear(&t->buffer, first);
    for (int64_t i = 0; i < n; i++) {
        int64_t cost = gr_trainer_unit_cost(t, units[i]);
        if (cost == 0) continue;
        const gr_batch *b = &t->buffer.batch;
        if (b->nrows && (b->tokens + cost > most || b->nrows == t->slice_rows)) {
            first += (uint64_t)b->nrows;
            rows += run_slice(t, gradients, skip, results + rows);
            gr_batch_clear(&t->buffer, first);
        }
        add_unit(t, units[i]);
    }
    if (last) net->left = on_left, net->left_context = &t->together.reduction;
    rows += run_slice(t, gradients, skip, results + rows);
    net->left = NULL;
    return rows;
}

/* Units of an iteration that have a target: its leaves. */
static int64_t count_leaves(const gr_trainer *t, const int64_t *units, int64_t n) {
    int64_t leaves = 0;
    for (int64_t i = 0; i < n; i++) leaves += gr_trainer_unit_cost(t, units[i]) > 0;
    return leaves;
}

/* Gradients and results of these units. False: some other rank's are missing. */
static bool run_iteration(gr_trainer *t, const int64_t *units, int64_t n) {
    gr_train_progress *p = &t->p;
    int64_t leaves = count_leaves(t, units, n);
    if (t->together.ranks) {
        if (!gr_trainer_run_share(t, units, n, leaves)) return false;
    } else
        gr_trainer_run_units(t, units, n, &t->gradients, p->pending_rows, 0, false, t->results);
    p->pending_rows += (uint64_t)leaves;
    return true;
}

int64_t gr_trainer_rows(gr_trainer *t, const int64_t *units, int64_t n) {
    int64_t targets = count_targets(t, units, n);
    double before = t->p.report_loss;
    gr_preference_sums sums_before = t->p.preference;
    if (t->preference.loss) t->nll_share = gr_trainer_nll_share(t, units, n);
    if (t->mlx_loss) { /* each iteration's gradient is that of its own mean */
        t->rt.net.head.weight = 1 / (float)gr_max_i64(targets, 1);
        t->p.report_loss = 0;
    }
    if (!run_iteration(t, units, n)) return 0;
    if (t->preference.loss)
        gr_trainer_account_pairs(t, units, n);
    else
        account(t, units, n);
    if (t->mlx_loss) t->p.report_loss = before + t->p.report_loss / (double)gr_max_i64(targets, 1);
    t->p.pending_targets += targets;
    t->p.trained_tokens += targets;
    t->p.report_tokens += targets;
    t->p.report_iterations++;
    if (!isfinite(t->p.report_loss)) { /* no part of a mean; its update will be skipped */
        t->p.report_loss = before;
        t->p.preference = sums_before;
        t->p.report_tokens -= targets;
        t->p.report_iterations--;
    }
    return targets;
}

int64_t gr_trainer_loss_parts(const gr_trainer *t) {
    return t->mlx_loss          ? t->p.report_iterations
           : t->preference.loss ? t->p.preference.pairs
                                : t->p.report_tokens;
}

double gr_trainer_collect(gr_trainer *t, uint64_t rows, int64_t divisor) {
    float *level[GR_TREE_LEVELS];
    gr_together *with = &t->together;
    if (with->ranks) { /* the sum comes as one */
        if (gr_reduce_total(&with->reduction, rows, t->gradients.slots[0], &with->broken) != GRAFT_OK)
            return NAN;
        rows = 1;
    }
    gr_gradients_levels(&t->gradients, rows, level);
    return gr_optim_collect(t->rt.pool, t->grad, level, rows, divisor, t->rt.tuning->parameters);
}

/* The schedule counts every update, the optimizer its own: what an update did not do, it does not remember.
 */
static void apply(gr_trainer *t) {
    gr_train_progress *p = &t->p;
    int64_t parts = t->preference.loss ? (int64_t)p->pending_rows : p->pending_targets;
    int64_t divisor = t->mlx_loss ? t->o->grad_accumulation_steps : parts;
    double norm = gr_trainer_collect(t, p->pending_rows, divisor);
    if (t->together.broken.status != GRAFT_OK) return;
    gr_health_judge(&p->health, &t->verdict, norm, parts);
    if (t->verdict.skipped) {
        p->trained_tokens -= p->pending_targets;
        return;
    }
    double clip = t->o->grad_clip > 0 ? fmin(1, t->o->grad_clip / (norm + 1e-6)) : 1;
    p->grad_norm = norm;
    t->moving += p->rate != 0;
    t->rt.net.stale = true;
    gr_optim_update(&t->optim, t->rt.pool, t->params, t->grad, p->rate, clip, p->health.applied);
    /* the slot and the gradient; then gradient, parameter and what the optimizer keeps, both ways */
    gr_part_work(t->rt.net.compute.profile, 0,
                 (double)t->rt.tuning->parameters * (8.0 + 4.0 * (3 + 2 * t->optim.row->states)));
}

void gr_trainer_update(gr_trainer *t) {
    gr_train_progress *p = &t->p;
    gr_profile *profile = t->rt.net.compute.profile;
    gr_part before = gr_part_enter(profile, GR_PART_OPTIMIZER);
    p->update++;
    p->rate =
        gr_optim_rate(&t->optim.config, gr_schedule_rate(t->o, p->update, t->updates), p->health.applied + 1);
    if (p->pending_rows) apply(t);
    gr_part_enter(profile, before);
    gr_health_next(&p->health);
    p->pending_rows = 0;
    p->pending_targets = 0;
    p->pending_iterations = 0;
}

void gr_trainer_iteration(gr_trainer *t) {
    gr_train_progress *p = &t->p;
    double start = gr_clock();
    int64_t n = gr_trainer_take(t);
    t->verdict = (gr_verdict){0};
    t->timed_tokens += gr_trainer_rows(t, t->indices, n);
    if (t->together.broken.status != GRAFT_OK) return;
    p->epoch = t->order.epoch;
    p->position = t->order.position;
    p->iteration++;
    p->pending_iterations++;
    /* what is left at the end makes an update of its own, in mlx-lm none */
    if (p->pending_iterations == t->o->grad_accumulation_steps || (p->iteration == t->iters && !t->mlx_loss))
        gr_trainer_update(t);
    t->report_seconds += gr_clock() - start;
    t->timed_iterations++;
}

graft_status gr_trainer_step(gr_trainer *t, double *loss, graft_error *err) {
    gr_train_progress *p = &t->p;
    int64_t update = p->update;
    *loss = NAN;
    if (p->iteration >= t->iters)
        return gr_fail(err, GRAFT_USAGE, "the run's %lld iterations are done", (long long)t->iters);
    p->report_loss = 0;
    p->report_tokens = p->report_iterations = 0;
    p->preference = (gr_preference_sums){0};
    while (p->update == update && p->iteration < t->iters) gr_trainer_iteration(t);
    GR_TRY(gr_trainer_count_skipped(t, false, err));
    if (gr_trainer_lost(t)) return gr_trainer_fail_lost(t, gr_trainer_sound(t), err);
    if (p->report_tokens) *loss = p->report_loss / (double)gr_trainer_loss_parts(t);
    return GRAFT_OK;
}
