/* Writing a tokenizer: tokenizer.json as the tokenizers package reads it. */
#include "base/number.h"
#include "files/json_write.h"
#include "text/token_parts.h"

void gr_json_put_string(gr_buf *out, const char *s, size_t n) {
    gr_buf_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)s[i];
        if (c == '"' || c == '\\')
            gr_buf_putc(out, '\\'), gr_buf_putc(out, (char)c);
        else if (c < 0x20 || c == 0x7f)
            gr_buf_printf(out, "\\u%04x", c);
        else
            gr_buf_putc(out, (char)c);
    }
    gr_buf_putc(out, '"');
}

static void put_flag(gr_buf *out, const char *name, bool value) {
    gr_buf_printf(out, ",\"%s\":%s", name, value ? "true" : "false");
}

/* A member of the parts as it was read; null when it is not there. */
static graft_status put_part(gr_buf *out, const char *key, const json_t *value, graft_error *err) {
    char *text = value ? gr_json_dump(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (value && !text) return gr_no_memory(err, 0);
    gr_buf_printf(out, ",\n\"%s\":", key);
    gr_buf_puts(out, text ? text : "null");
    free(text);
    return GRAFT_OK;
}

static void put_added(gr_buf *out, const gr_added *added) {
    gr_buf_puts(out, ",\n\"added_tokens\":[");
    for (size_t i = 0; i < added->count; i++) {
        const gr_added_token *t = &added->tokens[i];
        gr_buf_printf(out, "%s\n{\"id\":%d,\"content\":", i ? "," : "", (int)t->id);
        gr_json_put_string(out, t->content, t->len);
        put_flag(out, "single_word", t->single_word);
        put_flag(out, "lstrip", t->lstrip);
        put_flag(out, "rstrip", t->rstrip);
        put_flag(out, "normalized", t->normalized);
        put_flag(out, "special", t->special);
        gr_buf_putc(out, '}');
    }
    gr_buf_putc(out, ']');
}

static void put_vocab(gr_buf *out, const gr_vocab *vocab) {
    gr_buf_puts(out, ",\n\"vocab\":{");
    for (size_t i = 0; i < vocab->count; i++) {
        if (i) gr_buf_putc(out, ',');
        gr_json_put_string(out, vocab->bytes.data + vocab->entries[i].offset, vocab->entries[i].len);
        gr_buf_printf(out, ":%d", (int)vocab->entries[i].id);
    }
    gr_buf_putc(out, '}');
}

static int by_rank(const void *pa, const void *pb) {
    const gr_merge *a = *(const gr_merge *const *)pa, *b = *(const gr_merge *const *)pb;
    return a->rank < b->rank ? -1 : a->rank > b->rank;
}

static graft_status put_merges(gr_buf *out, const gr_subwords *words, graft_error *err) {
    const gr_merge **rows = gr_calloc(words->merges.count, sizeof *rows);
    size_t n = 0, len;
    if (!rows) return gr_no_memory(err, words->merges.count * sizeof *rows);
    for (size_t i = 0; i < words->merges.nslots; i++)
        if (words->merges.slots[i].left >= 0) rows[n++] = &words->merges.slots[i];
    if (n) qsort(rows, n, sizeof *rows, by_rank);
    gr_buf_puts(out, ",\n\"merges\":[");
    for (size_t i = 0; i < n; i++) {
        gr_buf_puts(out, i ? ",[" : "[");
        const char *token = gr_vocab_token(&words->vocab, rows[i]->left, &len);
        gr_json_put_string(out, token, len);
        gr_buf_putc(out, ',');
        token = gr_vocab_token(&words->vocab, rows[i]->right, &len);
        gr_json_put_string(out, token, len);
        gr_buf_putc(out, ']');
    }
    gr_buf_putc(out, ']');
    free(rows);
    return GRAFT_OK;
}

static void put_unigram(gr_buf *out, const gr_subwords *words) {
    gr_buf_puts(out, ",\n\"model\":{\"type\":\"Unigram\",\"unk_id\":");
    gr_buf_puts(out, words->unk < 0 ? "null" : "");
    if (words->unk >= 0) gr_buf_printf(out, "%d", (int)words->unk);
    put_flag(out, "byte_fallback", words->byte_fallback);
    gr_buf_puts(out, ",\n\"vocab\":[");
    for (size_t i = 0; i < words->vocab.count; i++) {
        const gr_vocab_entry *e = &words->vocab.entries[i];
        gr_buf_puts(out, i ? ",\n[" : "\n[");
        gr_json_put_string(out, words->vocab.bytes.data + e->offset, e->len);
        gr_buf_putc(out, ',');
        gr_buf_real(out, gr_unigram_score(words->unigram, e->id), 17);
        gr_buf_putc(out, ']');
    }
    gr_buf_puts(out, "]}");
}

static graft_status put_bpe(gr_buf *out, const gr_tokenizer *tok, graft_error *err) {
    const json_t *model = json_object_get(tok->parts, "model");
    gr_buf_puts(out, ",\n\"model\":{\"type\":\"BPE\",\"dropout\":null");
    GR_TRY(put_part(out, "unk_token", json_object_get(model, "unk_token"), err));
    GR_TRY(
        put_part(out, "continuing_subword_prefix", json_object_get(model, "continuing_subword_prefix"), err));
    GR_TRY(put_part(out, "end_of_word_suffix", json_object_get(model, "end_of_word_suffix"), err));
    put_flag(out, "fuse_unk", tok->words.fuse_unk);
    put_flag(out, "byte_fallback", tok->words.byte_fallback);
    put_flag(out, "ignore_merges", tok->words.ignore_merges);
    put_vocab(out, &tok->words.vocab);
    GR_TRY(put_merges(out, &tok->words, err));
    gr_buf_putc(out, '}');
    return GRAFT_OK;
}

graft_status gr_tokenizer_to_json(const gr_tokenizer *tok, gr_buf *json, graft_error *err) {
    static const char *const parts[] = {"normalizer", "pre_tokenizer", "post_processor", "decoder"};
    gr_buf_puts(json, "{\"version\":\"1.0\",\n\"truncation\":null,\n\"padding\":null");
    put_added(json, &tok->added);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        GR_TRY(put_part(json, parts[i], json_object_get(tok->parts, parts[i]), err));
    if (tok->words.unigram)
        put_unigram(json, &tok->words);
    else
        GR_TRY(put_bpe(json, tok, err));
    gr_buf_puts(json, "}\n");
    return json->failed ? gr_no_memory(err, json->len) : GRAFT_OK;
}
