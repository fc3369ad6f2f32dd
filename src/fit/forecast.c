#include "fit/forecast.h"
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
        switch (p->kind) {
        case GR_PARAM_A:
        case GR_PARAM_B: flops += 6 * n; break;
        case GR_PARAM_MAGNITUDE: flops += 2 * (double)out * (double)in; break;
        case GR_PARAM_WEIGHT:
        case GR_PARAM_BIAS: flops += 2 * n; break;
        }
    }
    return flops;
}

double gr_train_flops(const gr_model_config *c, const gr_tuning *tuning, int64_t sequence, bool recompute,
                      double targets) {
    double h = (double)c->hidden, q = (double)(c->heads * c->head_dim),
           kv = (double)(c->kv_heads * c->head_dim), m = (double)c->mlp;
    double wl = 2 * h * q + 2 * h * kv + 3 * h * m, layers = (double)c->layers, s = (double)sequence;
    double backward = (double)(c->layers - (tuning ? tuning->lowest : 0)); /* layers that have one */
    double flops = layers * (2 * wl + 2 * q * s) + backward * (2 * wl + 5 * q * s);
    if (recompute)
        flops += fmax(backward - 1, 0) *
                 (2 * (wl - h * m) + 2 * q * s); /* the last block's forward is still there */
    if (tuning) flops += trained_flops(c, tuning);
    return flops + targets * 4 * h * (double)c->vocab;
}

/* Calibration: training steps on the first rows (or made-up ids) for about two seconds. Tokens per second. */
static double calibrate(gr_trainer *t) {
    const gr_model_config *c = &t->rt.model->config;
    gr_batch_buffer *b = &t->buffer;
    int64_t longest = t->rt.net.config.longest,
            width = gr_min_i64(
                b->max_tokens,
                gr_max_i64(
                    t->iters ? (int64_t)(t->total_tokens / (uint64_t)gr_max_i64(t->iters, 1)) : longest, 1));
    double start = gr_clock(), best = 0;
    int64_t tokens = gr_min_i64(width, 32); /* begin small: a large model must not take minutes */
    while (gr_clock() - start < 2) {
        double step = gr_clock();
        int64_t at = 0, rows = 0;
        while (at < tokens) { /* rows as long as the data's longest allows */
            int64_t n = gr_min_i64(tokens - at, longest);
            for (int64_t i = 0; i < n; i++)
                b->ids[at + i] = (int32_t)((at + i) * 7919 % c->vocab),
                            b->target[at + i] = (int32_t)((at + i) * 104729 % c->vocab);
            at += n;
            b->start[++rows] = at;
            if (rows == t->slice_rows) break;
        }
        b->start[0] = 0;
        b->batch = (gr_batch){.ids = b->ids,
                              .target = b->target,
                              .start = b->start,
                              .nrows = rows,
                              .tokens = at,
                              .dropout = gr_trainer_dropout(t)};
        gr_net_forward(&t->rt.net, &b->batch);
        gr_net_loss(&t->rt.net, &b->batch, &t->gradients);
        b->batch.first = 0;
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

/* Without weights: the arithmetic at a usual share of this machine's peak. */
static double from_peak(const gr_trainer *t, int64_t sequence) {
    double peak = gr_peak_gflops(&(gr_compute){.k = &t->rt.kernels, .pool = t->rt.pool});
    return 0.7e9 * peak / gr_train_flops(&t->rt.model->config, t->rt.tuning, sequence, t->recompute, 1);
}

/* Where strings of a plan live: grown once, never moved. */
typedef struct strings {
    char *base;
    size_t used;
} strings;

static const char *keep(strings *s, const char *text) {
    char *at = s->base + s->used;
    size_t n = strlen(text) + 1;
    memcpy(at, text, n);
    s->used += n;
    return at;
}

static void add_tensor(graft_plan *plan, strings *s, gr_role role, const char *name, const gr_mat *mat,
                       int64_t n, int64_t rank) {
    graft_plan_tensor *x = &plan->tensors_list[plan->tensors_count++];
    graft_plan_type *type = &plan->types[role];
    bool quantize = mat && mat->layout != GR_DENSE;
    *x = (graft_plan_tensor){.name = keep(s, name),
                             .role = gr_role_table[role].type,
                             .quantize = quantize,
                             .adapter = rank > 0,
                             .rank = rank};
    x->shape[0] = mat ? mat->rows : n;
    x->shape[1] = mat ? mat->cols : 0;
    x->bits = quantize ? mat->bits : mat ? 8 * (int)gr_dtype_bytes(mat->dtype) : 16;
    x->group_size = quantize ? mat->group : 0;
    x->frozen = rank > 0 ? "partial" : "true";
    x->bytes = mat ? gr_mat_bytes(mat) : (uint64_t)n * 2; /* as 16-bit files have them */
    type->tensors++;
    type->parameters += mat ? mat->rows * mat->cols : n;
    type->bytes += x->bytes;
    type->quantize |= quantize;
    type->lora |= rank > 0;
}

static void add_layer(graft_plan *plan, strings *s, const gr_model *m, const gr_tuning *tuning, int64_t l) {
    const gr_layer *layer = &m->layer[l];
    char name[220];
    for (gr_role role = 0; role < GR_LINEARS; role++) {
        gr_role_name(name, sizeof name, role, l);
        add_tensor(plan, s, role, name, &layer->linear[role], 0, tuning->block[l][role].rank);
        if (!layer->bias[role]) continue;
        snprintf(name + strlen(name), sizeof name - strlen(name), ".bias");
        add_tensor(plan, s, role, name, NULL, layer->linear[role].rows, 0);
    }
    for (gr_role role = GR_INPUT_LAYERNORM; role <= GR_POST_ATTENTION_LAYERNORM; role++) {
        gr_role_name(name, sizeof name, role, l);
        add_tensor(plan, s, role, name, NULL, m->config.hidden, 0);
    }
    for (int i = 0; m->config.qk_norm && i < 2; i++) {
        snprintf(name, sizeof name, "model.layers.%lld.self_attn.%c_norm", (long long)l, i ? 'k' : 'q');
        add_tensor(plan, s, GR_NORM, name, NULL, m->config.head_dim, 0);
    }
}

/* The guide's table for this model. */
static graft_status fill_table(graft_plan *plan, const gr_model *m, const gr_tuning *tuning,
                               graft_error *err) {
    const gr_model_config *c = &m->config;
    size_t most = (size_t)c->layers * 20 + 8;
    strings s = {gr_calloc(most, 100), 0};
    plan->storage = s.base;
    plan->tensors_list = gr_calloc(most, sizeof *plan->tensors_list);
    if (!s.base || !plan->tensors_list) return gr_no_memory(err, most * 100);
    for (gr_role role = 0; role < GR_GUIDE_TYPES; role++)
        plan->types[role] = (graft_plan_type){
            .type = gr_role_table[role].type, .frozen = "true", .notes = gr_role_table[role].notes};
    add_tensor(plan, &s, GR_EMBED_TOKENS, "model.embed_tokens", &m->embed, 0, 0);
    for (int64_t l = 0; l < c->layers; l++) add_layer(plan, &s, m, tuning, l);
    add_tensor(plan, &s, GR_NORM, "model.norm", NULL, c->hidden, 0);
    if (!c->tied) add_tensor(plan, &s, GR_LM_HEAD, "lm_head", &m->head, 0, 0);
    for (gr_role role = 0; role < GR_GUIDE_TYPES; role++)
        if (plan->types[role].lora) plan->types[role].frozen = "partial";
    plan->types[GR_LM_HEAD].notes = c->tied ? "tied to embed_tokens" : "";
    plan->types[GR_EMBED_TOKENS].notes = c->tied ? "" : "memory counts it whole: an upper bound";
    plan->types[GR_NORM].notes = c->qk_norm ? "with the norms of q and k" : "";
    if (c->qkv_bias)
        plan->types[GR_Q_PROJ].notes = plan->types[GR_K_PROJ].notes = plan->types[GR_V_PROJ].notes =
            "with bias, 16-bit and frozen";
    return GRAFT_OK;
}

static graft_status fill(graft_plan *plan, gr_trainer *t, const char *name, graft_error *err) {
    const gr_model *m = t->rt.model;
    plan->model = gr_strdup(name);
    plan->model_type = gr_strdup(m->config.arch->model_type);
    plan->grad_checkpoint = gr_strdup(t->recompute ? "layer" : "none");
    if (!plan->model || !plan->model_type || !plan->grad_checkpoint) return gr_no_memory(err, 0);
    GR_TRY(fill_table(plan, m, t->rt.tuning, err));
    plan->parameters_total = gr_model_parameters(m);
    plan->parameters_trainable = t->rt.tuning->parameters;
    plan->memory = t->forecast;
    plan->batch_size = t->o->batch_size;
    plan->iterations = t->iters;
    plan->sequence_length = t->train ? gr_rows_longest(t->train) : t->o->max_seq_length;
    return GRAFT_OK;
}

graft_status gr_forecast(graft_plan *plan, const char *dir, const graft_options *o, const graft_hooks *hooks,
                         graft_error *err) {
    gr_trainer t;
    memset(plan, 0, sizeof *plan);
    GR_TRY(gr_trainer_open(&t, dir, o, hooks, GR_TRAINER_PLAN, err));
    graft_status st = fill(plan, &t, o->model ? o->model : o->shape, err);
    bool runnable = t.rt.model->file && t.train;
    if (st == GRAFT_OK && !runnable) plan->tokens_per_second = from_peak(&t, plan->sequence_length);
    plan->time_tokens = (int64_t)t.total_tokens;
    if (st == GRAFT_OK && !t.train &&
        !gr_mul_i64(plan->sequence_length * o->batch_size, t.iters, &plan->time_tokens))
        st = gr_fail(err, GRAFT_RANGE, "max-seq-length x batch-size x iters is too large");
    if (st == GRAFT_OK && runnable) { /* the same run, for real, for two seconds */
        st = gr_trainer_ready(&t, err);
        if (st == GRAFT_OK) plan->tokens_per_second = calibrate(&t);
    }
    gr_trainer_close(&t);
    if (st == GRAFT_OK && plan->tokens_per_second > 0)
        plan->time_seconds = (double)plan->time_tokens / plan->tokens_per_second;
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
