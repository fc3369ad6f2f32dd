#include "http/http.h"

#ifndef GRAFT_MHD
graft_status gr_serve_open(gr_serve **server, const gr_serve_wish *wish, graft_error *err) {
    (void)wish;
    *server = NULL;
    gr_fail(err, GRAFT_UNSUPPORTED, "this graft was built without libmicrohttpd and cannot serve");
    return gr_hint(err, "install libmicrohttpd's development files (Debian: libmicrohttpd-dev) and build "
                        "again");
}

/* Nothing below is reached without a server. */
int gr_serve_port(const gr_serve *server) {
    (void)server;
    return 0;
}
bool gr_serve_local(const gr_serve *server) {
    (void)server;
    return true;
}
void gr_serve_close(gr_serve *server, double seconds) {
    (void)server, (void)seconds;
}
const char *gr_serve_header(const gr_exchange *x, const char *name) {
    (void)x, (void)name;
    return NULL;
}
void gr_serve_keep(gr_exchange *x) {
    (void)x;
}
void gr_serve_add_header(gr_exchange *x, const char *name, const char *value) {
    (void)x, (void)name, (void)value;
}
void gr_serve_reply(gr_exchange *x, int status, const char *type, const char *body, size_t length) {
    (void)x, (void)status, (void)type, (void)body, (void)length;
}
void gr_serve_begin(gr_exchange *x, int status, const char *type) {
    (void)x, (void)status, (void)type;
}
bool gr_serve_send(gr_exchange *x, const char *bytes, size_t length) {
    (void)x, (void)bytes, (void)length;
    return false;
}
void gr_serve_end(gr_exchange *x) {
    (void)x;
}
bool gr_serve_gone(gr_exchange *x) {
    (void)x;
    return true;
}
void gr_serve_drop(gr_exchange *x) {
    (void)x;
}
#else
#include "base/os.h"
#include "base/wake.h"
#include "http/http_parts.h"
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif
#ifndef POLLRDHUP
#define POLLRDHUP 0
#endif
#define TICK 0.2 /* seconds between looks at the connections */

/* The library is never unloaded: a connection's thread may still be on its way out of it. */
static graft_status load_calls(gr_mhd *call, graft_error *err) {
#ifdef __APPLE__
    static const char name[] = "libmicrohttpd.12.dylib";
#else
    static const char name[] = "libmicrohttpd.so.12";
#endif
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL), *found;
    bool all = library != NULL;
#define X(call_name, result, arguments)                                                                      \
    found = all ? dlsym(library, "MHD_" #call_name) : NULL;                                                  \
    all = found != NULL;                                                                                     \
    memcpy(&call->call_name, &found, sizeof found);
    GR_MHD_CALLS(X)
#undef X
    if (all) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "libmicrohttpd cannot be loaded, and nothing served without it");
    const char *why = dlerror();
    gr_where(err, "%s", name);
    if (why) gr_found(err, "%.200s", why);
    return gr_hint(err, "install it (Debian: libmicrohttpd12)");
}

/* ------------------------------------------------------------------ connections */

gr_link *gr_serve_link(gr_serve *s, struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        s->call.get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void begin_link(gr_serve *s, struct MHD_Connection *connection, void **context) {
    const union MHD_ConnectionInfo *info =
        s->call.get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    gr_link *link = gr_calloc(1, sizeof *link);
    *context = link;
    if (!link || !info) return; /* nobody looks after it but libmicrohttpd's own timeout */
    *link = (gr_link){.server = s, .fd = info->connect_fd, .since = gr_clock()};
    pthread_mutex_lock(&s->lock);
    link->after = s->links;
    if (s->links) s->links->before = link;
    s->links = link;
    pthread_mutex_unlock(&s->lock);
}

static void on_connection(void *user, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what) {
    gr_serve *s = user;
    gr_link *link = *context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        begin_link(s, connection, context);
        return;
    }
    if (!link) return;
    pthread_mutex_lock(&s->lock);
    if (link->before) link->before->after = link->after;
    if (link->after) link->after->before = link->before;
    if (s->links == link) s->links = link->after;
    pthread_mutex_unlock(&s->lock);
    free(link);
    *context = NULL;
}

/* Its request is not whole in time. One that never asked for anything, or is in the middle of its body, is
 * told why; one that rests after an answer is closed. */
static void cut_late(gr_link *link) {
    static const char told[] =
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    if (link->now || !link->served) {
        ssize_t ignored = send(link->fd, told, sizeof told - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)ignored;
    }
    shutdown(link->fd, SHUT_RDWR);
    link->since = 0;
}

/* libmicrohttpd does not look at a connection that waits for us. */
static bool has_left(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

static void look_at(gr_serve *s, double now) {
    for (gr_link *link = s->links; link; link = link->after) {
        if (link->since > 0 && now - link->since > s->wish.request_seconds)
            cut_late(link);
        else if (link->now && has_left(link->fd))
            gr_exchange_cut(link->now);
    }
}

static void *watch(void *user) {
    gr_serve *s = user;
    pthread_mutex_lock(&s->lock);
    while (!s->over) {
        gr_wake_wait(&s->wake, &s->lock, TICK);
        look_at(s, gr_clock());
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ------------------------------------------------------------------ listening */

static bool is_local(const struct sockaddr *a) {
    const struct sockaddr_in *four = (const void *)a;
    const struct sockaddr_in6 *six = (const void *)a;
    if (a->sa_family == AF_INET) return ntohl(four->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

static int port_of(int fd) {
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    if (getsockname(fd, (struct sockaddr *)(void *)&a, &n) != 0) return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&a)->sin6_port
                                         : ((struct sockaddr_in *)(void *)&a)->sin_port);
}

static graft_status cannot_listen(const gr_serve *s, int why, graft_error *err) {
    gr_fail(err, GRAFT_IO, why == EADDRINUSE ? "the port is in use" : "cannot listen");
    gr_where(err, "%s port %d", s->wish.host, s->wish.port);
    gr_found(err, "%s", strerror(why));
    if (why == EADDRINUSE) return gr_hint(err, "another program listens there; take another port, or 0");
    return gr_hint(err, why == EACCES ? "ports below 1024 are the system's; take another"
                                      : "127.0.0.1 is this machine alone, 0.0.0.0 all its networks");
}

static graft_status listen_at(gr_serve *s, graft_error *err) {
    struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    char port[16];
    int one = 1;
    snprintf(port, sizeof port, "%d", s->wish.port);
    int why = getaddrinfo(s->wish.host, port, &hints, &found);
    if (why != 0) {
        gr_fail(err, GRAFT_IO, "no such address of this machine");
        gr_where(err, "%s", s->wish.host);
        return gr_found(err, "%s", gai_strerror(why));
    }
    s->local = is_local(found->ai_addr);
    s->listening = socket(found->ai_family, SOCK_STREAM, 0);
    if (s->listening >= 0) setsockopt(s->listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bool good = s->listening >= 0 && bind(s->listening, found->ai_addr, found->ai_addrlen) == 0 &&
                listen(s->listening, 128) == 0;
    why = errno;
    freeaddrinfo(found);
    if (!good) return cannot_listen(s, why, err);
    s->port = port_of(s->listening);
    return GRAFT_OK;
}

static graft_status start(gr_serve *s, graft_error *err) {
    unsigned seconds = (unsigned)s->wish.request_seconds + 1;
    s->daemon =
        s->call.start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0,
                             NULL, NULL, gr_exchange_on_request, s, MHD_OPTION_LISTEN_SOCKET, s->listening,
                             MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_NOTIFY_COMPLETED,
                             gr_exchange_on_completed, s, MHD_OPTION_CONNECTION_LIMIT, s->wish.connections,
                             MHD_OPTION_CONNECTION_TIMEOUT, seconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                             (size_t)64 << 10, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (!s->daemon) return gr_fail(err, GRAFT_IO, "the HTTP server does not start");
    s->watching = pthread_create(&s->watcher, NULL, watch, s) == 0;
    return s->watching ? GRAFT_OK : gr_fail(err, GRAFT_IO, "no thread for the HTTP server");
}

graft_status gr_serve_open(gr_serve **server, const gr_serve_wish *wish, graft_error *err) {
    gr_serve *s = gr_calloc(1, sizeof *s);
    *server = NULL;
    if (!s) return gr_no_memory(err, sizeof *s);
    s->wish = *wish;
    s->wish.host = gr_strdup(wish->host ? wish->host : "127.0.0.1");
    if (!wish->body_bytes) s->wish.body_bytes = 1 << 20;
    if (!wish->unsent_bytes) s->wish.unsent_bytes = 8 << 20;
    if (!wish->connections) s->wish.connections = 64;
    if (wish->request_seconds <= 0) s->wish.request_seconds = 30;
    s->listening = -1;
    pthread_mutex_init(&s->lock, NULL);
    gr_wake_init(&s->wake);
    graft_status st = s->wish.host ? load_calls(&s->call, err) : gr_no_memory(err, 0);
    if (st == GRAFT_OK) st = listen_at(s, err);
    if (st == GRAFT_OK) st = start(s, err);
    if (st != GRAFT_OK) {
        gr_serve_close(s, 0);
        return st;
    }
    *server = s;
    return GRAFT_OK;
}

int gr_serve_port(const gr_serve *server) {
    return server->port;
}

bool gr_serve_local(const gr_serve *server) {
    return server->local;
}

/* ------------------------------------------------------------------ the end */

static bool busy(gr_serve *s) {
    bool any = false;
    pthread_mutex_lock(&s->lock);
    for (const gr_link *link = s->links; link; link = link->after) any |= link->now != NULL;
    pthread_mutex_unlock(&s->lock);
    return any;
}

static void rest(double seconds) {
    nanosleep(&(struct timespec){.tv_nsec = (long)(seconds * 1e9)}, NULL);
}

static void finish_answers(gr_serve *s, double seconds) {
    s->call.quiesce_daemon(s->daemon);
    pthread_mutex_lock(&s->lock);
    __atomic_store_n(&s->stopping, true, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&s->lock);
    for (double until = gr_clock() + seconds; busy(s) && gr_clock() < until;) rest(0.01);
    pthread_mutex_lock(&s->lock);
    for (gr_link *link = s->links; link; link = link->after)
        if (link->now) gr_exchange_cut(link->now);
    pthread_mutex_unlock(&s->lock);
}

void gr_serve_close(gr_serve *s, double seconds) {
    if (!s) return;
    if (s->daemon) finish_answers(s, seconds);
    if (s->watching) {
        pthread_mutex_lock(&s->lock);
        s->over = true;
        pthread_cond_signal(&s->wake);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->watcher, NULL);
    }
    if (s->daemon) s->call.stop_daemon(s->daemon);
    if (s->listening >= 0) close(s->listening);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
    free((char *)(uintptr_t)s->wish.host);
    free(s);
}
#endif
