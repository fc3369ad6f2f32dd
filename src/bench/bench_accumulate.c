#include "base/hooks.h"
#include "bench/bench.h"
#include "bench/bench_run.h"
#include <math.h>

/* One comparison: the same rows, the same weights, only the cut into micro-batches differs. */
typedef struct gathering {
    gr_bench_run run;
    gr_row *rows; /* [count], each with a target */
    int64_t count, tokens, targets;
    int32_t *ids;  /* of made-up rows */
    uint8_t *mask; /* of made-up rows */
    float *whole;  /* gradient of one batch of all rows */
    double *means; /* sum of the micro-batches' own mean gradients */
} gathering;

/* The data's first rows that have a target, from the start again where there are too few. */
static graft_status rows_of_data(gathering *g, graft_error *err) {
    int64_t have = gr_rows_count(g->run.t.train), at = 0, taken = 0;
    for (; taken < g->count && (at < have || taken); at++) {
        gr_row row = gr_rows_at(g->run.t.train, at % have);
        if (gr_batch_cost(&row)) g->rows[taken++] = row;
    }
    if (taken == g->count) return GRAFT_OK;
    gr_fail(err, GRAFT_MISMATCH, "no row of the data carries loss");
    return gr_where(err, "%s", g->run.t.o->data);
}

/* Random tokens; lengths from a quarter of seq_length to all of it; some begin with a prompt without loss. */
static graft_status rows_made_up(gathering *g, graft_error *err) {
    int64_t length = g->run.t.o->seq_length, vocab = g->run.t.rt.model->config.vocab;
    gr_rng rng;
    gr_rng_seed(&rng, g->run.t.o->seed, 77);
    g->ids = gr_calloc((size_t)g->count, (size_t)(length + 1) * sizeof *g->ids);
    g->mask = gr_calloc((size_t)g->count, (size_t)(length + 1));
    if (!g->ids || !g->mask) return gr_no_memory(err, (size_t)(g->count * length) * 5);
    for (int64_t r = 0; r < g->count; r++) {
        int32_t *ids = g->ids + r * (length + 1);
        uint8_t *mask = g->mask + r * (length + 1);
        int64_t n = gr_max_i64(1, length * (1 + r * 3 % 4) / 4 - r % 5) + 1;
        int64_t prompt = r % 3 ? n / 2 : 0;
        for (int64_t i = 0; i < n; i++) {
            ids[i] = (int32_t)((double)vocab * gr_rng_uniform(&rng));
            mask[i] = i > prompt || i == n - 1;
        }
        g->rows[r] = (gr_row){.ids = ids, .mask = mask, .count = n};
    }
    return GRAFT_OK;
}

static int64_t targets_of(const gr_row *row) {
    int64_t n = 0;
    for (int64_t i = 1; i < row->count; i++) n += row->mask[i];
    return n;
}

/* Model, adapter, rows, and buffers for all rows at once. */
static graft_status prepare(gathering *g, const char *dir, const graft_options *o, const graft_hooks *hooks,
                            graft_error *err) {
    gr_trainer *t = &g->run.t;
    GR_TRY(gr_bench_run_open(&g->run, dir, o, hooks, GR_TRAINER_RUN, err));
    g->rows = gr_calloc((size_t)g->count, sizeof *g->rows);
    if (!g->rows) return gr_no_memory(err, (size_t)g->count * sizeof *g->rows);
    GR_TRY(t->train ? rows_of_data(g, err) : rows_made_up(g, err));
    gr_net_config config = t->net_config;
    config.tokens = 0;
    config.longest = 1;
    for (int64_t i = 0; i < g->count; i++) {
        int64_t cost = gr_batch_cost(&g->rows[i]);
        g->targets += targets_of(&g->rows[i]);
        config.tokens += cost;
        config.longest = gr_max_i64(config.longest, cost);
    }
    g->tokens = config.tokens;
    gr_batch_free(&t->buffer);
    GR_TRY(gr_batch_init(&t->buffer, config.tokens, g->count, err));
    GR_TRY(gr_runtime_bind(&t->rt, &config, err));
    /* with B at zero the gradient of A would be nothing but zeros */
    int64_t n = t->rt.tuning->parameters;
    gr_rng rng;
    gr_rng_seed(&rng, t->o->seed, 78);
    for (int64_t i = 0; i < n; i++)
        if (t->params[i] == 0) t->params[i] = (float)(0.02 * (2 * gr_rng_uniform(&rng) - 1));
    t->rt.net.stale = true;
    g->whole = gr_calloc((size_t)n, sizeof *g->whole);
    g->means = gr_calloc((size_t)n, sizeof *g->means);
    return g->whole && g->means ? GRAFT_OK : gr_no_memory(err, (size_t)n * 12);
}

/* Rows [from, to) through the network as one batch whose first row is leaf `first`; their targets. Whatever
 * tree they join, dropout masks each as the row of the whole that it is. */
static int64_t run_rows(gathering *g, int64_t from, int64_t to, uint64_t first) {
    gr_trainer *t = &g->run.t;
    double loss = 0;
    gr_batch_clear(&t->buffer, first);
    g->run.skip = (uint64_t)from - first;
    for (int64_t i = from; i < to; i++) gr_batch_add(&t->buffer, &g->rows[i]);
    return gr_bench_run_batch(&g->run, &loss);
}

/* The gradient of the mean over all targets into t->grad, from micro-batches of `each` rows. */
static double gradient(gathering *g, int64_t each) {
    gr_trainer *t = &g->run.t;
    int64_t targets = 0;
    for (int64_t from = 0; from < g->count; from += each)
        targets += run_rows(g, from, gr_min_i64(from + each, g->count), (uint64_t)from);
    return gr_trainer_collect(t, (uint64_t)g->count, targets);
}

/* What a loop that averages the micro-batches' mean losses would take for the gradient, into g->means. */
static void mean_of_means(gathering *g, int64_t each, int64_t parts) {
    gr_trainer *t = &g->run.t;
    int64_t n = t->rt.tuning->parameters;
    memset(g->means, 0, (size_t)n * sizeof *g->means);
    for (int64_t from = 0; from < g->count; from += each) {
        int64_t to = gr_min_i64(from + each, g->count), targets = run_rows(g, from, to, 0);
        gr_trainer_collect(t, (uint64_t)(to - from), targets);
        for (int64_t i = 0; i < n; i++) g->means[i] += (double)t->grad[i] / (double)parts;
    }
}

static void compare(graft_bench_split *x, gathering *g) {
    const float *whole = g->whole, *grad = g->run.t.grad;
    int64_t n = g->run.t.rt.tuning->parameters;
    double size = 0, off = 0;
    gradient(g, x->rows);
    x->identical = memcmp(whole, grad, (size_t)n * sizeof *grad) == 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)grad[i] - (double)whole[i];
        size += (double)whole[i] * (double)whole[i];
        off += d * d;
        x->largest_difference = fmax(x->largest_difference, fabs(d));
    }
    x->relative_difference = size > 0 ? sqrt(off / size) : 0;
    mean_of_means(g, x->rows, x->micro_batches);
    off = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = g->means[i] - (double)whole[i];
        off += d * d;
        x->means_largest_difference = fmax(x->means_largest_difference, fabs(d));
    }
    x->means_relative_difference = size > 0 ? sqrt(off / size) : 0;
}

/* Two, three and the asked number of micro-batches, and one for each row. */
static size_t choose_splits(graft_bench_split *splits, int64_t rows, int64_t wish) {
    const int64_t parts[] = {2, 3, wish, rows};
    size_t n = 0;
    for (size_t i = 0; i < 4; i++) {
        int64_t each = (rows + parts[i] - 1) / parts[i], count = (rows + each - 1) / each;
        bool known = count < 2;
        for (size_t k = 0; k < n; k++) known |= splits[k].micro_batches == count;
        if (known) continue;
        size_t at = n++;
        for (; at && splits[at - 1].micro_batches > count; at--) splits[at] = splits[at - 1];
        splits[at] = (graft_bench_split){.micro_batches = count, .rows = each};
    }
    return n;
}

static graft_status compare_all(gathering *g, graft_bench_accumulate_result *r, graft_error *err) {
    const gr_trainer *t = &g->run.t;
    r->rows = g->count;
    r->tokens = g->tokens;
    r->targets = g->targets;
    r->parameters = t->rt.tuning->parameters;
    r->shortest = INT64_MAX;
    for (int64_t i = 0; i < g->count; i++) {
        int64_t targets = targets_of(&g->rows[i]);
        r->shortest = gr_min_i64(r->shortest, targets);
        r->longest = gr_max_i64(r->longest, targets);
    }
    r->gradient_norm = gradient(g, g->count);
    memcpy(g->whole, t->grad, (size_t)r->parameters * sizeof *g->whole);
    r->nsplits = choose_splits(r->splits, g->count, t->o->grad_accumulation_steps);
    for (size_t i = 0; i < r->nsplits; i++) {
        compare(&r->splits[i], g);
        gr_trainer_event(t, &(graft_event){.kind = GRAFT_EVENT_PROGRESS,
                                           .phase = "accumulate",
                                           .done = (int64_t)i + 1,
                                           .total = (int64_t)r->nsplits});
        if (gr_stopped(t->hooks)) return gr_fail(err, GRAFT_INTERRUPTED, "benchmark stopped");
    }
    return GRAFT_OK;
}

graft_status gr_bench_accumulate(const char *dir, const graft_options *options, const graft_hooks *hooks,
                                 graft_bench_accumulate_result *r, graft_error *err) {
    graft_options o = *options; /* its texts stay the caller's */
    memset(r, 0, sizeof *r);
    if (!gr_options_given(&o, "grad-accumulation-steps")) o.grad_accumulation_steps = 4;
    if (!gr_options_given(&o, "batch-size")) o.batch_size = 2;
    gathering g = {.count = o.batch_size * o.grad_accumulation_steps};
    if (g.count < 2) {
        gr_fail(err, GRAFT_USAGE, "one row cannot be cut into micro-batches");
        return gr_hint(err, "give --batch-size or --grad-accumulation-steps above 1");
    }
    graft_status st = prepare(&g, dir, &o, hooks, err);
    if (st == GRAFT_OK) st = compare_all(&g, r, err);
    gr_bench_run_close(&g.run);
    free(g.rows);
    free(g.ids);
    free(g.mask);
    free(g.whole);
    free(g.means);
    if (st != GRAFT_OK) memset(r, 0, sizeof *r);
    return st;
}
