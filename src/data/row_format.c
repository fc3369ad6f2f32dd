#include "data/row_format.h"
#include "data/conversation.h"
#include "files/json_read.h"

typedef struct encoder {
    gr_encoded *row;
    const gr_tokenizer *tok;
    const gr_chat *chat;
    const gr_rows_config *config;
} encoder;

void gr_encoded_free(gr_encoded *row) {
    gr_ids_free(&row->ids);
    free(row->mask);
    *row = (gr_encoded){0};
}

static graft_status encode_text(const encoder *e, const json_t *text, graft_error *err) {
    if (e->config->train_on != GR_TRAIN_ALL) {
        gr_fail(err, GRAFT_UNSUPPORTED, "a text row has no prompt that could be masked");
        return gr_hint(err, "train on all tokens, or write rows as prompt and completion or as messages");
    }
    gr_ids *ids = &e->row->ids;
    GR_TRY(gr_tokenizer_encode(e->tok, json_string_value(text), json_string_length(text),
                               GR_ENCODE_ADD_SPECIAL | GR_ENCODE_PARSE_SPECIAL, ids, err));
    int32_t eos = gr_tokenizer_eos(e->tok);
    if (eos >= 0 && (ids->count == 0 || ids->ids[ids->count - 1] != eos) && !gr_ids_push(ids, eos))
        return gr_no_memory(err, sizeof(int32_t));
    e->row->mask = gr_calloc(ids->count, 1);
    if (!e->row->mask) return gr_no_memory(err, ids->count);
    if (ids->count > 1) memset(e->row->mask + 1, 1, ids->count - 1);
    return GRAFT_OK;
}

graft_status gr_row_no_template(graft_error *err) {
    gr_fail(err, GRAFT_NOT_FOUND, "a chat row needs a chat template and the model has none");
    return gr_hint(err,
                   "use an instruction-tuned model, or put chat_template.jinja into the model's directory");
}

static graft_status encode_messages(const encoder *e, const gr_conversation *c, graft_error *err) {
    const gr_rows_config *config = e->config;
    if (!e->chat) return gr_row_no_template(err);
    /* a row that will not be taken needs no mask, and may be too long to find one */
    gr_mask_bounds bounds = {.most = config->overflow == GR_OVERFLOW_TRUNCATE ? 0 : config->max_seq_length,
                             .forgive = config->overflow == GR_OVERFLOW_DROP};
    gr_chat_row row = gr_conversation_row(c);
    GR_TRY(gr_chat_encode(e->chat, &row, config->train_on, &bounds, &e->row->ids, &e->row->mask, err));
    e->row->endless = bounds.endless;
    return GRAFT_OK;
}

static graft_status encode_object(const encoder *e, const json_t *object, graft_error *err) {
    gr_conversation c;
    GR_TRY(gr_conversation_of(&c, object, e->config, true, err));
    graft_status st = c.text ? encode_text(e, c.text, err) : encode_messages(e, &c, err);
    e->row->unread_system = c.unread_system;
    gr_conversation_free(&c);
    return st;
}

graft_status gr_row_check_ids(const gr_ids *ids, int32_t vocab_size, graft_error *err) {
    if (ids->count == 0) return gr_fail(err, GRAFT_CORRUPT, "the row gives no token");
    for (size_t i = 0; vocab_size > 0 && i < ids->count; i++) {
        if (ids->ids[i] >= 0 && ids->ids[i] < vocab_size) continue;
        gr_fail(err, GRAFT_RANGE, "a token id is outside the model's vocabulary");
        gr_expected(err, "ids below %d", vocab_size);
        gr_found(err, "id %d", ids->ids[i]);
        return gr_hint(err, "the tokenizer has tokens that the model was not built for");
    }
    return GRAFT_OK;
}

graft_status gr_row_parse(json_t **object, const char *json, size_t len, graft_error *err) {
    json_error_t jerr;
    *object = NULL;
    GR_TRY(gr_json_fits(json, len, GR_ROW_LIMIT, err));
    json_t *row = gr_json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &jerr);
    if (!row && gr_json_no_memory(&jerr)) return gr_no_memory(err, len);
    if (!row) {
        gr_fail(err, GRAFT_CORRUPT, "not valid JSON");
        return gr_found(err, "%s", jerr.text);
    }
    if (json_is_object(row)) {
        *object = row;
        return GRAFT_OK;
    }
    gr_fail(err, GRAFT_CORRUPT, "the row is not a JSON object");
    gr_found(err, "%s", gr_json_type_text(row));
    json_decref(row);
    return GRAFT_CORRUPT;
}

graft_status gr_row_encode(gr_encoded *row, const char *json, size_t len, const gr_tokenizer *tok,
                           const gr_chat *chat, const gr_rows_config *config, graft_error *err) {
    encoder e = {.row = row, .tok = tok, .chat = chat, .config = config};
    json_t *object;
    GR_TRY(gr_row_parse(&object, json, len, err));
    graft_status st = encode_object(&e, object, err);
    json_decref(object);
    if (st != GRAFT_OK) return st;
    return gr_row_check_ids(&row->ids, config->vocab_size, err);
}
