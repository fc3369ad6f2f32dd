/* A hub on this machine, for tests: HTTP/1.1 with the API's list, files with ranges, redirects to another
 * port, and faults that a test asks for. One thread, one connection after the other, each closed after its
 * answer. */
#ifndef HUB_SERVER_H
#define HUB_SERVER_H
#include "base/sha.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HUB_COMMIT "0123456789abcdef0123456789abcdef01234567"
enum { HUB_FILES = 16, HUB_LOG = 64 };

typedef struct hub_file {
    const char *name, *data;
    size_t size;
    bool lfs;              /* announced by SHA-256 and fetched from the other port */
    bool silent;           /* the list has neither size nor digest: the headers do */
    const char *announced; /* another digest than the bytes have */
} hub_file;
typedef struct hub_server {
    int sockets[2], ports[2]; /* the hub, and where it keeps large files */
    pthread_t thread;
    atomic_bool over;
    hub_file files[HUB_FILES];
    size_t nfiles;
    const char *token; /* asked of the hub; NULL: none */
    /* faults; each counts down */
    atomic_int fail_status, fail_times; /* the next answers are this status */
    atomic_int list_status;             /* of the list of files alone; 0: as usual */
    atomic_int cut_times;               /* bodies end after `cut_bytes` */
    size_t cut_bytes;
    atomic_int no_ranges; /* 1: 200 and everything; 2: 206 with another part */
    atomic_int stall;     /* after cut_bytes nothing comes */
    atomic_int longer;    /* bodies have a byte more than announced */
    atomic_int loop;      /* redirects lead to themselves */
    const char *list;     /* another list of files than the true one */
    /* what was asked for: "0 GET /path Range" with the port's number */
    char log[HUB_LOG][300];
    atomic_int nlog;
    atomic_bool token_leaked; /* it came to the other port */
    atomic_llong sent;        /* bytes of bodies of files */
} hub_server;

static void hub_digest(const hub_file *f, char out[65]) {
    gr_sha sha;
    if (f->announced) {
        snprintf(out, 65, "%s", f->announced);
        return;
    }
    gr_sha_begin(&sha, f->lfs ? GR_SHA256 : GR_SHA1);
    if (!f->lfs) {
        char header[40];
        int n = snprintf(header, sizeof header, "blob %zu", f->size);
        gr_sha_add(&sha, header, (size_t)n + 1);
    }
    gr_sha_add(&sha, f->data, f->size);
    gr_sha_hex(&sha, out);
}

static bool hub_send(int fd, const void *bytes, size_t n) {
    const char *p = bytes;
    while (n) {
        ssize_t done = send(fd, p, n, MSG_NOSIGNAL);
        if (done <= 0) return false;
        p += done, n -= (size_t)done;
    }
    return true;
}

static void hub_status(int fd, int status, const char *headers, const char *body) {
    char text[4096];
    int n = snprintf(text, sizeof text, "HTTP/1.1 %d x\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n",
                     status, headers, strlen(body));
    if (hub_send(fd, text, (size_t)n)) hub_send(fd, body, strlen(body));
}

static void hub_send_list(hub_server *s, int fd) {
    char *text = calloc(1, 1 << 16), digest[65];
    size_t at = (size_t)sprintf(text, "{\"id\":\"x\",\"sha\":\"%s\",\"siblings\":[", HUB_COMMIT);
    for (size_t i = 0; i < s->nfiles; i++) {
        const hub_file *f = &s->files[i];
        hub_digest(f, digest);
        at += (size_t)sprintf(text + at, "%s{\"rfilename\":\"%s\"", i ? "," : "", f->name);
        if (!f->silent && f->lfs)
            at +=
                (size_t)sprintf(text + at,
                                ",\"size\":%zu,\"blobId\":\"%040d\",\"lfs\":{\"sha256\":\"%s\",\"size\":%zu,"
                                "\"pointerSize\":130}",
                                f->size, 0, digest, f->size);
        else if (!f->silent)
            at += (size_t)sprintf(text + at, ",\"size\":%zu,\"blobId\":\"%s\"", f->size, digest);
        at += (size_t)sprintf(text + at, "}");
    }
    sprintf(text + at, "]}");
    hub_status(fd, 200, "Content-Type: application/json\r\n", s->list ? s->list : text);
    free(text);
}

static void hub_send_file(hub_server *s, int fd, const hub_file *f, const char *range, bool head) {
    char text[512], digest[65];
    size_t from = range ? (size_t)strtoull(range, NULL, 10) : 0, size = f->size;
    hub_digest(f, digest);
    if (range && from >= size) {
        hub_status(fd, 416, "", "");
        return;
    }
    if (s->no_ranges == 1) from = 0;
    if (s->no_ranges == 2 && from) from--;
    bool part = range && s->no_ranges != 1;
    size_t n = size - from, extra = s->longer ? 1 : 0;
    int len = snprintf(text, sizeof text,
                       "HTTP/1.1 %d x\r\nConnection: close\r\nETag: \"%s\"\r\nContent-Length: %zu\r\n",
                       part ? 206 : 200, digest, n + extra);
    if (part)
        len += snprintf(text + len, sizeof text - (size_t)len, "Content-Range: bytes %zu-%zu/%zu\r\n", from,
                        size - 1, size);
    len += snprintf(text + len, sizeof text - (size_t)len, "\r\n");
    if (!hub_send(fd, text, (size_t)len) || head) return;
    size_t most = n;
    bool cut = s->cut_times > 0 && s->cut_bytes < n;
    if (cut) most = s->cut_bytes;
    if (cut) s->cut_times--;
    if (hub_send(fd, f->data + from, most)) s->sent += (long long)most;
    if (cut && s->stall)
        for (int i = 0; i < 200 && s->stall && !s->over; i++) poll(NULL, 0, 50);
    if (!cut && extra) hub_send(fd, "x", 1);
}

static const hub_file *hub_find_file(const hub_server *s, const char *name) {
    for (size_t i = 0; i < s->nfiles; i++)
        if (!strcmp(s->files[i].name, name)) return &s->files[i];
    return NULL;
}

static void hub_redirect(hub_server *s, int fd, const hub_file *f) {
    char headers[600], digest[65];
    hub_digest(f, digest);
    snprintf(headers, sizeof headers,
             "X-Repo-Commit: %s\r\nX-Linked-Etag: \"%s\"\r\nX-Linked-Size: %zu\r\nETag: \"other\"\r\n"
             "Location: http://127.0.0.1:%d/%s/%s\r\n",
             HUB_COMMIT, digest, f->size, s->ports[s->loop ? 0 : 1],
             s->loop ? "me/tiny/resolve/" HUB_COMMIT : "cdn", f->name);
    hub_status(fd, 302, headers, "a page");
}

static void hub_answer(hub_server *s, int fd, int port, const char *method, const char *path,
                       const char *range, const char *token) {
    static const char resolve[] = "/me/tiny/resolve/" HUB_COMMIT "/";
    bool head = !strcmp(method, "HEAD");
    if (port == 1) {
        const hub_file *f = strncmp(path, "/cdn/", 5) ? NULL : hub_find_file(s, path + 5);
        if (token) s->token_leaked = true;
        if (f)
            hub_send_file(s, fd, f, range, head);
        else
            hub_status(fd, 404, "", "");
        return;
    }
    if (s->fail_times > 0) {
        s->fail_times--;
        hub_status(fd, s->fail_status, "X-Error-Message: as the test wished\r\n", "a page");
    } else if (s->token && (!token || strcmp(token, s->token))) {
        hub_status(fd, 401, "X-Error-Message: Invalid credentials\r\n", "");
    } else if (!strncmp(path, "/api/models/me/tiny/revision/", 29)) {
        if (s->list_status)
            hub_status(fd, s->list_status, "", "{}");
        else
            hub_send_list(s, fd);
    } else if (!strncmp(path, resolve, sizeof resolve - 1)) {
        const hub_file *f = hub_find_file(s, path + sizeof resolve - 1);
        if (!f)
            hub_status(fd, 404, "X-Error-Code: EntryNotFound\r\n", "");
        else if (f->lfs)
            hub_redirect(s, fd, f);
        else
            hub_send_file(s, fd, f, range, head);
    } else {
        hub_status(fd, 404, "X-Error-Code: RepoNotFound\r\nX-Error-Message: Repository not found\r\n", "");
    }
}

static const char *hub_header(char *text, const char *name, char *out, size_t room) {
    for (char *line = strstr(text, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        size_t n = strlen(name);
        if (strncasecmp(line + 2, name, n)) continue;
        size_t len = strcspn(line + 2 + n, "\r");
        snprintf(out, room, "%.*s", (int)(len < room ? len : room - 1), line + 2 + n);
        return out;
    }
    return NULL;
}

/* %20 and its like, in place. */
static void hub_decode(char *path) {
    char *out = path;
    for (const char *p = path; *p; p++) {
        unsigned code;
        if (*p == '%' && sscanf(p + 1, "%2x", &code) == 1)
            *out++ = (char)code, p += 2;
        else
            *out++ = *p;
    }
    *out = 0;
}

static void hub_serve(hub_server *s, int fd, int port) {
    char text[8192], method[16], path[1000], range[64], token[200];
    size_t have = 0;
    struct timeval patience = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (;;) {
        ssize_t n = recv(fd, text + have, sizeof text - 1 - have, 0);
        if (n <= 0) return;
        have += (size_t)n;
        text[have] = 0;
        if (strstr(text, "\r\n\r\n")) break;
        if (have + 1 == sizeof text) return;
    }
    if (sscanf(text, "%15s %999s", method, path) != 2) return;
    const char *r = hub_header(text, "Range: bytes=", range, sizeof range),
               *t = hub_header(text, "Authorization: Bearer ", token, sizeof token);
    int at = s->nlog < HUB_LOG ? s->nlog : HUB_LOG - 1;
    snprintf(s->log[at], sizeof s->log[at], "%d %s %.200s%s%s", port, method, path, r ? " " : "", r ? r : "");
    s->nlog++;
    hub_decode(path);
    hub_answer(s, fd, port, method, path, r, t);
}

static void *hub_run(void *user) {
    hub_server *s = user;
    while (!s->over) {
        struct pollfd p[2] = {{s->sockets[0], POLLIN, 0}, {s->sockets[1], POLLIN, 0}};
        if (poll(p, 2, 20) <= 0) continue;
        for (int i = 0; i < 2; i++) {
            int fd = p[i].revents & POLLIN ? accept(s->sockets[i], NULL, NULL) : -1;
            if (fd < 0) continue;
            hub_serve(s, fd, i);
            shutdown(fd, SHUT_WR); /* what we did not read must not take the answer back */
            for (char rest[512]; recv(fd, rest, sizeof rest, MSG_DONTWAIT) > 0;) continue;
            close(fd);
        }
    }
    return NULL;
}

/* Listens on two ports of this machine; HF_ENDPOINT is the first. */
static bool hub_start(hub_server *s) {
    memset(s, 0, sizeof *s);
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof at;
        s->sockets[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (s->sockets[i] < 0 || bind(s->sockets[i], (struct sockaddr *)&at, sizeof at) ||
            listen(s->sockets[i], 16) || getsockname(s->sockets[i], (struct sockaddr *)&at, &len))
            return false;
        s->ports[i] = ntohs(at.sin_port);
    }
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d/", s->ports[0]);
    setenv("HF_ENDPOINT", endpoint, 1);
    return !pthread_create(&s->thread, NULL, hub_run, s);
}

static void hub_stop(hub_server *s) {
    s->over = true;
    pthread_join(s->thread, NULL);
    close(s->sockets[0]);
    close(s->sockets[1]);
}

static void hub_add(hub_server *s, const char *name, const char *data, size_t size, bool lfs) {
    s->files[s->nfiles++] = (hub_file){.name = name, .data = data, .size = size, .lfs = lfs};
}

/* Requests whose line in the log contains the text. */
static inline int hub_asked(const hub_server *s, const char *text) {
    int n = 0;
    for (int i = 0; i < s->nlog && i < HUB_LOG; i++) n += strstr(s->log[i], text) != NULL;
    return n;
}

#endif
