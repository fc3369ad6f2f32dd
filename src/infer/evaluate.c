#include "base/hooks.h"
#include "data/duplicates.h"
#include "infer/evaluate_pairs.h"
#include <math.h>

typedef struct row_sink {
    const gr_session *s;
    const gr_rows *rows;
    graft_row_loss *losses; /* NULL: not wanted */
    int64_t done;
    gr_lines bad; /* whose loss is not a number */
} row_sink;

static void note_row(void *user, int64_t row, const gr_score *own) {
    row_sink *sink = user;
    const graft_hooks *hooks = sink->s->hooks;
    if (sink->losses)
        sink->losses[row] = (graft_row_loss){.line = gr_rows_at(sink->rows, row).line,
                                             .loss = own->tokens ? own->loss / (double)own->tokens : NAN,
                                             .tokens = own->tokens};
    if (!isfinite(own->loss)) gr_lines_add(&sink->bad, gr_rows_at(sink->rows, row).line);
    sink->done++;
    gr_progress(hooks, "evaluate", sink->done, gr_rows_count(sink->rows));
}

/* Tokens of one batch: enough for the matmuls to be efficient. */
#define BATCH_TOKENS 1024

static graft_status bind_for(gr_session *s, const gr_rows *rows, gr_batch_buffer *buffer, graft_error *err) {
    int64_t longest = 1, total = 0;
    for (int64_t i = 0; i < gr_rows_count(rows); i++) {
        gr_row row = gr_rows_at(rows, i);
        longest = gr_max_i64(longest, gr_batch_cost(&row));
        total += gr_batch_cost(&row);
    }
    gr_net_config config = {.longest = longest,
                            .tokens = gr_max_i64(longest, gr_min_i64(BATCH_TOKENS, total))};
    GR_TRY(gr_batch_init(buffer, config.tokens, 256, err));
    return gr_runtime_bind(&s->rt, &config, err);
}

/* perplexity = exp(mean); its standard error from the spread of the token losses. */
static void summarize(graft_eval_result *r, const gr_score *score) {
    double n = (double)score->tokens;
    r->rows = score->rows;
    r->tokens = score->tokens;
    r->loss = score->loss / n;
    r->perplexity = exp(r->loss);
    double variance =
        score->tokens > 1 ? fmax(0, (score->loss_squared - n * r->loss * r->loss) / (n - 1)) : 0;
    r->perplexity_stderr = r->perplexity * sqrt(variance / n);
    r->accuracy = (double)score->correct / n;
}

static graft_status not_a_number(const row_sink *sink, graft_error *err) {
    gr_buf text = {0};
    gr_lines_text(&sink->bad, &text);
    gr_fail(err, GRAFT_RANGE, "the loss of %lld of %lld rows is not a number", (long long)sink->bad.count,
            (long long)gr_rows_count(sink->rows));
    gr_found(err, "%s", text.data ? text.data : "");
    gr_buf_free(&text);
    return gr_hint(err, "weights or adapter are damaged: of all rows, or those of these rows' tokens");
}

static graft_status evaluate_rows(gr_session *s, const gr_rows *rows, graft_eval_result *r,
                                  graft_error *err) {
    gr_batch_buffer buffer = {0};
    gr_score score = {0};
    const volatile int *stop = gr_stop_of(s->hooks);
    graft_status st = bind_for(s, rows, &buffer, err);
    if (st == GRAFT_OK && s->o->per_row) {
        r->row_losses = gr_calloc((size_t)gr_rows_count(rows), sizeof *r->row_losses);
        if (!r->row_losses) st = gr_no_memory(err, (size_t)gr_rows_count(rows) * sizeof *r->row_losses);
    }
    if (st == GRAFT_OK) {
        row_sink sink = {.s = s, .rows = rows, .losses = r->row_losses};
        gr_runtime_score(&s->rt, &buffer, rows, 0, gr_rows_count(rows), &score, note_row, &sink, stop);
        if (gr_raised(stop))
            st = gr_fail(err, GRAFT_INTERRUPTED, "evaluation stopped");
        else if (score.tokens == 0)
            st = gr_fail(err, GRAFT_MISMATCH, "no token of the data carries loss");
        else if (!isfinite(score.loss))
            st = not_a_number(&sink, err);
        else
            summarize(r, &score);
    }
    gr_batch_free(&buffer);
    return st;
}

/* What is in the file and not in the result. */
static void say_rows(const gr_session *s, const gr_rows *rows, const char *path) {
    char *found[] = {gr_rows_notes(rows), gr_duplicates_note(rows, rows, NULL)};
    for (int i = 0; i < 2; i++) {
        gr_buf text = {0};
        if (found[i]) gr_buf_printf(&text, "%s: %s", path, found[i]);
        gr_session_note(s, text.data);
        gr_buf_free(&text);
        free(found[i]);
    }
}

/* --valid-split: the part of the file that --split names. */
static graft_status keep_part(const gr_session *s, gr_rows **rows, graft_error *err) {
    gr_rows *valid;
    char *note;
    GR_TRY(gr_options_split(&valid, &note, *rows, s->o, err));
    gr_session_note(s, note);
    free(note);
    bool train = strcmp(s->o->split, "train") == 0;
    gr_rows_free(train ? valid : *rows);
    if (!train) *rows = valid;
    return GRAFT_OK;
}

/* The file that is measured, whole or in part. */
static graft_status file_of(char **path, const graft_options *o, graft_error *err) {
    const char *split = o->split ? o->split : "test";
    if (!gr_options_splits(o)) return gr_data_file(path, o, split, err);
    if (strcmp(split, "test") == 0) {
        gr_fail(err, GRAFT_USAGE, "--valid-split makes no test rows");
        return gr_hint(err, "say --split valid, or --split train, or leave --valid-split away");
    }
    GR_TRY(gr_options_check_split(o, err));
    return gr_data_file(path, o, "train", err);
}

graft_status gr_evaluate(const char *dir, const graft_options *o, const char *taught,
                         const graft_hooks *hooks, graft_eval_result *result, graft_error *err) {
    gr_session s;
    gr_rows *rows = NULL;
    char *path = NULL;
    memset(result, 0, sizeof *result);
    GR_TRY(file_of(&path, o, err));
    graft_status st = gr_session_open_taught(&s, dir, o, taught, hooks, err);
    if (st == GRAFT_OK) {
        gr_rows_config config = gr_options_rows(o, (int32_t)s.rt.model->config.vocab);
        gr_session_note_unread(&s, path);
        st = gr_rows_open(&rows, path, s.tok, s.chat, &config, NULL, NULL, err);
        if (st == GRAFT_OK) say_rows(&s, rows, path);
        if (st == GRAFT_OK && gr_options_splits(o)) st = keep_part(&s, &rows, err);
        if (st == GRAFT_OK)
            st = config.pairs ? gr_evaluate_pairs(&s, rows, result, err)
                              : evaluate_rows(&s, rows, result, err);
        gr_rows_free(rows);
        gr_session_close(&s);
    }
    free(path);
    if (st != GRAFT_OK) graft_eval_result_free(result);
    return st;
}

void graft_eval_result_free(graft_eval_result *result) {
    if (!result) return;
    free(result->row_losses);
    memset(result, 0, sizeof *result);
}
