/* infer/stops.h - texts that end an answer, wherever token seams fall. May include: base.
 */
#ifndef GR_INFER_STOPS_H
#define GR_INFER_STOPS_H
#include "base/memory.h"
#include <jansson.h>

typedef struct gr_stops {
    json_t *texts;  /* array of strings, owned; NULL: none */
    size_t checked; /* bytes of the answer that have been looked at */
} gr_stops;

/* list: a JSON array of strings, none empty, or NULL; anything else is GRAFT_USAGE. Owned by caller until
 * gr_stops_free. */
graft_status gr_stops_init(gr_stops *s, const char *list, graft_error *err) GR_MUST_CHECK;
void gr_stops_free(gr_stops *s);

/* text [len] is the answer so far, which begins with what the last call saw, but for gr_stops_again. True
 * when a stop text is complete in it: the answer is its first *end bytes. Of several the one that is complete
 * first counts, and of those the longest, so that it does not matter how much text comes at a time. */
bool gr_stops_find(gr_stops *s, const char *text, size_t len, size_t *end);
/* Of what was looked at only the first `len` bytes stay as they are. */
void gr_stops_again(gr_stops *s, size_t len);
/* How many bytes at the end of text [len], in which nothing was found, may be the beginning of a stop text.
 */
size_t gr_stops_held(const gr_stops *s, const char *text, size_t len);

#endif
