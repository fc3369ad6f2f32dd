/* train/ranks_step.c - several ranks train as one: who runs which rows, and what they tell each other. */
#include "base/digest.h"
#include "base/hooks.h"
#include "train/trainer.h"
#include <math.h>

/* A row's result as it travels; the first of each rank's says what its host wants. */
typedef struct gr_wire {
    double loss, logp, reference;
    uint32_t gradient;
    uint32_t wants;
} gr_wire;
enum { WANTS_STOP = 1, WANTS_SAVE = 2 };

#define EARLY_TIMEOUT 60 /* seconds, where the options are what is wrong */

graft_status gr_trainer_meet(gr_ranks **ranks, graft_status begun, const graft_options *o,
                             const graft_hooks *hooks, graft_error *err) {
    graft_comm *comm = hooks ? hooks->ranks : NULL;
    bool good = begun == GRAFT_OK;
    graft_error own = {0};
    *ranks = NULL;
    if (!comm || comm->size < 2) return err->status;
    graft_status st = gr_ranks_open(ranks, comm, good ? o->rank_timeout : EARLY_TIMEOUT, hooks->stop, &own);
    if (st != GRAFT_OK && good) *err = own;
    return err->status;
}

graft_status gr_trainer_join(gr_trainer *t, graft_error *err) {
    if (!t->together.ranks) return GRAFT_OK;
    int size = gr_ranks_size(t->together.ranks);
    if (t->o->batch_size % size != 0) {
        gr_fail(err, GRAFT_USAGE, "%d ranks cannot share a batch of %lld", size, (long long)t->o->batch_size);
        gr_expected(err, "a --batch-size that is a multiple of %d", size);
        gr_found(err, "%lld", (long long)t->o->batch_size);
        return gr_hint(err, "--batch-size counts the rows of all ranks together");
    }
    GR_TRY(gr_ranks_spread(t->together.ranks, &t->now, sizeof t->now, err));
    return gr_ranks_spread(t->together.ranks, &t->kept_reference, sizeof t->kept_reference, err);
}

graft_status gr_trainer_part(gr_trainer *t, graft_error *err) {
    graft_status st = gr_ranks_close(t->together.ranks, err);
    t->together.ranks = NULL;
    return st;
}

bool gr_trainer_writes(const gr_trainer *t) {
    return !t->together.ranks || gr_ranks_rank(t->together.ranks) == 0;
}

static bool own_stop(const gr_trainer *t) {
    return gr_stopped(t->hooks);
}

bool gr_trainer_stopping(const gr_trainer *t) {
    return t->together.ranks ? t->together.stop : own_stop(t);
}

/* ------------------------------------------------------------------------------------------- buffers */

graft_status gr_trainer_wire(gr_trainer *t, int64_t rows, graft_error *err) {
    gr_together *with = &t->together;
    if (!with->ranks) return GRAFT_OK;
    size_t size = (size_t)gr_ranks_size(with->ranks), count = (size_t)rows + size;
    with->wire = gr_calloc(count, sizeof *with->wire);
    with->wire_start = gr_calloc(size + 1, sizeof *with->wire_start);
    with->leaves = gr_calloc(size + 1, sizeof *with->leaves);
    return with->wire && with->wire_start && with->leaves ? GRAFT_OK
                                                          : gr_no_memory(err, count * sizeof *with->wire);
}

graft_status gr_trainer_chunks(gr_trainer *t, graft_error *err) {
    gr_together *with = &t->together;
    const gr_tuning *tuning = t->rt.tuning;
    if (!with->ranks) return GRAFT_OK;
    int64_t *blocks = gr_calloc((size_t)tuning->layers + 1, sizeof *blocks), layer = 0;
    if (!blocks) return gr_no_memory(err, ((size_t)tuning->layers + 1) * sizeof *blocks);
    for (size_t i = 0; i < tuning->param_count; i++) { /* in the order of the vector, blocks first */
        const gr_param *p = &tuning->params[i];
        int64_t end = gr_role_table[p->role].in_block ? p->layer : tuning->layers;
        for (; layer <= end; layer++) blocks[layer] = p->at;
    }
    for (; layer <= tuning->layers; layer++) blocks[layer] = tuning->parameters;
    gr_reduce_free(&with->reduction);
    graft_status st = gr_reduce_init(&with->reduction, with->ranks, &t->rt.kernels, blocks, tuning->layers,
                                     tuning->parameters, err);
    free(blocks);
    return st;
}

/* ---------------------------------------------------------------------------------------- an iteration */

static int64_t unit_rows(const gr_trainer *t, int64_t unit) {
    int64_t rows = 0;
    for (int64_t k = 0; k < gr_order_unit_rows(&t->order, unit); k++) {
        gr_row row = gr_rows_at(t->train, gr_order_row(&t->order, unit, k));
        rows += gr_batch_cost(&row) > 0;
    }
    return rows;
}

/* Leaves and rows of every rank. */
static void share_out(gr_trainer *t, const int64_t *units, int64_t n, int64_t leaves) {
    gr_together *with = &t->together;
    int size = gr_ranks_size(with->ranks), r = 0;
    int64_t leaf = 0, rows = 0;
    for (int64_t i = 0; i <= n; i++) {
        int64_t of_unit = i < n ? unit_rows(t, units[i]) : 0;
        if (i < n && !of_unit) continue;
        for (; r <= size && gr_share_begin(leaves, r, size) <= leaf; r++) {
            with->leaves[r] = t->p.pending_rows + (uint64_t)leaf;
            with->wire_start[r] = (size_t)(rows + r) * sizeof *with->wire;
        }
        leaf++;
        rows += of_unit;
    }
}

/* This rank's leaves, block by block: the sums of those that are whole nodes are set aside below the next. */
static int64_t run_own(gr_trainer *t, const int64_t *units, int64_t n, uint64_t begin, uint64_t end) {
    int64_t rows = 0, i = 0;
    uint64_t leaf = t->p.pending_rows;
    gr_gradients view = t->gradients;
    for (; i < n && leaf < begin; i++) leaf += gr_trainer_unit_cost(t, units[i]) > 0;
    while (leaf < end) {
        uint64_t block = gr_share_block(leaf, end), skip = leaf;
        int64_t from = i;
        for (; i < n && leaf < block; i++) leaf += gr_trainer_unit_cost(t, units[i]) > 0;
        rows +=
            gr_trainer_run_units(t, units + from, i - from, &view, 0, skip, block == end, t->results + rows);
        memmove(view.slots, view.slots + 1, sizeof view.slots - sizeof *view.slots);
        view.count--;
    }
    return rows;
}

static uint32_t wants(const gr_trainer *t) {
    int64_t next = t->p.iteration + 1;
    bool save =
        t->save_iterations ? next % t->save_iterations == 0 : gr_clock() - t->saved_at >= t->save_seconds;
    return (own_stop(t) ? WANTS_STOP : 0) | (save && gr_trainer_writes(t) ? WANTS_SAVE : 0);
}

/* Everybody's results in the order of the rows; and whether all stop, or save. */
static graft_status share_results(gr_trainer *t, int64_t rows, graft_error *err) {
    gr_together *with = &t->together;
    int size = gr_ranks_size(with->ranks), me = gr_ranks_rank(with->ranks);
    gr_wire *own = with->wire + with->wire_start[me] / sizeof *own;
    own[0] = (gr_wire){.wants = wants(t)};
    for (int64_t i = 0; i < rows; i++) {
        gr_row_result x = t->results[i];
        own[i + 1] = (gr_wire){x.loss, x.logp, x.reference, x.gradient, 0};
    }
    GR_TRY(gr_ranks_share(with->ranks, with->wire, with->wire_start, err));
    gr_row_result *to = t->results;
    with->stop = with->save = false;
    for (int r = 0; r < size; r++) {
        const gr_wire *from = with->wire + with->wire_start[r] / sizeof *from;
        const gr_wire *end = with->wire + with->wire_start[r + 1] / sizeof *from;
        with->stop |= from->wants & WANTS_STOP;
        with->save |= (from->wants & WANTS_SAVE) != 0;
        while (++from < end)
            *to++ = (gr_row_result){from->loss, from->logp, from->reference, from->gradient != 0};
    }
    return GRAFT_OK;
}

bool gr_trainer_run_share(gr_trainer *t, const int64_t *units, int64_t n, int64_t leaves) {
    gr_together *with = &t->together;
    int me = gr_ranks_rank(with->ranks);
    graft_error *err = &with->broken;
    share_out(t, units, n, leaves);
    if (gr_reduce_begin(&with->reduction, t->p.pending_rows, with->leaves, &t->gradients, err) != GRAFT_OK)
        return false;
    int64_t rows = run_own(t, units, n, with->leaves[me], with->leaves[me + 1]);
    gr_reduce_ready(&with->reduction, -1);
    return share_results(t, rows, err) == GRAFT_OK && gr_reduce_join(&with->reduction, err) == GRAFT_OK;
}

void gr_trainer_say_ranks(const gr_trainer *t, double start) {
    gr_ranks *ranks = t->together.ranks;
    uint64_t bytes;
    double waited;
    if (!ranks) return;
    gr_ranks_usage(ranks, &bytes, &waited);
    gr_trainer_note(t,
                    "rank %d of %d sent %.1f MB, %.1f of them while it computed, and waited for the others "
                    "%.1f of %.1f s",
                    gr_ranks_rank(ranks), gr_ranks_size(ranks), (double)bytes / 1e6,
                    (double)t->together.reduction.early / 1e6, waited, gr_clock() - start);
}

/* ----------------------------------------------------------------------------------------- validation */

typedef struct scores {
    gr_score *row;
    int64_t first;
} scores;

static void keep_score(void *user, int64_t row, const gr_score *own) {
    const scores *s = user;
    s->row[row - s->first] = *own;
}

/* Sums in the order of the rows; each rank's part begins with a score that says whether its host stops. */
static graft_status share_scores(gr_trainer *t, gr_score *all, int64_t n, graft_error *err) {
    gr_together *with = &t->together;
    int size = gr_ranks_size(with->ranks), me = gr_ranks_rank(with->ranks);
    for (int r = 0; r <= size; r++)
        with->wire_start[r] = (size_t)(gr_share_begin(n, r, size) + r) * sizeof *all;
    int64_t first = gr_share_begin(n, me, size), count = gr_share_begin(n, me + 1, size) - first;
    scores own = {.row = all + first + me + 1, .first = first};
    gr_score unused;
    gr_runtime_score(&t->rt, &t->buffer, t->valid, first, count, &unused, keep_score, &own,
                     gr_stop_of(t->hooks));
    all[first + me] = (gr_score){.rows = own_stop(t)};
    return gr_ranks_share(with->ranks, all, with->wire_start, err);
}

graft_status gr_trainer_score(gr_trainer *t, int64_t n, gr_score *score,
                              void (*each)(void *user, int64_t row, const gr_score *own), void *user,
                              graft_error *err) {
    gr_together *with = &t->together;
    if (!with->ranks) {
        gr_runtime_score(&t->rt, &t->buffer, t->valid, 0, n, score, each, user, gr_stop_of(t->hooks));
        return GRAFT_OK;
    }
    int size = gr_ranks_size(with->ranks);
    gr_score *all = gr_calloc((size_t)(n + size), sizeof *all);
    if (!all) return gr_no_memory(err, (size_t)(n + size) * sizeof *all);
    with->scores = all;
    GR_TRY(share_scores(t, all, n, err));
    *score = (gr_score){0};
    for (int r = 0; r < size; r++) {
        const gr_score *own = all + gr_share_begin(n, r, size) + r;
        with->stop |= own->rows != 0;
        for (int64_t i = gr_share_begin(n, r, size); i < gr_share_begin(n, r + 1, size); i++) {
            gr_score_add(score, ++own);
            each(user, i, own);
        }
    }
    free(all);
    with->scores = NULL;
    return GRAFT_OK;
}

graft_status gr_trainer_agree_to_stop(gr_trainer *t, graft_error *err) {
    gr_together *with = &t->together;
    if (!with->ranks) return GRAFT_OK;
    int size = gr_ranks_size(with->ranks);
    char *stops = gr_calloc((size_t)size, 1);
    if (!stops) return gr_no_memory(err, (size_t)size);
    stops[gr_ranks_rank(with->ranks)] = own_stop(t);
    graft_status st = gr_ranks_share_each(with->ranks, stops, 1, err);
    for (int r = 0; r < size; r++) with->stop |= stops[r];
    free(stops);
    return st;
}

/* ---------------------------------------------------------------------------------------- checkpoints */

graft_status gr_trainer_spread(gr_trainer *t, graft_error *err) {
    gr_together *with = &t->together;
    if (!with->ranks) return GRAFT_OK;
    size_t n = (size_t)t->rt.tuning->parameters * sizeof(float);
    GR_TRY(gr_ranks_spread(with->ranks, &t->saved, sizeof t->saved, err));
    if (t->saved < 0) return GRAFT_OK; /* a run from the beginning, the same on every rank */
    GR_TRY(gr_ranks_spread(with->ranks, &t->p, sizeof t->p, err));
    if (!gr_trainer_writes(t)) gr_trainer_go_on(t); /* rank 0 did where it read the checkpoint */
    GR_TRY(gr_ranks_spread(with->ranks, t->params, n, err));
    if (t->reference) GR_TRY(gr_ranks_spread(with->ranks, t->reference, n, err));
    for (int i = 0; i < GR_OPTIM_STATES; i++)
        GR_TRY(gr_ranks_spread(with->ranks, t->optim.state[i],
                               (size_t)t->optim.state_floats[i] * sizeof(float), err));
    float *level[GR_TREE_LEVELS];
    gr_gradients_levels(&t->gradients, t->p.pending_rows, level);
    for (int i = 0; t->p.pending_rows >> i; i++)
        if (t->p.pending_rows >> i & 1) GR_TRY(gr_ranks_spread(with->ranks, level[i], n, err));
    gr_reduce_restore(&with->reduction, t->p.pending_rows, level);
    return gr_trainer_writes(t) ? GRAFT_OK : gr_order_seek(&t->order, t->p.epoch, t->p.position, err);
}

/* Processors that differ may round otherwise where nobody promised anything: never saved unseen. */
static graft_status check_drift(gr_trainer *t, graft_error *err) {
    gr_ranks *ranks = t->together.ranks;
    size_t size = (size_t)gr_ranks_size(ranks);
    uint64_t *digest = gr_calloc(size, sizeof *digest);
    if (!digest) return gr_no_memory(err, size * sizeof *digest);
    digest[gr_ranks_rank(ranks)] =
        gr_digest_blocks(GR_DIGEST_START, t->params, (size_t)t->rt.tuning->parameters * sizeof *t->params);
    graft_status st = gr_ranks_share_each(ranks, digest, sizeof *digest, err);
    for (size_t r = 1; st == GRAFT_OK && r < size; r++)
        if (digest[r] != digest[0]) {
            st = gr_fail(err, GRAFT_MISMATCH, "the parameters of rank %zu are no longer those of rank 0", r);
            gr_where(err, "iteration %lld", (long long)t->p.iteration);
            gr_hint(err, "are the machines' processors or C libraries different ones?");
        }
    free(digest);
    return st;
}

graft_status gr_trainer_gather(gr_trainer *t, graft_error *err) {
    float *level[GR_TREE_LEVELS];
    if (!t->together.ranks) return GRAFT_OK;
    GR_TRY(check_drift(t, err));
    gr_gradients_levels(&t->gradients, t->p.pending_rows, level);
    return gr_reduce_gather(&t->together.reduction, t->p.pending_rows, level, err);
}
