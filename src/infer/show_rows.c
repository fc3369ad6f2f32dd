#include "base/hooks.h"
#include "base/os.h"
#include "data/conversation.h"
#include "files/json_read.h"
#include "files/json_write.h"
#include "infer/session.h"
#include "report/rows_html.h"

/* U+FFFD, which the bytes of a part of a character are shown as. */
static bool broken(const gr_buf *text) {
    return text->data && strstr(text->data, "\xef\xbf\xbd");
}

/* The text of the tokens at i that make up whole characters together, of one where no few tokens do. *used
 * receives how many they are. */
static graft_status piece_at(const gr_session *s, const gr_row *row, int64_t i, gr_buf *text, int64_t *used,
                             graft_error *err) {
    enum { MOST = 8 }; /* a character has at most four bytes, some more tokens may begin inside it */
    GR_TRY(gr_tokenizer_decode(s->tok, &row->ids[i], 1, false, text, err));
    *used = 1;
    for (int64_t n = 2; n <= MOST && i + n <= row->count && broken(text); n++) {
        gr_buf longer = {0};
        graft_status st = gr_tokenizer_decode(s->tok, &row->ids[i], (size_t)n, false, &longer, err);
        if (st == GRAFT_OK && !broken(&longer)) {
            gr_buf_free(text);
            *text = longer;
            *used = n;
            return GRAFT_OK;
        }
        gr_buf_free(&longer);
        GR_TRY(st);
    }
    return GRAFT_OK;
}

/* Spelling of every token for display: its own decoded text; tokens that share a character have it at the
 * first. */
static graft_status pieces_of(const gr_session *s, const gr_row *row, char ***pieces, graft_error *err) {
    char **list = gr_calloc((size_t)row->count, sizeof *list);
    graft_status st = list ? GRAFT_OK : gr_no_memory(err, (size_t)row->count * sizeof *list);
    for (int64_t i = 0, used = 1; st == GRAFT_OK && i < row->count; i += used) {
        gr_buf text = {0};
        st = piece_at(s, row, i, &text, &used, err);
        list[i] = gr_buf_take(&text);
        if (st == GRAFT_OK && !list[i]) st = gr_no_memory(err, 0);
        for (int64_t k = 1; k < used && st == GRAFT_OK; k++)
            if (!(list[i + k] = gr_strdup(""))) st = gr_no_memory(err, 1);
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
    gr_rows_page *page; /* NULL: none is written */
} row_sink;

static graft_status show(const gr_session *s, const gr_rows *rows, const row_sink *sink, graft_error *err) {
    graft_status st = GRAFT_OK;
    for (int64_t i = 0; st == GRAFT_OK && i < gr_rows_count(rows); i++) {
        if (gr_stopped(s->hooks)) return gr_fail(err, GRAFT_INTERRUPTED, "stopped");
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
                             .pieces = (const char *const *)pieces,
                             .half = gr_rows_width(rows) == 1 ? NULL
                                     : i % 2                  ? "rejected"
                                                              : "chosen"};
            sink->row(sink->user, &out);
            if (sink->page) st = gr_rows_page_add(sink->page, &out, err);
        }
        free_pieces(pieces, row.count);
        gr_buf_free(&text);
    }
    return st;
}

/* One message file as one row: an array of messages becomes {KEY: array}. */
static graft_status messages_row(char **json, const char *path, const char *key, gr_reading how,
                                 graft_error *err) {
    json_t *value = NULL, *row = NULL;
    GR_TRY(gr_json_load_as(&value, path, GR_ROW_LIMIT, how, err));
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
    graft_status st = gr_conversation_of(&c, row, &config, false, err);
    if (st == GRAFT_OK && !c.messages)
        st = gr_fail(err, GRAFT_USAGE, "--render needs messages, or a prompt and a completion");
    else if (st == GRAFT_OK && !s->chat)
        st = gr_fail(err, GRAFT_NOT_FOUND, "the model has no chat template");
    else if (st == GRAFT_OK) {
        gr_chat_row chat = gr_conversation_row(&c);
        st = gr_chat_render(s->chat, &chat, false, &result, err);
    }
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
    if (o->messages) return messages_row(json, o->messages, o->chat_feature, gr_options_reading(o), err);
    if (o->text) return text_row(json, o->text, o->text_feature, err);
    return GRAFT_OK;
}

/* The rows on a page too, which is there when all of them are. */
static graft_status show_page(const gr_session *s, const gr_rows *rows, row_sink sink, graft_error *err) {
    const graft_options *o = s->o;
    gr_rows_page page;
    char *notes = gr_rows_notes(rows);
    gr_page_head head = {.data = o->data ? o->data : o->messages,
                         .model = o->model,
                         .train_on = gr_rows_width(rows) > 1 ? o->loss
                                     : o->mask_prompt        ? "completion"
                                                             : o->train_on,
                         .notes = notes,
                         .rows = gr_rows_count(rows) / gr_rows_width(rows),
                         .tokens = gr_rows_tokens(rows),
                         .targets = gr_rows_targets(rows)};
    graft_status st = gr_rows_page_begin(&page, o->html, &head, err);
    sink.page = &page;
    if (st == GRAFT_OK) st = show(s, rows, &sink, err);
    if (st == GRAFT_OK)
        st = gr_rows_page_end(&page, err);
    else
        gr_rows_page_abort(&page);
    free(notes);
    return st;
}

static graft_status tokenize(const gr_session *s, const char *json, const char *path, const row_sink *sink,
                             graft_error *err) {
    gr_rows *rows = NULL;
    gr_rows_config config = gr_options_rows(s->o, 0);
    config.allow_untargeted = true;
    graft_status st = json ? gr_rows_from_text(&rows, json, strlen(json), s->tok, s->chat, &config, err)
                           : gr_rows_open(&rows, path, s->tok, s->chat, &config, NULL, NULL, err);
    if (st == GRAFT_OK) st = s->o->html ? show_page(s, rows, *sink, err) : show(s, rows, sink, err);
    gr_rows_free(rows);
    return st;
}

graft_status gr_show_rows(const char *dir, const graft_options *o, const graft_hooks *hooks,
                          void (*row)(void *user, const graft_row *row), void *user, graft_error *err) {
    gr_session s;
    char *json = NULL, *path = NULL;
    row_sink sink = {row, user, NULL};
    GR_TRY(single_row(&json, o, err));
    graft_status st = json ? GRAFT_OK : gr_data_file(&path, o, "train", err);
    if (st == GRAFT_OK) {
        st = gr_session_open_text(&s, dir, o, hooks, err);
        if (st == GRAFT_OK) {
            if (!json) gr_session_note_unread(&s, path);
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
