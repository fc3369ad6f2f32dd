/* Byte-pair merging of one piece of text: a linked list of symbols and a heap of candidate merges, lowest
 * rank first, leftmost on equal ranks. O(n log n): every merge removes a symbol and adds at most two
 * candidates. */
#include "text/token_parts.h"

static bool add_symbol(gr_encode_work *work, int32_t id, size_t start, size_t len) {
    if (!gr_grow((void **)&work->symbols, &work->symbols_cap, work->nsymbols, sizeof *work->symbols))
        return false;
    int32_t i = (int32_t)work->nsymbols++;
    if (i) work->symbols[i - 1].next = i;
    work->symbols[i] = (gr_bpe_symbol){id, i - 1, -1, (uint32_t)start, (uint32_t)len};
    return true;
}

/* Id of one character, with the prefix or suffix that its place in the word asks for. */
static int32_t char_token(const gr_subwords *words, const char *s, size_t len, int32_t code, bool first,
                          bool last, gr_buf *affixed) {
    bool prefix = !first && words->prefix, suffix = last && words->suffix;
    if (!prefix && !suffix)
        return (uint32_t)code < 0x400 ? words->char_id[code] : gr_vocab_id(&words->vocab, s, len);
    gr_buf_clear(affixed);
    if (prefix) gr_buf_puts(affixed, words->prefix);
    gr_buf_add(affixed, s, len);
    if (suffix) gr_buf_puts(affixed, words->suffix);
    return affixed->failed ? -1 : gr_vocab_id(&words->vocab, affixed->data, affixed->len);
}

static bool bytes_known(const gr_subwords *words, const char *s, size_t len) {
    if (!words->byte_fallback) return false;
    for (size_t i = 0; i < len; i++)
        if (words->byte_id[(uint8_t)s[i]] < 0) return false;
    return true;
}

/* The characters of the piece as symbols. An unknown character becomes bytes, the unknown token or nothing; a
 * pending unknown token is written when the next known character comes, after any bytes between them (as
 * tokenizers does). */
static bool first_symbols(const gr_subwords *words, const char *s, size_t n, gr_encode_work *work,
                          gr_buf *affixed) {
    size_t unk_start = 0, unk_len = 0; /* unk_len > 0: pending */
    bool ok = true;
    work->nsymbols = 0;
    for (size_t i = 0, len; i < n && ok; i += len) {
        int32_t code;
        len = (size_t)gr_utf8_get(s + i, n - i, &code);
        int32_t id = char_token(words, s + i, len, code, i == 0, i + len >= n, affixed);
        if (id >= 0) {
            if (unk_len) ok = add_symbol(work, words->unk, unk_start, unk_len);
            unk_len = 0;
            ok = ok && add_symbol(work, id, i, len);
        } else if (bytes_known(words, s + i, len)) {
            for (size_t k = 0; k < len && ok; k++)
                ok = add_symbol(work, words->byte_id[(uint8_t)s[i + k]], i + k, 1);
        } else if (words->unk >= 0) {
            if (unk_len && !words->fuse_unk)
                ok = add_symbol(work, words->unk, unk_start, unk_len), unk_len = 0;
            if (!unk_len) unk_start = i;
            unk_len += len;
        }
    }
    if (unk_len && ok) ok = add_symbol(work, words->unk, unk_start, unk_len);
    return ok && !affixed->failed;
}

static bool before(gr_bpe_candidate a, gr_bpe_candidate b) {
    return a.rank != b.rank ? a.rank < b.rank : a.pos < b.pos;
}

static bool heap_push(gr_encode_work *work, gr_bpe_candidate c) {
    if (!gr_grow((void **)&work->heap, &work->heap_cap, work->nheap, sizeof *work->heap)) return false;
    size_t i = work->nheap++;
    while (i && before(c, work->heap[(i - 1) / 2])) {
        work->heap[i] = work->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    work->heap[i] = c;
    return true;
}

static gr_bpe_candidate heap_pop(gr_encode_work *work) {
    gr_bpe_candidate top = work->heap[0], last = work->heap[--work->nheap];
    size_t i = 0, n = work->nheap;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(work->heap[child + 1], work->heap[child])) child++;
        if (!before(work->heap[child], last)) break;
        work->heap[i] = work->heap[child];
    }
    if (n) work->heap[i] = last;
    return top;
}

/* Offers the pair that begins at symbol pos, if it can merge. */
static bool offer(const gr_subwords *words, gr_encode_work *work, int32_t pos) {
    if (pos < 0 || work->symbols[pos].next < 0) return true;
    const gr_bpe_symbol *s = &work->symbols[pos];
    const gr_merge *m = gr_merges_get(&words->merges, s->id, work->symbols[s->next].id);
    return !m || heap_push(work, (gr_bpe_candidate){m->rank, pos, m->made});
}

static bool merge_all(const gr_subwords *words, gr_encode_work *work) {
    work->nheap = 0;
    for (size_t i = 0; i < work->nsymbols; i++)
        if (!offer(words, work, (int32_t)i)) return false;
    while (work->nheap) {
        gr_bpe_candidate top = heap_pop(work);
        gr_bpe_symbol *s = &work->symbols[top.pos];
        if (!s->len || s->next < 0) continue;
        gr_bpe_symbol *right = &work->symbols[s->next];
        /* A candidate is out of date when its pair has changed; one that still makes the same token counts,
         * with the rank it was offered at. */
        const gr_merge *m = gr_merges_get(&words->merges, s->id, right->id);
        if (!m || m->made != top.made) continue;
        s->id = top.made;
        s->len += right->len;
        s->next = right->next;
        right->len = 0;
        if (s->next >= 0) work->symbols[s->next].prev = top.pos;
        if (!offer(words, work, s->prev) || !offer(words, work, top.pos)) return false;
    }
    return true;
}

graft_status gr_bpe_encode(const gr_subwords *words, const gr_ntext *text, size_t start, size_t end,
                           gr_encode_work *work, graft_error *err) {
    const char *s = text->data + start;
    int32_t whole = words->ignore_merges ? gr_vocab_id(&words->vocab, s, end - start) : -1;
    if (whole >= 0) {
        bool ok = gr_ids_push(&work->ids, whole) && gr_ids_push(&work->starts, (int32_t)text->origin[start]);
        return ok ? GRAFT_OK : gr_no_memory(err, sizeof whole);
    }
    gr_buf affixed = {0};
    bool ok = first_symbols(words, s, end - start, work, &affixed) && merge_all(words, work);
    gr_buf_free(&affixed);
    for (int32_t i = work->nsymbols ? 0 : -1; ok && i >= 0; i = work->symbols[i].next) {
        ok = gr_ids_push(&work->ids, work->symbols[i].id) &&
             gr_ids_push(&work->starts, (int32_t)text->origin[start + work->symbols[i].start]);
    }
    return ok ? GRAFT_OK : gr_no_memory(err, work->symbols_cap * sizeof *work->symbols);
}

void gr_encode_work_free(gr_encode_work *work) {
    gr_ntext_free(&work->input);
    gr_ntext_free(&work->segment);
    gr_ntext_free(&work->scratch);
    gr_pieces_free(&work->cut);
    gr_pieces_free(&work->pieces);
    gr_pieces_free(&work->other);
    gr_match_spans_free(&work->spans);
    free(work->symbols);
    free(work->heap);
    free(work->best);
    gr_ids_free(&work->ids);
    gr_ids_free(&work->starts);
    gr_ids_free(&work->swap_ids);
    gr_ids_free(&work->swap_starts);
    memset(work, 0, sizeof *work);
}

void gr_subwords_free(gr_subwords *words) {
    gr_vocab_free(&words->vocab);
    gr_unigram_free(words->unigram);
    gr_merges_free(&words->merges);
    free(words->prefix);
    free(words->suffix);
    memset(words, 0, sizeof *words);
}
