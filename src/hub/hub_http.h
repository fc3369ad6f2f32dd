/* hub/hub_http.h - one request after the other over HTTP. The only file that knows libcurl is hub_http.c;
 * built without it, gr_http_open is GRAFT_UNSUPPORTED and says so.
 */
#ifndef GR_HUB_HUB_HTTP_H
#define GR_HUB_HUB_HTTP_H
#include "base/memory.h"

typedef struct gr_http gr_http;
typedef struct gr_http_limits {
    double stall_seconds; /* without a byte: the connection counts as cut */
    const volatile int *stop;
} gr_http_limits;
/* Is it http to this machine itself: localhost, 127.0.0.1 or [::1]? */
bool gr_http_is_local(const char *url);
/* May anything be fetched with this build? */
bool gr_http_built(void);
/* Owned by caller until gr_http_close. token: sent to the first host alone; NULL none. */
graft_status gr_http_open(gr_http **http, const gr_http_limits *limits, const char *token,
                          graft_error *err) GR_MUST_CHECK;
void gr_http_close(gr_http *http);

typedef struct gr_http_answer {
    int status;       /* of the last response; 0: none came */
    bool again;       /* what failed may succeed later */
    uint64_t from;    /* of a part: its first byte */
    uint64_t length;  /* of the body; UINT64_MAX unknown */
    int retry_after;  /* seconds; 0 not said */
    char etag[130];   /* of the first response: X-Linked-Etag, else ETag, without quotes; "" none */
    uint64_t linked;  /* of the first response: X-Linked-Size; UINT64_MAX none */
    char reason[200]; /* X-Error-Message, printable; "" none */
} gr_http_answer;
/* Bytes of the body of a 200 or 206. An error ends the request and becomes its result. */
typedef graft_status gr_http_body(void *context, const gr_http_answer *answer, const void *bytes, size_t n,
                                  graft_error *err);
typedef struct gr_http_wish {
    const char *url; /* percent-encoded, http or https */
    uint64_t from;   /* > 0: the bytes from there on, which a server may not heed (it answers 200 then) */
    bool head;       /* no body */
    gr_http_body *body;
    void *context;
} gr_http_wish;
/* GRAFT_OK when a response came whole, whatever its status. GRAFT_IO when the network failed,
 * GRAFT_INTERRUPTED by the stop flag. Follows redirects, from https to https alone. */
graft_status gr_http_get(gr_http *http, const gr_http_wish *wish, gr_http_answer *answer,
                         graft_error *err) GR_MUST_CHECK;

#endif
