/* str() and repr() as Python prints them. */
#include "text/jinja_parts.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <utf8proc.h>

/* Digits d1 d2 .. with the point behind the first `point` of them, zeros where there are none. */
static void put_positional(char *out, const char *digits, int n, int point) {
    if (point <= 0) *out++ = '0';
    for (int i = 0; i < point; i++) *out++ = i < n ? digits[i] : '0';
    *out++ = '.';
    for (int i = point; i < 0; i++) *out++ = '0';
    for (int i = point > 0 ? point : 0; i < n; i++) *out++ = digits[i];
    if (point >= n) *out++ = '0';
    *out = 0;
}

/* The shortest digits that read back as f, laid out as float.__repr__ does. */
void gr_j_float_repr(double f, char out[40]) {
    if (isnan(f) || isinf(f)) {
        strcpy(out, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    char text[40], digits[40];
    int precision = 0, n = 0;
    if (signbit(f)) *out++ = '-';
    f = fabs(f);
    do gr_format(text, sizeof text, "%.*e", precision, f);
    while (gr_to_real(text, NULL) != f && ++precision < 17);
    int exponent = atoi(strchr(text, 'e') + 1);
    for (const char *p = text; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    digits[n] = 0;
    if (exponent >= -4 && exponent < 16)
        put_positional(out, digits, n, exponent + 1);
    else {
        *out++ = digits[0];
        if (n > 1) *out++ = '.';
        memcpy(out, digits + 1, (size_t)n);
        snprintf(out + n - 1, 6, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent) % 1000);
    }
}

bool gr_j_printable(uint32_t cp) {
    if (cp == ' ') return true;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

static void repr_point(jctx *c, jbuild *b, uint32_t cp, const char *p, size_t n, char quote, uint8_t mark) {
    char text[16];
    if (cp == (uint32_t)quote || cp == '\\')
        snprintf(text, sizeof text, "\\%c", (char)cp);
    else if (cp == '\n' || cp == '\r' || cp == '\t')
        snprintf(text, sizeof text, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
    else if (gr_j_printable(cp)) {
        gr_j_put_mark(c, b, p, n, mark);
        return;
    } else if (cp < 0x100)
        snprintf(text, sizeof text, "\\x%02x", (unsigned)cp);
    else
        snprintf(text, sizeof text, cp < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)cp);
    gr_j_put_mark(c, b, text, strlen(text), mark);
}

static void repr_str(jctx *c, jbuild *b, const jstr *s) {
    char quote = memchr(s->p, '\'', s->n) && !memchr(s->p, '"', s->n) ? '"' : '\'';
    if (s->safe) gr_j_puts(c, b, "Markup(");
    gr_j_put(c, b, &quote, 1, NULL);
    for (size_t at = 0; at < s->n;) {
        uint32_t cp;
        size_t used = gr_j_decode(s->p + at, s->p + s->n, &cp);
        gr_j_step(c, 1);
        repr_point(c, b, cp, s->p + at, used, quote, s->marks ? s->marks[at] : 0);
        at += used;
    }
    gr_j_put(c, b, &quote, 1, NULL);
    if (s->safe) gr_j_puts(c, b, ")");
}

static void repr_items(jctx *c, jbuild *b, const jlist *l, const char *open, const char *close) {
    gr_j_puts(c, b, open);
    for (size_t i = 0; i < l->n; i++) {
        if (i) gr_j_puts(c, b, ", ");
        gr_j_repr(c, b, l->items[i]);
    }
    gr_j_puts(c, b, close);
}

static void repr_list(jctx *c, jbuild *b, const jlist *l) {
    switch (l->flavor) {
    case JL_LIST: repr_items(c, b, l, "[", "]"); break;
    case JL_GROUP:
    case JL_TUPLE: repr_items(c, b, l, "(", l->n == 1 ? ",)" : ")"); break;
    case JL_RANGE:
        gr_j_puts(c, b, gr_j_format(c, "range(%" PRId64 ", %" PRId64, l->start, l->stop));
        if (l->step != 1) gr_j_puts(c, b, gr_j_format(c, ", %" PRId64, l->step));
        gr_j_puts(c, b, ")");
        break;
    case JL_KEYS: repr_items(c, b, l, "dict_keys([", "])"); break;
    case JL_VALUES: repr_items(c, b, l, "dict_values([", "])"); break;
    case JL_ITEMS: repr_items(c, b, l, "dict_items([", "])"); break;
    case JL_GEN: gr_j_error(c, "a generator is printed: its text would be a memory address");
    }
}

static void repr_dict(jctx *c, jbuild *b, const jdict *d) {
    gr_j_puts(c, b, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i) gr_j_puts(c, b, ", ");
        gr_j_repr(c, b, d->keys[i]);
        gr_j_puts(c, b, ": ");
        gr_j_repr(c, b, d->vals[i]);
    }
    gr_j_puts(c, b, "}");
}

void gr_j_repr(jctx *c, jbuild *b, jv v) {
    char text[40];
    gr_j_enter(c);
    switch (v.kind) {
    case J_UNDEF: gr_j_puts(c, b, "Undefined"); break;
    case J_NONE: gr_j_puts(c, b, "None"); break;
    case J_BOOL: gr_j_puts(c, b, v.b ? "True" : "False"); break;
    case J_INT:
        snprintf(text, sizeof text, "%" PRId64, v.i);
        gr_j_puts(c, b, text);
        break;
    case J_FLOAT:
        gr_j_float_repr(v.f, text);
        gr_j_puts(c, b, text);
        break;
    case J_STR: repr_str(c, b, v.s); break;
    case J_LIST: repr_list(c, b, v.l); break;
    case J_DICT: repr_dict(c, b, v.d); break;
    case J_NS:
        gr_j_puts(c, b, "<Namespace ");
        repr_dict(c, b, v.d);
        gr_j_puts(c, b, ">");
        break;
    case J_LOOP:
        gr_j_puts(c, b, gr_j_format(c, "<LoopContext %zu/%zu>", v.loop->index + 1, v.loop->seq->n));
        break;
    default: gr_j_error(c, "a %s is printed: its text would be a memory address", gr_j_type_name(v));
    }
    gr_j_leave(c);
}

void gr_j_print(jctx *c, jbuild *b, jv v) {
    if (v.kind == J_UNDEF) return;
    if (v.kind == J_STR)
        gr_j_put_str(c, b, v.s);
    else
        gr_j_repr(c, b, v);
}

const jstr *gr_j_to_str(jctx *c, jv v) {
    if (v.kind == J_STR) return v.s;
    jbuild b = {0};
    gr_j_print(c, &b, v);
    return gr_j_built(c, &b);
}
