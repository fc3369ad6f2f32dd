/* Any bytes as a GGUF file with a tokenizer: refused with a reason, or a tokenizer that encodes, decodes, and
 * whose tokenizer.json is read again. */
#include "memory_file.h"
#include "text/tokenizer.h"

static void use(const gr_tokenizer *tok) {
    static const char text[] = "a b\xc3\xa9  1\n<s>\xf0\x9f\x98\x80\xff";
    gr_ids ids = {0};
    gr_buf back = {0}, json = {0};
    gr_tokenizer *again;
    if (gr_tokenizer_encode(tok, text, sizeof text - 1, 3, &ids, NULL) == GRAFT_OK) {
        for (size_t i = 0; i < ids.count; i++)
            if (ids.ids[i] < 0 || ids.ids[i] >= gr_tokenizer_vocab_size(tok)) abort();
        if (gr_tokenizer_decode(tok, ids.ids, ids.count, true, &back, NULL) == GRAFT_INTERNAL) abort();
    }
    if (gr_tokenizer_to_json(tok, &json, NULL) != GRAFT_OK) abort();
    if (gr_tokenizer_from_json(&again, json.data, json.len, NULL, 0, "again", NULL) == GRAFT_OK)
        gr_tokenizer_free(again);
    gr_ids_free(&ids);
    gr_buf_free(&back);
    gr_buf_free(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    graft_error err = {0};
    gr_gguf *file;
    gr_tokenizer *tok;
    char path[64];
    int fd = memory_file(path, data, size);
    if (gr_gguf_open(&file, path, &err) == GRAFT_OK) {
        if (gr_tokenizer_from_gguf(&tok, file, &err) == GRAFT_OK) {
            use(tok);
            gr_tokenizer_free(tok);
        } else if (tok || !err.what[0]) {
            abort();
        }
        gr_gguf_close(file);
    }
    close(fd);
    return 0;
}
