/* "%s" % x and "{}".format(x): the conversions that chat templates use. */
#include "text/jinja_parts.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* [[fill]align][sign][#][0][width][,][.precision][type] */
typedef struct spec {
    const jstr *fill;
    char align, sign, type;
    bool zero, comma, alternate;
    int width, precision; /* -1: none */
} spec;

static int small_number(jctx *c, const char **p, const char *end) {
    int n = 0;
    for (; *p < end && **p >= '0' && **p <= '9'; ++*p) {
        n = n * 10 + (**p - '0');
        if (n > 100000) gr_j_raise(c, GRAFT_RANGE, "a format is wider than 100000");
    }
    return n;
}

static const jstr *grouped(jctx *c, const char *digits) {
    jbuild b = {0};
    size_t whole = strspn(digits, "0123456789");
    for (size_t i = 0; i < whole; i++) {
        if (i && (whole - i) % 3 == 0) gr_j_puts(c, &b, ",");
        gr_j_put(c, &b, digits + i, 1, NULL);
    }
    gr_j_puts(c, &b, digits + whole);
    return gr_j_built(c, &b);
}

/* Digits of |v| without sign. */
static const jstr *digits_of(jctx *c, jv v, const spec *s) {
    char text[512];
    int64_t i = v.kind == J_INT ? v.i : v.kind == J_BOOL ? v.b : 0;
    uint64_t u = i < 0 ? (uint64_t)0 - (uint64_t)i : (uint64_t)i;
    char type = s->type ? s->type : v.kind == J_FLOAT ? 0 : 'd';
    if (type == 'd' || type == 'i' || type == 'u') {
        if (v.kind == J_FLOAT) u = (uint64_t)fmin(fabs(v.f), 9.2e18);
        snprintf(text, sizeof text, "%" PRIu64, u);
    } else if (type == 'x' || type == 'X' || type == 'o') {
        const char *prefix = !s->alternate ? "" : type == 'o' ? "0o" : type == 'x' ? "0x" : "0X";
        snprintf(text, sizeof text,
                 type == 'x'   ? "%s%" PRIx64
                 : type == 'X' ? "%s%" PRIX64
                               : "%s%" PRIo64,
                 prefix, u);
    } else if (type == 0 && s->precision < 0)
        gr_j_float_repr(fabs(gr_j_to_double(v)), text);
    else {
        int precision = s->precision < 0 ? 6 : s->precision > 100 ? 100 : s->precision;
        double f = fabs(gr_j_to_double(v));
        char fmt[8] = {'%', '.', '*', type == '%' ? 'f' : type ? type : 'g', 0};
        if (!strchr("eEfFgG%", type ? type : 'g')) gr_j_error(c, "Unknown format code '%c'", type);
        if (fmt[3] == 'e' || fmt[3] == 'E')
            gr_format(text, sizeof text, fmt[3] == 'e' ? "%.*e" : "%.*E", precision, f);
        else if (fmt[3] == 'g' || fmt[3] == 'G')
            gr_format(text, sizeof text, fmt[3] == 'g' ? "%.*g" : "%.*G", precision, f);
        else
            gr_format(text, sizeof text, type == '%' ? "%.*f%%" : "%.*f", precision,
                      type == '%' ? f * 100 : f);
    }
    return s->comma ? grouped(c, text) : gr_j_str(c, text).s;
}

static void put_fill(jctx *c, jbuild *b, const jstr *fill, int64_t n) {
    for (int64_t i = 0; i < n; i++) gr_j_put_str(c, b, fill);
}

static void put_padded(jctx *c, jbuild *b, const spec *s, const char *sign, const jstr *body, char align) {
    int64_t pad = s->width - (int64_t)(gr_j_points(body) + strlen(sign));
    const jstr *fill = s->fill ? s->fill : gr_j_str(c, s->zero && align == '=' ? "0" : " ").s;
    int64_t left = pad <= 0 ? 0 : align == '<' ? 0 : align == '^' ? pad / 2 : pad;
    if (align != '=') put_fill(c, b, fill, left);
    gr_j_puts(c, b, sign);
    if (align == '=') put_fill(c, b, fill, left);
    gr_j_put_str(c, b, body);
    if (pad > left) put_fill(c, b, fill, pad - left);
}

static void put_number(jctx *c, jbuild *b, const spec *s, jv v) {
    bool negative = v.kind == J_FLOAT ? signbit(v.f) && !isnan(v.f) : v.kind == J_INT && v.i < 0;
    const char *sign = negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "";
    put_padded(c, b, s, sign, digits_of(c, v, s), s->align ? s->align : s->zero ? '=' : '>');
}

static void put_text(jctx *c, jbuild *b, const spec *s, const jstr *text, char align) {
    if (s->precision >= 0) text = gr_j_sub(c, text, 0, gr_j_offset(text, (size_t)s->precision));
    put_padded(c, b, s, "", text, s->align ? s->align : align);
}

static const jstr *repr_of(jctx *c, jv v) {
    jbuild b = {0};
    gr_j_repr(c, &b, v);
    return gr_j_built(c, &b);
}

typedef struct percent {
    jctx *c;
    jbuild b;
    jv args;
    size_t next;
} percent;

static jv next_arg(percent *f) {
    bool tuple = f->args.kind == J_LIST && f->args.l->flavor == JL_TUPLE;
    size_t n = tuple ? f->args.l->n : 1;
    if (f->next >= n) gr_j_error(f->c, "not enough arguments for format string");
    return tuple ? f->args.l->items[f->next++] : (f->next++, f->args);
}

/* One conversion; p is behind the percent sign. Returns where the text goes on. */
static const char *convert(percent *f, const char *p, const char *end) {
    spec s = {.precision = -1};
    jctx *c = f->c;
    const jstr *key = NULL;
    if (p < end && *p == '(') {
        const char *close = memchr(p, ')', (size_t)(end - p));
        if (!close) gr_j_error(c, "incomplete format key");
        key = gr_j_strn(c, p + 1, (size_t)(close - p - 1)).s;
        p = close + 1;
    }
    for (; p < end && strchr("-+ #0", *p) && *p; p++) {
        if (*p == '-') s.align = '<';
        if (*p == '0') s.zero = true;
        if (*p == '#') s.alternate = true;
        if (*p == '+' || (*p == ' ' && !s.sign)) s.sign = *p;
    }
    s.width = small_number(c, &p, end);
    if (p < end && *p == '.') {
        p++;
        s.precision = small_number(c, &p, end);
    }
    if (p >= end) gr_j_error(c, "incomplete format");
    s.type = *p++;
    if (s.type == '%') {
        gr_j_puts(c, &f->b, "%");
        return p;
    }
    jv v;
    if (key) {
        const jv *slot = f->args.kind == J_DICT ? gr_j_dict_text(c, f->args.d, key->p, key->n) : NULL;
        if (!slot) gr_j_error(c, "format requires a mapping with '%.60s'", key->p);
        v = *slot;
        f->next = 1;
    } else
        v = next_arg(f);
    if (s.type == 's' || s.type == 'r')
        put_text(c, &f->b, &s, s.type == 's' ? gr_j_to_str(c, v) : repr_of(c, v), '>');
    else if (strchr("diuxXoeEfFgG", s.type) && gr_j_is_number(v))
        put_number(c, &f->b, &s, v);
    else
        gr_j_error(c, "%%%c format: a number is required, not %s", s.type, gr_j_type_name(v));
    return p;
}

jv gr_j_format_percent(jctx *c, const jstr *fmt, jv args) {
    percent f = {.c = c, .args = args};
    const char *p = fmt->p, *end = p + fmt->n;
    while (p < end) {
        const char *at = memchr(p, '%', (size_t)(end - p)), *stop = at ? at : end;
        gr_j_put(c, &f.b, p, (size_t)(stop - p), fmt->marks ? fmt->marks + (p - fmt->p) : NULL);
        p = at ? convert(&f, at + 1, end) : end;
    }
    bool tuple = args.kind == J_LIST && args.l->flavor == JL_TUPLE;
    bool unused = tuple ? f.next < args.l->n
                        : f.next == 0 && args.kind != J_DICT && args.kind != J_LIST && args.kind != J_UNDEF;
    if (unused) gr_j_error(c, "not all arguments converted during string formatting");
    return gr_j_of(gr_j_built(c, &f.b));
}

static void parse_spec(jctx *c, const char *p, const char *end, spec *s) {
    uint32_t cp;
    s->precision = -1;
    size_t used = p < end ? gr_j_decode(p, end, &cp) : 0;
    if (p + used < end && strchr("<>^=", p[used])) {
        s->fill = gr_j_strn(c, p, used).s;
        p += used;
    }
    if (p < end && strchr("<>^=", *p)) s->align = *p++;
    if (p < end && strchr("+- ", *p)) s->sign = *p++;
    if (p < end && *p == '#') s->alternate = true, p++;
    if (p < end && *p == '0') s->zero = true, p++;
    s->width = small_number(c, &p, end);
    if (p < end && *p == ',') s->comma = true, p++;
    if (p < end && *p == '.') {
        p++;
        s->precision = small_number(c, &p, end);
    }
    if (p < end) s->type = *p++;
    if (p != end) gr_j_error(c, "Invalid format specifier");
}

/* a.b[0] of a replacement field. */
static jv field_path(jctx *c, jv v, const char *p, const char *end) {
    while (p < end) {
        bool item = *p == '[';
        const char *stop = item ? memchr(p, ']', (size_t)(end - p)) : p + 1 + strcspn(p + 1, ".[");
        if (!stop) gr_j_error(c, "Missing ']' in format string");
        if (stop > end) stop = end;
        jv name = gr_j_strn(c, p + 1, (size_t)(stop - p - 1));
        bool number = item && name.s->n && strspn(name.s->p, "0123456789") == name.s->n && name.s->n < 10;
        v = item ? gr_j_item(c, v, number ? gr_j_int(atoll(name.s->p)) : name) : gr_j_attr(c, v, name.s);
        p = stop + item;
    }
    return v;
}

static jv field_value(jctx *c, const char *p, const char *end, const jargs *args, size_t *next) {
    const char *stop = p;
    while (stop < end && *stop != '.' && *stop != '[') stop++;
    size_t n = (size_t)(stop - p), index = SIZE_MAX;
    if (n == 0)
        index = (*next)++;
    else if (strspn(p, "0123456789") >= n && n < 10)
        index = (size_t)atoll(p);
    if (index != SIZE_MAX) {
        if (index >= args->npos)
            gr_j_error(c, "Replacement index %zu out of range for positional args tuple", index);
        return field_path(c, args->pos[index], stop, end);
    }
    for (size_t i = 0; i < args->nkw; i++)
        if (args->names[i].s->n == n && memcmp(args->names[i].s->p, p, n) == 0)
            return field_path(c, args->vals[i], stop, end);
    gr_j_error(c, "format has no argument '%.*s'", (int)(n < 60 ? n : 60), p);
}

/* The field between braces. */
static void replacement(jctx *c, jbuild *b, const char *p, const char *end, const jargs *args, size_t *next) {
    const char *colon = memchr(p, ':', (size_t)(end - p)), *stop = colon ? colon : end;
    spec s = {.precision = -1};
    char how = 0;
    if (stop - p >= 2 && stop[-2] == '!') {
        how = stop[-1];
        stop -= 2;
    }
    jv v = field_value(c, p, stop, args, next);
    if (colon) parse_spec(c, colon + 1, end, &s);
    if (how == 'r') v = gr_j_of(repr_of(c, v));
    if (how == 's') v = gr_j_of(gr_j_to_str(c, v));
    bool plain_bool = v.kind == J_BOOL && (!colon || colon + 1 == end);
    if (gr_j_is_number(v) && !plain_bool)
        put_number(c, b, &s, v);
    else
        put_text(c, b, &s, gr_j_to_str(c, v), '<');
}

jv gr_j_format_braces(jctx *c, const jstr *fmt, const jargs *args) {
    jbuild b = {0};
    size_t next = 0;
    for (const char *p = fmt->p, *end = p + fmt->n; p < end;) {
        bool twice = p + 1 < end && p[1] == *p;
        if (*p != '{' && *p != '}') {
            gr_j_put(c, &b, p, 1, fmt->marks ? fmt->marks + (p - fmt->p) : NULL);
            p++;
        } else if (twice) {
            gr_j_put(c, &b, p, 1, NULL);
            p += 2;
        } else {
            const char *close = *p == '{' ? memchr(p, '}', (size_t)(end - p)) : NULL;
            if (!close) gr_j_error(c, "Single '%c' encountered in format string", *p);
            replacement(c, &b, p + 1, close, args, &next);
            p = close + 1;
        }
    }
    return gr_j_of(gr_j_built(c, &b));
}
