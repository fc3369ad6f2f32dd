/* render_chats - renders and masks what tools/template_zoo.py sends, through text/chat as training does. No
 * test of its own.
 *
 * Standard input, a JSON object a line: {"template": SOURCE} binds a template; {"messages": [..], "tools":
 * [..] or null, "prompt": bool, "variables": {..}} renders with the last one. Standard output, a line for
 * each of these:
 * {"text": .., "generation": [[start, end], ..] in bytes} or {"error": ..}; with "train": true {"trained":
 * ..} besides, what an assistant mask trains, bars between the pieces. The clock stands still, see NOW of
 * make_jinja_golden.py.
 */
#include "text/chat.h"
#include <stdio.h>
#include <stdlib.h>

#define NOW 1709211909 /* 2024-02-29 13:05:09 UTC */

typedef struct bound {
    gr_tokenizer *tok;
    gr_chat *chat;
    graft_error err; /* of a template that cannot be bound */
} bound;

static char *read_all(const char *path, size_t *len) {
    FILE *f = fopen(path, "rb");
    char *text = calloc(1, 1 << 20);
    if (!f || !text) exit(3);
    *len = fread(text, 1, (1 << 20) - 1, f);
    fclose(f);
    return text;
}

static void unbind(bound *b) {
    gr_chat_free(b->chat);
    gr_tokenizer_free(b->tok);
    *b = (bound){0};
}

/* The small byte-level tokenizer of the tests with this template. */
static void bind(bound *b, const json_t *source) {
    size_t len;
    unbind(b);
    char *tokens = read_all(GRAFT_SOURCE_DIR "/tests/data/tokenizer_bytes.json", &len);
    json_t *config =
        json_pack("{s:s, s:s, s:O}", "bos_token", "<s>", "eos_token", "</s>", "chat_template", source);
    char *text = json_dumps(config, 0);
    if (gr_tokenizer_from_json(&b->tok, tokens, len, text, strlen(text), "zoo", &b->err) == GRAFT_OK)
        (void)!gr_chat_new(&b->chat, b->tok, NOW, &b->err);
    json_decref(config);
    free(text);
    free(tokens);
}

static json_t *rendered(const gr_jinja_result *result) {
    json_t *spans = json_array();
    for (size_t i = 0; i < result->ngeneration; i++)
        json_array_append_new(spans, json_pack("[I, I]", (json_int_t)result->generation[i].start,
                                               (json_int_t)result->generation[i].end));
    return json_pack("{s:o, s:o}", "text",
                     json_stringn(result->text.data ? result->text.data : "", result->text.len), "generation",
                     spans);
}

/* Text of the tokens that --train-on assistant trains. */
static graft_status trained(gr_buf *out, const bound *b, const json_t *messages, const json_t *tools,
                            graft_error *err) {
    gr_ids ids = {0};
    uint8_t *mask = NULL;
    graft_status st = gr_chat_encode(b->chat, &(gr_chat_row){.messages = messages, .tools = tools},
                                     GR_TRAIN_ASSISTANT, NULL, &ids, &mask, err);
    for (size_t i = 0; i < ids.count && st == GRAFT_OK; i++) {
        if (mask[i] && (i == 0 || !mask[i - 1])) gr_buf_putc(out, '|');
        if (mask[i]) st = gr_tokenizer_decode(b->tok, &ids.ids[i], 1, false, out, err);
    }
    gr_ids_free(&ids);
    free(mask);
    return st;
}

static json_t *render(const bound *b, const json_t *line) {
    graft_error err = b->err;
    gr_jinja_result result = {0};
    graft_status st = err.status;
    const json_t *tools = json_object_get(line, "tools"), *variables = json_object_get(line, "variables");
    if (st == GRAFT_OK && variables) st = gr_chat_set_variables(b->chat, variables, &err);
    if (st == GRAFT_OK)
        st = gr_chat_render(b->chat,
                            &(gr_chat_row){.messages = json_object_get(line, "messages"),
                                           .tools = json_is_array(tools) ? tools : NULL},
                            json_is_true(json_object_get(line, "prompt")), &result, &err);
    gr_buf text = {0};
    bool train = json_is_true(json_object_get(line, "train"));
    if (st == GRAFT_OK && train)
        st = trained(&text, b, json_object_get(line, "messages"), json_is_array(tools) ? tools : NULL, &err);
    json_t *out = st == GRAFT_OK ? rendered(&result) : json_pack("{s:s}", "error", err.what);
    if (train && st == GRAFT_OK) json_object_set_new(out, "trained", json_string(text.data ? text.data : ""));
    gr_buf_free(&text);
    gr_jinja_result_free(&result);
    return out;
}

int main(void) {
    bound b = {0};
    char *text = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&text, &cap, stdin)) > 0;) {
        json_t *line = json_loadb(text, (size_t)n, JSON_ALLOW_NUL, NULL);
        const json_t *source = json_object_get(line, "template");
        if (source) {
            bind(&b, source);
        } else {
            json_t *out = line ? render(&b, line) : json_pack("{s:s}", "error", "not JSON");
            json_dumpf(out, stdout, JSON_COMPACT);
            putchar('\n');
            fflush(stdout);
            json_decref(out);
        }
        json_decref(line);
    }
    free(text);
    unbind(&b);
    return 0;
}
