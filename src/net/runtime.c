#include "net/runtime.h"
#include "base/hooks.h"
#include "base/os.h"

graft_status gr_runtime_init(gr_runtime *r, gr_model *model, int threads, bool fp32, graft_error *err) {
    *r = (gr_runtime){.model = model};
    const char *isa = getenv("GRAFT_ISA");
    graft_status st = gr_kernels_init(&r->kernels, isa && *isa ? isa : NULL, fp32, err);
    if (st == GRAFT_OK)
        st = gr_pool_new(&r->pool, threads ? threads : (int)gr_min_i64(gr_processors(), GR_THREADS_MAX), err);
    if (st != GRAFT_OK) gr_runtime_free(r);
    return st;
}

static gr_net net_of(const gr_runtime *r, const gr_net_config *config) {
    return (gr_net){.model = r->model,
                    .tuning = r->tuning,
                    .params = r->params,
                    .compute = {.k = &r->kernels, .pool = r->pool},
                    .config = *config};
}

graft_status gr_runtime_row_fits(const gr_model *m, int64_t tokens, graft_error *err) {
    if (!m->config.row_limit || tokens <= m->config.row_limit) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED,
            "%s turns longer rows by other factors (longrope), and programs disagree on when: not built",
            m->config.arch->model_type);
    gr_expected(err, "at most %lld tokens", (long long)m->config.row_limit);
    gr_found(err, "%lld", (long long)tokens);
    return gr_hint(err, "--max-seq-length, --max-tokens");
}

graft_status gr_runtime_measure_kept(const gr_runtime *r, const gr_net_config *config, uint64_t *kept,
                                     uint64_t *saved, uint64_t *scratch, graft_error *err) {
    gr_arena own = {0}, a = {0}, b = {0};
    const gr_model_config *c = &r->model->config;
    /* gr_routing counts picks in 32 bits */
    const int64_t most = c->experts ? INT32_MAX / c->experts_used : GR_NET_TOKENS_MAX;
    *kept = *saved = *scratch = 0;
    if (config->tokens > most || config->longest > most) {
        gr_fail(err, GRAFT_RANGE, "too many tokens at once");
        gr_expected(err, "at most %lld", (long long)most);
        return gr_found(err, "%lld", (long long)gr_max_i64(config->tokens, config->longest));
    }
    GR_TRY(gr_runtime_row_fits(r->model, config->longest, err));
    if (c->experts && gr_net_joins(c))
        return gr_fail(err, GRAFT_UNSUPPORTED, "a mixture of experts joins its block by a sum alone");
    gr_net net = net_of(r, config);
    gr_net_bind(&net, &own, &a, &b);
    if (own.overflow || a.overflow || b.overflow)
        return gr_fail(err, GRAFT_RANGE,
                       "this model with %lld tokens at once takes more than can be addressed",
                       (long long)config->tokens);
    *kept = gr_round_up(own.used, GR_ARENA_ALIGN);
    *saved = a.used;
    *scratch = b.used;
    return GRAFT_OK;
}

graft_status gr_runtime_measure(const gr_runtime *r, const gr_net_config *config, uint64_t *saved,
                                uint64_t *scratch, graft_error *err) {
    uint64_t kept;
    GR_TRY(gr_runtime_measure_kept(r, config, &kept, saved, scratch, err));
    *scratch += kept;
    return GRAFT_OK;
}

static graft_status place(gr_runtime *r, const gr_net_config *config, gr_arena *kept, gr_arena *saved,
                          gr_arena *scratch, graft_error *err) {
    kept->used = saved->used = scratch->used = 0;
    r->net = net_of(r, config);
    gr_net_bind(&r->net, kept, saved, scratch);
    if (kept->overflow || saved->overflow || scratch->overflow)
        return gr_fail(err, GRAFT_INTERNAL, "buffers outgrew their measure");
    gr_net_prepare(&r->net);
    return GRAFT_OK;
}

graft_status gr_runtime_bind(gr_runtime *r, const gr_net_config *config, graft_error *err) {
    uint64_t saved, scratch;
    GR_TRY(gr_runtime_measure(r, config, &saved, &scratch, err));
    gr_arena_free(&r->saved);
    gr_arena_free(&r->scratch);
    GR_TRY(gr_arena_reserve(&r->saved, saved, err));
    GR_TRY(gr_arena_reserve(&r->scratch, scratch, err));
    return place(r, config, &r->scratch, &r->saved, &r->scratch, err);
}

graft_status gr_runtime_bind_lent(gr_runtime *r, const gr_net_config *config, gr_arena *saved,
                                  gr_arena *scratch, graft_error *err) {
    uint64_t kept, others[2];
    GR_TRY(gr_runtime_measure_kept(r, config, &kept, &others[0], &others[1], err));
    if (!r->scratch.base) GR_TRY(gr_arena_reserve(&r->scratch, kept, err));
    return place(r, config, &r->scratch, saved, scratch, err);
}

void gr_runtime_free(gr_runtime *r) {
    gr_arena_free(&r->saved);
    gr_arena_free(&r->scratch);
    gr_pool_free(r->pool);
    gr_tuning_free(r->tuning);
    free(r->owned_params);
    gr_model_free(r->model);
    *r = (gr_runtime){0};
}

void gr_score_add(gr_score *sum, const gr_score *own) {
    sum->loss += own->loss;
    sum->loss_squared += own->loss_squared;
    sum->correct += own->correct;
    sum->tokens += own->tokens;
    sum->rows += own->rows;
}

/* Sums of one batch, row by row. */
static void score_batch(gr_runtime *r, const gr_batch *batch, const int64_t *numbers, gr_score *score,
                        void (*each)(void *user, int64_t row, const gr_score *own), void *user) {
    int64_t next = 0;
    gr_net_forward(&r->net, batch);
    gr_net_loss(&r->net, batch, NULL);
    for (int64_t j = 0; j < batch->nrows; j++) {
        gr_score own = {.rows = 1};
        for (int64_t t = batch->start[j]; t < batch->start[j + 1]; t++) {
            if (batch->target[t] < 0) continue;
            gr_target target = r->net.targets[next++];
            own.loss += target.loss;
            own.loss_squared += target.loss * target.loss;
            own.correct += target.correct;
            own.tokens++;
        }
        gr_score_add(score, &own);
        if (each) each(user, numbers[j], &own);
    }
}

#define ROWS_AT_ONCE 256

void gr_runtime_score(gr_runtime *r, gr_batch_buffer *buffer, const gr_rows *rows, int64_t first,
                      int64_t count, gr_score *score,
                      void (*each)(void *user, int64_t row, const gr_score *own), void *user,
                      const volatile int *stop) {
    int64_t numbers[ROWS_AT_ONCE];
    *score = (gr_score){0};
    gr_batch_clear(buffer, 0);
    for (int64_t i = first; i < first + count; i++) {
        gr_row row = gr_rows_at(rows, i);
        if (gr_batch_cost(&row) == 0) {
            score->rows++;
            if (each) each(user, i, &(gr_score){.rows = 1});
            continue;
        }
        bool full = buffer->batch.nrows == ROWS_AT_ONCE || !gr_batch_add(buffer, &row);
        if (full) {
            score_batch(r, &buffer->batch, numbers, score, each, user);
            if (gr_raised(stop)) return;
            gr_batch_clear(buffer, 0);
            if (!gr_batch_add(buffer, &row)) continue; /* bind holds the longest row */
        }
        numbers[buffer->batch.nrows - 1] = i;
    }
    if (buffer->batch.nrows) score_batch(r, &buffer->batch, numbers, score, each, user);
}
