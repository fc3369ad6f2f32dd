/* text/growing_text.h - the text of ids that come one after the other, in time that does not grow with them.
 * May include: base, files, text. Never: models.
 */
#ifndef GR_TEXT_GROWING_TEXT_H
#define GR_TEXT_GROWING_TEXT_H
#include "text/tokenizer.h"

/* Zeroed: nothing yet. */
typedef struct gr_growing_text {
    gr_buf text;    /* what gr_tokenizer_decode makes of all ids, without special tokens */
    size_t whole;   /* so many of its bytes are whole characters .. */
    size_t settled; /* .. and so many no further id changes */
    /* Only the ids from `from` on are decoded again. Of their text the first `known` bytes end, within
     * `text`, at `kept`. */
    size_t from, known, kept;
    size_t steady; /* bytes before a run of byte tokens at the end */
} gr_growing_text;

void gr_growing_text_free(gr_growing_text *g);
/* ids [count], of which the last one is new. errors  GRAFT_NO_MEMORY, GRAFT_RANGE; of a decoder that makes
 * too much of its tokens */
graft_status gr_growing_text_add(gr_growing_text *g, const gr_tokenizer *tok, const int32_t *ids,
                                 size_t count, graft_error *err) GR_MUST_CHECK;

#endif
