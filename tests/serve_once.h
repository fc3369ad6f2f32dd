/* tests/serve_once.h - `graft serve` for one request. Its client is another process: nothing of this one is
 * counted, watched or failed that is the client's.
 */
#ifndef SERVE_ONCE_H
#define SERVE_ONCE_H
#include "graft.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* Shared by both processes. */
typedef struct serve_once {
    volatile int stop;
    pid_t client;
    const char *fields; /* of the request, beside its message */
    char answer[32768]; /* head and body; "": none */
} serve_once;

static inline void serve_once_ask(serve_once *o, int port) {
    char json[400], request[800];
    struct timeval patience = {.tv_sec = 20};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": \"one two\"}], %s}",
             o->fields);
    int n = snprintf(request, sizeof request,
                     "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     strlen(json), json);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)(void *)&a, sizeof a) == 0 &&
        send(fd, request, (size_t)n, MSG_NOSIGNAL) == n) {
        size_t used = 0;
        for (ssize_t got = 1; got > 0 && used + 1 < sizeof o->answer; used += got > 0 ? (size_t)got : 0)
            got = recv(fd, o->answer + used, sizeof o->answer - 1 - used, 0);
    }
    o->stop = 1;
}

static inline void serve_once_ready(void *user, int port) {
    serve_once *o = user;
    o->client = fork();
    if (o->client < 0) o->stop = 1;
    if (o->client) return;
    serve_once_ask(o, port);
    _exit(0);
}

/* The options name model and port 0. fields: as "max_tokens": 4. *answer is borrowed until the next call;
 * NULL where nothing was served. */
static inline graft_status serve_for_once(const graft_options *options, const char *fields,
                                          const char **answer, graft_serve_result *result, graft_error *err) {
    static serve_once *o;
    int status;
    if (!o) o = mmap(NULL, sizeof *o, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(o, 0, sizeof *o);
    o->fields = fields;
    const graft_hooks hooks = {.stop = &o->stop};
    graft_status st = graft_serve(options, &hooks, serve_once_ready, o, result, err);
    if (o->client > 0) waitpid(o->client, &status, 0);
    *answer = st == GRAFT_OK ? o->answer : NULL;
    return st;
}

#endif
