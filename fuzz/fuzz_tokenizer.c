/* A tokenizer.json from anywhere, then the round trip of text: the input up to a line "---" is the file, the
 * rest is encoded in every way, decoded, and what is written is read again. */
#include "text/growing_text.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ids that come one by one have the text that they have together. */
static void grow(const gr_tokenizer *tok, const gr_ids *ids) {
    gr_growing_text g = {0};
    gr_ids all = {0};
    for (size_t n = 0; ids->count && n < 60; n++) {
        gr_buf whole = {0};
        if (!gr_ids_push(&all, ids->ids[n % ids->count])) break;
        graft_status grown = gr_growing_text_add(&g, tok, all.ids, all.count, NULL);
        graft_status st = gr_tokenizer_decode(tok, all.ids, all.count, true, &whole, NULL);
        bool same = g.text.len == whole.len && (!whole.len || !memcmp(g.text.data, whole.data, whole.len));
        gr_buf_free(&whole);
        if (grown != GRAFT_OK || st != GRAFT_OK) break; /* more text than a decoder may make */
        if (!same || g.settled > g.whole || g.whole > g.text.len) abort();
    }
    gr_growing_text_free(&g);
    gr_ids_free(&all);
}

static void round_trip(const gr_tokenizer *tok, const char *text, size_t len) {
    for (int flags = 0; flags < 4; flags++) {
        gr_ids ids = {0}, starts = {0};
        gr_buf out = {0};
        gr_text_range half = {len / 4, len / 2};
        if (!gr_tokenizer_encode_parts(tok, text, len, flags, &half, 1, &ids, &starts, NULL)) {
            if (ids.count != starts.count) abort();
            for (size_t i = 0; i < ids.count; i++)
                if (ids.ids[i] < 0 || ids.ids[i] >= gr_tokenizer_vocab_size(tok) ||
                    starts.ids[i] > (int32_t)len)
                    abort();
            graft_status st = gr_tokenizer_decode(tok, ids.ids, ids.count, flags & 1, &out, NULL);
            if (st == GRAFT_INTERNAL) abort();
            if (!flags) grow(tok, &ids);
        }
        gr_ids_free(&ids);
        gr_ids_free(&starts);
        gr_buf_free(&out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data, *cut = memmem(data, size, "\n---\n", 5);
    size_t json_len = cut ? (size_t)(cut - text) : size;
    const char *rest = cut ? cut + 5 : "a<s> b\xc3\xa9\xff 12";
    size_t rest_len = cut ? size - json_len - 5 : strlen(rest);
    gr_tokenizer *tok, *again;
    gr_buf json = {0};
    if (size > 1 << 16 || gr_tokenizer_from_json(&tok, text, json_len, NULL, 0, "fuzz", NULL)) return 0;
    round_trip(tok, rest, rest_len);
    if (gr_tokenizer_to_json(tok, &json, NULL)) abort();
    if (!gr_tokenizer_from_json(&again, json.data, json.len, NULL, 0, "again", NULL)) {
        gr_ids a = {0}, b = {0};
        graft_status sa = gr_tokenizer_encode(tok, rest, rest_len, 3, &a, NULL);
        graft_status sb = gr_tokenizer_encode(again, rest, rest_len, 3, &b, NULL);
        if (sa != sb || a.count != b.count) abort();
        gr_ids_free(&a);
        gr_ids_free(&b);
        gr_tokenizer_free(again);
    }
    gr_buf_free(&json);
    gr_tokenizer_free(tok);
    return 0;
}
