/* A client of plain sockets for tests of what listens: says exactly what it is told to, also what no HTTP
 * library would. */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H
#include "base/memory.h"
#include "base/os.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static inline int http_connect(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)(void *)&a, sizeof a) != 0) abort();
    return fd;
}

static inline void http_write(int fd, const char *bytes, size_t n) {
    while (n) {
        ssize_t done = send(fd, bytes, n, MSG_NOSIGNAL);
        if (done <= 0) return; /* the server may have had enough */
        bytes += done, n -= (size_t)done;
    }
}

/* One more piece within `seconds`; false at the end or when nothing came. */
static inline bool http_more(int fd, gr_buf *in, double seconds) {
    char piece[4096];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, (int)(seconds * 1000)) <= 0) return false;
    ssize_t n = recv(fd, piece, sizeof piece, 0);
    if (n > 0) gr_buf_add(in, piece, (size_t)n);
    return n > 0;
}

/* Reads until the answer is whole, by its Content-Length or last chunk, or the connection ends. */
static inline void http_read(int fd, gr_buf *in) {
    for (;;) {
        const char *body = in->data ? strstr(in->data, "\r\n\r\n") : NULL;
        const char *length = body ? strstr(in->data, "Content-Length: ") : NULL;
        if (length && length < body &&
            in->len >= (size_t)(body + 4 - in->data) + strtoul(length + 16, NULL, 10))
            return;
        if (body && strstr(in->data, "chunked") && in->len >= 5 &&
            !memcmp(in->data + in->len - 5, "0\r\n\r\n", 5))
            return;
        if (!http_more(fd, in, 20)) return;
    }
}

static inline int http_status_of(const gr_buf *in) {
    return in->data && !strncmp(in->data, "HTTP/1.1 ", 9) ? atoi(in->data + 9) : 0;
}

/* The answer's body; chunks are put together. Free. */
static inline char *http_body_of(const gr_buf *in) {
    gr_buf body = {0};
    const char *at = in->data ? strstr(in->data, "\r\n\r\n") : NULL;
    gr_buf_puts(&body, "");
    if (!at) return gr_buf_take(&body);
    at += 4;
    if (!strstr(in->data, "chunked")) {
        gr_buf_puts(&body, at);
        return gr_buf_take(&body);
    }
    for (;;) {
        char *rest;
        unsigned long n = strtoul(at, &rest, 16);
        if (!n || rest + 2 + n > in->data + in->len) break;
        gr_buf_add(&body, rest + 2, n);
        at = rest + 2 + n + 2;
    }
    return gr_buf_take(&body);
}

/* Says `request` on a new connection and gives the status; *body (may be NULL) is the answer's. */
static inline int http_say(int port, const char *request, size_t n, char **body) {
    int fd = http_connect(port);
    gr_buf in = {0};
    http_write(fd, request, n);
    http_read(fd, &in);
    int status = http_status_of(&in);
    if (body) *body = http_body_of(&in);
    gr_buf_free(&in);
    close(fd);
    return status;
}

/* A request with a JSON body, and more headers, each with its line end. */
static inline int http_ask(int port, const char *method, const char *path, const char *headers,
                           const char *json, char **body) {
    gr_buf out = {0};
    gr_buf_printf(&out, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s", method, path, headers);
    if (json)
        gr_buf_printf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(json),
                      json);
    else
        gr_buf_puts(&out, "\r\n");
    int status = http_say(port, out.data, out.len, body);
    gr_buf_free(&out);
    return status;
}

#endif
