/* The tokenizer's calls: encode, decode and look-ups. */
#include "text/tokenizer.h"
#include "text/token_parts.h"

void gr_ids_free(gr_ids *ids) {
    free(ids->ids);
    memset(ids, 0, sizeof *ids);
}

bool gr_ids_push(gr_ids *ids, int32_t id) {
    if (!gr_grow((void **)&ids->ids, &ids->cap, ids->count, sizeof *ids->ids)) return false;
    ids->ids[ids->count++] = id;
    return true;
}

void gr_tokenizer_free(gr_tokenizer *tok) {
    if (!tok) return;
    json_decref(tok->parts);
    json_decref(tok->config);
    gr_subwords_free(&tok->words);
    gr_added_free(&tok->added);
    gr_normalizer_free(tok->normalizer);
    gr_pretokenizer_free(tok->pre);
    gr_postprocessor_free(tok->post);
    gr_decoder_free(tok->decoder);
    free(tok->stops);
    free(tok);
}

/* What the normalizer took away at the front belongs to the first character that is left: a text still begins
 * where it began (Metaspace asks for that). */
static void keep_beginning(gr_ntext *text, uint32_t origin) {
    int32_t code;
    if (!text->len) return;
    for (int i = gr_utf8_get(text->data, text->len, &code); i-- > 0;) text->origin[i] = origin;
}

/* Cuts work->input at the added tokens that are matched before normalization, normalizes the rest piece by
 * piece and cuts that at the others; the result is in work->pieces. */
static graft_status cut_and_normalize(const gr_tokenizer *tok, const gr_added_rule *rule, gr_encode_work *w,
                                      graft_error *err) {
    gr_added_split(&tok->added, &tok->added.raw, rule, &w->input, 0, w->input.len, &w->cut);
    for (size_t i = 0; i < w->cut.count; i++) {
        const gr_piece *piece = &w->cut.items[i];
        if (piece->id >= 0) { /* keeps its origin in one byte; the others are not needed again, and may be
                                 many when tokens that are spaces take the same run one after the other */
            size_t at = w->pieces.text.len;
            gr_ntext_copy(&w->pieces.text, &w->input, piece->start,
                          piece->start + (piece->end > piece->start));
            gr_pieces_add(&w->pieces, at, w->pieces.text.len, piece->id);
            continue;
        }
        gr_ntext_clear(&w->segment);
        gr_ntext_copy(&w->segment, &w->input, piece->start, piece->end);
        if (w->segment.failed) return gr_no_memory(err, piece->end - piece->start);
        GR_TRY(gr_normalizer_run(tok->normalizer, &w->segment, &w->scratch, &w->spans, err));
        keep_beginning(&w->segment, w->input.origin[piece->start]);
        size_t at = w->pieces.text.len;
        gr_ntext_copy(&w->pieces.text, &w->segment, 0, w->segment.len);
        if (w->pieces.text.failed) return gr_no_memory(err, w->segment.len);
        gr_added_split(&tok->added, &tok->added.normalized, rule, &w->pieces.text, at, w->pieces.text.len,
                       &w->pieces);
    }
    return w->cut.failed || w->pieces.failed || w->pieces.text.failed ? gr_no_memory(err, w->input.len)
                                                                      : GRAFT_OK;
}

static graft_status encode(const gr_tokenizer *tok, const gr_added_rule *rule, bool add_special,
                           gr_encode_work *w, graft_error *err) {
    if (w->input.failed) return gr_no_memory(err, w->input.len);
    GR_TRY(cut_and_normalize(tok, rule, w, err));
    /* Added tokens would be cut off from their origin by steps that rewrite the text: note it now. */
    gr_ids origins = {0};
    graft_status st = GRAFT_OK;
    for (size_t i = 0; i < w->pieces.count && !st; i++) {
        const gr_piece *p = &w->pieces.items[i];
        if (p->id >= 0 &&
            !gr_ids_push(&origins, p->end > p->start ? (int32_t)w->pieces.text.origin[p->start] : 0))
            st = gr_no_memory(err, sizeof(int32_t));
    }
    if (!st) st = gr_pretokenizer_run(tok->pre, &w->pieces, &w->other, &w->spans, err);
    for (size_t i = 0, k = 0; i < w->pieces.count && !st; i++) {
        const gr_piece *p = &w->pieces.items[i];
        if (p->id < 0)
            st = (tok->words.unigram ? gr_unigram_encode : gr_bpe_encode)(&tok->words, &w->pieces.text,
                                                                          p->start, p->end, w, err);
        else if (!gr_ids_push(&w->ids, p->id) || !gr_ids_push(&w->starts, origins.ids[k++]))
            st = gr_no_memory(err, sizeof(int32_t));
    }
    gr_ids_free(&origins);
    if (!st && add_special && !gr_postprocessor_run(tok->post, w)) st = gr_no_memory(err, w->ids.count * 4);
    return st;
}

graft_status gr_answer_check(size_t before, size_t now, graft_error *err) {
    if (now <= 4096 || (now - 4096) / GR_MAX_ANSWERS <= before) return GRAFT_OK;
    gr_fail(err, GRAFT_RANGE, "the tokenizer's rules make a text too long");
    gr_expected(err, "at most %d times its %zu bytes", GR_MAX_ANSWERS, before);
    return gr_found(err, "%zu bytes", now);
}

graft_status gr_steps_check(size_t count, const char *of, graft_error *err) {
    if (count < GR_MAX_STEPS) return GRAFT_OK;
    return gr_fail(err, GRAFT_RANGE, "the tokenizer's %s has more than %d steps", of, GR_MAX_STEPS);
}

graft_status gr_tokenizer_encode_parts(const gr_tokenizer *tok, const char *text, size_t len, int flags,
                                       const gr_text_range *literal, size_t nliteral, gr_ids *out,
                                       gr_ids *starts, graft_error *err) {
    gr_added_rule rule = {(flags & GR_ENCODE_PARSE_SPECIAL) != 0, literal, nliteral};
    gr_encode_work work = {0};
    if (len > GR_MAX_TEXT / 3) /* worst case: every byte becomes a U+FFFD */
        return gr_fail(err, GRAFT_RANGE, "a text of %zu bytes is too long to encode at once", len);
    gr_ntext_sanitize(&work.input, text, len, 0);
    graft_status st = encode(tok, &rule, (flags & GR_ENCODE_ADD_SPECIAL) != 0, &work, err);
    size_t keep = out->count, keep_starts = starts ? starts->count : 0;
    for (size_t i = 0; i < work.ids.count && !st; i++)
        if (!gr_ids_push(out, work.ids.ids[i]) || (starts && !gr_ids_push(starts, work.starts.ids[i])))
            st = gr_no_memory(err, sizeof(int32_t));
    if (st) out->count = keep;
    if (st && starts) starts->count = keep_starts;
    gr_encode_work_free(&work);
    return st;
}

graft_status gr_tokenizer_encode(const gr_tokenizer *tok, const char *text, size_t len, int flags,
                                 gr_ids *out, graft_error *err) {
    return gr_tokenizer_encode_parts(tok, text, len, flags, NULL, 0, out, NULL, err);
}

/* What decoding sees of an id. NULL: nothing; models have more rows than their tokenizer tokens. */
static const char *shown(const gr_tokenizer *tok, int32_t id, bool skip_special, size_t *len) {
    const gr_added_token *added = gr_added_by_id(&tok->added, id);
    *len = added ? added->shown_len : 0;
    if (!added) return gr_vocab_token(&tok->words.vocab, id, len);
    return skip_special && added->skipped ? NULL : added->shown;
}

graft_status gr_tokenizer_decode(const gr_tokenizer *tok, const int32_t *ids, size_t count, bool skip_special,
                                 gr_buf *out, graft_error *err) {
    gr_token_text tokens = {0};
    graft_status st = GRAFT_OK;
    for (size_t i = 0; i < count && !st; i++) {
        size_t len;
        const char *token = ids[i] < 0 ? NULL : shown(tok, ids[i], skip_special, &len);
        if (ids[i] < 0) st = gr_fail(err, GRAFT_RANGE, "token id %d is negative", (int)ids[i]);
        if (!token) continue;
        gr_buf_add(&tokens.bytes, token, len);
        gr_token_text_end(&tokens);
    }
    if (!st) st = gr_decoder_run(tok->decoder, &tokens, out, err);
    gr_token_text_free(&tokens);
    return st;
}

gr_token_role gr_tokenizer_role(const gr_tokenizer *tok, int32_t id) {
    size_t len;
    const char *token = shown(tok, id, true, &len);
    if (!token) return GR_TOKEN_SILENT;
    if (gr_decoder_may_take_byte(tok->decoder, token, len)) return GR_TOKEN_BYTE;
    return gr_decoder_restarts(tok->decoder) ? GR_TOKEN_WHOLE : GR_TOKEN_BOUND;
}

int32_t gr_tokenizer_vocab_size(const gr_tokenizer *tok) {
    int32_t limit = tok->words.vocab.limit, post = gr_postprocessor_max_id(tok->post) + 1;
    if (tok->added.limit > limit) limit = tok->added.limit;
    return post > limit ? post : limit;
}

int32_t gr_tokenizer_id(const gr_tokenizer *tok, const char *token) {
    const gr_added_token *added = gr_added_by_content(&tok->added, token, strlen(token));
    return added ? added->id : gr_vocab_id(&tok->words.vocab, token, strlen(token));
}

const char *gr_tokenizer_token(const gr_tokenizer *tok, int32_t id) {
    const gr_added_token *added = gr_added_by_id(&tok->added, id);
    return added ? added->content : gr_vocab_token(&tok->words.vocab, id, NULL);
}

size_t gr_tokenizer_special_at(const gr_tokenizer *tok, const char *text, size_t n) {
    const gr_added_match *m = gr_added_longest(&tok->added.specials, text, n);
    return m ? m->len : 0;
}

bool gr_tokenizer_is_special(const gr_tokenizer *tok, int32_t id) {
    const gr_added_token *added = gr_added_by_id(&tok->added, id);
    return added && added->special;
}

int32_t gr_tokenizer_bos(const gr_tokenizer *tok) {
    return tok->bos;
}

int32_t gr_tokenizer_eos(const gr_tokenizer *tok) {
    return tok->eos;
}

const int32_t *gr_tokenizer_stops(const gr_tokenizer *tok, size_t *count) {
    *count = tok->nstops;
    return tok->stops;
}

bool gr_tokenizer_is_stop(const gr_tokenizer *tok, int32_t id) {
    for (size_t i = 0; i < tok->nstops; i++)
        if (tok->stops[i] == id) return true;
    return false;
}
