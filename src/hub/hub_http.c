#include "hub/hub_http.h"
#include "base/hooks.h"

/* Whole names: http://127.example.org is somebody else. */
bool gr_http_is_local(const char *url) {
    static const char *const hosts[] = {"localhost", "[::1]", "127.0.0.1"};
    if (strncmp(url, "http://", 7) != 0) return false;
    const char *host = url + 7;
    size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?#@");
    if (strlen(host) < n || (host[n] && host[n] != ':' && host[n] != '/') || strchr(host, '@')) return false;
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
        if (n == strlen(hosts[i]) && !strncmp(host, hosts[i], n)) return true;
    return false;
}

#ifndef GRAFT_CURL
bool gr_http_built(void) {
    return false;
}

graft_status gr_http_open(gr_http **http, const gr_http_limits *limits, const char *token, graft_error *err) {
    (void)limits, (void)token;
    *http = NULL;
    gr_fail(err, GRAFT_UNSUPPORTED, "this graft was built without libcurl and cannot download");
    return gr_hint(
        err, "install libcurl's development files (Debian: libcurl4-openssl-dev) and build again, or fetch "
             "the model with hf download");
}

void gr_http_close(gr_http *http) {
    (void)http;
}

graft_status gr_http_get(gr_http *http, const gr_http_wish *wish, gr_http_answer *answer, graft_error *err) {
    (void)http, (void)wish;
    *answer = (gr_http_answer){0};
    return gr_fail(err, GRAFT_UNSUPPORTED, "this graft was built without libcurl");
}
#else
#include "graft.h"
#include <curl/curl.h>
#include <dlfcn.h>
#include <stdio.h>
#include <strings.h>

/* libcurl's calls: X(name, result, arguments) */
#define CALLS(X)                                                                                             \
    X(easy_init, CURL *, (void))                                                                             \
    X(easy_cleanup, void, (CURL *))                                                                          \
    X(easy_reset, void, (CURL *))                                                                            \
    X(easy_setopt, CURLcode, (CURL *, CURLoption, ...))                                                      \
    X(easy_perform, CURLcode, (CURL *))                                                                      \
    X(easy_strerror, const char *, (CURLcode))                                                               \
    X(slist_append, struct curl_slist *, (struct curl_slist *, const char *))                                \
    X(slist_free_all, void, (struct curl_slist *))
typedef struct calls {
#define X(name, result, arguments) result(*name) arguments;
    CALLS(X)
#undef X
} calls;

struct gr_http {
    calls call;
    CURL *curl;
    struct curl_slist *headers;
    gr_http_limits limits;
};
typedef struct request {
    const gr_http *http;
    const gr_http_wish *wish;
    gr_http_answer *answer;
    graft_error *err;
    graft_status status; /* of the body's reader */
    int responses;       /* seen so far */
} request;

bool gr_http_built(void) {
    return true;
}

/* The value of a header line if it has this name, without spaces around it. */
static const char *header_value(const char *line, size_t n, const char *name, size_t *len) {
    size_t at = strlen(name);
    if (n <= at || line[at] != ':' || strncasecmp(line, name, at)) return NULL;
    at++;
    while (at < n && (line[at] == ' ' || line[at] == '\t')) at++;
    while (n > at && (uint8_t)line[n - 1] <= ' ') n--;
    *len = n - at;
    return line + at;
}

static uint64_t number(const char *text, size_t n, uint64_t fallback) {
    uint64_t value = 0;
    size_t i = 0;
    for (; i < n && text[i] >= '0' && text[i] <= '9'; i++) {
        if (value > (UINT64_MAX - 9) / 10) return fallback;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    return i ? value : fallback;
}

/* W/"x" and "x" are x; what is no plain word is dropped. */
static void take_etag(char out[130], const char *text, size_t n) {
    if (n > 2 && text[0] == 'W' && text[1] == '/') text += 2, n -= 2;
    if (n > 1 && text[0] == '"' && text[n - 1] == '"') text++, n -= 2;
    out[0] = 0;
    if (n >= 130) return;
    for (size_t i = 0; i < n; i++)
        if ((uint8_t)text[i] <= ' ' || (uint8_t)text[i] > '~' || text[i] == '/') return;
    memcpy(out, text, n);
    out[n] = 0;
}

static void take_first_response(request *r, const char *line, size_t n) {
    gr_http_answer *a = r->answer;
    const char *value;
    size_t len;
    if ((value = header_value(line, n, "X-Linked-Etag", &len))) take_etag(a->etag, value, len);
    if (!a->etag[0] && (value = header_value(line, n, "ETag", &len))) take_etag(a->etag, value, len);
    if ((value = header_value(line, n, "X-Linked-Size", &len))) a->linked = number(value, len, UINT64_MAX);
}

static size_t on_header(char *line, size_t one, size_t n, void *user) {
    request *r = user;
    gr_http_answer *a = r->answer;
    const char *value;
    size_t len;
    (void)one;
    if (n >= 12 && !strncasecmp(line, "HTTP/", 5)) { /* a new response: after a redirect, or "continue" */
        const char *space = memchr(line, ' ', n);
        a->status = space ? (int)number(space + 1, n - (size_t)(space + 1 - line), 0) : 0;
        a->from = 0, a->length = UINT64_MAX, a->retry_after = 0;
        r->responses++;
    }
    if (r->responses == 1) take_first_response(r, line, n);
    if ((value = header_value(line, n, "Content-Length", &len))) a->length = number(value, len, UINT64_MAX);
    if ((value = header_value(line, n, "Content-Range", &len)) && len > 6 && !strncasecmp(value, "bytes ", 6))
        a->from = number(value + 6, len - 6, UINT64_MAX);
    if ((value = header_value(line, n, "Retry-After", &len)))
        a->retry_after = (int)(number(value, len, 0) % 86400);
    if ((value = header_value(line, n, "X-Error-Message", &len))) {
        size_t k = 0;
        for (; k < len && k + 1 < sizeof a->reason; k++)
            a->reason[k] = value[k] >= ' ' && value[k] <= '~' ? value[k] : '?';
        a->reason[k] = 0;
    }
    return n;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *user) {
    request *r = user;
    (void)one;
    if (r->answer->status != 200 && r->answer->status != 206) return n; /* a page for people */
    r->status = r->wish->body(r->wish->context, r->answer, bytes, n, r->err);
    return r->status ? 0 : n;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    const request *r = user;
    (void)a, (void)b, (void)c, (void)d;
    return gr_raised(r->http->limits.stop);
}

/* The library is never unloaded: it and what it needs have handlers that run when the process ends. */
static graft_status load_calls(calls *call, graft_error *err) {
#ifdef __APPLE__
    static const char name[] = "libcurl.4.dylib";
#else
    static const char name[] = "libcurl.so.4";
#endif
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL), *found;
    bool all = library != NULL;
#define X(call_name, result, arguments)                                                                      \
    found = all ? dlsym(library, "curl_" #call_name) : NULL;                                                 \
    all = found != NULL;                                                                                     \
    memcpy(&call->call_name, &found, sizeof found);
    CALLS(X)
#undef X
    if (all) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "libcurl cannot be loaded, and nothing downloaded without it");
    const char *why = dlerror();
    gr_where(err, "%s", name);
    if (why) gr_found(err, "%.200s", why);
    return gr_hint(err, "install it (Debian: libcurl4), or fetch the model with hf download");
}

graft_status gr_http_open(gr_http **http, const gr_http_limits *limits, const char *token, graft_error *err) {
    gr_http *h = gr_calloc(1, sizeof *h);
    *http = NULL;
    if (!h) return gr_no_memory(err, sizeof *h);
    graft_status st = load_calls(&h->call, err);
    if (st) {
        free(h);
        return st;
    }
    *http = h;
    h->limits = *limits;
    h->curl = h->call.easy_init();
    if (h->curl && token) {
        gr_buf line = {0};
        gr_buf_printf(&line, "Authorization: Bearer %s", token);
        if (!line.failed) h->headers = h->call.slist_append(NULL, line.data);
        gr_buf_free(&line);
    }
    if (h->curl && (h->headers || !token)) return GRAFT_OK;
    gr_http_close(h);
    *http = NULL;
    return gr_no_memory(err, 0);
}

void gr_http_close(gr_http *http) {
    if (!http) return;
    http->call.easy_cleanup(http->curl);
    http->call.slist_free_all(http->headers);
    free(http);
}

/* Neither files nor mail, wherever a redirect leads. By number: the headers that we are built with and the
 * library that runs may be of different age, and the older names are deprecated in newer headers. */
static bool allow_protocols(const gr_http *http, bool tls) {
    enum { PROTOCOLS = 181, REDIR_PROTOCOLS = 182, PROTOCOLS_STR = 10318, REDIR_PROTOCOLS_STR = 10319 };
    CURLcode (*set)(CURL *, CURLoption, ...) = http->call.easy_setopt;
    if (!set(http->curl, (CURLoption)PROTOCOLS_STR, "http,https") &&
        !set(http->curl, (CURLoption)REDIR_PROTOCOLS_STR, tls ? "https" : "http,https"))
        return true;
    return !set(http->curl, (CURLoption)PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS)) &&
           !set(http->curl, (CURLoption)REDIR_PROTOCOLS,
                (long)(tls ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS));
}

/* curl takes back a header of ours that says Authorization when a redirect leads to another host. */
static bool set_up(gr_http *http, request *r, const char *range) {
    CURL *c = http->curl;
    CURLcode (*set)(CURL *, CURLoption, ...) = http->call.easy_setopt;
    bool tls = !strncasecmp(r->wish->url, "https:", 6);
    http->call.easy_reset(c);
    set(c, CURLOPT_URL, r->wish->url);
    set(c, CURLOPT_HTTPHEADER, http->headers);
    set(c, CURLOPT_USERAGENT, "graft/" GRAFT_VERSION);
    if (gr_http_is_local(r->wish->url)) set(c, CURLOPT_NOPROXY, "*"); /* the token stays on this machine */
    set(c, CURLOPT_NOSIGNAL, 1L);
    set(c, CURLOPT_FOLLOWLOCATION, 1L);
    set(c, CURLOPT_MAXREDIRS, 10L);
    set(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L); /* of a proxy */
    set(c, CURLOPT_CONNECTTIMEOUT_MS, 20000L);
    set(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(c, CURLOPT_LOW_SPEED_TIME, (long)(http->limits.stall_seconds + 0.5));
    set(c, CURLOPT_NOBODY, r->wish->head ? 1L : 0L);
    set(c, CURLOPT_RANGE, range);
    set(c, CURLOPT_HEADERFUNCTION, on_header);
    set(c, CURLOPT_HEADERDATA, r);
    set(c, CURLOPT_WRITEFUNCTION, on_body);
    set(c, CURLOPT_WRITEDATA, r);
    set(c, CURLOPT_NOPROGRESS, 0L);
    set(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    set(c, CURLOPT_XFERINFODATA, r);
    set(c, CURLOPT_BUFFERSIZE, 256L << 10);
    return allow_protocols(http, tls);
}

static bool passes(CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: return true;
    default: return false;
    }
}

graft_status gr_http_get(gr_http *http, const gr_http_wish *wish, gr_http_answer *answer, graft_error *err) {
    *answer = (gr_http_answer){.length = UINT64_MAX, .linked = UINT64_MAX};
    request r = {.http = http, .wish = wish, .answer = answer, .err = err};
    char range[32];
    snprintf(range, sizeof range, "%llu-", (unsigned long long)wish->from);
    if (!set_up(http, &r, wish->from ? range : NULL))
        return gr_fail(err, GRAFT_UNSUPPORTED, "this libcurl cannot be told to keep to HTTP");
    CURLcode code = http->call.easy_perform(http->curl);
    if (r.status) return r.status;
    if (gr_raised(http->limits.stop)) return gr_fail(err, GRAFT_INTERRUPTED, "interrupted");
    if (code == CURLE_OK) return GRAFT_OK;
    if (code == CURLE_OUT_OF_MEMORY) return gr_no_memory(err, 0);
    answer->again = passes(code);
    gr_fail(err, GRAFT_IO, "the network failed: %s", http->call.easy_strerror(code));
    return gr_where(err, "%s", wish->url);
}
#endif
