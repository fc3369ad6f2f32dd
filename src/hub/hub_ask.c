#include "hub/hub_ask.h"
#include "base/hooks.h"
#include "base/os.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>

#define TEXT_LIMIT ((size_t)64 << 20) /* bytes of a list of files; 20,000 take some 8 MB */

/* ---- what the environment says */
static const char *env(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* As huggingface_hub reads a switch. */
static bool is_yes(const char *text) {
    static const char *const words[] = {"1", "on", "yes", "true"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(text, words[i])) return true;
    return false;
}

static graft_status read_endpoint(gr_hub_link *link, graft_error *err) {
    const char *text = env("HF_ENDPOINT"), *offline = env("HF_HUB_OFFLINE");
    if (offline && is_yes(offline)) {
        gr_fail(err, GRAFT_USAGE, "HF_HUB_OFFLINE is set: nothing is fetched");
        return gr_hint(err, "unset it to download");
    }
    if (!text) text = "https://huggingface.co";
    if (strncmp(text, "https://", 8) != 0 && strncmp(text, "http://", 7) != 0) {
        gr_fail(err, GRAFT_USAGE, "HF_ENDPOINT is no address of a web server");
        gr_expected(err, "https://HOST");
        return gr_found(err, "%.100s", text);
    }
    size_t n = strlen(text);
    while (n && text[n - 1] == '/') n--;
    link->endpoint = gr_strndup(text, n);
    return link->endpoint ? GRAFT_OK : gr_no_memory(err, n);
}

/* malloc'ed; NULL: none. Bytes that no header may hold make it none. */
static char *read_token(void) {
    const char *text = env("HF_TOKEN"), *file = env("HF_TOKEN_PATH"), *home = env("HF_HOME"),
               *cache = env("XDG_CACHE_HOME"), *user = env("HOME");
    char *token = text ? gr_strdup(text) : NULL, *path = NULL;
    size_t size;
    if (!text) {
        path = file    ? gr_strdup(file)
               : home  ? gr_path_join(home, "token")
               : cache ? gr_path_join(cache, "huggingface/token")
               : user  ? gr_path_join(user, ".cache/huggingface/token")
                       : NULL;
        graft_error none = {0};
        if (path && gr_path_exists(path) && gr_file_read(&token, &size, path, 4096, &none)) token = NULL;
        free(path);
    }
    if (token) {
        size_t blanks = strspn(token, " \r\n\t");
        memmove(token, token + blanks, strlen(token + blanks) + 1);
        token[strcspn(token, " \r\n\t")] = 0;
    }
    for (const char *p = token; p && *p; p++)
        if (*p <= ' ' || *p > '~') *token = 0;
    if (token && *token) return token;
    free(token);
    return NULL;
}

/* ---- requests */
static void say_again(const gr_hub_link *link, const char *what, double seconds) {
    char text[300];
    if (!link->limits.note) return;
    snprintf(text, sizeof text, "%.200s; once more in %.0f s", what, seconds);
    link->limits.note(link->limits.context, text);
}

static graft_status wait_for(const gr_hub_link *link, double seconds, graft_error *err) {
    for (double end = gr_clock() + seconds; gr_clock() < end; poll(NULL, 0, 50))
        if (gr_raised(link->limits.stop)) return gr_fail(err, GRAFT_INTERRUPTED, "interrupted");
    return GRAFT_OK;
}

static bool passes(const gr_http_answer *a) {
    return a->again || a->status == 408 || a->status == 429 || (a->status >= 500 && a->status != 501);
}

/* After try number `tried` (from 1) failed for a reason that passes: waits, or gives up with `why`. */
graft_status gr_hub_before_next(const gr_hub_link *link, int tried, const gr_http_answer *a,
                                const graft_error *why, graft_error *err) {
    if (tried >= link->limits.tries || why->status == GRAFT_INTERRUPTED || !passes(a)) {
        if (err && !err->status) *err = *why;
        return why->status;
    }
    double seconds = link->limits.wait_seconds * (double)(1 << (tried < 7 ? tried - 1 : 6));
    if (a->retry_after > seconds) seconds = a->retry_after < 120 ? a->retry_after : 120;
    say_again(link, why->what, seconds);
    return wait_for(link, seconds, err);
}

/* GRAFT_OK for an answer that holds what was asked for. */
graft_status gr_hub_check_answer(const gr_hub_link *link, const gr_http_answer *a, const char *what,
                                 graft_error *err) {
    if (a->status == 200 || a->status == 206) return GRAFT_OK;
    if (a->status == 401 || a->status == 403) {
        gr_fail(err, GRAFT_NOT_FOUND, "the hub refuses access, or there is no such model");
        gr_hint(err, "set HF_TOKEN to a token that may read it; some models ask for consent at %s/%s first",
                link->endpoint, link->name);
    } else if (a->status == 404) {
        gr_fail(err, GRAFT_NOT_FOUND, "the hub does not have it");
        gr_hint(err, "is the name right? It is written owner/name, or owner/name@revision");
    } else if (a->status == 429) {
        gr_fail(err, GRAFT_IO, "the hub asks for fewer requests");
        gr_hint(err, "try again later; with a token (HF_TOKEN) it allows more");
    } else {
        gr_fail(err, GRAFT_IO, "the hub answered with status %d", a->status);
    }
    gr_where(err, "%s", what);
    return a->reason[0] ? gr_found(err, "%s", a->reason) : err ? err->status : GRAFT_IO;
}

static graft_status take_text(void *context, const gr_http_answer *answer, const void *bytes, size_t n,
                              graft_error *err) {
    gr_buf *out = context;
    (void)answer;
    if (n > TEXT_LIMIT || out->len > TEXT_LIMIT - n)
        return gr_fail(err, GRAFT_RANGE, "the hub's list of files is longer than 64 MiB");
    gr_buf_add(out, bytes, n);
    return out->failed ? gr_no_memory(err, n) : GRAFT_OK;
}

/* One small answer, with as many tries as the wish allows; text NULL: only the headers. */
graft_status gr_hub_ask(gr_hub_link *link, const char *url, const char *what, gr_buf *text, gr_http_answer *a,
                        graft_error *err) {
    for (int tried = 1;; tried++) {
        graft_error why = {0};
        if (text) gr_buf_clear(text);
        gr_http_wish w = {.url = url, .head = !text, .body = take_text, .context = text};
        graft_status st = gr_http_get(link->http, &w, a, &why);
        if (!st) st = gr_hub_check_answer(link, a, what, &why);
        if (!st) return GRAFT_OK;
        GR_TRY(gr_hub_before_next(link, tried, a, &why, err));
    }
}

/* Appends text as it stands in an address; `kept` are characters beside the usual ones. */
void gr_hub_put_escaped(gr_buf *out, const char *text, const char *kept) {
    for (const uint8_t *p = (const uint8_t *)text; *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                     strchr("-._~", *p) || strchr(kept, *p);
        if (plain)
            gr_buf_putc(out, (char)*p);
        else
            gr_buf_printf(out, "%%%02X", *p);
    }
}

graft_status gr_hub_link_open(gr_hub_link *link, const char *name, const gr_hub_limits *limits,
                              graft_error *err) {
    *link = (gr_hub_link){.name = name, .limits = *limits};
    GR_TRY(read_endpoint(link, err));
    char *token = read_token();
    bool safe = !strncmp(link->endpoint, "https://", 8) || gr_http_is_local(link->endpoint);
    if (token && !safe && limits->note)
        limits->note(limits->context, "the token is not sent: HF_ENDPOINT is another machine without https");
    gr_http_limits http = {limits->stall_seconds, limits->stop};
    graft_status st = gr_http_open(&link->http, &http, safe ? token : NULL, err);
    free(token);
    return st;
}

void gr_hub_link_close(gr_hub_link *link) {
    gr_http_close(link->http);
    free(link->endpoint);
    link->http = NULL;
    link->endpoint = NULL;
}
