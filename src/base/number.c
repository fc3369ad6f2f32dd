#include "base/number.h"
#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

/* NULL: memory ran out (glibc's needs none), and numbers are the host's. */
static locale_t plain(void) {
    return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

double gr_to_real(const char *text, char **end) {
    locale_t c = plain();
    if (!c) return strtod(text, end);
    double value = strtod_l(text, end, c);
    freelocale(c);
    return value;
}

int gr_vformat(char *out, size_t size, const char *fmt, va_list args) {
    locale_t c = plain(), before = c ? uselocale(c) : (locale_t)0;
    int n = vsnprintf(out, size, fmt, args);
    if (c) {
        uselocale(before);
        freelocale(c);
    }
    return n;
}

int gr_format(char *out, size_t size, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = gr_vformat(out, size, fmt, args);
    va_end(args);
    return n;
}

size_t gr_format_time(char *out, size_t size, const char *fmt, const struct tm *time) {
    locale_t c = plain();
    if (!c) return strftime(out, size, fmt, time);
    size_t n = strftime_l(out, size, fmt, time, c);
    freelocale(c);
    return n;
}

void gr_real_text(char out[32], double value) {
    for (int digits = 1; digits <= 17; digits++) {
        gr_format(out, 32, "%.*g", digits, value);
        if (gr_to_real(out, NULL) == value) break;
    }
}

bool gr_parse_real(const char *text, double *value) {
    const char *p = text + (*text == '-' || *text == '+');
    if (!isdigit((unsigned char)*p) && *p != '.') return false;  /* no "inf", "nan", blanks */
    if (strspn(p, "0123456789.eE+-") != strlen(p)) return false; /* no hexadecimal */
    char *end;
    *value = gr_to_real(text, &end);
    return end != text && *end == '\0' && isfinite(*value);
}

bool gr_parse_int(const char *text, int64_t *value) {
    const char *p = text + (*text == '-' || *text == '+');
    if (!isdigit((unsigned char)*p)) return false;
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return *end == '\0' && errno == 0;
}

void gr_buf_real(gr_buf *out, double value, int digits) {
    gr_buf_printf(out, "%.*g", digits, value);
}
