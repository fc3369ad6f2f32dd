#include "base/memory.h"
#include "files/json_read.h"
#include <stdio.h>

/* jansson 2.14 keeps the token that it reads in a buffer that grows, and where memory runs out it drops the
 * character and goes on: a string lacks it, or an escape that is cut ends the process. So the text is read as
 * the second element of an array whose first is a string as long as the longest token: when that came whole,
 * the buffer is large enough for all others. */
typedef struct feed {
    const char *text;
    size_t len, pad, at; /* at: of `["`, pad times x, `",`, a line end, the text, `]` */
} feed;

static const char opening[] = "[\"", between[] = "\",\n";
enum { OPENING = sizeof opening - 1, BETWEEN = sizeof between - 1 };

static char feed_at(const feed *f) {
    size_t at = f->at;
    if (at < OPENING) return opening[at];
    if ((at -= OPENING) < f->pad) return 'x';
    if ((at -= f->pad) < BETWEEN) return between[at];
    return (at -= BETWEEN) < f->len ? f->text[at] : ']';
}

static size_t take(void *buffer, size_t room, void *data) {
    feed *f = data;
    size_t n = 0, before = OPENING + f->pad + BETWEEN, total = before + f->len + 1;
    char *out = buffer;
    while (n < room && f->at < total) {
        size_t run = f->at >= before ? f->len - gr_min_size(f->len, f->at - before) : 0;
        run = gr_min_size(run, room - n);
        if (run) {
            memcpy(out + n, f->text + (f->at - before), run);
        } else {
            out[n] = feed_at(f);
            run = 1;
        }
        n += run;
        f->at += run;
    }
    return n;
}

static bool is_between(char c) {
    switch (c) {
    case ' ':
    case '\n':
    case '\t':
    case '\r':
    case '{':
    case '}':
    case '[':
    case ']':
    case ',':
    case ':': return true;
    default: return false;
    }
}

/* Characters of the longest token, escapes as they are written, quotes among them. */
static size_t longest_token(const char *text, size_t len) {
    size_t longest = 0, run = 0;
    bool string = false, escaped = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool quote = c == '"' && !escaped;
        escaped = string && c == '\\' && !escaped;
        if (quote) string = !string;
        if (!string && !quote && is_between(c))
            run = 0;
        else if (++run > longest)
            longest = run;
    }
    return longest;
}

/* NULL with *memory: there was none; NULL without: the text is not what json_loadb would take. */
static json_t *load_whole(const char *text, size_t len, size_t flags, bool *memory, json_error_t *why) {
    feed f = {text, len, longest_token(text, len) + 1, 0};
    json_t *pair = json_load_callback(take, &f, flags, why), *value = NULL;
    const json_t *pad = json_array_get(pair, 0), *second = json_array_get(pair, 1);
    *memory = pair ? json_string_length(pad) != f.pad : !why->text[0] || gr_json_no_memory(why);
    if (!*memory && json_array_size(pair) == 2 &&
        (flags & JSON_DECODE_ANY || json_is_object(second) || json_is_array(second)))
        value = json_incref(json_array_get(pair, 1));
    json_decref(pair);
    return value;
}

json_t *gr_json_loadb(const char *text, size_t len, size_t flags, json_error_t *why) {
    bool memory;
    json_t *value = load_whole(text, len, flags, &memory, why);
    if (value) return value;
    if (memory) {
        snprintf(why->text, sizeof why->text, "out of memory");
        why->text[JSON_ERROR_TEXT_LENGTH - 1] = (char)json_error_out_of_memory;
        return NULL;
    }
    return json_loadb(text, len, flags, why); /* it says what is wrong in its own words */
}

/* source: RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF */
bool gr_json_utf8n(const char *text, size_t len) {
    const uint8_t *p = (const uint8_t *)text, *end = p + len;
    while (p < end) {
        int more = *p < 0x80 ? 0 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : 3;
        uint32_t code = more ? *p & (0x3f >> more) : *p;
        static const uint32_t smallest[] = {0, 0x80, 0x800, 0x10000};
        if ((*p >= 0x80 && *p < 0xc2) || *p > 0xf4) return false;
        p++;
        for (int i = 0; i < more; i++, p++) {
            if (p == end || (*p & 0xc0) != 0x80) return false;
            code = code << 6 | (*p & 0x3f);
        }
        if (code < smallest[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    }
    return true;
}

bool gr_json_utf8(const char *text) {
    return gr_json_utf8n(text, strlen(text));
}
