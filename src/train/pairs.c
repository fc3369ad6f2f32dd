#include "train/pairs.h"
#include "base/hooks.h"

int64_t gr_pair_cost(const gr_rows *rows, int64_t at) {
    gr_row chosen = gr_rows_at(rows, at), rejected = gr_rows_at(rows, at + 1);
    return gr_batch_cost(&chosen) + gr_batch_cost(&rejected);
}

int64_t gr_pair_answer(const gr_row *row) {
    return row->count - gr_max_i64(row->prompt, 1);
}

bool gr_pair_add(gr_batch_buffer *b, const gr_rows *rows, int64_t at) {
    gr_row chosen = gr_rows_at(rows, at), rejected = gr_rows_at(rows, at + 1);
    bool fits = b->batch.tokens + gr_batch_cost(&chosen) + gr_batch_cost(&rejected) <= b->max_tokens;
    return fits && gr_batch_add(b, &chosen) && gr_batch_join(b, &rejected);
}

/* Sums of the targets' losses, which the net has in their order: of an answer's tokens into logp, of all of
 * the chosen half into nll. */
static void collect(const gr_net *net, const gr_batch *batch, const gr_rows *rows, const int64_t *at,
                    gr_pair *pairs, bool reference) {
    gr_batch halves = gr_batch_of_segments(batch);
    int64_t next = 0;
    for (int64_t s = 0; s < halves.nrows; s++) {
        gr_pair *pair = &pairs[s / 2];
        int half = (int)(s % 2);
        gr_row row = gr_rows_at(rows, at[s / 2] + half);
        double answer = 0, all = 0;
        for (int64_t t = halves.start[s]; t < halves.start[s + 1]; t++) {
            if (halves.target[t] < 0) continue;
            double loss = net->targets[next++].loss;
            all += loss;
            if (t - halves.start[s] + 1 >= row.prompt) answer += loss; /* it predicts the next token */
        }
        *(reference ? &pair->reference[half] : &pair->logp[half]) = -answer;
        if (reference) continue;
        pair->tokens[half] = gr_pair_answer(&row);
        if (half == GR_CHOSEN) pair->nll = all;
    }
}

/* Goes on with these parameters. */
static void use(gr_net *net, const gr_tuning *tuning, const float *params) {
    net->stale |= params != net->params;
    net->params = params;
    gr_net_use(net, tuning);
}

void gr_pairs_forward(gr_net *net, gr_batch *batch, const gr_rows *rows, const int64_t *at, gr_pair *pairs,
                      const gr_preference *how) {
    const gr_dropout *dropout = batch->dropout;
    for (int64_t i = 0; i < batch->nrows; i++) pairs[i] = (gr_pair){0};
    batch->weight = NULL;
    if (how->loss->needs_reference) {
        const gr_tuning *tuning = net->tuning;
        const float *params = net->params, *reference = how->reference;
        batch->dropout = NULL;
        use(net, reference ? tuning : NULL, reference ? reference : params);
        gr_net_forward(net, batch);
        gr_net_loss(net, batch, NULL);
        collect(net, batch, rows, at, pairs, true);
        use(net, tuning, params);
        batch->dropout = dropout;
    }
    gr_net_forward(net, batch);
    gr_net_loss(net, batch, NULL);
    collect(net, batch, rows, at, pairs, false);
}

void gr_pair_weigh(gr_batch_buffer *b, const gr_rows *rows, int64_t at, int64_t i,
                   const gr_pair_value *value) {
    gr_batch halves = gr_batch_of_segments(&b->batch);
    for (int half = GR_CHOSEN; half <= GR_REJECTED; half++) {
        int64_t start = halves.start[2 * i + half], end = halves.start[2 * i + half + 1],
                prompt = gr_rows_at(rows, at + half).prompt;
        double nll = half == GR_CHOSEN ? value->nll_weight : 0;
        for (int64_t t = start; t < end; t++)
            b->weight[t] = (float)(nll + (t - start + 1 >= prompt ? value->weight[half] : 0));
    }
    b->batch.weight = b->weight;
}

int64_t gr_pairs_chosen_targets(const gr_rows *rows, int64_t first, int64_t count) {
    int64_t targets = 0;
    for (int64_t i = 0; i < count; i++) targets += gr_rows_at(rows, 2 * (first + i)).targets;
    return targets;
}

#define PAIRS_AT_ONCE 128

/* A batch being filled with pairs, and what they have come to. */
typedef struct scoring {
    gr_runtime *r;
    gr_batch_buffer *buffer;
    const gr_rows *rows;
    const gr_preference *how;
    gr_preference_sums *sums;
    double nll_share;
    int64_t at[PAIRS_AT_ONCE];
} scoring;

static void score_batch(const scoring *s,
                        void (*each)(void *user, int64_t pair, const gr_pair *scored,
                                     const gr_pair_value *value),
                        void *user) {
    gr_pair pairs[PAIRS_AT_ONCE];
    gr_batch *batch = &s->buffer->batch;
    if (!batch->nrows) return;
    gr_pairs_forward(&s->r->net, batch, s->rows, s->at, pairs, s->how);
    for (int64_t i = 0; i < batch->nrows; i++) {
        gr_pair_value v = gr_preference_value(s->how, &pairs[i], s->nll_share);
        gr_preference_add(s->sums, s->how, &pairs[i], &v);
        if (each) each(user, s->at[i] / 2, &pairs[i], &v);
    }
    gr_batch_clear(s->buffer, 0);
}

static graft_status fail_too_long(const gr_batch_buffer *buffer, const gr_rows *rows, int64_t at,
                                  graft_error *err) {
    gr_fail(err, GRAFT_INTERNAL, "a pair has more tokens than were made room for");
    gr_where(err, "%s, line %llu", gr_rows_name(rows), (unsigned long long)gr_rows_at(rows, at).line);
    gr_expected(err, "at most %lld", (long long)buffer->max_tokens);
    return gr_found(err, "%lld", (long long)gr_pair_cost(rows, at));
}

graft_status gr_pairs_score(gr_runtime *r, gr_batch_buffer *buffer, const gr_rows *rows, int64_t first,
                            int64_t count, const gr_preference *how, gr_preference_sums *sums,
                            void (*each)(void *user, int64_t pair, const gr_pair *scored,
                                         const gr_pair_value *value),
                            void *user, const volatile int *stop, graft_error *err) {
    scoring s = {.r = r, .buffer = buffer, .rows = rows, .how = how, .sums = sums};
    s.nll_share = gr_pairs_nll_share(count, gr_pairs_chosen_targets(rows, first, count));
    *sums = (gr_preference_sums){0};
    gr_batch_clear(buffer, 0);
    for (int64_t i = first; i < first + count; i++) {
        bool full = buffer->batch.nrows == PAIRS_AT_ONCE || !gr_pair_add(buffer, rows, 2 * i);
        if (full) {
            score_batch(&s, each, user);
            if (gr_raised(stop)) return GRAFT_OK;
            if (!gr_pair_add(buffer, rows, 2 * i)) return fail_too_long(buffer, rows, 2 * i, err);
        }
        s.at[buffer->batch.nrows - 1] = 2 * i;
    }
    score_batch(&s, each, user);
    return GRAFT_OK;
}
