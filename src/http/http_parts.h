/* http/http_parts.h - what the files of the server share: libmicrohttpd's calls, connections, exchanges.
 * Locks: a server's lock guards its list of connections; an exchange's guards its answer. Who takes both
 * takes the server's first.
 */
#ifndef GR_HTTP_HTTP_PARTS_H
#define GR_HTTP_HTTP_PARTS_H
#include "http/http.h"
#include <microhttpd.h>
#include <pthread.h>

/* libmicrohttpd's calls: X(name, result, arguments) */
#define GR_MHD_CALLS(X)                                                                                      \
    X(start_daemon, struct MHD_Daemon *,                                                                     \
      (unsigned, uint16_t, MHD_AcceptPolicyCallback, void *, MHD_AccessHandlerCallback, void *, ...))        \
    X(stop_daemon, void, (struct MHD_Daemon *))                                                              \
    X(quiesce_daemon, MHD_socket, (struct MHD_Daemon *))                                                     \
    X(suspend_connection, void, (struct MHD_Connection *))                                                   \
    X(resume_connection, void, (struct MHD_Connection *))                                                    \
    X(get_connection_info, const union MHD_ConnectionInfo *,                                                 \
      (struct MHD_Connection *, enum MHD_ConnectionInfoType, ...))                                           \
    X(lookup_connection_value, const char *, (struct MHD_Connection *, enum MHD_ValueKind, const char *))    \
    X(create_response_from_buffer, struct MHD_Response *, (size_t, void *, enum MHD_ResponseMemoryMode))     \
    X(create_response_from_callback, struct MHD_Response *,                                                  \
      (uint64_t, size_t, MHD_ContentReaderCallback, void *, MHD_ContentReaderFreeCallback))                  \
    X(add_response_header, enum MHD_Result, (struct MHD_Response *, const char *, const char *))             \
    X(queue_response, enum MHD_Result, (struct MHD_Connection *, unsigned, struct MHD_Response *))           \
    X(destroy_response, void, (struct MHD_Response *))
typedef struct gr_mhd {
#define X(name, result, arguments) result(*name) arguments;
    GR_MHD_CALLS(X)
#undef X
} gr_mhd;

/* A client's connection. Guarded by its server's lock. */
typedef struct gr_link {
    gr_serve *server;
    struct gr_link *before, *after;
    int fd;
    double since;     /* clock when it began to owe us a request; 0: it waits for an answer */
    bool served;      /* it had an answer before */
    gr_exchange *now; /* the request that has begun; NULL: none */
} gr_link;

struct gr_serve {
    gr_mhd call;
    gr_serve_wish wish; /* defaults filled in; host is owned */
    struct MHD_Daemon *daemon;
    int listening, port;
    bool local; /* listens on this machine alone */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t watcher;
    bool watching, over, stopping;
    gr_link *links;
};

enum { GR_SERVE_HEADERS = 4 }; /* of an answer, beside its type */
struct gr_exchange {
    pthread_mutex_t lock;
    int references; /* atomic: the server's, the keeper's, the response's */
    gr_serve *server;
    struct MHD_Connection *connection; /* NULL: the answer went out, or its client went away */
    char *method, *path;
    gr_buf body;
    size_t discarded; /* bytes of a body that nobody looks at */
    bool handled, too_long;
    int status; /* of the answer; 0: none yet */
    const char *type;
    char *header[GR_SERVE_HEADERS][2]; /* name and value */
    int headers;
    gr_buf out;  /* what the client has not got */
    size_t sent; /* bytes of it that it has */
    bool kept, streamed, ended, suspended;
    bool cut; /* nobody reads on */
};

/* exchange.c: libmicrohttpd's callbacks; user is the server. */
enum MHD_Result gr_exchange_on_request(void *user, struct MHD_Connection *connection, const char *url,
                                       const char *method, const char *version, const char *upload,
                                       size_t *upload_bytes, void **context);
void gr_exchange_on_completed(void *user, struct MHD_Connection *connection, void **context,
                              enum MHD_RequestTerminationCode how);
/* Nobody reads on: a waiting connection goes on, to its end. */
void gr_exchange_cut(gr_exchange *x);
/* http.c: what a connection carries. */
gr_link *gr_serve_link(gr_serve *s, struct MHD_Connection *connection);

#endif
