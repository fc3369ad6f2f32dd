/* Strings by code points, as Python counts them; marks travel with the bytes. */
#include "text/jinja_parts.h"
#include <utf8proc.h>

size_t gr_j_decode(const char *p, const char *end, uint32_t *cp) {
    const unsigned char *u = (const unsigned char *)p;
    size_t left = (size_t)(end - p);
    if (u[0] < 0x80) return *cp = u[0], 1;
    if (u[0] >= 0xf0 && left >= 4)
        return *cp = (u[0] & 7u) << 18 | (u[1] & 63u) << 12 | (u[2] & 63u) << 6 | (u[3] & 63u), 4;
    if (u[0] >= 0xe0 && left >= 3) return *cp = (u[0] & 15u) << 12 | (u[1] & 63u) << 6 | (u[2] & 63u), 3;
    if (u[0] >= 0xc0 && left >= 2) return *cp = (u[0] & 31u) << 6 | (u[1] & 63u), 2;
    return *cp = 0xfffd, 1;
}

size_t gr_j_encode_cp(uint32_t cp, char out[4]) {
    if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) cp = 0xfffd;
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)cp, (utf8proc_uint8_t *)out);
}

static bool starts_point(char ch) {
    return ((unsigned char)ch & 0xc0) != 0x80;
}

size_t gr_j_points(const jstr *s) {
    size_t count = 0;
    for (size_t i = 0; i < s->n; i++) count += starts_point(s->p[i]);
    return count;
}

size_t gr_j_offset(const jstr *s, size_t points) {
    size_t i = 0;
    for (; i < s->n; i++)
        if (starts_point(s->p[i]) && points-- == 0) break;
    return i;
}

bool gr_j_space(uint32_t cp) {
    return (cp >= 9 && cp <= 13) || (cp >= 28 && cp <= 32) || cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f ||
           cp == 0x3000;
}

const jstr *gr_j_sub(jctx *c, const jstr *s, size_t from, size_t to) {
    if (from == 0 && to == s->n) return s;
    jstr *out = gr_j_new_str(c, s->p + from, to - from);
    if (s->marks) out->marks = s->marks + from;
    out->safe = s->safe;
    return out;
}

static bool strippable(jctx *c, uint32_t cp, const jstr *chars) {
    gr_j_step(c, chars ? 1 + chars->n / 8 : 1);
    if (!chars) return gr_j_space(cp);
    uint32_t other;
    for (const char *p = chars->p, *end = p + chars->n; p < end;) {
        p += gr_j_decode(p, end, &other);
        if (other == cp) return true;
    }
    return false;
}

const jstr *gr_j_strip(jctx *c, const jstr *s, const jstr *chars, bool left, bool right) {
    const char *from = s->p, *to = s->p + s->n;
    uint32_t cp;
    while (left && from < to) {
        size_t used = gr_j_decode(from, to, &cp);
        if (!strippable(c, cp, chars)) break;
        from += used;
    }
    while (right && from < to) {
        const char *last = to - 1;
        while (last > from && !starts_point(*last)) last--;
        gr_j_decode(last, to, &cp);
        if (!strippable(c, cp, chars)) break;
        to = last;
    }
    return gr_j_sub(c, s, (size_t)(from - s->p), (size_t)(to - s->p));
}

uint32_t gr_j_cp_upper(uint32_t cp) {
    return (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp);
}
uint32_t gr_j_cp_lower(uint32_t cp) {
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

static bool cased(uint32_t cp) {
    return gr_j_cp_upper(cp) != cp || gr_j_cp_lower(cp) != cp || cp == 0xdf;
}

/* Writes cp in upper, lower or title case; sharp s is the one common letter that grows. */
static void put_cased(jctx *c, jbuild *b, uint32_t cp, jcase how, uint8_t mark) {
    if (cp == 0xdf && how != JC_LOWER) {
        gr_j_put_mark(c, b, how == JC_UPPER ? "SS" : how == JC_FOLD ? "ss" : "Ss", 2, mark);
        return;
    }
    char text[4];
    uint32_t to = how == JC_UPPER   ? gr_j_cp_upper(cp)
                  : how == JC_TITLE ? (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp)
                                    : gr_j_cp_lower(cp);
    gr_j_put_mark(c, b, text, gr_j_encode_cp(to, text), mark);
}

const jstr *gr_j_recase(jctx *c, const jstr *s, jcase how) {
    jbuild b = {0};
    bool inside = false; /* after a letter that has case */
    gr_j_step(c, s->n / 8);
    for (const char *p = s->p, *end = p + s->n; p < end;) {
        uint32_t cp;
        uint8_t mark = s->marks ? s->marks[p - s->p] : 0;
        bool first = p == s->p;
        p += gr_j_decode(p, end, &cp);
        jcase now = how;
        if (how == JC_CAPITAL) now = first ? JC_TITLE : JC_LOWER;
        if (how == JC_TITLE) now = inside ? JC_LOWER : JC_TITLE;
        if (how == JC_SWAP) now = gr_j_cp_lower(cp) != cp ? JC_LOWER : JC_UPPER;
        inside = cased(cp);
        put_cased(c, &b, cp, now, mark);
    }
    return gr_j_built(c, &b);
}

size_t gr_j_find(jctx *c, const jstr *s, const jstr *needle, size_t from) {
    if (from > s->n || needle->n > s->n - from) return SIZE_MAX;
    if (needle->n == 0) return from;
    const char *hit = memmem(s->p + from, s->n - from, needle->p, needle->n);
    gr_j_step(c, (hit ? (size_t)(hit - s->p) - from + needle->n : s->n - from) / 64); /* what it looked at */
    return hit ? (size_t)(hit - s->p) : SIZE_MAX;
}

/* str.replace with an empty `old`: between all code points. */
static const jstr *interleave(jctx *c, const jstr *s, const jstr *with, int64_t max) {
    jbuild b = {0};
    size_t at = 0;
    while (max != 0 && at <= s->n) {
        uint32_t cp;
        gr_j_step(c, 1);
        gr_j_put_str(c, &b, with);
        if (max > 0) max--;
        if (at == s->n) return gr_j_built(c, &b);
        size_t used = gr_j_decode(s->p + at, s->p + s->n, &cp);
        gr_j_put(c, &b, s->p + at, used, s->marks ? s->marks + at : NULL);
        at += used;
    }
    gr_j_put_str(c, &b, gr_j_sub(c, s, at, s->n));
    return gr_j_built(c, &b);
}

const jstr *gr_j_replace(jctx *c, const jstr *s, const jstr *old, const jstr *with, int64_t max) {
    if (old->n == 0) return interleave(c, s, with, max);
    jbuild b = {0};
    size_t at = 0, hit;
    while (max != 0 && (hit = gr_j_find(c, s, old, at)) != SIZE_MAX) {
        gr_j_step(c, 1);
        gr_j_put(c, &b, s->p + at, hit - at, s->marks ? s->marks + at : NULL);
        gr_j_put_str(c, &b, with);
        at = hit + old->n;
        if (max > 0) max--;
    }
    if (at == 0) return s;
    gr_j_put(c, &b, s->p + at, s->n - at, s->marks ? s->marks + at : NULL);
    return gr_j_built(c, &b);
}

bool gr_j_same(jctx *c, const jstr *a, const jstr *b) {
    if (a->n != b->n) return false;
    gr_j_step(c, a->n / 64);
    return memcmp(a->p, b->p, a->n) == 0;
}

/* Byte order of UTF-8 is code point order. */
int gr_j_str_order(const jstr *a, const jstr *b) {
    int order = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);
    if (order) return order;
    return a->n < b->n ? -1 : a->n > b->n;
}
