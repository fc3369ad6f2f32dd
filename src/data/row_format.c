#include "data/row_format.h"
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

static const char *name_or(const char *name, const char *fallback) {
    return name && name[0] ? name : fallback;
}

static graft_status wrong_type(const char *key, const char *expected, const json_t *value, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "\"%s\" has the wrong type", key);
    gr_expected(err, "%s", expected);
    return gr_found(err, "%s", gr_json_type_text(value));
}

/* The member, or NULL when it is absent or null: exports of tables write null for empty cells. */
static json_t *member(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static graft_status encode_text(const encoder *e, const json_t *text, const char *key, graft_error *err) {
    if (!json_is_string(text)) return wrong_type(key, "a string", text, err);
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

/* A message needs a role and something to say; what else it may hold is the template's affair. */
static graft_status check_message(const json_t *message, graft_error *err) {
    if (!json_is_object(message))
        return wrong_type("messages[]", "an object with role and content", message, err);
    const json_t *role = json_object_get(message, "role");
    if (!role) return gr_fail(err, GRAFT_CORRUPT, "a message has no \"role\"");
    if (!json_is_string(role)) return wrong_type("role", "a string", role, err);
    const json_t *content = member(message, "content");
    if (content && !json_is_string(content) && !json_is_array(content))
        return wrong_type("content", "a string", content, err);
    if (content) return GRAFT_OK;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)message, key, value) {
        /* an assistant that only calls tools or only thinks has no content */
        if (strcmp(key, "role") != 0 && !json_is_null(value)) return GRAFT_OK;
    }
    gr_fail(err, GRAFT_CORRUPT, "a message has no content");
    return gr_found(err, "role %s, content %s", json_string_value(role),
                    json_object_get(message, "content") ? "null" : "missing");
}

static graft_status encode_messages(const encoder *e, const json_t *object, const json_t *messages,
                                    graft_error *err) {
    const char *tools_key = name_or(e->config->tools_feature, "tools");
    const json_t *tools = member(object, tools_key);
    if (tools && !json_is_array(tools)) return wrong_type(tools_key, "an array", tools, err);
    if (!e->chat) {
        gr_fail(err, GRAFT_NOT_FOUND, "a chat row needs a chat template and the model has none");
        return gr_hint(
            err, "use an instruction-tuned model, or put chat_template.jinja into the model's directory");
    }
    return gr_chat_encode(e->chat, messages, tools, e->config->train_on, &e->row->ids, &e->row->mask, err);
}

static graft_status encode_chat(const encoder *e, const json_t *object, const json_t *messages,
                                const char *key, graft_error *err) {
    if (!json_is_array(messages)) return wrong_type(key, "an array of messages", messages, err);
    if (json_array_size(messages) == 0) return gr_fail(err, GRAFT_CORRUPT, "\"%s\" is empty", key);
    size_t i;
    json_t *message;
    json_array_foreach((json_t *)messages, i, message) GR_TRY(check_message(message, err));
    return encode_messages(e, object, messages, err);
}

static graft_status encode_completion(const encoder *e, const json_t *object, const json_t *prompt,
                                      const char *prompt_key, const json_t *completion,
                                      const char *completion_key, graft_error *err) {
    if (!json_is_string(prompt)) return wrong_type(prompt_key, "a string", prompt, err);
    if (!json_is_string(completion)) return wrong_type(completion_key, "a string", completion, err);
    json_t *messages = json_pack("[{s:s,s:O},{s:s,s:O}]", "role", "user", "content", prompt, "role",
                                 "assistant", "content", completion);
    if (!messages) return gr_no_memory(err, 256);
    graft_status st = encode_messages(e, object, messages, err);
    json_decref(messages);
    return st;
}

static graft_status no_format(const json_t *object, const char *prompt, const char *completion,
                              const char *chat, const char *text, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "no known key with a value");
    gr_expected(err, "\"%s\", or \"%s\" and \"%s\", or \"%s\"", text, prompt, completion, chat);
    gr_buf keys = {0};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        gr_buf_printf(&keys, "%s\"%.40s\"%s", keys.len ? ", " : "", key, json_is_null(value) ? ": null" : "");
        if (keys.len > 120) break;
    }
    gr_found(err, "%s", keys.len && !keys.failed ? keys.data : "an empty object");
    gr_buf_free(&keys);
    return gr_hint(err, "name other keys with --text-feature, --prompt-feature, --completion-feature or "
                        "--chat-feature");
}

/* mlx-lm's order of looking: completions, then chat, then text. */
static graft_status encode_object(const encoder *e, const json_t *object, graft_error *err) {
    const gr_rows_config *c = e->config;
    const char *prompt_key = name_or(c->prompt_feature, "prompt");
    const char *completion_key = name_or(c->completion_feature, "completion");
    const char *chat_key = name_or(c->chat_feature, "messages"), *text_key = name_or(c->text_feature, "text");
    const json_t *prompt = member(object, prompt_key), *completion = member(object, completion_key);
    const json_t *messages = member(object, chat_key), *text = member(object, text_key);
    if (prompt && completion)
        return encode_completion(e, object, prompt, prompt_key, completion, completion_key, err);
    if (messages) return encode_chat(e, object, messages, chat_key, err);
    if (text) return encode_text(e, text, text_key, err);
    return no_format(object, prompt_key, completion_key, chat_key, text_key, err);
}

static graft_status check_ids(const gr_ids *ids, int32_t vocab_size, graft_error *err) {
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

graft_status gr_row_encode(gr_encoded *row, const char *json, size_t len, const gr_tokenizer *tok,
                           const gr_chat *chat, const gr_rows_config *config, graft_error *err) {
    encoder e = {.row = row, .tok = tok, .chat = chat, .config = config};
    json_error_t jerr;
    GR_TRY(gr_json_fits(json, len, GR_ROW_LIMIT, err));
    json_t *object =
        gr_json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &jerr);
    if (!object && gr_json_no_memory(&jerr)) return gr_no_memory(err, len);
    if (!object) {
        gr_fail(err, GRAFT_CORRUPT, "not valid JSON");
        return gr_found(err, "%s", jerr.text);
    }
    graft_status st;
    if (json_is_object(object)) {
        st = encode_object(&e, object, err);
    } else {
        gr_fail(err, GRAFT_CORRUPT, "the row is not a JSON object");
        st = gr_found(err, "%s", gr_json_type_text(object));
    }
    json_decref(object);
    if (st != GRAFT_OK) return st;
    return check_ids(&row->ids, config->vocab_size, err);
}
