#include "forecast/forecast.h"
#include "forecast/plan_table.h"
#include "kernels/peak.h"
#include <math.h>
#include <stdio.h>

/* What training adds per token. Forward, dx and the gradient of A and B; a weight that trains has the first
 * two as a frozen one too; DoRA computes its linear again for the magnitude. */
static double trained_flops(const gr_model_config *c, const gr_tuning *tuning) {
    double flops = 0;
    for (size_t i = 0; i < tuning->param_count; i++) {
        const gr_param *p = &tuning->params[i];
        double n = (double)gr_param_count(p);
        int64_t out, in;
        gr_role_shape(p->role, c, &out, &in);
        if (p->stack > 1)
            n *= (double)c->experts_used / (double)p->stack; /* a token passes so many of them */
        switch (p->kind) {
        case GR_PARAM_A: flops += tuning->pool ? (4 * (double)tuning->pool + 2) * n : 6 * n; break;
        case GR_PARAM_B: flops += 6 * n; break;
        case GR_PARAM_MAGNITUDE: flops += 2 * (double)out * (double)in; break;
        case GR_PARAM_WEIGHT:
        case GR_PARAM_BIAS: flops += 2 * n; break;
        }
    }
    return flops;
}

double gr_train_flops(const gr_model_config *c, const gr_tuning *tuning, int64_t sequence,
                      gr_recompute recompute, double targets) {
    double h = (double)c->hidden, q = (double)(c->heads * c->head_dim), m = (double)gr_mlp_width(c),
           wl = gr_block_weights(c), layers = (double)c->layers, s = (double)sequence;
    double backward = (double)(c->layers - (tuning ? tuning->lowest : 0)); /* layers that have one */
    double flops = layers * (2 * wl + 2 * q * s) + backward * (2 * wl + 5 * q * s);
    const double again[GR_RECOMPUTES] = {0, 2 * (double)(gr_mlp_matrices(c) - 1) * h * m,
                                         2 * (wl - h * m) + 2 * q * s};
    flops += fmax(backward - 1, 0) * again[recompute]; /* the last block's forward is still there */
    if (tuning) flops += trained_flops(c, tuning);
    return flops + targets * 4 * h * (double)c->vocab;
}

/* A batch of made-up ids: up to `tokens` of them in rows as long as the data's longest allows; packs are of
 * rows as long as the data's mean. */
static void make_up(gr_trainer *t, int64_t tokens) {
    gr_batch_buffer *b = &t->buffer;
    const gr_packs *packs = t->order.packs;
    bool pairs = t->preference.loss, pieces = packs || pairs;
    int64_t vocab = t->rt.model->config.vocab, longest = t->rt.net.config.longest,
            unit = packs   ? packs->largest
                   : pairs ? 2 * longest
                           : longest,
            piece = packs ? packs->tokens / packs->rows : longest;
    gr_batch *batch = &b->batch;
    gr_batch_clear(b, 0);
    batch->dropout = gr_trainer_dropout(t);
    if (pieces) batch->segment = b->segment;
    while (batch->tokens < tokens && batch->nrows < t->slice_rows) {
        int64_t end = gr_min_i64(tokens, batch->tokens + unit);
        for (int64_t at = batch->tokens; at < end; at++) {
            b->ids[at] = (int32_t)(at * 7919 % vocab);
            b->target[at] = (int32_t)(at * 104729 % vocab);
        }
        for (int64_t at = batch->tokens; pieces && at < end; at += piece)
            b->segment[++batch->nsegments] = gr_min_i64(end, at + piece);
        b->start[++batch->nrows] = batch->tokens = end;
    }
}

uint64_t gr_memory_floor(const gr_trainer *t) {
    const gr_model_config *c = &t->rt.model->config;
    uint64_t h = (uint64_t)c->hidden, m = (uint64_t)gr_mlp_width(c),
             kv = (uint64_t)(c->kv_heads * c->head_dim), tokens = (uint64_t)t->net_config.longest,
             act = (uint64_t)t->rt.kernels.act_bytes;
    uint64_t token = act * ((uint64_t)c->layers * h + 2 * m + kv) + sizeof(float) * h;
    return t->forecast.mapped + t->forecast.other + 4 * sizeof(float) * (uint64_t)t->rt.tuning->parameters +
           tokens * token + 44 * sizeof(float) * (uint64_t)c->vocab;
}

/* The pass of dpo's reference, without what trains. */
static void reference_pass(gr_trainer *t) {
    gr_net *net = &t->rt.net;
    gr_net_use(net, NULL);
    gr_net_forward(net, &t->buffer.batch);
    gr_net_loss(net, &t->buffer.batch, NULL);
    gr_net_use(net, t->rt.tuning);
}

/* Calibration: forward and backward on made-up ids for about two seconds; of a tiny model, two hundred times.
 * Tokens per second. */
static double calibrate(gr_trainer *t) {
    gr_batch_buffer *b = &t->buffer;
    int64_t longest = t->rt.net.config.longest,
            width = gr_min_i64(
                b->max_tokens,
                gr_max_i64(
                    t->iters ? (int64_t)(t->total_tokens / (uint64_t)gr_max_i64(t->iters, 1)) : longest, 1));
    double start = gr_clock(), best = 0;
    int64_t tokens = gr_min_i64(width, 32); /* begin small: a large model must not take minutes */
    for (int steps = 0; steps < 200 && gr_clock() - start < 2; steps++) {
        double step = gr_clock();
        make_up(t, tokens);
        int64_t at = b->batch.tokens;
        if (t->preference.loss && t->preference.loss->needs_reference) reference_pass(t);
        gr_net_forward(&t->rt.net, &b->batch);
        if (t->preference.loss) gr_net_loss(&t->rt.net, &b->batch, NULL); /* weights come from losses */
        gr_net_loss(&t->rt.net, &b->batch, &t->gradients);
        gr_net_backward(&t->rt.net, &b->batch, &t->gradients);
        step = gr_clock() - step;
        if (at >= width || tokens == width)
            best = fmax(best, (double)at / step);
        else if (best == 0 || (double)at / step > best)
            best = (double)at / step;
        if (tokens < width) tokens = gr_min_i64(width, tokens * 4);
    }
    gr_batch_clear(b, 0);
    return best;
}

#define UPDATE_TOKENS 32

/* Seconds of a forward pass of few tokens. */
static double forward_seconds(gr_trainer *t) {
    double start = gr_clock();
    gr_net_forward(&t->rt.net, &t->buffer.batch);
    return gr_clock() - start;
}

/* Seconds that an update takes once a batch's gradient is there: its sum, the optimizer, and what the next
 * forward has to make anew from parameters that moved (DoRA's gains, QAT's codes). The throw-away trainer's
 * own parameters; the first update touches memory that no later one does. */
static double calibrate_update(gr_trainer *t) {
    double least = INFINITY, start = gr_clock();
    make_up(t, gr_min_i64(t->buffer.max_tokens, UPDATE_TOKENS));
    forward_seconds(t);
    for (int i = 0; i < 3 && (i == 0 || gr_clock() - start < 1); i++) {
        double usual = forward_seconds(t), update = gr_clock();
        gr_trainer_collect(t, 1, 1);
        gr_optim_update(&t->optim, t->rt.pool, t->params, t->grad, t->o->learning_rate, 1, i + 1);
        t->rt.net.stale = true;
        update = gr_clock() - update + fmax(forward_seconds(t) - usual, 0);
        least = fmin(least, update);
    }
    gr_batch_clear(&t->buffer, 0);
    return least;
}

/* Can the optimizer's vectors be touched here? A plan must not fall to what it warns of. */
static bool has_room(const gr_trainer *t) {
    uint64_t available = gr_memory_available();
    return !available || t->forecast.state < available;
}

/* Without weights: the arithmetic at a usual share of this machine's peak. */
static double from_peak(const gr_trainer *t, int64_t sequence) {
    double peak = gr_peak_gflops(&(gr_compute){.k = &t->rt.kernels, .pool = t->rt.pool});
    double passes = t->preference.loss ? t->preference.loss->passes : 1;
    return 0.7e9 * peak / passes /
           gr_train_flops(&t->rt.model->config, t->rt.tuning, sequence, t->recompute, 1);
}

static graft_status fill(graft_plan *plan, gr_trainer *t, const char *name, graft_error *err) {
    const gr_model *m = t->rt.model;
    plan->model = gr_strdup(name);
    plan->model_type = gr_strdup(m->config.arch->model_type);
    plan->grad_checkpoint = gr_strdup(gr_recompute_name[t->recompute]);
    if (!plan->model || !plan->model_type || !plan->grad_checkpoint) return gr_no_memory(err, 0);
    GR_TRY(gr_plan_table(plan, m, t->rt.tuning, err));
    plan->parameters_total = gr_model_parameters(m);
    plan->parameters_trainable = t->rt.tuning->parameters;
    plan->memory = t->forecast;
    plan->gradients_optimizer = t->forecast.state - (uint64_t)plan->parameters_trainable * sizeof(float);
    plan->slice_tokens = t->net_config.tokens;
    plan->head_tile = t->net_config.head_tile ? t->net_config.head_tile : gr_head_tile(m->config.vocab);
    plan->batch_size = t->o->batch_size;
    plan->iterations = t->iters;
    plan->packing = gr_trainer_packing(t);
    plan->sequence_length = plan->packing.packs ? t->order.packs->largest
                            : t->train          ? gr_rows_longest(t->train)
                                                : t->o->max_seq_length;
    return GRAFT_OK;
}

/* What training every weight of the same model in 16 bits would take here, with the same recompute, slices
 * and optimizer: bound as a run would be. The trainer is as before afterwards. */
static graft_status measure_full(graft_plan *plan, gr_trainer *t, graft_error *err) {
    const gr_model *m = t->rt.model;
    gr_tuning *own = t->rt.tuning, *all = NULL;
    gr_tuning_request request = {.kind = GR_TUNE_FULL,
                                 .modules_to_save = "re:model\\.embed_tokens|model\\.norm|lm_head",
                                 .scale = 1,
                                 .measured = true};
    GR_TRY(gr_tuning_select(&all, &m->config, &request, err));
    gr_net_config config = t->net_config;
    if (gr_net_one_row(&m->config, all)) /* of the slices that have every row alone */
        config.tokens = gr_max_i64(config.longest, t->work.slice[GR_SLICES - 1].tokens);
    config.head_tile = 0; /* the head trains */
    graft_memory fixed = t->fixed;
    gr_arena state = {0};
    t->rt.tuning = all;
    graft_status st = gr_trainer_optimizer(t, err);
    if (st == GRAFT_OK) {
        gr_trainer_bind_state(t, &state);
        t->fixed.state = state.used;
        t->fixed.mapped = (uint64_t)plan->parameters_total * 2;
        st = gr_trainer_memory(t, &config, &plan->full, err);
        plan->full_gradients_optimizer = state.used - (uint64_t)all->parameters * sizeof(float);
    }
    t->fixed = fixed;
    t->rt.tuning = own;
    gr_tuning_free(all);
    return st == GRAFT_OK ? gr_trainer_optimizer(t, err) : st;
}

graft_status gr_forecast(graft_plan *plan, const char *dir, const graft_options *o, const graft_hooks *hooks,
                         graft_error *err) {
    gr_trainer t;
    double updating = 0; /* seconds of all updates */
    memset(plan, 0, sizeof *plan);
    GR_TRY(gr_trainer_open(&t, dir, o, hooks, GR_TRAINER_PLAN, err));
    graft_status st = fill(plan, &t, o->model ? o->model : o->shape, err);
    if (st == GRAFT_OK) st = measure_full(plan, &t, err);
    bool runnable = t.rt.model->file && t.train;
    if (st == GRAFT_OK && !runnable) plan->tokens_per_second = from_peak(&t, plan->sequence_length);
    plan->time_tokens = (int64_t)t.total_tokens;
    if (st == GRAFT_OK && !t.train &&
        !gr_mul_i64(plan->sequence_length * o->batch_size * (t.preference.loss ? 2 : 1), t.iters,
                    &plan->time_tokens))
        st = gr_fail(err, GRAFT_RANGE, "max-seq-length x batch-size x iters is too large");
    if (st == GRAFT_OK && runnable) { /* the same run, for real, for two seconds */
        st = gr_trainer_ready(&t, err);
        if (st == GRAFT_OK) plan->tokens_per_second = calibrate(&t);
        if (st == GRAFT_OK && has_room(&t)) updating = (double)t.updates * calibrate_update(&t);
    }
    gr_trainer_close(&t);
    if (st == GRAFT_OK && plan->tokens_per_second > 0)
        plan->time_seconds = (double)plan->time_tokens / plan->tokens_per_second + updating;
    if (st != GRAFT_OK) graft_plan_free(plan);
    return st;
}

void graft_plan_free(graft_plan *plan) {
    if (!plan) return;
    free(plan->model);
    free(plan->model_type);
    free(plan->grad_checkpoint);
    free(plan->tensors_list);
    free(plan->storage);
    memset(plan, 0, sizeof *plan);
}
