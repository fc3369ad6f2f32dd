/* What stands beside tokenizer.json: tokenizer_config.json (special tokens, chat template) and the ids that
 * end a generation. Follows transformers' TokenizersBackend. */
#include "text/chat_templates.h"
#include "text/token_parts.h"

#define MAX_STOPS 256 /* each generated token is compared with all; Llama 3 has three */

const json_t *gr_token_spelling(const json_t *value) {
    if (json_is_object(value)) value = json_object_get(value, "content");
    return json_is_string(value) ? value : NULL;
}

const char *gr_tokenizer_special(const gr_tokenizer *tok, const char *name) {
    return json_string_value(gr_token_spelling(json_object_get(tok->config, name)));
}

static graft_status put_token(gr_tokenizer *tok, const json_t *value, bool special, graft_error *err) {
    const json_t *content = gr_token_spelling(value);
    gr_added_token token = {.special = special};
    if (!content) return GRAFT_OK;
    token.content = (char *)(uintptr_t)json_string_value(content); /* gr_added_put copies it */
    token.len = json_string_length(content);
    if (json_is_object(value)) {
        GR_TRY(gr_member_bool(value, "single_word", false, &token.single_word, err));
        GR_TRY(gr_member_bool(value, "lstrip", false, &token.lstrip, err));
        GR_TRY(gr_member_bool(value, "rstrip", false, &token.rstrip, err));
        if (!special) GR_TRY(gr_member_bool(value, "special", false, &token.special, err));
        GR_TRY(gr_member_bool(value, "normalized", !token.special, &token.normalized, err));
    }
    return gr_added_put(&tok->added, &token, gr_vocab_id(&tok->words.vocab, token.content, token.len),
                        (int32_t)tok->words.vocab.count, err);
}

typedef struct decoder_row {
    long id;
    size_t order; /* of the file, for equal ids */
    const json_t *value;
} decoder_row;

static int by_id(const void *a, const void *b) {
    const decoder_row *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* added_tokens_decoder {"id": {...}} in the order of ids. */
static graft_status put_decoder_tokens(gr_tokenizer *tok, const json_t *table, graft_error *err) {
    size_t n = json_object_size(table), count = 0;
    decoder_row *rows = gr_calloc(n, sizeof *rows);
    graft_status st = rows ? GRAFT_OK : gr_no_memory(err, n * sizeof *rows);
    json_t *mutable_table = (json_t *)(uintptr_t)table;
    for (void *it = json_object_iter(mutable_table); it && rows;
         it = json_object_iter_next(mutable_table, it))
        rows[count] =
            (decoder_row){strtol(json_object_iter_key(it), NULL, 10), count, json_object_iter_value(it)},
        count++;
    if (count) qsort(rows, count, sizeof *rows, by_id);
    for (size_t i = 0; i < count && !st; i++) st = put_token(tok, rows[i].value, false, err);
    free(rows);
    return st;
}

static int32_t special_id(const gr_tokenizer *tok, const char *name) {
    const char *token = gr_tokenizer_special(tok, name);
    return token ? gr_tokenizer_id(tok, token) : -1;
}

/* Named special tokens that are no added tokens yet become such. */
static graft_status put_named_tokens(gr_tokenizer *tok, graft_error *err) {
    static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens"};
    json_t *value;
    const char *key;
    json_object_foreach(tok->config, key, value) {
        size_t n = strlen(key);
        const json_t *content = gr_token_spelling(value);
        if (n < 6 || strcmp(key + n - 6, "_token") || !content) continue;
        if (!gr_added_by_content(&tok->added, json_string_value(content), json_string_length(content)))
            GR_TRY(put_token(tok, value, true, err));
    }
    for (size_t k = 0; k < 2; k++) {
        const json_t *list = json_object_get(tok->config, lists[k]);
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *content = gr_token_spelling(json_array_get(list, i));
            if (content &&
                !gr_added_by_content(&tok->added, json_string_value(content), json_string_length(content)))
                GR_TRY(put_token(tok, json_array_get(list, i), true, err));
        }
    }
    return GRAFT_OK;
}

graft_status gr_tokenizer_apply_config(gr_tokenizer *tok, json_t *config, graft_error *err) {
    tok->config = config ? config : json_object();
    if (!tok->config) return gr_no_memory(err, 0);
    GR_TRY(put_decoder_tokens(tok, json_object_get(tok->config, "added_tokens_decoder"), err));
    GR_TRY(put_named_tokens(tok, err));
    tok->bos = special_id(tok, "bos_token");
    tok->eos = special_id(tok, "eos_token");
    return tok->eos >= 0 ? gr_tokenizer_add_stop(tok, tok->eos, err) : GRAFT_OK;
}

graft_status gr_tokenizer_add_stop(gr_tokenizer *tok, int64_t id, graft_error *err) {
    if (id < 0 || id >= GR_MAX_TOKEN_ID || gr_tokenizer_is_stop(tok, (int32_t)id)) return GRAFT_OK;
    if (tok->nstops == MAX_STOPS)
        return gr_fail(err, GRAFT_RANGE, "the model has more than %d ids that end a text", MAX_STOPS);
    if (!gr_grow((void **)&tok->stops, &tok->stops_cap, tok->nstops, sizeof *tok->stops))
        return gr_no_memory(err, sizeof *tok->stops);
    tok->stops[tok->nstops++] = (int32_t)id;
    return GRAFT_OK;
}

graft_status gr_tokenizer_add_stops(gr_tokenizer *tok, const json_t *config, graft_error *err) {
    const json_t *ids = json_object_get(config, "eos_token_id");
    if (!ids) ids = json_object_get(json_object_get(config, "text_config"), "eos_token_id");
    if (json_is_integer(ids)) GR_TRY(gr_tokenizer_add_stop(tok, json_integer_value(ids), err));
    for (size_t i = 0; i < json_array_size(ids); i++)
        if (json_is_integer(json_array_get(ids, i)))
            GR_TRY(gr_tokenizer_add_stop(tok, json_integer_value(json_array_get(ids, i)), err));
    return GRAFT_OK;
}

const char *gr_tokenizer_chat_template(const gr_tokenizer *tok, const char *name) {
    return gr_chat_template_named(json_object_get(tok->config, "chat_template"), name);
}
