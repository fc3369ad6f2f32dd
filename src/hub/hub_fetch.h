/* hub/hub_fetch.h - a repository's files into the cache, each checked against the digest that the hub
 * announces.
 *
 * What arrives is kept as DIGEST.incomplete, from where a later call goes on, whatever ended this one. A blob
 * gets its name when its bytes are checked and on the disk; the revision's name comes last, so that nothing
 * finds half a model.
 */
#ifndef GR_HUB_HUB_FETCH_H
#define GR_HUB_HUB_FETCH_H
#include "hub/hub_ask.h"

typedef struct gr_hub_wish {
    const char *name;    /* owner/name or owner/name@revision */
    const char *include; /* file-name patterns separated by commas; NULL: what a model needs */
    gr_hub_limits limits;
    void (*progress)(void *context, uint64_t done, uint64_t total); /* bytes; may be NULL */
    void *context;
} gr_hub_wish;
typedef struct gr_hub_got {
    char *path; /* of the snapshot; malloc'ed */
    char commit[41];
    size_t files;     /* chosen */
    uint64_t bytes;   /* of these */
    uint64_t fetched; /* bytes that came over the network now */
} gr_hub_got;

/* Over the way that gr_hub_link_open takes. GRAFT_NOT_FOUND, GRAFT_IO, GRAFT_CORRUPT (other
 * bytes than announced), GRAFT_INTERRUPTED, GRAFT_UNSUPPORTED (built without libcurl). */
graft_status gr_hub_fetch(const gr_hub_wish *wish, gr_hub_got *got, graft_error *err) GR_MUST_CHECK;
void gr_hub_got_free(gr_hub_got *got);

#endif
