#include "data/preference.h"
#include "data/row_format.h"

void gr_encoded_pair_free(gr_encoded_pair *pair) {
    gr_encoded_free(&pair->half[0]);
    gr_encoded_free(&pair->half[1]);
    *pair = (gr_encoded_pair){0};
}

typedef struct encoder {
    const gr_tokenizer *tok;
    const gr_chat *chat;
    const gr_preference_row *row;
} encoder;

static graft_status encode_text(const encoder *e, const gr_buf *text, gr_ids *ids, graft_error *err) {
    if (text->failed) return gr_no_memory(err, text->len);
    return gr_tokenizer_encode(e->tok, text->data ? text->data : "", text->len,
                               GR_ENCODE_ADD_SPECIAL | GR_ENCODE_PARSE_SPECIAL, ids, err);
}

static void add_string(gr_buf *to, const json_t *text) {
    gr_buf_add(to, json_string_value(text), json_string_length(text));
}

static bool ends_with(const json_t *text, const char *end) {
    size_t n = json_string_length(text), m = strlen(end);
    return m <= n && memcmp(json_string_value(text) + n - m, end, m) == 0;
}

/* The prompt (answer NULL), or the prompt and an answer that ends in EOS. */
static graft_status encode_texts(const encoder *e, const json_t *answer, gr_ids *ids, graft_error *err) {
    const char *eos = gr_tokenizer_token(e->tok, gr_tokenizer_eos(e->tok));
    gr_buf text = {0};
    add_string(&text, e->row->prompt);
    if (answer) add_string(&text, answer);
    if (answer && eos && !ends_with(answer, eos)) gr_buf_puts(&text, eos);
    graft_status st = encode_text(e, &text, ids, err);
    gr_buf_free(&text);
    return st;
}

/* The prompt with its generation prompt (answer NULL), or both without one. */
static graft_status encode_chats(const encoder *e, const json_t *answer, gr_ids *ids, graft_error *err) {
    const gr_preference_row *row = e->row;
    if (!e->chat) return gr_row_no_template(err);
    gr_chat_row chat = {.messages = row->prompt, .tools = row->tools, .variables = row->variables};
    if (!answer) return gr_chat_prompt(e->chat, &chat, ids, err);
    json_t *whole = json_copy(row->prompt);
    uint8_t *mask = NULL;
    graft_status st =
        whole && json_array_extend(whole, (json_t *)answer) == 0 ? GRAFT_OK : gr_no_memory(err, 64);
    chat.messages = whole;
    if (st == GRAFT_OK) st = gr_chat_encode(e->chat, &chat, GR_TRAIN_ALL, NULL, ids, &mask, err);
    free(mask);
    json_decref(whole);
    return st;
}

static graft_status encode(const encoder *e, const json_t *answer, gr_ids *ids, graft_error *err) {
    return json_is_array(e->row->prompt) ? encode_chats(e, answer, ids, err)
                                         : encode_texts(e, answer, ids, err);
}

static int64_t shared(const gr_ids *a, const gr_ids *b) {
    size_t n = 0;
    while (n < a->count && n < b->count && a->ids[n] == b->ids[n]) n++;
    return (int64_t)n;
}

/* mask[i] = 1 from token `first` on, but never of token 0. */
static graft_status mask_from(gr_encoded *half, int64_t first, graft_error *err) {
    int64_t count = (int64_t)half->ids.count;
    half->mask = gr_calloc(gr_max_i64(count, 1), 1);
    if (!half->mask) return gr_no_memory(err, (size_t)count);
    for (int64_t i = gr_max_i64(first, 1); i < count; i++) half->mask[i] = 1;
    return GRAFT_OK;
}

static graft_status mask_pair(gr_encoded_pair *pair, bool whole_chosen, graft_error *err) {
    static const char *const names[] = {"chosen", "rejected"};
    for (int i = 0; i < 2; i++) {
        if ((int64_t)pair->half[i].ids.count > gr_max_i64(pair->prompt, 1)) continue;
        gr_fail(err, GRAFT_CORRUPT, "\"%s\" has no token of its own behind the prompt", names[i]);
        return gr_hint(err, "an empty answer cannot be compared: leave the pair out");
    }
    GR_TRY(mask_from(&pair->half[0], whole_chosen ? 1 : pair->prompt, err));
    return mask_from(&pair->half[1], pair->prompt, err);
}

static graft_status encode_halves(gr_encoded_pair *pair, const encoder *e, graft_error *err) {
    gr_ids prompt = {0};
    graft_status st = encode(e, NULL, &prompt, err);
    if (st == GRAFT_OK) st = encode(e, e->row->chosen, &pair->half[0].ids, err);
    if (st == GRAFT_OK) st = encode(e, e->row->rejected, &pair->half[1].ids, err);
    pair->prompt = gr_min_i64(shared(&prompt, &pair->half[0].ids), shared(&prompt, &pair->half[1].ids));
    pair->merged = pair->prompt < (int64_t)prompt.count;
    gr_ids_free(&prompt);
    return st;
}

graft_status gr_pair_encode(gr_encoded_pair *pair, const char *json, size_t len, const gr_tokenizer *tok,
                            const gr_chat *chat, const gr_rows_config *config, graft_error *err) {
    gr_preference_row row;
    json_t *object;
    GR_TRY(gr_row_parse(&object, json, len, err));
    graft_status st = gr_preference_of(&row, object, config, err);
    json_decref(object);
    if (st != GRAFT_OK) return st;
    encoder e = {.tok = tok, .chat = chat, .row = &row};
    GR_GOTO(encode_halves(pair, &e, err));
    GR_GOTO(mask_pair(pair, config->whole_chosen, err));
    for (int i = 0; i < 2; i++) GR_GOTO(gr_row_check_ids(&pair->half[i].ids, config->vocab_size, err));
done:
    gr_preference_free(&row);
    return st;
}
