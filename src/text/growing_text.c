#include "text/growing_text.h"

#define WINDOW 16 /* ids that are decoded again before the text is taken on from a later one */

static const char unknown[] = "\xef\xbf\xbd"; /* U+FFFD: of a character that is not whole yet, too */

void gr_growing_text_free(gr_growing_text *g) {
    gr_buf_free(&g->text);
    *g = (gr_growing_text){0};
}

/* Without the last characters that are cut in two, which decode as U+FFFD until their rest is there. */
static size_t without_halves(const gr_buf *text) {
    size_t len = text->len;
    while (len >= 3 && memcmp(text->data + len - 3, unknown, 3) == 0) len -= 3;
    return len;
}

/* Takes the text on from the last id, which stands for all before it: it has text of its own, so that nothing
 * is taken away from the beginning of what follows, and that ends in a whole character. */
static graft_status restart(gr_growing_text *g, const gr_tokenizer *tok, const int32_t *ids, size_t count,
                            graft_error *err) {
    gr_buf alone = {0};
    graft_status st = gr_tokenizer_decode(tok, ids + count - 1, 1, true, &alone, err);
    if (st == GRAFT_OK && alone.len && without_halves(&alone) == alone.len) {
        g->from = count - 1;
        g->known = alone.len;
        g->kept = g->text.len;
    }
    gr_buf_free(&alone);
    return st;
}

graft_status gr_growing_text_add(gr_growing_text *g, const gr_tokenizer *tok, const int32_t *ids,
                                 size_t count, graft_error *err) {
    gr_buf window = {0};
    gr_token_role role = gr_tokenizer_role(tok, ids[count - 1]);
    if (role == GR_TOKEN_SILENT) return GRAFT_OK;
    graft_status st = gr_tokenizer_decode(tok, ids + g->from, count - g->from, true, &window, err);
    if (st == GRAFT_OK) {
        g->text.len = g->kept;
        gr_buf_add(&g->text, window.data ? window.data + g->known : "", window.len - g->known);
        if (g->text.failed) st = gr_no_memory(err, window.len);
    }
    gr_buf_free(&window);
    if (st != GRAFT_OK) return st;
    if (role != GR_TOKEN_BYTE) g->steady = g->text.len;
    g->whole = without_halves(&g->text);
    g->settled = gr_min_size(g->whole, g->steady);
    if (role != GR_TOKEN_WHOLE || g->whole < g->text.len || count - g->from < WINDOW) return GRAFT_OK;
    return restart(g, tok, ids, count, err);
}
