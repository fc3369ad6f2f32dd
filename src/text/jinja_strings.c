/* String literals: Python's escapes. */
#include "text/jinja_parts.h"

static int hex_digit(char ch) {
    if (ch >= '0' && ch <= '9') return ch - '0';
    char low = (char)(ch | 32);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

static uint32_t hex(jctx *c, const char *p, const char *end, int n) {
    uint32_t cp = 0;
    for (int i = 0; i < n; i++) {
        int d = p + i < end ? hex_digit(p[i]) : -1;
        if (d < 0) gr_j_error(c, "truncated escape in a string");
        cp = cp * 16 + (uint32_t)d;
    }
    if (cp > 0x10ffff) gr_j_error(c, "illegal Unicode character in a string");
    return cp;
}

static void put_cp(jctx *c, jbuild *b, uint32_t cp) {
    char text[4];
    gr_j_put(c, b, text, gr_j_encode_cp(cp, text), NULL);
}

/* One escape; p is behind the backslash. Returns where the text goes on. */
static const char *escape(jctx *c, jbuild *b, const char *p, const char *end) {
    static const char letters[] = "abfnrtv\\'\"", values[] = "\a\b\f\n\r\t\v\\'\"";
    const char *hit = *p ? strchr(letters, *p) : NULL;
    if (hit) {
        gr_j_put(c, b, &values[hit - letters], 1, NULL);
        return p + 1;
    }
    int width = *p == 'x' ? 2 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0;
    if (width) {
        uint32_t cp = hex(c, p + 1, end, width);
        p += 1 + width;
        put_cp(c, b, cp);
        return p;
    }
    if (*p >= '0' && *p <= '7') {
        uint32_t cp = 0;
        for (int i = 0; i < 3 && p < end && *p >= '0' && *p <= '7'; i++) cp = cp * 8 + (uint32_t)(*p++ - '0');
        put_cp(c, b, cp);
        return p;
    }
    if (*p == '\n') return p + 1;
    gr_j_puts(c, b, "\\"); /* Python keeps what it does not know */
    return p;
}

jv gr_j_unescape(jctx *c, const char *p, size_t n) {
    jbuild b = {0};
    const char *end = p + n;
    while (p < end) {
        const char *back = memchr(p, '\\', (size_t)(end - p));
        gr_j_put(c, &b, p, (size_t)((back ? back : end) - p), NULL);
        if (!back) break;
        p = back + 1 < end ? escape(c, &b, back + 1, end) : end;
    }
    return gr_j_of(gr_j_built(c, &b));
}
