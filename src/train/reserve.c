#include "report/watch.h"
#include "train/trainer.h"

/* What runs held beyond everything that is measured here: pages of code and libraries that only computing and
 * saving touch, and while saving the description of each tensor of the adapter. source: smaps of runs */
#define LATER_BYTES     ((uint64_t)384 << 10)
#define PER_PARAM_BYTES ((uint64_t)1 << 10)

/* What the process holds beside what is counted elsewhere: program, tokenizer, rows, the model's description,
 * stacks. */
static uint64_t held(const gr_trainer *t) {
    const gr_model *m = t->rt.model;
    if (t->beside) return t->beside->other;
    if (m->file) gr_safetensors_release(m->file); /* opening looked at some pages: they count as mapped */
    uint64_t now = gr_current_rss(), weights = m->file     ? gr_model_small_bytes(m)
                                               : m->random ? gr_model_weight_bytes(m)
                                                           : 0;
    /* an adapter that was read: it becomes part of the state, and is given back before that is full */
    if (t->start) weights += (uint64_t)t->rt.tuning->parameters * sizeof *t->start;
    return (now > weights ? now - weights : 0) + LATER_BYTES + PER_PARAM_BYTES * t->rt.tuning->param_count;
}

graft_status gr_trainer_memory(const gr_trainer *t, const gr_net_config *config, graft_memory *m,
                               graft_error *err) {
    *m = t->fixed;
    GR_TRY(gr_runtime_measure(&t->rt, config, &m->saved, &m->scratch, err));
    m->other += (uint64_t)config->tokens * (sizeof *t->buffer.ids + sizeof *t->buffer.target +
                                            sizeof *t->buffer.segment + sizeof *t->buffer.weight);
    m->total = m->mapped + m->state + m->saved + m->scratch + m->other;
    if (t->beside) return GRAFT_OK;
    uint64_t peak = gr_peak_rss(); /* tokenizing may have needed more than training will */
    if (peak > m->total) {
        m->other += peak - m->total;
        m->total = peak;
    }
    return GRAFT_OK;
}

static graft_status bind(gr_trainer *t, graft_error *err) {
    GR_TRY(gr_arena_reserve(&t->state, t->forecast.state, err));
    gr_trainer_bind_state(t, &t->state);
    if (t->state.overflow) return gr_fail(err, GRAFT_INTERNAL, "the state outgrew its measure");
    t->rt.params = t->params;
    GR_TRY(gr_batch_init(&t->buffer, t->net_config.tokens, GR_SLICE_ROWS, err));
    t->slice_rows = gr_net_one_row(&t->rt.model->config, t->rt.tuning) ? 1 : t->buffer.max_rows;
    return gr_runtime_bind(&t->rt, &t->net_config, err);
}

/* That metrics.jsonl will have. */
static int64_t metrics_lines(const gr_trainer *t) {
    const graft_options *o = t->o;
    return t->iters / gr_max_i64(1, o->steps_per_report) + t->iters / gr_max_i64(1, o->steps_per_eval) + 2;
}

graft_status gr_trainer_reserve(gr_trainer *t, gr_net_config *config, gr_trainer_purpose purpose,
                                graft_error *err) {
    gr_arena counting = {0};
    config->training = true;
    GR_TRY(gr_trainer_optimizer(t, err));
    GR_TRY(gr_trainer_chunks(t, err));
    gr_trainer_bind_state(t, &counting);
    if (counting.overflow)
        return gr_fail(err, GRAFT_RANGE, "the adapter's state is larger than memory can be");
    t->fixed =
        (graft_memory){.mapped = gr_model_held_bytes(t->rt.model), .state = counting.used, .other = held(t)};
    if (t->o->no_mmap && t->o->resume) t->fixed.other += counting.used; /* the checkpoint, while it is read */
    if (t->o->watch) t->fixed.other += GR_WATCH_BYTES(t->rt.tuning->parameters, metrics_lines(t));
    GR_TRY(gr_trainer_fit_budget(t, config, err));
    t->recompute = config->recompute;
    t->net_config = *config;
    return purpose == GR_TRAINER_PLAN ? GRAFT_OK : bind(t, err);
}

graft_status gr_trainer_ready(gr_trainer *t, graft_error *err) {
    GR_TRY(bind(t, err));
    if (t->start)
        memcpy(t->params, t->start, (size_t)t->rt.tuning->parameters * sizeof *t->start);
    else
        gr_trainer_init_params(t);
    if (t->reference) memcpy(t->reference, t->params, (size_t)t->rt.tuning->parameters * sizeof *t->params);
    free(t->start);
    t->start = NULL;
    return GRAFT_OK;
}
