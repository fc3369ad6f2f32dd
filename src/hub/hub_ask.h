/* hub/hub_ask.h - the way to the hub: its address and our token from the environment, and requests that are
 * made again when what failed may pass.
 */
#ifndef GR_HUB_HUB_ASK_H
#define GR_HUB_HUB_ASK_H
#include "hub/hub_http.h"

typedef struct gr_hub_limits {
    int tries;           /* of one request, when what failed may succeed later */
    double wait_seconds; /* before the second try; twice as long before each further one */
    double stall_seconds;
    const volatile int *stop;
    void (*note)(void *context, const char *text); /* may be NULL */
    void *context;
} gr_hub_limits;
typedef struct gr_hub_link {
    gr_http *http;
    char *endpoint;   /* without a slash at its end */
    const char *name; /* of the repository; borrowed */
    gr_hub_limits limits;
} gr_hub_link;
/* From HF_ENDPOINT (https://huggingface.co), with the token of HF_TOKEN or of the file HF_TOKEN_PATH,
 * HF_HOME/token or
 * ~/.cache/huggingface/token, which goes over https or to this machine alone. HF_HUB_OFFLINE: GRAFT_USAGE.
 * Closed with gr_hub_link_close, also after an error. */
graft_status gr_hub_link_open(gr_hub_link *link, const char *name, const gr_hub_limits *limits,
                              graft_error *err) GR_MUST_CHECK;
void gr_hub_link_close(gr_hub_link *link);

/* One small answer, with as many tries as the limits allow; text NULL: only the headers. `what` is asked for,
 * in errors. */
graft_status gr_hub_ask(gr_hub_link *link, const char *url, const char *what, gr_buf *text,
                        gr_http_answer *answer, graft_error *err) GR_MUST_CHECK;
/* After try number `tried` (from 1) failed with `why`: waits, where that may pass, or gives up with it. */
graft_status gr_hub_before_next(const gr_hub_link *link, int tried, const gr_http_answer *answer,
                                const graft_error *why, graft_error *err) GR_MUST_CHECK;
/* GRAFT_OK for an answer that holds what was asked for; else what its status means. */
graft_status gr_hub_check_answer(const gr_hub_link *link, const gr_http_answer *answer, const char *what,
                                 graft_error *err) GR_MUST_CHECK;
/* Appends text as it stands in an address; `kept` are characters that stay beside the usual ones. */
void gr_hub_put_escaped(gr_buf *out, const char *text, const char *kept);

#endif
