#include "base/os.h"
#include "data/conversation.h"
#include "files/json_read.h"
#include "files/json_write.h"
#include "infer/session.h"

/* Spelling of every token for display: its own decoded text. */
static graft_status pieces_of(const gr_session *s, const gr_row *row, char ***pieces, graft_error *err) {
    char **list = gr_calloc((size_t)row->count, sizeof *list);
    graft_status st = list ? GRAFT_OK : gr_no_memory(err, (size_t)row->count * sizeof *list);
    for (int64_t i = 0; st == GRAFT_OK && i < row->count; i++) {
        gr_buf text = {0};
        st = gr_tokenizer_decode(s->tok, &row->ids[i], 1, false, &text, err);
        list[i] = gr_buf_take(&text);
        if (st == GRAFT_OK && !list[i]) st = gr_no_memory(err, 0);
    }
    *pieces = list;
    return st;
}

static void free_pieces(char **pieces, int64_t count) {
    for (int64_t i = 0; pieces && i < count; i++) free(pieces[i]);
    free(pieces);
}

typedef struct row_sink {
    void (*row)(void *user, const graft_row *row);
    void *user;
} row_sink;

static graft_status show(const gr_session *s, const gr_rows *rows, const row_sink *sink, graft_error *err) {
    graft_status st = GRAFT_OK;
    for (int64_t i = 0; st == GRAFT_OK && i < gr_rows_count(rows); i++) {
        if (s->hooks && s->hooks->stop && *s->hooks->stop) return gr_fail(err, GRAFT_INTERRUPTED, "stopped");
        gr_row row = gr_rows_at(rows, i);
        gr_buf text = {0};
        char **pieces = NULL;
        st = gr_tokenizer_decode(s->tok, row.ids, (size_t)row.count, false, &text, err);
        if (st == GRAFT_OK) st = pieces_of(s, &row, &pieces, err);
        if (st == GRAFT_OK) {
            graft_row out = {.line = row.line,
                             .ids = row.ids,
                             .mask = row.mask,
                             .count = (size_t)row.count,
                             .text = text.data ? text.data : "",
                             .pieces = (const char *const *)pieces};
            sink->row(sink->user, &out);
        }
        free_pieces(pieces, row.count);
        gr_buf_free(&text);
    }
    return st;
}

/* One message file as one row: an array of messages becomes {KEY: array}. */
static graft_status messages_row(char **json, const char *path, const char *key, graft_error *err) {
    json_t *value = NULL, *row = NULL;
    GR_TRY(gr_json_load(&value, path, GR_ROW_LIMIT, err));
    row = json_is_array(value) ? json_pack("{s:O}", key, value) : json_incref(value);
    *json = row ? gr_json_dump(row, JSON_COMPACT) : NULL;
    json_decref(row);
    json_decref(value);
    return *json ? GRAFT_OK : gr_no_memory(err, 0);
}

static graft_status text_row(char **json, const char *text, const char *key, graft_error *err) {
    json_t *row = json_pack("{s:s}", key, text);
    *json = row ? gr_json_dump(row, JSON_COMPACT) : NULL;
    json_decref(row);
    if (*json) return GRAFT_OK;
    return gr_fail(err, GRAFT_USAGE, "--text is not valid UTF-8");
}

/* Renders one row's messages through the template, without generation prompt: as training sees the row, and
 * as transformers renders by default. */
static graft_status render_row(const gr_session *s, const char *json, size_t len, uint64_t line,
                               const row_sink *sink, graft_error *err) {
    json_t *row = NULL;
    gr_jinja_result result = {0};
    GR_TRY(gr_json_parse(&row, json, len, "row", err));
    gr_rows_config config = gr_options_rows(s->o, 0);
    gr_conversation c;
    graft_status st = gr_conversation_of(&c, row, &config, err);
    if (st == GRAFT_OK && !c.messages)
        st = gr_fail(err, GRAFT_USAGE, "--render needs messages, or a prompt and a completion");
    else if (st == GRAFT_OK && !s->chat)
        st = gr_fail(err, GRAFT_NOT_FOUND, "the model has no chat template");
    else if (st == GRAFT_OK)
        st = gr_chat_render(s->chat, c.messages, c.tools, false, &result, err);
    gr_conversation_free(&c);
    if (st == GRAFT_OK)
        sink->row(sink->user, &(graft_row){.line = line, .text = result.text.data ? result.text.data : ""});
    gr_jinja_result_free(&result);
    json_decref(row);
    return st;
}

static graft_status render_file(const gr_session *s, const char *path, const row_sink *sink,
                                graft_error *err) {
    gr_records *file = NULL;
    GR_TRY(gr_records_open(&file, path, gr_options_reading(s->o), err));
    graft_status st = GRAFT_OK;
    for (size_t i = 0; st == GRAFT_OK && i < gr_records_count(file); i++) {
        const char *text;
        size_t len;
        uint64_t line;
        st = gr_records_get(file, i, &text, &len, &line, err);
        if (st == GRAFT_OK) st = render_row(s, text, len, line, sink, err);
        if (st != GRAFT_OK) gr_where(err, "%s: line %llu", path, (unsigned long long)line);
    }
    gr_records_close(file);
    return st;
}

/* --text or --messages as JSON; NULL: a data file. */
static graft_status single_row(char **json, const graft_options *o, graft_error *err) {
    *json = NULL;
    if (o->messages) return messages_row(json, o->messages, o->chat_feature, err);
    if (o->text) return text_row(json, o->text, o->text_feature, err);
    return GRAFT_OK;
}

static graft_status tokenize(const gr_session *s, const char *json, const char *path, const row_sink *sink,
                             graft_error *err) {
    gr_rows *rows = NULL;
    gr_rows_config config = gr_options_rows(s->o, 0);
    config.allow_untargeted = true;
    graft_status st = json ? gr_rows_from_text(&rows, json, strlen(json), s->tok, s->chat, &config, err)
                           : gr_rows_open(&rows, path, s->tok, s->chat, &config, NULL, NULL, err);
    if (st == GRAFT_OK) st = show(s, rows, sink, err);
    gr_rows_free(rows);
    return st;
}

graft_status gr_show_rows(const char *dir, const graft_options *o, const graft_hooks *hooks,
                          void (*row)(void *user, const graft_row *row), void *user, graft_error *err) {
    gr_session s;
    char *json = NULL, *path = NULL;
    row_sink sink = {row, user};
    GR_TRY(single_row(&json, o, err));
    graft_status st = json ? GRAFT_OK : gr_data_file(&path, o, "train", err);
    if (st == GRAFT_OK) {
        st = gr_session_open_text(&s, dir, o, hooks, err);
        if (st == GRAFT_OK) {
            if (!o->render)
                st = tokenize(&s, json, path, &sink, err);
            else if (json)
                st = render_row(&s, json, strlen(json), 1, &sink, err);
            else
                st = render_file(&s, path, &sink, err);
            gr_session_close(&s);
        }
    }
    free(json);
    free(path);
    return st;
}
