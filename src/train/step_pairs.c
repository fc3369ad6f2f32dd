/* The part of a step that pairs have of their own: what a token's gradient counts for is known only when both
 * answers have been scored. So the head runs twice over each slice: for the log-probabilities, and again with
 * weights, its logits computed anew tile by tile; the blocks' activations are kept between. */
#include "train/pairs.h"
#include "train/trainer.h"

double gr_trainer_nll_share(const gr_trainer *t, const int64_t *units, int64_t n) {
    int64_t targets = 0;
    for (int64_t i = 0; i < n; i++)
        targets += gr_rows_at(t->train, gr_order_row(&t->order, units[i], GR_CHOSEN)).targets;
    return gr_pairs_nll_share(n, targets);
}

/* Losses of both halves, and the gradient that came back through the pair. */
static void note_results(const gr_trainer *t, gr_row_result *results, const gr_pair *pairs) {
    const gr_net *net = &t->rt.net;
    const gr_batch *batch = &t->buffer.batch;
    bool known = net->tuning->lowest < net->model->config.layers;
    int64_t h = net->model->config.hidden;
    for (int64_t i = 0; i < batch->nrows; i++) {
        int64_t begin = batch->start[i], end = batch->start[i + 1];
        bool gradient = !known || gr_all_finite(net->dres + begin * h, (end - begin) * h);
        for (int half = GR_CHOSEN; half <= GR_REJECTED; half++)
            results[2 * i + half] =
                (gr_row_result){.loss = half == GR_CHOSEN ? pairs[i].nll : -pairs[i].logp[half],
                                .logp = pairs[i].logp[half],
                                .reference = pairs[i].reference[half],
                                .gradient = gradient};
    }
}

int64_t gr_trainer_run_pairs(gr_trainer *t, const gr_gradients *gradients, gr_row_result *results) {
    gr_net *net = &t->rt.net;
    gr_batch *batch = &t->buffer.batch;
    gr_pair pairs[GR_SLICE_ROWS];
    gr_pairs_forward(net, batch, t->train, t->pair_at, pairs, &t->preference);
    for (int64_t i = 0; i < batch->nrows; i++) {
        gr_pair_value value = gr_preference_value(&t->preference, &pairs[i], t->nll_share);
        gr_pair_weigh(&t->buffer, t->train, t->pair_at[i], i, &value);
    }
    gr_net_loss(net, batch, gradients);
    gr_net_backward(net, batch, gradients);
    note_results(t, results, pairs);
    return 2 * batch->nrows;
}

void gr_trainer_account_pairs(gr_trainer *t, const int64_t *units, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const gr_row_result *result = &t->results[2 * i];
        int64_t at = gr_order_row(&t->order, units[i], GR_CHOSEN);
        gr_pair pair = {.nll = result->loss};
        for (int half = GR_CHOSEN; half <= GR_REJECTED; half++) {
            gr_row row = gr_rows_at(t->train, at + half);
            pair.logp[half] = result[half].logp;
            pair.reference[half] = result[half].reference;
            pair.tokens[half] = gr_pair_answer(&row);
        }
        gr_pair_value value = gr_preference_value(&t->preference, &pair, t->nll_share);
        gr_preference_add(&t->p.preference, &t->preference, &pair, &value);
        t->p.report_loss += value.loss;
        gr_health_add_row(&t->p.health, at, gr_rows_at(t->train, at).line, value.loss, result->gradient);
    }
}
