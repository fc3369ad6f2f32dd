#include "bench/bench_run.h"
#include "base/hooks.h"
#include "data/split_file.h"
#include <time.h>

static int32_t next_token(gr_bench_run *run) {
    const gr_rows *rows = run->t.train;
    if (!rows) return (int32_t)(run->counter++ * 7919 % run->t.rt.model->config.vocab);
    gr_row row = gr_rows_at(rows, run->row % gr_rows_count(rows));
    int32_t id = row.ids[run->at++];
    if (run->at == row.count) run->row++, run->at = 0;
    return id;
}

/* Appends `length` inputs as a row by themselves, or as the next segment of the batch's last pack. The tokens
 * are `ids` [length + 1], or NULL: the next ones. */
static void append(gr_bench_run *run, const int32_t *ids, int64_t length) {
    gr_batch_buffer *b = &run->t.buffer;
    int64_t at = b->batch.tokens;
    int32_t id = ids ? ids[0] : next_token(run);
    for (int64_t i = 0; i < length; i++) {
        b->ids[at + i] = id;
        b->target[at + i] = id = ids ? ids[i + 1] : next_token(run);
    }
    b->batch.tokens += length;
    if (b->batch.segment) b->segment[++b->batch.nsegments] = b->batch.tokens;
    run->tokens += (double)length;
    run->squares += (double)length * (double)length;
}

/* Inputs of a row of the data. */
static int64_t inputs_of(const gr_bench_run *run, const gr_row *row) {
    return gr_min_i64(row->count - 1, run->t.o->seq_length);
}

static void append_pack(gr_bench_run *run) {
    const gr_trainer *t = &run->t;
    int64_t left = t->o->seq_length, quarter = gr_max_i64(1, left / 4), unit = run->unit++;
    if (!t->order.packs)
        for (int64_t n; left; left -= n) append(run, NULL, n = left < 2 * quarter ? left : quarter);
    else
        for (int64_t k = 0; k < gr_order_unit_rows(&t->order, unit % gr_order_units(&t->order)); k++) {
            gr_row row = gr_rows_at(t->train, gr_order_row(&t->order, unit % gr_order_units(&t->order), k));
            append(run, row.ids, inputs_of(run, &row));
        }
}

void gr_bench_run_fill(gr_bench_run *run, uint64_t first) {
    gr_batch_buffer *b = &run->t.buffer;
    const graft_options *o = run->t.o;
    gr_batch_clear(b, first);
    if (o->pack) b->batch.segment = b->segment;
    while (b->batch.nrows < o->batch_size) {
        if (o->pack)
            append_pack(run);
        else
            append(run, NULL, o->seq_length);
        b->start[++b->batch.nrows] = b->batch.tokens;
    }
}

/* Forward, loss and backward of one piece; its targets. */
static int64_t run_piece(gr_trainer *t, const gr_batch *piece, double *loss) {
    gr_net_forward(&t->rt.net, piece);
    int64_t n = gr_net_loss(&t->rt.net, piece, &t->gradients);
    for (int64_t k = 0; k < n; k++) *loss += t->rt.net.targets[k].loss;
    gr_net_backward(&t->rt.net, piece, &t->gradients);
    return n;
}

/* Rows from `start` on, of `left`, that run together: what the buffers hold, but some things train row by row
 * only. at: the first's first token. */
static int64_t rows_at_once(const gr_trainer *t, const int64_t *start, int64_t at, int64_t left) {
    int64_t n = 1;
    while (t->slice_rows > 1 && n < left && start[n + 1] - at <= t->rt.net.config.tokens) n++;
    return n;
}

/* Counts places from `at` on: marks[0] becomes 0. Returns how many follow up to `tokens`. */
static int64_t count_from(int64_t *marks, int64_t at, int64_t tokens) {
    int64_t n = 0;
    marks[0] = 0;
    do {
        marks[++n] -= at;
    } while (marks[n] < tokens);
    return n;
}

int64_t gr_bench_run_batch(gr_bench_run *run, double *loss) {
    gr_trainer *t = &run->t;
    gr_batch *whole = &t->buffer.batch;
    whole->dropout = gr_trainer_dropout(t);
    t->dropout.skip = run->skip;
    int64_t targets = 0, at = 0, *start = t->buffer.start, *segment = t->buffer.segment;
    for (int64_t j = 0; j < whole->nrows;) {
        int64_t end = start[rows_at_once(t, start, at, whole->nrows - j)];
        gr_batch piece = *whole;
        piece.ids += at;
        piece.target += at;
        piece.start = start;
        piece.tokens = end - at;
        piece.nrows = count_from(start, at, end - at);
        piece.first += (uint64_t)j;
        if (whole->segment) {
            piece.segment = segment;
            piece.nsegments = count_from(segment, at, end - at);
            segment += piece.nsegments;
        }
        targets += run_piece(t, &piece, loss);
        start += piece.nrows;
        j += piece.nrows;
        at = end;
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
    const volatile int *stop = gr_stop_of(run->t.hooks);
    return gr_raised(stop) ? gr_fail(err, GRAFT_INTERRUPTED, "benchmark stopped") : GRAFT_OK;
}

static graft_status open_data(gr_trainer *t, const char *dir, int64_t vocab, graft_error *err) {
    const graft_options *o = t->o;
    if (!o->data || !dir) return GRAFT_OK;
    GR_TRY(gr_chat_open(&t->tok, &t->chat, dir, gr_options_reading(t->o), t->now, err));
    char *path;
    GR_TRY(gr_data_place(&path, o->data, "train", gr_options_reading(o), err));
    gr_rows_config config = gr_options_rows(o, (int32_t)vocab);
    graft_status st = gr_rows_open(&t->train, path, t->tok, t->chat, &config, NULL, NULL, err);
    free(path);
    return st;
}

/* The data's rows in packs of seq_length, in the order of the file; longer ones are cut. */
static graft_status pack_data(gr_bench_run *run, graft_error *err) {
    gr_trainer *t = &run->t;
    if (!t->o->pack || !t->train) return GRAFT_OK;
    int64_t count = gr_rows_count(t->train);
    GR_TRY(gr_order_init(&t->order, count, false, 0, err));
    int32_t *cost = gr_calloc((size_t)count, sizeof *cost);
    if (!cost) return gr_no_memory(err, (size_t)count * sizeof *cost);
    for (int64_t i = 0; i < count; i++) {
        gr_row row = gr_rows_at(t->train, i);
        cost[i] = (int32_t)inputs_of(run, &row);
    }
    return gr_order_pack(&t->order, cost, t->o->seq_length, err);
}

/* Sizes the work; a batch is made as a whole. */
static graft_status size_work(gr_trainer *t, graft_error *err) {
    int64_t tokens = t->o->seq_length * t->o->batch_size;
    if (tokens > GR_NET_TOKENS_MAX) {
        gr_fail(err, GRAFT_RANGE, "too many tokens in a batch");
        gr_expected(err, "at most %lld", (long long)GR_NET_TOKENS_MAX);
        return gr_found(err, "%lld", (long long)tokens);
    }
    gr_trainer_full_rows(t, t->o->seq_length);
    return GRAFT_OK;
}

static graft_status open_all(gr_bench_run *run, const char *dir, gr_trainer_purpose purpose,
                             graft_error *err) {
    gr_trainer *t = &run->t;
    const graft_options *o = t->o;
    gr_model *model = NULL;
    float *start = NULL;
    gr_model_config about;
    t->now = (int64_t)time(NULL);
    GR_TRY(dir ? gr_config_open(&about, dir, err) : gr_shape_config(&about, o->shape, err));
    int64_t vocab = about.vocab;
    gr_config_free(&about);
    GR_TRY(open_data(t, dir, vocab, err));
    GR_TRY(pack_data(run, err));
    GR_TRY(dir ? gr_model_open(&model, dir, err)
               : gr_model_from_shape(&model, o->shape, purpose == GR_TRAINER_RUN, err));
    GR_TRY(gr_runtime_init(&t->rt, model, o->threads, gr_options_fp32(o), err));
    t->updates = o->steps;
    GR_TRY(gr_trainer_select(t, &start, err));
    free(start);
    gr_net_config config = {.longest = o->seq_length};
    GR_TRY(size_work(t, err));
    GR_TRY(gr_trainer_reserve(t, &config, purpose, err));
    if (purpose == GR_TRAINER_PLAN) return GRAFT_OK;
    gr_batch_free(&t->buffer); /* as many rows as the batch has */
    GR_TRY(gr_batch_init(&t->buffer, t->work.batch, o->batch_size, err));
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
