#include "report/svg_text.h"
#include <math.h>

static double power10(int n) {
    double p = 1;
    for (int i = 0; i < n; i++) p *= 10;
    return p;
}

static void put_fixed(gr_buf *out, double v, int decimals) {
    long long unit = (long long)power10(decimals), n = llround(v * (double)unit);
    if (n < 0) gr_buf_putc(out, '-');
    n = n < 0 ? -n : n;
    gr_buf_printf(out, "%lld", n / unit);
    if (decimals) gr_buf_printf(out, ".%0*lld", decimals, n % unit);
}

void gr_svg_number(gr_buf *out, double v, int decimals) {
    double size = fabs(v);
    if (size < 1e8 && (size >= 1e-6 || size == 0 || decimals < 9)) {
        put_fixed(out, v, decimals);
        return;
    }
    int exponent = (int)floor(log10(size));
    double mantissa = v / pow(10, exponent);
    if (!isfinite(mantissa)) mantissa = 0; /* subnormal: nothing a curve could show */
    put_fixed(out, mantissa, 2);
    gr_buf_printf(out, "e%+d", exponent);
}

void gr_svg_text(gr_buf *out, const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '&': gr_buf_puts(out, "&amp;"); break;
        case '<': gr_buf_puts(out, "&lt;"); break;
        case '>': gr_buf_puts(out, "&gt;"); break;
        case '"': gr_buf_puts(out, "&quot;"); break;
        default: gr_buf_putc(out, (unsigned char)*text < ' ' ? ' ' : *text);
        }
    }
}
