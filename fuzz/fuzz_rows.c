/* JSONL rows to ids and masks with a tokenizer of bytes and a plain chat template. */
#include "data/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static gr_tokenizer *make_tokenizer(void) {
    gr_buf json = {0};
    graft_error err = {0};
    gr_tokenizer *tok;
    gr_buf_puts(&json, "{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"unk_token\":\"<unk>\","
                       "\"vocab\":{\"<unk>\":0,\"<e>\":1");
    for (int i = 0; i < 256; i++) gr_buf_printf(&json, ",\"<0x%02X>\":%d", i, i + 2);
    gr_buf_puts(&json, "},\"merges\":[]},\"added_tokens\":[{\"id\":1,\"content\":\"<e>\",\"special\":true,"
                       "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false}]}");
    static const char config[] = "{\"eos_token\":\"<e>\",\"chat_template\":\"{% for m in messages %}"
                                 "{{ m.role }}:{{ m.content }}<e>{% endfor %}\"}";
    if (gr_tokenizer_from_json(&tok, json.data, json.len, config, sizeof config - 1, "fuzz", &err) !=
        GRAFT_OK)
        abort();
    gr_buf_free(&json);
    return tok;
}

/* The first byte chooses the settings, the rest is one row. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    graft_error err = {0};
    gr_chat *chat;
    gr_rows *rows;
    if (size == 0) return 0;
    gr_tokenizer *tok = make_tokenizer();
    if (gr_chat_new(&chat, tok, 0, &err) != GRAFT_OK) abort();
    gr_rows_config config = {.train_on = (gr_train_on)(data[0] & 3),
                             .overflow = (gr_overflow)((data[0] >> 2 & 3) % 3),
                             .max_seq_length = data[0] & 16 ? 12 : 0,
                             .vocab_size = data[0] & 32 ? 200 : 0,
                             .mlx_masks = (data[0] & 0xc0) == 64,
                             .pairs = data[0] & 128,
                             .whole_chosen = data[0] & 64};
    const char *text = (const char *)data + 1;
    if (gr_rows_from_text(&rows, text, size - 1, tok, chat, &config, &err) == GRAFT_OK) {
        for (int64_t i = 0; i < gr_rows_count(rows); i++) {
            gr_row row = gr_rows_at(rows, i);
            if (row.count < 1 || (row.count > 0 && row.mask[0] != 0)) abort();
            if (config.max_seq_length && row.count > config.max_seq_length) abort();
            if (config.pairs && (gr_rows_count(rows) != 2 || !row.targets || row.prompt >= row.count))
                abort();
        }
        free(gr_rows_notes(rows));
        gr_rows_free(rows);
    } else if (!err.what[0]) {
        abort(); /* every refusal says why */
    }
    gr_chat_free(chat);
    gr_tokenizer_free(tok);
    return 0;
}
