/* Reading tokenizer.json: the model, the added tokens and the parts around them. */
#include "files/json_read.h"
#include "text/spm_model.h"
#include "text/token_parts.h"
#include <stdio.h>

graft_status gr_member_bool(const json_t *object, const char *key, bool fallback, bool *value,
                            graft_error *err) {
    const json_t *member = json_object_get(object, key);
    *value = fallback;
    if (!member || json_is_null(member)) return GRAFT_OK;
    if (!json_is_boolean(member))
        return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's \"%s\" is not true or false", key);
    *value = json_is_true(member);
    return GRAFT_OK;
}

graft_status gr_member_string(const json_t *object, const char *key, const char **value, size_t *len,
                              graft_error *err) {
    const json_t *member = json_object_get(object, key);
    *value = NULL;
    if (len) *len = 0;
    if (!member || json_is_null(member)) return GRAFT_OK;
    if (!json_is_string(member))
        return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's \"%s\" is not a text", key);
    *value = json_string_value(member);
    if (len) *len = json_string_length(member);
    return GRAFT_OK;
}

/* A member's text that is neither absent nor empty, copied. */
static graft_status copy_affix(char **copy, const json_t *model, const char *key, graft_error *err) {
    const char *text;
    size_t len;
    GR_TRY(gr_member_string(model, key, &text, &len, err));
    if (!len) return GRAFT_OK;
    *copy = gr_strndup(text, len);
    return *copy ? GRAFT_OK : gr_no_memory(err, len);
}

static graft_status read_vocab(gr_vocab *vocab, const json_t *model, graft_error *err) {
    json_t *table = json_object_get(model, "vocab");
    if (!json_is_object(table))
        return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's model has no \"vocab\" object");
    for (void *it = json_object_iter(table); it; it = json_object_iter_next(table, it)) {
        const json_t *id = json_object_iter_value(it);
        const char *token = json_object_iter_key(it);
        if (!json_is_integer(id))
            return gr_fail(err, GRAFT_CORRUPT, "the id of token %.60s is not a number", token);
        GR_TRY(gr_vocab_add(vocab, token, json_object_iter_key_len(it), json_integer_value(id), err));
    }
    return gr_vocab_finish(vocab, err);
}

/* One merge, either "left right" or ["left", "right"]. */
static graft_status split_merge(const json_t *item, const char **left, size_t *nleft, const char **right,
                                size_t *nright, graft_error *err) {
    if (json_is_array(item) && json_array_size(item) == 2 && json_is_string(json_array_get(item, 0)) &&
        json_is_string(json_array_get(item, 1))) {
        *left = json_string_value(json_array_get(item, 0)),
        *nleft = json_string_length(json_array_get(item, 0));
        *right = json_string_value(json_array_get(item, 1)),
        *nright = json_string_length(json_array_get(item, 1));
        return GRAFT_OK;
    }
    if (json_is_string(item)) {
        const char *text = json_string_value(item), *space = memchr(text, ' ', json_string_length(item));
        size_t len = json_string_length(item);
        if (space && !memchr(space + 1, ' ', len - (size_t)(space + 1 - text))) {
            *left = text, *nleft = (size_t)(space - text);
            *right = space + 1, *nright = len - *nleft - 1;
            return GRAFT_OK;
        }
    }
    gr_fail(err, GRAFT_CORRUPT, "a merge of the tokenizer is not a pair of tokens");
    return gr_found(err, "%.60s",
                    json_is_string(item) ? json_string_value(item) : "something else than a text");
}

static graft_status read_merge(gr_subwords *words, const json_t *item, uint32_t rank, gr_buf *made,
                               graft_error *err) {
    const char *left = NULL, *right = NULL;
    size_t nleft = 0, nright = 0, skip = words->prefix ? strlen(words->prefix) : 0;
    GR_TRY(split_merge(item, &left, &nleft, &right, &nright, err));
    gr_buf_clear(made);
    gr_buf_add(made, left, nleft);
    if (nright >= skip) gr_buf_add(made, right + skip, nright - skip);
    if (made->failed) return gr_no_memory(err, nleft + nright);
    gr_merge merge = {gr_vocab_id(&words->vocab, left, nleft), gr_vocab_id(&words->vocab, right, nright),
                      gr_vocab_id(&words->vocab, made->data, made->len), rank};
    if (merge.left < 0 || merge.right < 0 || merge.made < 0) {
        gr_fail(err, GRAFT_CORRUPT, "a merge of the tokenizer names a token that the vocabulary lacks");
        return gr_found(err, "merge %u: %.60s + %.60s", rank, left, right);
    }
    gr_merges_put(&words->merges, merge);
    return GRAFT_OK;
}

static graft_status read_merges(gr_subwords *words, const json_t *model, graft_error *err) {
    const json_t *list = json_object_get(model, "merges"), *item;
    gr_buf made = {0};
    graft_status st = GRAFT_OK;
    size_t i;
    uint32_t rank = 0;
    if (!json_is_array(list))
        return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's model has no list of \"merges\"");
    GR_TRY(gr_merges_reserve(&words->merges, json_array_size(list), err));
    json_array_foreach(list, i, item) {
        if (json_is_string(item) && !strncmp(json_string_value(item), "#version", 8)) continue;
        if ((st = read_merge(words, item, rank++, &made, err))) break;
    }
    gr_buf_free(&made);
    return st;
}

static int utf8_put(int32_t c, char *out) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = (char)(0xc0 | c >> 6), out[1] = (char)(0x80 | (c & 63));
    return 2;
}

static graft_status read_bpe(gr_subwords *words, const json_t *model, graft_error *err) {
    const char *unk;
    size_t len;
    char name[8];
    GR_TRY(gr_member_bool(model, "fuse_unk", false, &words->fuse_unk, err));
    GR_TRY(gr_member_bool(model, "ignore_merges", false, &words->ignore_merges, err));
    GR_TRY(copy_affix(&words->prefix, model, "continuing_subword_prefix", err));
    GR_TRY(copy_affix(&words->suffix, model, "end_of_word_suffix", err));
    GR_TRY(read_vocab(&words->vocab, model, err));
    GR_TRY(read_merges(words, model, err));
    GR_TRY(gr_member_string(model, "unk_token", &unk, &len, err));
    words->unk = unk ? gr_vocab_id(&words->vocab, unk, len) : -1;
    for (int32_t c = 0; c < 0x400; c++)
        words->char_id[c] = gr_vocab_id(&words->vocab, name, (size_t)utf8_put(c, name));
    return GRAFT_OK;
}

/* A row of a Unigram vocabulary: [token, score]. */
static graft_status read_scored(gr_subwords *words, const json_t *row, size_t id, double *score,
                                graft_error *err) {
    const json_t *token = json_array_get(row, 0), *number = json_array_get(row, 1);
    if (json_array_size(row) != 2 || !json_is_string(token) || !json_is_number(number)) {
        gr_fail(err, GRAFT_CORRUPT, "a token of the tokenizer's model is not [text, score]");
        return gr_found(err, "token %zu", id);
    }
    *score = json_number_value(number);
    return gr_vocab_add(&words->vocab, json_string_value(token), json_string_length(token), (int64_t)id, err);
}

static graft_status read_unigram(gr_subwords *words, const json_t *model, graft_error *err) {
    const json_t *table = json_object_get(model, "vocab"), *unk = json_object_get(model, "unk_id");
    size_t n = json_array_size(table);
    if (!n)
        return gr_fail(err, GRAFT_CORRUPT,
                       "the tokenizer's model has no list of tokens and scores in \"vocab\"");
    words->unk = -1;
    words->fuse_unk = true;
    if (unk && !json_is_null(unk)) {
        if (!json_is_integer(unk) || json_integer_value(unk) < 0 || (uint64_t)json_integer_value(unk) >= n)
            return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's \"unk_id\" is not the id of a token");
        words->unk = (int32_t)json_integer_value(unk);
    }
    double *scores = gr_calloc(n, sizeof *scores);
    graft_status st = scores ? GRAFT_OK : gr_no_memory(err, n * sizeof *scores);
    for (size_t i = 0; i < n && !st; i++)
        st = read_scored(words, json_array_get(table, i), i, &scores[i], err);
    if (!st) st = gr_vocab_finish(&words->vocab, err);
    if (!st) return gr_unigram_make(&words->unigram, &words->vocab, scores, err);
    free(scores);
    return st;
}

graft_status gr_subwords_from_json(gr_subwords *words, const json_t *model, graft_error *err) {
    const char *type;
    char name[8];
    GR_TRY(gr_member_string(model, "type", &type, NULL, err));
    if (!type) type = json_object_get(model, "merges") ? "BPE" : "(none)";
    bool bpe = !strcmp(type, "BPE");
    if (!bpe && strcmp(type, "Unigram")) {
        gr_fail(err, GRAFT_UNSUPPORTED, "the tokenizer's model \"%.60s\" is not supported", type);
        return gr_expected(err, "BPE, Unigram");
    }
    GR_TRY(gr_member_bool(model, "byte_fallback", false, &words->byte_fallback, err));
    GR_TRY(bpe ? read_bpe(words, model, err) : read_unigram(words, model, err));
    for (int b = 0; b < 256; b++) {
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        words->byte_id[b] = gr_vocab_id(&words->vocab, name, 6);
    }
    return GRAFT_OK;
}

static graft_status read_added_token(gr_tokenizer *tok, const json_t *node, graft_error *err) {
    const char *content;
    gr_added_token token = {0};
    GR_TRY(gr_member_string(node, "content", &content, &token.len, err));
    if (!content) return gr_fail(err, GRAFT_CORRUPT, "an added token of the tokenizer has no content");
    token.content = (char *)(uintptr_t)content; /* gr_added_put copies it */
    GR_TRY(gr_member_bool(node, "single_word", false, &token.single_word, err));
    GR_TRY(gr_member_bool(node, "lstrip", false, &token.lstrip, err));
    GR_TRY(gr_member_bool(node, "rstrip", false, &token.rstrip, err));
    GR_TRY(gr_member_bool(node, "special", false, &token.special, err));
    GR_TRY(gr_member_bool(node, "normalized", !token.special, &token.normalized, err));
    return gr_added_put(&tok->added, &token, gr_vocab_id(&tok->words.vocab, content, token.len),
                        (int32_t)tok->words.vocab.count, err);
}

static graft_status read_added(gr_tokenizer *tok, graft_error *err) {
    const json_t *list = json_object_get(tok->parts, "added_tokens"), *item;
    size_t i;
    if (!list || json_is_null(list)) return GRAFT_OK;
    if (!json_is_array(list))
        return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's added_tokens are not a list");
    json_array_foreach(list, i, item) GR_TRY(read_added_token(tok, item, err));
    return GRAFT_OK;
}

static graft_status read_settings(json_t **settings, const gr_tokenizer_texts *from, graft_error *err) {
    if (!from->config) return GRAFT_OK;
    GR_TRY(gr_json_parse(settings, from->config, from->config_len, "tokenizer_config.json", err));
    if (json_is_object(*settings)) return GRAFT_OK;
    gr_fail(err, GRAFT_CORRUPT, "not a JSON object");
    return gr_where(err, "tokenizer_config.json");
}

static graft_status build_parts(gr_tokenizer *tok, graft_error *err) {
    GR_TRY(gr_subwords_from_json(&tok->words, json_object_get(tok->parts, "model"), err));
    json_object_del(json_object_get(tok->parts, "model"), "vocab");
    json_object_del(json_object_get(tok->parts, "model"), "merges");
    GR_TRY(gr_normalizer_from_json(&tok->normalizer, json_object_get(tok->parts, "normalizer"), err));
    GR_TRY(gr_pretokenizer_from_json(&tok->pre, json_object_get(tok->parts, "pre_tokenizer"), err));
    GR_TRY(gr_postprocessor_from_json(&tok->post, json_object_get(tok->parts, "post_processor"), err));
    GR_TRY(gr_decoder_from_json(&tok->decoder, json_object_get(tok->parts, "decoder"), err));
    GR_TRY(read_added(tok, err));
    json_object_del(tok->parts, "added_tokens");
    return GRAFT_OK;
}

/* settings: tokenizer_config.json, NULL none; borrowed. */
static graft_status build(gr_tokenizer *tok, const gr_tokenizer_texts *from, json_t *settings,
                          graft_error *err) {
    GR_TRY(gr_json_parse(&tok->parts, from->json, from->len, from->name, err));
    if (!json_is_object(tok->parts)) return gr_fail(err, GRAFT_CORRUPT, "the tokenizer is not a JSON object");
    if (from->llama && settings) GR_TRY(gr_spm_class_parts(tok->parts, settings, err));
    GR_TRY(build_parts(tok, err));
    GR_TRY(gr_tokenizer_apply_config(tok, json_incref(settings), err));
    GR_TRY(gr_added_finish(&tok->added, tok->normalizer, err));
    return tok->words.unigram ? gr_unigram_grow(tok->words.unigram, &tok->words.vocab, &tok->added, err)
                              : GRAFT_OK;
}

graft_status gr_tokenizer_build(gr_tokenizer **tok, const gr_tokenizer_texts *from, graft_error *err) {
    *tok = NULL;
    graft_error local = {0};
    json_t *settings = NULL;
    if (!err) err = &local;
    gr_tokenizer *t = gr_calloc(1, sizeof *t);
    if (!t) return gr_no_memory(err, sizeof *t);
    graft_status st = read_settings(&settings, from, err);
    if (!st) st = build(t, from, settings, err);
    json_decref(settings);
    if (!st) {
        *tok = t;
        return GRAFT_OK;
    }
    gr_tokenizer_free(t);
    gr_where(err, "%s", from->name);
    return st;
}

graft_status gr_tokenizer_from_json(gr_tokenizer **tok, const char *json, size_t len, const char *config,
                                    size_t config_len, const char *name, graft_error *err) {
    gr_tokenizer_texts from = {json, config, len, config_len, name, false};
    return gr_tokenizer_build(tok, &from, err);
}
