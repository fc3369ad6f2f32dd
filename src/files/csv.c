#include "files/csv.h"

static bool ends_line(char c) {
    return c == '\n' || c == '\r';
}

/* Behind the closing quote, or `end`. */
static const char *skip_quoted(gr_csv_field *f, const char *p, const char *end) {
    f->at = p;
    f->quoted = true;
    for (;;) {
        const char *quote = memchr(p, '"', (size_t)(end - p));
        if (!quote) {
            f->flaw = GR_CSV_OPEN;
            f->len = (size_t)(end - f->at);
            return end;
        }
        if (quote + 1 == end || quote[1] != '"') {
            f->len = (size_t)(quote - f->at);
            return quote + 1;
        }
        p = quote + 2;
    }
}

const char *gr_csv_next(gr_csv_field *f, const char *p, const char *end, char separator) {
    *f = (gr_csv_field){.at = p};
    bool quoted = p < end && *p == '"';
    if (quoted) p = skip_quoted(f, p + 1, end);
    const char *from = p;
    while (p < end && *p != separator && !ends_line(*p)) p++;
    if (!quoted) f->len = (size_t)(p - from);
    if (quoted && p > from && !f->flaw) f->flaw = GR_CSV_BEHIND;
    f->last = p == end || *p != separator;
    if (p == end) return end;
    return p + (*p == '\r' && p + 1 < end && p[1] == '\n' ? 2 : 1);
}

void gr_csv_json(gr_buf *out, const gr_csv_field *f) {
    gr_buf_putc(out, '"');
    for (size_t i = 0; i < f->len; i++) {
        char c = f->at[i];
        if (c == '"' || c == '\\') {
            gr_buf_putc(out, '\\');
            gr_buf_putc(out, c);
            i += c == '"' && f->quoted; /* the second of two */
        } else if ((unsigned char)c < 0x20) {
            gr_buf_printf(out, "\\u%04x", c);
        } else {
            gr_buf_putc(out, c);
        }
    }
    gr_buf_putc(out, '"');
}
