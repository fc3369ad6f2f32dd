/* infer/generate_batch.c - the prompts of a file, several answered at once. Rows do not touch each other: an
 * answer has the same bits in every batch.
 */
#include "base/hooks.h"
#include "base/os.h"
#include "files/json_read.h"
#include "files/jsonl.h"
#include "infer/answer.h"
#include "infer/decode_batch.h"

/* Tokens of prompts that go through the model together: enough for the matmuls to be efficient. */
#define PROMPT_TOKENS 512

typedef struct job {
    gr_session s;
    gr_jsonl *file;
    int64_t count, longest;    /* prompts; tokens of the longest */
    gr_ids *prompts;           /* [count] */
    uint64_t *lines;           /* [count] */
    graft_generation *answers; /* [count]; text NULL: not there yet */
    int64_t next, sent;        /* the next prompt; the next answer to hand over */
    gr_decode_batch d;
    gr_answer *growths; /* [rows] of d, in its order */
    int64_t *numbers;   /* [rows]: which prompt each is */
    void (*answer)(void *user, uint64_t line, const graft_generation *answer);
    void *user;
} job;

/* A line: a string, {"prompt": string} or {"messages": list, "tools": list}. */
static graft_status encode_line(const gr_session *s, const json_t *line, gr_ids *ids, graft_error *err) {
    const json_t *text = json_is_string(line) ? line : json_object_get(line, "prompt");
    const json_t *messages = json_object_get(line, "messages"), *tools = json_object_get(line, "tools");
    if (json_is_string(text)) return gr_prompt_encode(s, json_string_value(text), ids, err);
    if (json_is_array(messages))
        return gr_messages_encode(s, messages, json_is_array(tools) ? tools : NULL, ids, err);
    gr_fail(err, GRAFT_USAGE, "a line of --prompts holds no prompt");
    return gr_expected(err, "a string, {\"prompt\": \"...\"} or {\"messages\": [...]}");
}

static graft_status read_prompts(job *j, graft_error *err) {
    const char *path = j->s.o->prompts;
    GR_TRY(gr_jsonl_open_as(&j->file, path, gr_options_reading(j->s.o), err));
    j->count = (int64_t)gr_jsonl_count(j->file);
    if (!j->count) {
        gr_fail(err, GRAFT_USAGE, "no prompts");
        return gr_where(err, "%s", path);
    }
    j->prompts = gr_calloc((size_t)j->count, sizeof *j->prompts);
    j->lines = gr_calloc((size_t)j->count, sizeof *j->lines);
    j->answers = gr_calloc((size_t)j->count, sizeof *j->answers);
    if (!j->prompts || !j->lines || !j->answers)
        return gr_no_memory(err, (size_t)j->count * sizeof *j->prompts);
    for (int64_t i = 0; i < j->count; i++) {
        const char *text;
        size_t len;
        json_error_t why;
        gr_jsonl_row(j->file, (size_t)i, &text, &len, &j->lines[i]);
        json_t *line = NULL;
        graft_status st = gr_json_fits(text, len, GR_ROW_LIMIT, err);
        if (st == GRAFT_OK) {
            line = gr_json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
            st = line                      ? encode_line(&j->s, line, &j->prompts[i], err)
                 : gr_json_no_memory(&why) ? gr_no_memory(err, len)
                                           : gr_fail(err, GRAFT_CORRUPT, "not JSON: %s", why.text);
        }
        json_decref(line);
        if (st != GRAFT_OK) {
            gr_where(err, "%s: line %llu", path, (unsigned long long)j->lines[i]);
            return st;
        }
        j->longest = gr_max_i64(j->longest, (int64_t)j->prompts[i].count);
    }
    return GRAFT_OK;
}

static graft_status reserve(job *j, graft_error *err) {
    int64_t rows = gr_min_i64(gr_min_i64(j->s.o->batch_size, GR_DECODE_BATCH_MOST), j->count);
    gr_net_config config = {.tokens = gr_max_i64(gr_max_i64(j->longest, rows), PROMPT_TOKENS),
                            .longest = j->longest};
    uint64_t saved, scratch;
    GR_TRY(gr_runtime_measure(&j->s.rt, &config, &saved, &scratch, err));
    GR_TRY(gr_memory_fits(saved + scratch, gr_memory_available(), err, "a prompt of %lld tokens takes",
                          (long long)j->longest));
    GR_TRY(gr_runtime_bind(&j->s.rt, &config, err));
    j->growths = gr_calloc((size_t)rows, sizeof *j->growths);
    j->numbers = gr_calloc((size_t)rows, sizeof *j->numbers);
    if (!j->growths || !j->numbers) return gr_no_memory(err, (size_t)rows * sizeof *j->growths);
    return gr_decode_batch_init(&j->d, &j->s.rt, rows, rows, j->longest + gr_answer_most(j->s.o), err);
}

/* Prompts for the free rows, as many as go through the model together; their answers begin. */
static graft_status admit(job *j, graft_error *err) {
    int32_t *ids = gr_calloc((size_t)j->s.rt.net.config.tokens, sizeof *ids);
    int64_t start[GR_DECODE_BATCH_MOST + 1] = {0}, rows = j->d.rows;
    gr_batch batch = {.ids = ids, .start = start};
    graft_status st = ids ? GRAFT_OK : gr_no_memory(err, 0);
    while (st == GRAFT_OK && j->next < j->count && rows + batch.nrows < j->d.most) {
        const gr_ids *prompt = &j->prompts[j->next];
        if (batch.tokens + (int64_t)prompt->count > j->s.rt.net.config.tokens) break;
        memcpy(ids + batch.tokens, prompt->ids, prompt->count * sizeof *ids);
        batch.tokens += (int64_t)prompt->count;
        start[++batch.nrows] = batch.tokens;
        j->numbers[rows + batch.nrows - 1] = j->next;
        st = gr_answer_init(&j->growths[rows + batch.nrows - 1], &j->s, prompt, false, err);
        if (st != GRAFT_OK) gr_answer_free(&j->growths[rows + batch.nrows - 1]);
        j->next++;
    }
    if (st == GRAFT_OK && batch.nrows) gr_decode_batch_prompts(&j->d, &batch);
    free(ids);
    return st;
}

/* Answers are handed over in the order of the file. */
static void hand_over(job *j) {
    const graft_hooks *hooks = j->s.hooks;
    for (; j->sent < j->count && j->answers[j->sent].text; j->sent++) {
        j->answer(j->user, j->lines[j->sent], &j->answers[j->sent]);
        graft_generation_free(&j->answers[j->sent]);
        gr_progress(hooks, "generate", j->sent + 1, j->count);
    }
}

static graft_status finish_row(job *j, int64_t i, graft_generation *total, graft_error *err) {
    graft_generation *answer = &j->answers[j->numbers[i]];
    int64_t last = j->d.rows - 1;
    answer->tokens = gr_answer_tokens(&j->growths[i]);
    answer->prompt_tokens = (int64_t)j->prompts[j->numbers[i]].count;
    total->tokens += answer->tokens;
    total->prompt_tokens += answer->prompt_tokens;
    graft_status st = gr_answer_text(&j->growths[i], &answer->text, err);
    gr_answer_free(&j->growths[i]);
    gr_decode_batch_drop(&j->d, i);
    j->growths[i] = j->growths[last];
    j->numbers[i] = j->numbers[last];
    if (i != last) j->growths[last] = (gr_answer){0};
    return st;
}

/* A token for every row; rows that are over leave. */
static graft_status advance(job *j, graft_generation *total, graft_error *err) {
    int64_t vocab = j->s.rt.model->config.vocab;
    int32_t ids[GR_DECODE_BATCH_MOST];
    for (int64_t i = 0; i < j->d.rows;) {
        bool over = gr_answer_most(j->s.o) == 0;
        if (!over)
            GR_TRY(gr_answer_next(&j->growths[i], &j->s, j->d.logits + i * vocab, &ids[i], &over, err));
        if (over)
            GR_TRY(finish_row(j, i, total, err)); /* the last row stands there now, and has no id yet */
        else
            i++;
    }
    if (j->d.rows) gr_decode_batch_step(&j->d, ids);
    return GRAFT_OK;
}

static graft_status run(job *j, graft_generation *total, graft_error *err) {
    const graft_hooks *hooks = j->s.hooks;
    double prompts = 0, start = gr_clock();
    while (j->next < j->count || j->d.rows) {
        double from = gr_clock();
        /* a few at a time: short prompts alone would leave the processor half idle */
        if (j->next < j->count && j->d.rows <= j->d.most - j->d.most / 4 - (j->d.most < 4))
            GR_TRY(admit(j, err));
        prompts += gr_clock() - from;
        GR_TRY(advance(j, total, err));
        hand_over(j);
        if (gr_stopped(hooks)) return gr_fail(err, GRAFT_INTERRUPTED, "generation stopped");
    }
    double rest = gr_clock() - start - prompts;
    total->prompt_tokens_per_second = (double)total->prompt_tokens / (prompts + 1e-9);
    total->generation_tokens_per_second = (double)total->tokens / (rest + 1e-9);
    return GRAFT_OK;
}

static void close_job(job *j) {
    for (int64_t i = 0; j->growths && i < j->d.most; i++) gr_answer_free(&j->growths[i]);
    for (int64_t i = 0; j->prompts && i < j->count; i++) gr_ids_free(&j->prompts[i]);
    for (int64_t i = 0; j->answers && i < j->count; i++) graft_generation_free(&j->answers[i]);
    gr_decode_batch_free(&j->d);
    gr_jsonl_close(j->file);
    free(j->prompts);
    free(j->lines);
    free(j->answers);
    free(j->growths);
    free(j->numbers);
    gr_session_close(&j->s);
}

static graft_status check(const graft_options *o, graft_error *err) {
    const struct {
        const char *name;
        bool set;
    } alone[] = {{"prompt", o->prompt != NULL}, {"compare", o->compare}, {"logits", o->logits != NULL}};
    gr_stops stops;
    if (!o->prompts) {
        gr_fail(err, GRAFT_USAGE, "--prompts is missing");
        return gr_hint(err, "--prompts FILE.jsonl has a prompt per line");
    }
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
        if (!alone[i].set) continue;
        gr_fail(err, GRAFT_USAGE, "--prompts with --%s", alone[i].name);
        return gr_hint(err, "leave one of them out: --%s is for a prompt alone", alone[i].name);
    }
    GR_TRY(gr_stops_init(&stops, o->stop, err));
    gr_stops_free(&stops);
    return GRAFT_OK;
}

graft_status gr_generate_batch(const char *dir, const graft_options *o, const char *taught,
                               const graft_hooks *hooks,
                               void (*answer)(void *user, uint64_t line, const graft_generation *answer),
                               void *user, graft_generation *total, graft_error *err) {
    job j = {.answer = answer, .user = user};
    memset(total, 0, sizeof *total);
    GR_TRY(check(o, err));
    GR_TRY(gr_session_open_taught(&j.s, dir, o, taught, hooks, err));
    graft_status st = read_prompts(&j, err);
    if (st == GRAFT_OK) st = reserve(&j, err);
    if (st == GRAFT_OK) st = run(&j, total, err);
    close_job(&j);
    return st;
}
