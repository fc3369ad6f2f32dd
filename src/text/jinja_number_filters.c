/* Filters of numbers. */
#include "text/jinja_parts.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>

/* The text without its underscores between digits; NULL when they stand elsewhere or it is empty. */
static char *number_text(jctx *c, const jstr *s) {
    const jstr *t = gr_j_strip(c, s, NULL, true, true);
    char *out = gr_j_alloc(c, t->n + 1, 1);
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        bool inner = i > 0 && i + 1 < t->n && t->p[i - 1] != '_' && t->p[i + 1] != '_';
        if (t->p[i] == 0 || (t->p[i] == '_' && !inner)) return NULL;
        if (t->p[i] != '_') out[n++] = t->p[i];
    }
    return n ? out : NULL;
}

static bool parse_int(jctx *c, const jstr *s, int base, int64_t *value) {
    char *text = number_text(c, s), *end, *digits;
    if (!text) return false;
    digits = text + (*text == '+' || *text == '-');
    char kind = digits[0] == '0' ? (char)(digits[1] | 32) : 0;
    int prefix = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (prefix && (base == prefix || base == 0)) {
        memmove(digits, digits + 2, strlen(digits + 2) + 1);
        base = prefix;
    } else if (base == 0)
        base = 10;
    if (!*digits || *digits == '+' || *digits == '-' || (digits[0] == '0' && (digits[1] | 32) == 'x'))
        return false;
    errno = 0;
    long long v = strtoll(text, &end, base);
    if (*end) return false;
    if (errno) gr_j_raise(c, GRAFT_RANGE, "an integer does not fit 64 bits");
    *value = v;
    return true;
}

static bool parse_float(jctx *c, const jstr *s, double *value) {
    char *text = number_text(c, s), *end;
    if (!text || strpbrk(text, "xXpP(")) return false; /* C reads hexadecimal, Python does not */
    *value = gr_to_real(text, &end);
    return end != text && !*end;
}

static jv whole(jctx *c, double f, jv otherwise) {
    if (isnan(f) || isinf(f)) return otherwise;
    if (fabs(f) >= 9223372036854775808.0) gr_j_raise(c, GRAFT_RANGE, "an integer does not fit 64 bits");
    return gr_j_int((int64_t)f);
}

static jv f_int(jcall *k) {
    jv otherwise = k->arg[0].kind == J_MISSING ? gr_j_int(0) : k->arg[0];
    int64_t base = gr_j_arg_int(k, 1, 10), i;
    double f;
    if (k->self.kind == J_UNDEF) gr_j_use_undefined(k->c, k->self);
    if (k->self.kind == J_FLOAT) return whole(k->c, k->self.f, otherwise);
    if (gr_j_is_number(k->self)) return gr_j_int(k->self.kind == J_INT ? k->self.i : k->self.b);
    if (k->self.kind != J_STR) return otherwise;
    if (base >= 0 && base <= 36 && base != 1 && parse_int(k->c, k->self.s, (int)base, &i)) return gr_j_int(i);
    return parse_float(k->c, k->self.s, &f) ? whole(k->c, f, otherwise) : otherwise;
}

static jv f_float(jcall *k) {
    double f;
    if (k->self.kind == J_UNDEF) gr_j_use_undefined(k->c, k->self);
    if (gr_j_is_number(k->self)) return gr_j_float(gr_j_to_double(k->self));
    if (k->self.kind == J_STR && parse_float(k->c, k->self.s, &f)) return gr_j_float(f);
    return k->arg[0].kind == J_MISSING ? gr_j_float(0) : k->arg[0];
}

static void need_number(jcall *k, const char *what) {
    if (k->self.kind == J_UNDEF) gr_j_use_undefined(k->c, k->self);
    if (!gr_j_is_number(k->self))
        gr_j_error(k->c, "%s needs a number, not %s", what, gr_j_type_name(k->self));
}

static jv f_abs(jcall *k) {
    need_number(k, "abs");
    if (k->self.kind == J_FLOAT) return gr_j_float(fabs(k->self.f));
    int64_t i = k->self.kind == J_INT ? k->self.i : k->self.b;
    return i < 0 ? gr_j_binary(k->c, '-', gr_j_int(0), gr_j_int(i)) : gr_j_int(i);
}

/* Python's round: exact decimal value, half to even; printf does the same. */
static double rounded(double f, int64_t places) {
    char text[400];
    if (isnan(f) || isinf(f) || places > 300) return f;
    if (places >= 0) {
        gr_format(text, sizeof text, "%.*f", (int)places, f);
        return gr_to_real(text, NULL);
    }
    if (places < -308) return copysign(0.0, f);
    double unit = pow(10, (double)-places);
    return nearbyint(f / unit) * unit;
}

static jv f_round(jcall *k) {
    int64_t places = gr_j_arg_int(k, 0, 0);
    need_number(k, "round");
    const char *method = k->arg[1].kind == J_STR ? k->arg[1].s->p : "common";
    double unit = pow(10, (double)places), f = gr_j_to_double(k->self);
    if (strcmp(method, "ceil") == 0 || strcmp(method, "floor") == 0) {
        double moved = *method == 'c' ? ceil(f * unit) : floor(f * unit);
        if (!isfinite(moved))
            gr_j_error(k->c, "cannot convert float %s to integer", isnan(moved) ? "NaN" : "infinity");
        return gr_j_float((moved + 0.0) / unit); /* an integer has no -0.0 */
    }
    if (strcmp(method, "common") != 0) gr_j_error(k->c, "method must be common, ceil or floor");
    if (k->self.kind != J_FLOAT) {
        int64_t i = k->self.kind == J_INT ? k->self.i : k->self.b;
        return places >= 0 ? gr_j_int(i) : whole(k->c, rounded((double)i, places), gr_j_int(0));
    }
    return gr_j_float(rounded(f, places));
}

static jv f_sum(jcall *k) {
    jv total = k->arg[1].kind == J_MISSING ? gr_j_int(0) : k->arg[1];
    const jlist *l = gr_j_iterate(k->c, k->self);
    if (total.kind == J_STR) gr_j_error(k->c, "sum() can't sum strings [use ''.join(seq) instead]");
    bool given = k->arg[0].kind != J_MISSING && k->arg[0].kind != J_NONE;
    for (size_t i = 0; i < l->n; i++)
        total = gr_j_binary(k->c, '+', total,
                            given ? gr_j_path(k->c, l->items[i], k->arg[0], GR_J_MISSING) : l->items[i]);
    return total;
}

static jv f_filesizeformat(jcall *k) {
    static const char *const decimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    double bytes, base = gr_j_arg_true(k, 0, false) ? 1024 : 1000, unit;
    if (k->self.kind != J_STR) need_number(k, "filesizeformat");
    if (k->self.kind != J_STR)
        bytes = gr_j_to_double(k->self);
    else if (!parse_float(k->c, k->self.s, &bytes))
        gr_j_error(k->c, "could not convert string to float");
    if (bytes == 1) return gr_j_str(k->c, "1 Byte");
    if (bytes < base) return gr_j_str(k->c, gr_j_format(k->c, "%d Bytes", (int)bytes));
    int i = 0;
    for (unit = base * base; i < 7 && bytes >= unit; i++) unit *= base;
    return gr_j_str(k->c,
                    gr_j_format(k->c, "%.1f %s", base * bytes / unit, base == 1024 ? binary[i] : decimal[i]));
}

const jrow gr_j_number_filters[] = {
    {"int", "default base", 0, f_int, 0},
    {"float", "default", 0, f_float, 0},
    {"abs", "", 0, f_abs, 0},
    {"round", "precision method", 0, f_round, 0},
    {"sum", "attribute start", 0, f_sum, 0},
    {"filesizeformat", "binary", 0, f_filesizeformat, 0},
    {NULL, NULL, 0, NULL, 0},
};
