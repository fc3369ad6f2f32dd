/* http/exchange.c - a request as its bytes come in, and its answer as they go out.
 */
#ifdef GRAFT_MHD
#include "base/os.h"
#include "http/http_parts.h"
#include <strings.h>

static void let_go(gr_exchange *x) {
    if (__atomic_sub_fetch(&x->references, 1, __ATOMIC_ACQ_REL)) return;
    for (int i = 0; i < x->headers; i++) free(x->header[i][0]), free(x->header[i][1]);
    gr_buf_free(&x->body);
    gr_buf_free(&x->out);
    free(x->method);
    free(x->path);
    pthread_mutex_destroy(&x->lock);
    free(x);
}

static void hold(gr_exchange *x) {
    __atomic_add_fetch(&x->references, 1, __ATOMIC_RELAXED);
}

/* Under the exchange's lock: a connection that waits for us goes on. */
static void go_on(gr_exchange *x) {
    if (!x->suspended || !x->connection) return;
    x->suspended = false;
    x->server->call.resume_connection(x->connection);
}

void gr_exchange_cut(gr_exchange *x) {
    pthread_mutex_lock(&x->lock);
    x->cut = true;
    go_on(x);
    pthread_mutex_unlock(&x->lock);
}

/* ------------------------------------------------------------------ the answer, from any thread */

void gr_serve_keep(gr_exchange *x) {
    x->kept = true;
    hold(x);
}

void gr_serve_add_header(gr_exchange *x, const char *name, const char *value) {
    pthread_mutex_lock(&x->lock);
    if (!x->status && x->headers < GR_SERVE_HEADERS && !strpbrk(value, "\r\n")) {
        char **header = x->header[x->headers];
        header[0] = gr_strdup(name), header[1] = gr_strdup(value);
        x->headers++;
    }
    pthread_mutex_unlock(&x->lock);
}

void gr_serve_reply(gr_exchange *x, int status, const char *type, const char *body, size_t length) {
    pthread_mutex_lock(&x->lock);
    if (!x->status) {
        gr_buf_add(&x->out, body, length);
        x->status = x->out.failed ? 500 : status;
        x->type = type;
        x->ended = true;
        go_on(x);
    }
    pthread_mutex_unlock(&x->lock);
}

void gr_serve_begin(gr_exchange *x, int status, const char *type) {
    pthread_mutex_lock(&x->lock);
    if (!x->status) {
        x->status = status;
        x->type = type;
        x->streamed = true;
        go_on(x);
    }
    pthread_mutex_unlock(&x->lock);
}

bool gr_serve_send(gr_exchange *x, const char *bytes, size_t length) {
    pthread_mutex_lock(&x->lock);
    bool open = x->streamed && !x->ended && !x->cut && x->connection;
    if (open) {
        if (x->sent > x->out.len / 2) { /* else a client that never catches up makes it grow for ever */
            x->out.len -= x->sent;
            memmove(x->out.data, x->out.data + x->sent, x->out.len + 1);
            x->sent = 0;
        }
        gr_buf_add(&x->out, bytes, length);
        if (x->out.failed || x->out.len - x->sent > x->server->wish.unsent_bytes) x->cut = true;
        go_on(x);
        open = !x->cut;
    }
    pthread_mutex_unlock(&x->lock);
    return open;
}

void gr_serve_end(gr_exchange *x) {
    pthread_mutex_lock(&x->lock);
    x->ended = true;
    go_on(x);
    pthread_mutex_unlock(&x->lock);
}

bool gr_serve_gone(gr_exchange *x) {
    pthread_mutex_lock(&x->lock);
    bool gone = x->cut || !x->connection;
    pthread_mutex_unlock(&x->lock);
    return gone;
}

void gr_serve_drop(gr_exchange *x) {
    static const char lost[] = "no answer was given\n";
    gr_serve_reply(x, 500, "text/plain", lost, sizeof lost - 1);
    pthread_mutex_lock(&x->lock);
    if (!x->ended) x->cut = true;
    go_on(x);
    pthread_mutex_unlock(&x->lock);
    let_go(x);
}

const char *gr_serve_header(const gr_exchange *x, const char *name) {
    return x->server->call.lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

/* ------------------------------------------------------------------ the server's thread */

/* libmicrohttpd asks for the next bytes of a stream. */
static ssize_t read_stream(void *user, uint64_t at, char *to, size_t most) {
    gr_exchange *x = user;
    (void)at;
    pthread_mutex_lock(&x->lock);
    ssize_t n = (ssize_t)gr_min_size(most, x->out.len - x->sent);
    if (x->cut) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (n > 0) {
        memcpy(to, x->out.data + x->sent, (size_t)n);
        x->sent += (size_t)n;
        if (x->sent == x->out.len) gr_buf_clear(&x->out), x->sent = 0;
    } else if (x->ended) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        x->suspended = true;
        x->server->call.suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&x->lock);
    return n;
}

static void stream_done(void *user) {
    let_go(user);
}

/* Not under its lock: what is read here does not change once there is a status, and libmicrohttpd takes
 * locks. */
static enum MHD_Result send_answer(gr_exchange *x) {
    const gr_mhd *call = &x->server->call;
    struct MHD_Response *r;
    if (x->streamed) {
        hold(x);
        r = call->create_response_from_callback(MHD_SIZE_UNKNOWN, 16 << 10, read_stream, x, stream_done);
        if (!r) let_go(x);
    } else {
        r = call->create_response_from_buffer(x->out.len, x->out.data, MHD_RESPMEM_MUST_COPY);
    }
    if (!r) return MHD_NO;
    call->add_response_header(r, "Content-Type", x->type);
    call->add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (x->streamed) call->add_response_header(r, "Cache-Control", "no-cache");
    if (__atomic_load_n(&x->server->stopping, __ATOMIC_RELAXED) || x->too_long)
        call->add_response_header(r, "Connection", "close");
    for (int i = 0; i < x->headers; i++)
        if (x->header[i][0] && x->header[i][1])
            call->add_response_header(r, x->header[i][0], x->header[i][1]);
    enum MHD_Result result = call->queue_response(x->connection, (unsigned)x->status, r);
    call->destroy_response(r); /* the connection has its own reference */
    return result;
}

static enum MHD_Result answer_or_wait(gr_exchange *x) {
    pthread_mutex_lock(&x->lock);
    bool cut = x->cut, wait = !cut && !x->status;
    if (wait) {
        x->suspended = true;
        x->server->call.suspend_connection(x->connection);
    }
    pthread_mutex_unlock(&x->lock);
    return cut ? MHD_NO : wait ? MHD_YES : send_answer(x);
}

/* As who serves has it, else as plain text. */
static void refuse(gr_exchange *x, int status, const char *text) {
    const gr_serve_wish *wish = &x->server->wish;
    if (wish->refuse) wish->refuse(wish->user, x, status, text);
    gr_serve_reply(x, status, "text/plain", text, strlen(text)); /* nothing where it replied */
}

static bool is_host(const char *host, size_t n, const char *name) {
    return n == strlen(name) && !strncasecmp(host, name, n);
}

/* A page elsewhere can have a name that leads to this machine; the browser then says that name. */
static bool host_is_ours(const gr_serve *s, const char *host) {
    const char *ours[] = {"localhost", "127.0.0.1", "[::1]", s->wish.host};
    const char *const *named = s->wish.names;
    if (!s->local || !host) return true;
    size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    bool good = false;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) good |= is_host(host, n, ours[i]);
    while (!good && named && *named) good = is_host(host, n, *named++);
    return good;
}

/* Bytes of a body that are let in, and thrown away, although the answer is there: who is in the middle of
 * sending them would not read an answer that ends the connection. A body in chunks is taken for a small one:
 * its answer has to wait for its end, and so it is let in as far as any other. */
#define LET_IN (64 << 10)

/* The headers are there. What is refused now is answered before its body comes. */
static enum MHD_Result begin(gr_serve *s, struct MHD_Connection *connection, const char *url,
                             const char *method, void **context) {
    gr_exchange *x = gr_calloc(1, sizeof *x);
    if (!x) return MHD_NO;
    pthread_mutex_init(&x->lock, NULL);
    x->references = 1;
    x->server = s;
    x->connection = connection;
    x->method = gr_strdup(method), x->path = gr_strdup(url);
    *context = x;
    gr_link *link = gr_serve_link(s, connection);
    pthread_mutex_lock(&s->lock);
    if (link) link->now = x;
    bool stopping = s->stopping;
    pthread_mutex_unlock(&s->lock);
    if (!x->method || !x->path) return MHD_NO;
    const char *length = gr_serve_header(x, "Content-Length");
    unsigned long long rest = length ? strtoull(length, NULL, 10) : 0;
    bool little = rest ? rest <= LET_IN : gr_serve_header(x, "Transfer-Encoding") != NULL;
    x->too_long = rest > s->wish.body_bytes;
    if (stopping)
        refuse(x, 503, "the server is stopping\n");
    else if (!host_is_ours(s, gr_serve_header(x, "Host")))
        refuse(x, 403, "this server answers under this machine's own names only\n");
    else if (x->too_long)
        refuse(x, 413, "the request is too long\n");
    else if (s->wish.door)
        s->wish.door(s->wish.user, &(gr_serve_request){x->method, x->path, "", 0}, x);
    if (!x->status) return MHD_YES;
    x->handled = true;
    return little ? MHD_YES : answer_or_wait(x);
}

/* Part of a body: of one that is refused already, or whose length was not announced, or is within the limit.
 * What is far too long is cut: an answer can only be given after its end. */
static enum MHD_Result take_body(gr_exchange *x, const char *bytes, size_t n) {
    size_t most = x->server->wish.body_bytes, let_in = 4 * most;
    if (x->handled && let_in < LET_IN) let_in = LET_IN;
    x->too_long |= !x->handled && n > most - x->body.len;
    if (x->handled || x->too_long) {
        x->discarded += n;
        return x->discarded > let_in ? MHD_NO : MHD_YES;
    }
    gr_buf_add(&x->body, bytes, n);
    return x->body.failed ? MHD_NO : MHD_YES;
}

static void handle(gr_exchange *x) {
    gr_serve *s = x->server;
    gr_link *link = gr_serve_link(s, x->connection);
    pthread_mutex_lock(&s->lock);
    if (link) link->since = 0;
    pthread_mutex_unlock(&s->lock);
    x->handled = true;
    if (x->too_long) {
        refuse(x, 413, "the request is too long\n");
        return;
    }
    gr_serve_request request = {x->method, x->path, x->body.data ? x->body.data : "", x->body.len};
    s->wish.handler(s->wish.user, &request, x);
    gr_buf_free(&x->body);
    if (!x->kept && !x->status) refuse(x, 500, "no answer was given\n");
}

enum MHD_Result gr_exchange_on_request(void *user, struct MHD_Connection *connection, const char *url,
                                       const char *method, const char *version, const char *upload,
                                       size_t *upload_bytes, void **context) {
    gr_exchange *x = *context;
    (void)version;
    if (!x) return begin(user, connection, url, method, context);
    if (*upload_bytes) {
        size_t n = *upload_bytes;
        *upload_bytes = 0;
        return take_body(x, upload, n);
    }
    if (!x->handled) handle(x);
    return answer_or_wait(x);
}

void gr_exchange_on_completed(void *user, struct MHD_Connection *connection, void **context,
                              enum MHD_RequestTerminationCode how) {
    gr_serve *s = user;
    gr_exchange *x = *context;
    gr_link *link = gr_serve_link(s, connection);
    (void)how;
    if (!x) return;
    *context = NULL;
    pthread_mutex_lock(&s->lock);
    if (link) {
        link->now = NULL;
        link->served = true;
        link->since = gr_clock();
    }
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_lock(&x->lock);
    x->connection = NULL;
    pthread_mutex_unlock(&x->lock);
    let_go(x);
}
#endif
