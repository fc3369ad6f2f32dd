#include "infer/evaluate_pairs.h"
#include "base/hooks.h"
#include "data/findings.h"
#include "train/pairs.h"
#include <math.h>

typedef struct pair_sink {
    const gr_session *s;
    const gr_rows *rows;
    graft_row_loss *losses; /* NULL: not wanted */
    int64_t done;
    gr_lines bad; /* whose loss is not a number */
} pair_sink;

static void note_pair(void *user, int64_t pair, const gr_pair *scored, const gr_pair_value *value) {
    pair_sink *sink = user;
    const graft_hooks *hooks = sink->s->hooks;
    uint64_t line = gr_rows_at(sink->rows, 2 * pair).line;
    if (sink->losses)
        sink->losses[pair] =
            (graft_row_loss){.line = line,
                             .loss = value->loss,
                             .tokens = scored->tokens[GR_CHOSEN] + scored->tokens[GR_REJECTED],
                             .reward_chosen = value->reward[GR_CHOSEN],
                             .reward_rejected = value->reward[GR_REJECTED]};
    if (!isfinite(value->loss)) gr_lines_add(&sink->bad, line);
    sink->done++;
    gr_progress(hooks, "evaluate", sink->done, gr_rows_count(sink->rows) / 2);
}

/* Tokens of one batch: enough for the matmuls to be efficient. */
#define BATCH_TOKENS 1024

static graft_status bind_for(gr_session *s, const gr_rows *rows, gr_batch_buffer *buffer, graft_error *err) {
    int64_t longest = 1, largest = 1;
    for (int64_t i = 0; i < gr_rows_count(rows); i++) {
        gr_row row = gr_rows_at(rows, i);
        longest = gr_max_i64(longest, gr_batch_cost(&row));
        if (i % 2 == 0) largest = gr_max_i64(largest, gr_pair_cost(rows, i));
    }
    gr_net_config config = {.longest = longest, .tokens = gr_max_i64(largest, BATCH_TOKENS)};
    GR_TRY(gr_batch_init(buffer, config.tokens, 256, err));
    return gr_runtime_bind(&s->rt, &config, err);
}

static graft_status not_a_number(const pair_sink *sink, graft_error *err) {
    gr_buf text = {0};
    gr_lines_text(&sink->bad, &text);
    gr_fail(err, GRAFT_RANGE, "the loss of %lld of %lld pairs is not a number", (long long)sink->bad.count,
            (long long)gr_rows_count(sink->rows) / 2);
    gr_found(err, "%s", text.data ? text.data : "");
    gr_buf_free(&text);
    return gr_hint(err, "weights or adapter are damaged: of all pairs, or those of these pairs' tokens");
}

graft_status gr_evaluate_pairs(gr_session *s, const gr_rows *rows, graft_eval_result *r, graft_error *err) {
    int64_t count = gr_rows_count(rows) / 2;
    gr_batch_buffer buffer = {0};
    gr_preference how = gr_options_preference(s->o);
    gr_preference_sums sums;
    pair_sink sink = {.s = s, .rows = rows};
    const volatile int *stop = gr_stop_of(s->hooks);
    graft_status st;
    GR_GOTO(bind_for(s, rows, &buffer, err));
    if (s->o->per_row) {
        r->row_losses = sink.losses = gr_calloc((size_t)count, sizeof *r->row_losses);
        if (!r->row_losses) st = gr_no_memory(err, (size_t)count * sizeof *r->row_losses);
        if (st != GRAFT_OK) goto done;
    }
    GR_GOTO(gr_pairs_score(&s->rt, &buffer, rows, 0, count, &how, &sums, note_pair, &sink, stop, err));
    if (gr_raised(stop)) {
        st = gr_fail(err, GRAFT_INTERRUPTED, "evaluation stopped");
    } else if (sink.bad.count) {
        st = not_a_number(&sink, err);
    } else {
        r->preference = gr_preference_means(&how, &sums);
        r->loss = sums.loss / (double)gr_max_i64(count, 1);
        r->perplexity = r->perplexity_stderr = NAN;
        r->accuracy = r->preference.accuracy;
        r->rows = count;
        r->tokens = gr_rows_targets(rows);
    }
done:
    gr_batch_free(&buffer);
    return st;
}
