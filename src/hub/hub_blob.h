/* hub/hub_blob.h - one file on its way: DIGEST.incomplete grows, is checked, and becomes a blob. */
#ifndef GR_HUB_HUB_BLOB_H
#define GR_HUB_HUB_BLOB_H
#include "base/os.h"
#include "base/sha.h"
#include "hub/hub_http.h"
#include "hub/hub_list.h"

typedef struct gr_hub_blob {
    const gr_hub_file *file; /* with size and digest */
    char *path, *part;       /* the blob; what has arrived */
    int fd;
    uint64_t have; /* bytes of the part, all of them in `sha` */
    gr_sha sha;
    bool started;     /* this request's body has begun; the caller clears it before each */
    uint64_t fetched; /* over the network */
    const volatile int *stop;
    void (*progress)(void *context, uint64_t have); /* may be NULL */
    void *context;
} gr_hub_blob;
/* Opens the part in `dir` and reads what is there of it, or begins anew where that is longer than the file.
 * GRAFT_INTERRUPTED by the stop flag. Closed with gr_hub_blob_close, also after an error. */
graft_status gr_hub_blob_open(gr_hub_blob *blob, const gr_hub_file *file, const char *dir,
                              graft_error *err) GR_MUST_CHECK;
/* The body's reader of an HTTP request (context: the blob): appends, or begins anew where the server sends
 * all. */
gr_http_body gr_hub_blob_take;
graft_status gr_hub_blob_restart(gr_hub_blob *blob, graft_error *err) GR_MUST_CHECK;
/* All bytes are there: compares the digest and gives the blob its name. GRAFT_CORRUPT removes the part. */
graft_status gr_hub_blob_finish(gr_hub_blob *blob, graft_error *err) GR_MUST_CHECK;
void gr_hub_blob_close(gr_hub_blob *blob); /* what arrived is on the disk */

#endif
