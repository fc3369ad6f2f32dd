/* tests/rows_world.h - the tokenizer and the chat template of tests/golden/rows.json, and rows read with
 * them. */
#ifndef ROWS_WORLD_H
#define ROWS_WORLD_H
/* */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* */
#include <cmocka.h>

#include "base/os.h"
#include "data/rows.h"
#include <unistd.h>

static json_t *given; /* rows.json */
static gr_tokenizer *tok;
static gr_chat *chat;
static graft_error err;
static char path[64];

/* Its tokenizer with another chat template; NULL: its own. */
static void open_tokenizer(const char *template) {
    json_t *config = json_deep_copy(json_object_get(given, "config"));
    if (template) json_object_set_new(config, "chat_template", json_string(template));
    char *json = json_dumps(json_object_get(given, "tokenizer"), 0), *settings = json_dumps(config, 0);
    gr_chat_free(chat);
    gr_tokenizer_free(tok);
    assert_int_equal(
        gr_tokenizer_from_json(&tok, json, strlen(json), settings, strlen(settings), "golden", &err),
        GRAFT_OK);
    assert_int_equal(gr_chat_new(&chat, tok, 0, &err), GRAFT_OK);
    json_decref(config);
    free(json);
    free(settings);
}

static inline int rows_begin(const char *name) {
    snprintf(path, sizeof path, "%s_%d.jsonl", name, (int)getpid());
    given = json_load_file(GRAFT_SOURCE_DIR "/tests/golden/rows.json", 0, NULL);
    if (given) open_tokenizer(NULL);
    return !given;
}

static inline int rows_end(void **state) {
    (void)state;
    unlink(path);
    gr_chat_free(chat);
    gr_tokenizer_free(tok);
    json_decref(given);
    return 0;
}

static graft_status read_one(gr_rows **rows, const char *json, const gr_rows_config *config) {
    gr_error_clear(&err);
    return gr_rows_from_text(rows, json, strlen(json), tok, chat, config, &err);
}

static inline graft_status open_text(gr_rows **rows, const char *text, const gr_rows_config *config) {
    gr_error_clear(&err);
    assert_int_equal(gr_file_replace(path, text, strlen(text), &err), GRAFT_OK);
    return gr_rows_open(rows, path, tok, chat, config, NULL, NULL, &err);
}

/* Rows that are refused, and how what is said begins. */
typedef struct wrong_row {
    const char *json;
    graft_status status;
    const char *what;
} wrong_row;

static inline void expect_wrong(const wrong_row *cases, size_t count, const gr_rows_config *config) {
    for (size_t i = 0; i < count; i++) {
        gr_rows *rows = NULL;
        graft_status st = read_one(&rows, cases[i].json, config);
        if (st != cases[i].status || strncmp(err.what, cases[i].what, strlen(cases[i].what)) != 0)
            fail_msg("%s: %d %s", cases[i].json, (int)st, err.what);
        assert_null(rows);
    }
}

#endif
