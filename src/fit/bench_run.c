#include "fit/bench_run.h"
#include <time.h>

static int32_t next_token(gr_bench_run *run) {
    const gr_rows *rows = run->t.train;
    if (!rows) return (int32_t)(run->counter++ * 7919 % run->t.rt.model->config.vocab);
    gr_row row = gr_rows_at(rows, run->row % gr_rows_count(rows));
    int32_t id = row.ids[run->at++];
    if (run->at == row.count) run->row++, run->at = 0;
    return id;
}

void gr_bench_run_fill(gr_bench_run *run, uint64_t first) {
    gr_batch_buffer *b = &run->t.buffer;
    int64_t batch = run->t.o->batch_size, length = run->t.o->seq_length;
    gr_batch_clear(b, first);
    for (int64_t j = 0; j < batch; j++) {
        int32_t id = next_token(run);
        for (int64_t i = 0; i < length; i++) {
            int64_t at = j * length + i;
            b->ids[at] = id;
            b->target[at] = id = next_token(run);
        }
        b->start[j + 1] = (j + 1) * length;
    }
    b->batch.nrows = batch;
    b->batch.tokens = batch * length;
}

/* Forward, loss and backward of one piece; its targets. */
static int64_t run_piece(gr_trainer *t, const gr_batch *piece, double *loss) {
    gr_net_forward(&t->rt.net, piece);
    int64_t n = gr_net_loss(&t->rt.net, piece, &t->gradients);
    for (int64_t k = 0; k < n; k++) *loss += t->rt.net.targets[k].loss;
    gr_net_backward(&t->rt.net, piece, &t->gradients);
    return n;
}

int64_t gr_bench_run_batch(gr_bench_run *run, double *loss) {
    gr_trainer *t = &run->t;
    gr_batch *whole = &t->buffer.batch;
    whole->dropout = gr_trainer_dropout(t);
    t->dropout.skip = run->skip;
    if (t->slice_rows > 1) return run_piece(t, whole, loss);
    int64_t targets = 0;
    for (int64_t j = 0; j < whole->nrows; j++) { /* some things train row by row only */
        int64_t at = whole->start[j], start[] = {0, whole->start[j + 1] - at};
        gr_batch row = {.ids = whole->ids + at,
                        .target = whole->target + at,
                        .start = start,
                        .nrows = 1,
                        .tokens = start[1],
                        .first = whole->first + (uint64_t)j,
                        .dropout = whole->dropout};
        targets += run_piece(t, &row, loss);
    }
    return targets;
}

double gr_bench_run_step(gr_bench_run *run) {
    gr_trainer *t = &run->t;
    double loss = 0;
    for (int64_t i = 0; i < t->o->grad_accumulation_steps; i++) {
        gr_bench_run_fill(run, t->p.pending_rows);
        t->p.pending_targets += gr_bench_run_batch(run, &loss);
        t->p.pending_rows += (uint64_t)t->o->batch_size;
    }
    loss /= (double)t->p.pending_targets;
    gr_trainer_update(t);
    return loss;
}

graft_status gr_bench_run_stopped(const gr_bench_run *run, graft_error *err) {
    const volatile int *stop = run->t.hooks ? run->t.hooks->stop : NULL;
    return stop && *stop ? gr_fail(err, GRAFT_INTERRUPTED, "benchmark stopped") : GRAFT_OK;
}

static graft_status open_data(gr_trainer *t, const char *dir, graft_error *err) {
    const graft_options *o = t->o;
    if (!o->data || !dir) return GRAFT_OK;
    GR_TRY(gr_chat_open(&t->tok, &t->chat, dir, t->now, err));
    char *path = gr_path_is_dir(o->data) ? gr_path_join(o->data, "train.jsonl") : gr_strdup(o->data);
    if (!path) return gr_no_memory(err, 0);
    gr_rows_config config = gr_options_rows(o, 0);
    graft_status st = gr_rows_open(&t->train, path, t->tok, t->chat, &config, NULL, NULL, err);
    free(path);
    return st;
}

static graft_status open_all(gr_bench_run *run, const char *dir, gr_trainer_purpose purpose,
                             graft_error *err) {
    gr_trainer *t = &run->t;
    const graft_options *o = t->o;
    gr_model *model = NULL;
    float *start = NULL;
    t->now = (int64_t)time(NULL);
    GR_TRY(open_data(t, dir, err));
    GR_TRY(dir ? gr_model_open(&model, dir, err)
               : gr_model_from_shape(&model, o->shape, purpose == GR_TRAINER_RUN, err));
    GR_TRY(gr_runtime_init(&t->rt, model, o->threads, o->compute && strcmp(o->compute, "fp32") == 0, err));
    t->updates = o->steps;
    GR_TRY(gr_trainer_select(t, &start, err));
    free(start);
    gr_net_config config = {.tokens = o->seq_length * o->batch_size, .longest = o->seq_length};
    GR_TRY(gr_trainer_reserve(t, &config, purpose, err));
    if (purpose == GR_TRAINER_PLAN) return GRAFT_OK;
    gr_batch_free(&t->buffer); /* as many rows as the batch has */
    GR_TRY(gr_batch_init(&t->buffer, config.tokens, o->batch_size, err));
    gr_trainer_init_params(t);
    return GRAFT_OK;
}

graft_status gr_bench_run_open(gr_bench_run *run, const char *dir, const graft_options *o,
                               const graft_hooks *hooks, gr_trainer_purpose purpose, graft_error *err) {
    *run = (gr_bench_run){.t = {.o = o, .hooks = hooks}};
    graft_status st = open_all(run, dir, purpose, err);
    if (st != GRAFT_OK) gr_bench_run_close(run);
    return st;
}

void gr_bench_run_close(gr_bench_run *run) {
    gr_trainer_close(&run->t);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void gr_bench_sort(double *values, int64_t count) {
    if (count > 0) qsort(values, (size_t)count, sizeof *values, by_size);
}
