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

bool gr_parse_real(const char *text, double *value) {
    const char *p = text + (*text == '-' || *text == '+');
    if (!isdigit((unsigned char)*p) && *p != '.') return false;  /* no "inf", "nan", blanks */
    if (strspn(p, "0123456789.eE+-") != strlen(p)) return false; /* no hexadecimal */
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c) return false;
    char *end;
    *value = strtod_l(text, &end, c);
    freelocale(c);
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
    char text[64];
    snprintf(text, sizeof text, "%.*g", digits, value);
    for (const char *p = text; *p;) {
        size_t other = strcspn(p, "0123456789+-einfa");
        gr_buf_putc(out, other ? '.' : *p); /* a locale's point may have several bytes */
        p += other ? other : 1;
    }
}
