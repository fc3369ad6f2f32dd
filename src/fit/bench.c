#include "fit/bench.h"
#include "kernels/peak.h"
#include <math.h>
#include <stdio.h>

/* The token stream that rows are cut from: the data's rows one after another, or a fixed walk over the
 * vocabulary. */
typedef struct stream {
    gr_rows *rows;
    int64_t row, at, vocab, counter;
} stream;

static int32_t next_token(stream *s) {
    if (!s->rows) return (int32_t)(s->counter++ * 7919 % s->vocab);
    gr_row row = gr_rows_at(s->rows, s->row % gr_rows_count(s->rows));
    int32_t id = row.ids[s->at++];
    if (s->at == row.count) s->row++, s->at = 0;
    return id;
}

/* batch rows of `length` inputs, each with the next token as target. */
static void fill_batch(gr_batch_buffer *b, stream *s, int64_t batch, int64_t length, uint64_t first) {
    gr_batch_clear(b, first);
    for (int64_t j = 0; j < batch; j++) {
        int32_t id = next_token(s);
        for (int64_t i = 0; i < length; i++) {
            int64_t at = j * length + i;
            b->ids[at] = id;
            b->target[at] = id = next_token(s);
        }
        b->start[j + 1] = (j + 1) * length;
    }
    b->batch.nrows = batch;
    b->batch.tokens = batch * length;
}

/* One update of grad_accumulation_steps iterations; its mean loss. */
static double one_step(gr_trainer *t, stream *s, int64_t length) {
    const graft_options *o = t->o;
    double loss = 0;
    for (int64_t i = 0; i < o->grad_accumulation_steps; i++) {
        fill_batch(&t->buffer, s, o->batch_size, length, t->p.pending_rows);
        t->buffer.batch.dropout = gr_trainer_dropout(t);
        gr_net_forward(&t->rt.net, &t->buffer.batch);
        int64_t n = gr_net_loss(&t->rt.net, &t->buffer.batch, &t->gradients);
        for (int64_t k = 0; k < n; k++) loss += t->rt.net.targets[k].loss;
        gr_net_backward(&t->rt.net, &t->buffer.batch, &t->gradients);
        t->p.pending_rows += (uint64_t)o->batch_size;
        t->p.pending_targets += n;
    }
    loss /= (double)t->p.pending_targets;
    gr_trainer_update(t);
    return loss;
}

static graft_status open_stream(gr_trainer *t, stream *s, const char *dir, graft_error *err) {
    const graft_options *o = t->o;
    if (!o->data || !dir) return GRAFT_OK;
    GR_TRY(gr_tokenizer_open(&t->tok, dir, err));
    char *path = gr_path_is_dir(o->data) ? gr_path_join(o->data, "train.jsonl") : gr_strdup(o->data);
    if (!path) return gr_no_memory(err, 0);
    gr_rows_config config = gr_options_rows(o, 0);
    graft_status st = gr_rows_open(&t->train, path, t->tok, NULL, &config, NULL, NULL, err);
    free(path);
    s->rows = t->train;
    return st;
}

static graft_status prepare(gr_trainer *t, stream *s, const char *dir, graft_error *err) {
    const graft_options *o = t->o;
    gr_model *model = NULL;
    float *start = NULL;
    GR_TRY(open_stream(t, s, dir, err));
    uint64_t resident = gr_current_rss();
    GR_TRY(dir ? gr_model_open(&model, dir, err) : gr_model_from_shape(&model, o->shape, true, err));
    GR_TRY(gr_runtime_init(&t->rt, model, o->threads, o->compute && strcmp(o->compute, "fp32") == 0, err));
    s->vocab = model->config.vocab;
    t->updates = o->steps;
    GR_TRY(gr_trainer_select(t, &start, err));
    free(start);
    gr_net_config config = {.tokens = o->seq_length * o->batch_size, .longest = o->seq_length};
    GR_TRY(gr_trainer_reserve(t, &config, resident, GR_TRAINER_RUN, err));
    gr_batch_free(&t->buffer); /* as many rows as the batch has */
    GR_TRY(gr_batch_init(&t->buffer, config.tokens, o->batch_size, err));
    gr_trainer_init_params(t);
    return GRAFT_OK;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static graft_status measure(gr_trainer *t, stream *s, double *seconds, graft_bench_result *r,
                            graft_error *err) {
    const graft_options *o = t->o;
    const volatile int *stop = t->hooks ? t->hooks->stop : NULL;
    const gr_model_config *c = &t->rt.model->config;
    double peak = gr_peak_gflops(&t->rt.net.compute);
    for (int64_t i = 0; i < o->steps; i++) {
        if (stop && *stop) return gr_fail(err, GRAFT_INTERRUPTED, "benchmark stopped");
        double start = gr_clock();
        r->losses[i] = one_step(t, s, o->seq_length);
        seconds[i] = gr_clock() - start;
        double now =
            gr_peak_gflops(&t->rt.net.compute); /* the machine's speed changes: its best is the peak */
        peak = fmax(peak, now);
        gr_trainer_event(
            t,
            &(graft_event){.kind = GRAFT_EVENT_PROGRESS, .phase = "train", .done = i + 1, .total = o->steps});
    }
    int64_t warm = o->steps > 2 ? 1 : 0; /* the first step touches memory for the first time */
    qsort(seconds + warm, (size_t)(o->steps - warm), sizeof *seconds, by_size);
    double step = seconds[warm + (o->steps - warm) / 2],
           tokens = (double)(o->seq_length * o->batch_size * o->grad_accumulation_steps);
    r->step_seconds = step;
    r->tokens_per_second = tokens / step;
    r->gflops = tokens * gr_train_flops(c, t->rt.tuning, o->seq_length, t->recompute, 1) / step / 1e9;
    r->peak_gflops = peak;
    r->percent_of_peak = 100 * r->gflops / peak;
    r->percent_of_peak_without_recompute =
        100 * tokens * gr_train_flops(c, t->rt.tuning, o->seq_length, false, 1) / step / 1e9 / peak;
    return GRAFT_OK;
}

graft_status gr_bench_train(const char *dir, const graft_options *o, const graft_hooks *hooks,
                            graft_bench_result *r, graft_error *err) {
    gr_trainer t = {.o = o, .hooks = hooks};
    stream s = {0};
    memset(r, 0, sizeof *r);
    double *seconds = gr_calloc((size_t)o->steps, sizeof *seconds);
    r->losses = gr_calloc((size_t)o->steps, sizeof *r->losses);
    r->nlosses = (size_t)o->steps;
    graft_status st =
        seconds && r->losses ? prepare(&t, &s, dir, err) : gr_no_memory(err, (size_t)o->steps * 16);
    if (st == GRAFT_OK) st = measure(&t, &s, seconds, r, err);
    if (st == GRAFT_OK) {
        r->forecast_bytes = t.forecast.total;
        r->peak_rss_bytes = gr_peak_rss();
    }
    free(seconds);
    gr_trainer_close(&t);
    if (st != GRAFT_OK) graft_bench_result_free(r);
    return st;
}

void graft_bench_result_free(graft_bench_result *result) {
    if (!result) return;
    free(result->losses);
    memset(result, 0, sizeof *result);
}
