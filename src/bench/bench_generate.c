#include "bench/bench_generate.h"
#include "base/hooks.h"
#include "base/os.h"
#include "files/json_write.h"
#include "infer/decode.h"
#include "infer/decode_batch.h"
#include "infer/session.h"
#include "kernels/peak.h"
#include "options/options.h"
#include <math.h>

#define REPEATS 3 /* unless --steps says otherwise; after one to warm up */

typedef struct bench {
    const graft_options *o;
    const graft_hooks *hooks;
    gr_runtime rt;
    gr_decode one;
    gr_decode_batch many; /* instead, with a batch size above 1 */
    int64_t rows, prompt, tokens, repeats;
    int32_t *ids;
    double *seconds[2]; /* [repeats]: of the prompts, of the tokens after them */
} bench;

static int64_t repeats_of(const graft_options *o) {
    return gr_options_given(o, "steps") ? o->steps : REPEATS;
}

/* Ids of the prompt, the same for every program: a walk over the vocabulary. */
static int32_t prompt_id(int64_t i, int64_t vocab) {
    return (int32_t)(i * 7919 % vocab);
}

static int32_t largest(const float *logits, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

static graft_status open_runtime(bench *b, const char *dir, graft_error *err) {
    const graft_options *o = b->o;
    gr_model *model = NULL;
    GR_TRY(dir ? gr_model_open(&model, dir, err) : gr_model_from_shape(&model, o->shape, true, err));
    GR_TRY(gr_runtime_init(&b->rt, model, o->threads, gr_options_fp32(o), err));
    return gr_session_adapter(&b->rt, o, b->hooks, err);
}

static graft_status open_bench(bench *b, const char *dir, graft_error *err) {
    const graft_options *o = b->o;
    b->rows = gr_options_given(o, "batch-size") ? o->batch_size : 1;
    b->prompt = o->seq_length;
    b->tokens = gr_max_i64(1, o->max_tokens);
    b->repeats = repeats_of(o);
    if (b->rows > GR_DECODE_BATCH_MOST) {
        gr_fail(err, GRAFT_USAGE, "too many rows at once");
        return gr_expected(err, "--batch-size up to %d", GR_DECODE_BATCH_MOST);
    }
    GR_TRY(open_runtime(b, dir, err));
    gr_net_config config = {.tokens = gr_max_i64(b->prompt, b->rows), .longest = b->prompt};
    GR_TRY(gr_runtime_bind(&b->rt, &config, err));
    b->ids = gr_calloc((size_t)b->prompt, sizeof *b->ids);
    for (int i = 0; i < 2; i++) b->seconds[i] = gr_calloc((size_t)b->repeats, sizeof(double));
    if (!b->ids || !b->seconds[0] || !b->seconds[1])
        return gr_no_memory(err, (size_t)b->prompt * sizeof *b->ids);
    for (int64_t i = 0; i < b->prompt; i++) b->ids[i] = prompt_id(i, b->rt.model->config.vocab);
    if (b->rows == 1) return gr_decode_init(&b->one, &b->rt, b->prompt + b->tokens, false, err);
    return gr_decode_batch_init(&b->many, &b->rt, b->rows, b->rows, b->prompt + b->tokens, err);
}

static void close_bench(bench *b) {
    gr_decode_free(&b->one);
    gr_decode_batch_free(&b->many);
    gr_runtime_free(&b->rt);
    free(b->ids);
    for (int i = 0; i < 2; i++) free(b->seconds[i]);
}

static void prompts(bench *b) {
    int64_t start[2] = {0, b->prompt};
    gr_batch batch = {.ids = b->ids, .start = start, .nrows = 1, .tokens = b->prompt};
    if (b->rows == 1) gr_decode_prompt(&b->one, b->ids, b->prompt);
    b->many.rows = 0;
    for (int64_t i = 0; b->rows > 1 && i < b->rows; i++) gr_decode_batch_prompts(&b->many, &batch);
}

static void step(bench *b) {
    int64_t vocab = b->rt.model->config.vocab;
    int32_t next[GR_DECODE_BATCH_MOST];
    if (b->rows == 1) {
        gr_decode_token(&b->one, largest(b->one.logits, vocab));
        return;
    }
    for (int64_t i = 0; i < b->rows; i++) next[i] = largest(b->many.logits + i * vocab, vocab);
    gr_decode_batch_step(&b->many, next);
}

/* One answer of every row; repeat < 0: to warm up. */
static void answer(bench *b, int64_t repeat) {
    double start = gr_clock();
    prompts(b);
    double middle = gr_clock();
    for (int64_t i = 0; i < b->tokens; i++) step(b);
    double end = gr_clock();
    if (repeat < 0) return;
    b->seconds[0][repeat] = middle - start;
    b->seconds[1][repeat] = end - middle;
}

/* Operations of a prompt of `tokens`, whose last one goes through the head: two for each weight, and causal
 * attention's two products over half of the pairs. */
static double prompt_flops(const gr_model_config *c, double tokens) {
    double q = (double)(c->heads * c->head_dim);
    return (double)c->layers * tokens * (2 * gr_block_weights(c) + 2 * q * tokens) +
           2 * (double)c->hidden * (double)c->vocab;
}

/* Bytes that a step reads: all weights but the embedding's table, what was trained, and the rows' cache in
 * the middle of the answer. */
static double step_bytes(const bench *b) {
    const gr_model *m = b->rt.model;
    const gr_model_config *c = &m->config;
    double bytes = (double)(m->head.rows * gr_mat_row_bytes(&m->head));
    for (int64_t l = 0; l < c->layers; l++)
        for (gr_role i = 0; i < GR_LINEARS; i++) {
            double all = (double)(m->layer[l].linear[i].rows * gr_mat_row_bytes(&m->layer[l].linear[i]));
            double used = (double)(b->rows * c->experts_used) / (double)gr_max_i64(1, c->experts);
            bytes += gr_role_expert(i) ? all * fmin(1, used) : all; /* at most */
        }
    if (b->rt.tuning) bytes += 4 * (double)b->rt.tuning->parameters;
    double kept = (double)b->prompt + (double)b->tokens / 2;
    return bytes + (double)b->rows * kept * 2 * (double)(c->layers * c->kv_heads * c->head_dim) *
                       (double)b->rt.kernels.act_bytes;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int64_t count) {
    qsort(values, (size_t)count, sizeof *values, by_size);
    return values[count / 2];
}

static void summarize(const bench *b, graft_bench_generate_result *r) {
    double prompt = median(b->seconds[0], b->repeats), rest = median(b->seconds[1], b->repeats);
    double rows = (double)b->rows;
    r->batch_size = b->rows;
    r->prompt_tokens = b->prompt;
    r->tokens = b->tokens;
    r->prompt_tokens_per_second = rows * (double)b->prompt / prompt;
    r->generation_tokens_per_second = rows * (double)b->tokens / rest;
    r->prompt_gflops = rows * prompt_flops(&b->rt.model->config, (double)b->prompt) / prompt / 1e9;
    r->prompt_percent_of_peak = 100 * r->prompt_gflops / r->peak_gflops;
    r->step_bytes = (uint64_t)step_bytes(b);
    r->generation_gbs = step_bytes(b) * (double)b->tokens / rest / 1e9;
    r->generation_percent_of_bandwidth = 100 * r->generation_gbs / r->read_gbs;
}

/* The machine's speed changes: the best that was seen before, between and after counts. */
static void probe(const bench *b, const void *memory, graft_bench_generate_result *r) {
    r->peak_gflops = fmax(r->peak_gflops, gr_peak_gflops(&b->rt.net.compute));
    r->read_gbs = fmax(r->read_gbs, gr_read_gbs(b->rt.pool, memory));
}

static graft_status measure(bench *b, graft_bench_generate_result *r, graft_error *err) {
    gr_arena memory = {0};
    answer(b, -1);
    r->peak_rss_bytes = gr_peak_rss();
    GR_TRY(gr_arena_reserve(&memory, GR_READ_BYTES, err));
    memset(memory.base, 1, GR_READ_BYTES);
    graft_status st = GRAFT_OK;
    probe(b, memory.base, r);
    for (int64_t i = 0; st == GRAFT_OK && i < b->repeats; i++) {
        answer(b, i);
        probe(b, memory.base, r);
        gr_progress(b->hooks, "generate", i + 1, b->repeats);
        if (gr_stopped(b->hooks)) st = gr_fail(err, GRAFT_INTERRUPTED, "benchmark stopped");
    }
    gr_arena_free(&memory);
    return st;
}

graft_status gr_bench_generate(const char *dir, const graft_options *o, const graft_hooks *hooks,
                               graft_bench_generate_result *r, graft_error *err) {
    bench b = {.o = o, .hooks = hooks};
    memset(r, 0, sizeof *r);
    gr_peak_rss_reset();
    graft_status st = open_bench(&b, dir, err);
    if (st == GRAFT_OK) st = measure(&b, r, err);
    if (st == GRAFT_OK) summarize(&b, r);
    close_bench(&b);
    if (st != GRAFT_OK) memset(r, 0, sizeof *r);
    return st;
}

/* ------------------------------------------------------------------ for another program */

static graft_status check_peer(const graft_options *o, graft_error *err) {
    size_t n = o->model ? strlen(o->model) : 0;
    if (n < 5 || strcmp(o->model + n - 5, ".gguf") != 0) {
        gr_fail(err, GRAFT_USAGE, "llama.cpp reads GGUF files");
        return gr_hint(err, "--model FILE.gguf, which graft reads too");
    }
    if (o->adapter_path) {
        gr_fail(err, GRAFT_USAGE, "--peer with --adapter-path: the other program runs the base");
        return gr_hint(err, "leave --adapter-path out, or --peer");
    }
    if (gr_options_given(o, "batch-size") && o->batch_size > 1) {
        gr_fail(err, GRAFT_USAGE, "--peer with --batch-size: the other program answers one prompt");
        return gr_hint(err, "leave --batch-size out, or --peer");
    }
    return GRAFT_OK;
}

graft_status gr_bench_generate_export(const graft_options *o, const char *out, graft_error *err) {
    GR_TRY(check_peer(o, err));
    if (!out) return GRAFT_OK;
    GR_TRY(gr_make_dirs(out, err));
    char *model = realpath(o->model, NULL), *run = gr_path_join(out, "run.json");
    json_t *text = json_pack("{s:s?, s:i, s:I, s:I, s:I, s:i}", "model", model, "threads",
                             o->threads > 0 ? (int)o->threads : gr_processors(), "prompt_tokens",
                             (json_int_t)o->seq_length, "tokens", (json_int_t)gr_max_i64(1, o->max_tokens),
                             "repeats", (json_int_t)repeats_of(o), "walk", 7919);
    graft_status st = text && run ? gr_json_save(run, text, err) : gr_no_memory(err, 0);
    json_decref(text);
    free(model);
    free(run);
    return st;
}
