/* A tokenizer.model from anywhere: what is read becomes tokenizer.json, which must be read again, and
 * encodes. The first byte chooses the class that tokenizer_config.json names. */
#include "text/spm_model.h"
#include "text/tokenizer.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const configs[] = {
        "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":true,\"legacy\":true}",
        "{\"tokenizer_class\":\"GemmaTokenizer\",\"add_eos_token\":true}",
        "{\"add_bos_token\":true,\"add_eos_token\":true}"};
    if (!size || size > 1 << 16) return 0;
    const char *config = configs[data[0] % 3];
    gr_buf json = {0}, out = {0};
    gr_tokenizer *tok;
    gr_ids ids = {0};
    if (!gr_spm_to_json(&json, (const char *)data + 1, size - 1, config, strlen(config), NULL)) {
        /* Pieces may be too long, not UTF-8 or there twice; what is taken must work. */
        if (!gr_tokenizer_from_json(&tok, json.data, json.len, config, strlen(config), "fuzz", NULL)) {
            const char *text = " a<s>  b\xc3\xa9\xff 12\n";
            graft_status st = gr_tokenizer_encode(tok, text, strlen(text), 3, &ids, NULL);
            if (!st) st = gr_tokenizer_decode(tok, ids.ids, ids.count, false, &out, NULL);
            if (st == GRAFT_INTERNAL) abort();
            gr_tokenizer_free(tok);
        }
    }
    gr_ids_free(&ids);
    gr_buf_free(&json);
    gr_buf_free(&out);
    return 0;
}
