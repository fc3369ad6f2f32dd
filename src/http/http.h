/* http/http.h - a small HTTP/1.1 server over libmicrohttpd: requests come whole, answers go out at once or
 * piece by piece, from any thread. It knows nothing of what is served.
 *
 *     static void hello(void *user, const gr_serve_request *r, gr_exchange *x) {
 *         if (strcmp(r->path, "/")) gr_serve_reply(x, 404, "text/plain", "no such page\n", 13);
 *         else gr_serve_reply(x, 200, "text/plain", "hello\n", 6);
 *     }
 *     gr_serve_wish wish = {.handler = hello};
 *     GR_TRY(gr_serve_open(&server, &wish, err));      // gr_serve_port(server)
 *     ...
 *     gr_serve_close(server, 5);
 *
 * Events for a page (text/event-stream): in the handler gr_serve_keep(x) and gr_serve_begin(x, 200,
 * "text/event-stream"); later, in any thread, gr_serve_send(x, "data: 1\n\n", 9) until it is false, then
 * gr_serve_end(x) and gr_serve_drop(x).
 *
 * libmicrohttpd is loaded when a server is opened, so that programs that open none do not carry it; built
 * without its headers, gr_serve_open is GRAFT_UNSUPPORTED and says so. Each server has two threads: one in
 * which all its handlers run, one that cuts who is late and sees who left. May include: base. Never: prints,
 * installs a handler of signals, keeps global state.
 *
 * What a client cannot do: send more than its limits (413, 431), take longer than `request_seconds` over a
 * request (408), hold more than `connections`, and, where the server listens on this machine alone, come by
 * another name (403: a page elsewhere whose name was made to lead here) than this machine's and `names`.
 * Malformed requests are 400.
 */
#ifndef GR_HTTP_HTTP_H
#define GR_HTTP_HTTP_H
#include "base/memory.h"

typedef struct gr_serve gr_serve;       /* a server */
typedef struct gr_exchange gr_exchange; /* a request and its answer */

/* Borrowed: until the handler returns. */
typedef struct gr_serve_request {
    const char *method; /* GET, POST .. HEAD may be answered as GET: its body is left out */
    const char *path;   /* percent-decoded, without the query */
    const char *body;   /* never NULL; followed by a NUL */
    size_t length;
} gr_serve_request;
/* Called in the server's thread, one at a time: must be quick. It replies, or begins, or keeps the exchange
 * for somebody who will. If it does nothing the answer is 500. */
typedef void gr_serve_handler(void *user, const gr_serve_request *request, gr_exchange *x);

/* Zero means the default. */
typedef struct gr_serve_wish {
    const char *host; /* a name or address of this machine: 127.0.0.1 */
    int port;         /* 0: any that is free; gr_serve_port says which */
    gr_serve_handler *handler;
    gr_serve_handler *door; /* NULL: none. Asked when the headers are there, without the body: what it replies
                               to is not read on, else the handler is asked in the end. It does not keep x */
    /* NULL: plain text. Replies, in the server's thread, for what the server itself refuses: 403, 413,
       500 where a handler did nothing, 503 */
    void (*refuse)(void *user, gr_exchange *x, int status, const char *why);
    void *user;
    const char *const
        *names;             /* that it has beside this machine's own, ended by NULL; may be NULL; borrowed */
    size_t body_bytes;      /* of a request: 1 MiB */
    size_t unsent_bytes;    /* of a stream that is not read: 8 MiB, then it is cut */
    unsigned connections;   /* at once: 64; more wait for their turn */
    double request_seconds; /* for a whole request, from the connection's beginning or the last answer's end:
                               30; and for a client to go on reading */
} gr_serve_wish;

/* Listens and serves. Owned by caller until gr_serve_close.
 * errors  GRAFT_IO: the address is in use, or is none of this machine; GRAFT_UNSUPPORTED */
graft_status gr_serve_open(gr_serve **server, const gr_serve_wish *wish, graft_error *err) GR_MUST_CHECK;
int gr_serve_port(const gr_serve *server);
bool gr_serve_local(const gr_serve *server); /* listens on this machine alone */
/* Takes no more connections (requests on open ones are 503), waits up to `seconds` for answers that have
 * begun or are owed, then cuts the rest. Exchanges that are still kept stay valid and are `gone`. NULL: does
 * nothing. Not from a handler. */
void gr_serve_close(gr_serve *server, double seconds);

/* ---- in the handler */
/* The value of a header, NULL where it is missing; borrowed until the handler returns. */
const char *gr_serve_header(const gr_exchange *x, const char *name);
/* Keeps the exchange beyond the handler, until gr_serve_drop. */
void gr_serve_keep(gr_exchange *x);

/* ---- in any thread, while the exchange is kept or its handler runs */
/* A header of the answer; before reply or begin. name and value are copied; no line ends. */
void gr_serve_add_header(gr_exchange *x, const char *name, const char *value);
/* The whole answer; type is a constant. A second reply does nothing. */
void gr_serve_reply(gr_exchange *x, int status, const char *type, const char *body, size_t length);
/* An answer in pieces: begin, send any number of times, end. send is false once nobody will read it: the
 * client went away or is too slow, the server closes, or memory ran out. A stream that is dropped before its
 * end is cut, which the client can tell. */
void gr_serve_begin(gr_exchange *x, int status, const char *type);
bool gr_serve_send(gr_exchange *x, const char *bytes, size_t length);
void gr_serve_end(gr_exchange *x);
/* Will nobody read an answer? Known within a quarter of a second of the client's leaving (a client that
 * closes its sending half counts as one that left). */
bool gr_serve_gone(gr_exchange *x);
/* Gives a kept exchange back; where nobody replied or began the answer is 500, in plain text: the server may
 * be closed by now, and who would refuse be gone with it. */
void gr_serve_drop(gr_exchange *x);

#endif
