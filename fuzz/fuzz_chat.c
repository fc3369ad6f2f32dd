/* A template and a conversation from anywhere: the input up to a line "---" is the chat template, the rest
 * JSON messages. Rendered and masked in every way, or refused with a reason. */
#include "text/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static gr_tokenizer *make_tokenizer(const char *template, size_t len) {
    gr_buf json = {0};
    gr_tokenizer *tok = NULL;
    gr_buf_puts(&json, "{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{\"<e>\":0");
    for (int i = 0; i < 256; i++) gr_buf_printf(&json, ",\"<0x%02X>\":%d", i, i + 1);
    gr_buf_puts(&json,
                "},\"merges\":[]},\"added_tokens\":[{\"id\":0,\"content\":\"<e>\",\"special\":true}]}");
    json_t *config = json_pack("{s:s,s:o}", "eos_token", "<e>", "chat_template", json_stringn(template, len));
    char *text = config ? json_dumps(config, 0) : NULL; /* NULL: not UTF-8 */
    if (text &&
        gr_tokenizer_from_json(&tok, json.data, json.len, text, strlen(text), "fuzz", NULL) != GRAFT_OK &&
        !memchr(template, 0, len)) /* which JSON may not hold */
        abort();
    gr_buf_free(&json);
    json_decref(config);
    free(text);
    return tok;
}

static void encode_all(const gr_chat *chat, const json_t *messages, const json_t *tools) {
    for (int on = GR_TRAIN_ALL; on <= GR_TRAIN_LAST; on++) {
        gr_ids ids = {0};
        uint8_t *mask = NULL;
        graft_error err = {0};
        graft_status st = gr_chat_encode(chat, &(gr_chat_row){.messages = messages, .tools = tools},
                                         (gr_train_on)on, NULL, &ids, &mask, &err);
        if (st != GRAFT_OK && (st == GRAFT_INTERNAL || !err.what[0])) abort();
        for (size_t i = 0; st == GRAFT_OK && i < ids.count; i++)
            if (mask[i] > 1 || mask[0] || ids.ids[i] < 0 || ids.ids[i] > 256) abort();
        gr_ids_free(&ids);
        free(mask);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data, *cut = memmem(data, size, "\n---\n", 5);
    if (!cut || size > 1 << 13) return 0;
    gr_tokenizer *tok = make_tokenizer(text, (size_t)(cut - text));
    json_t *row = json_loadb(cut + 5, size - (size_t)(cut + 5 - text), JSON_REJECT_DUPLICATES, NULL);
    const json_t *messages = json_is_object(row) ? json_object_get(row, "messages") : row;
    gr_chat *chat = NULL;
    graft_error err = {0};
    if (tok && row && gr_chat_new(&chat, tok, 1700000000, &err) == GRAFT_OK) {
        gr_ids ids = {0};
        encode_all(chat, messages, json_object_get(row, "tools"));
        (void)!gr_chat_prompt(chat, &(gr_chat_row){.messages = messages}, &ids, NULL);
        gr_ids_free(&ids);
    } else if (tok && row && !err.what[0]) {
        abort();
    }
    gr_chat_free(chat);
    gr_tokenizer_free(tok);
    json_decref(row);
    return 0;
}
