/* Methods of str that make new strings. */
#include "text/jinja_parts.h"

static const jstr *chars(jcall *k) {
    return k->arg[0].kind == J_MISSING || k->arg[0].kind == J_NONE ? NULL : gr_j_arg_str(k, 0);
}
static jv m_strip(jcall *k) {
    return gr_j_of(gr_j_strip(k->c, k->self.s, chars(k), true, true));
}
static jv m_lstrip(jcall *k) {
    return gr_j_of(gr_j_strip(k->c, k->self.s, chars(k), true, false));
}
static jv m_rstrip(jcall *k) {
    return gr_j_of(gr_j_strip(k->c, k->self.s, chars(k), false, true));
}
static jv m_upper(jcall *k) {
    return gr_j_of(gr_j_recase(k->c, k->self.s, JC_UPPER));
}
static jv m_lower(jcall *k) {
    return gr_j_of(gr_j_recase(k->c, k->self.s, JC_LOWER));
}
static jv m_title(jcall *k) {
    return gr_j_of(gr_j_recase(k->c, k->self.s, JC_TITLE));
}
static jv m_capitalize(jcall *k) {
    return gr_j_of(gr_j_recase(k->c, k->self.s, JC_CAPITAL));
}
static jv m_swapcase(jcall *k) {
    return gr_j_of(gr_j_recase(k->c, k->self.s, JC_SWAP));
}
static jv m_casefold(jcall *k) {
    return gr_j_of(gr_j_recase(k->c, k->self.s, JC_FOLD));
}

static jv m_replace(jcall *k) {
    return gr_j_of(
        gr_j_replace(k->c, k->self.s, gr_j_arg_str(k, 0), gr_j_arg_str(k, 1), gr_j_arg_int(k, 2, -1)));
}

static jv m_removeprefix(jcall *k) {
    const jstr *s = k->self.s, *fix = gr_j_arg_str(k, 0);
    gr_j_step(k->c, fix->n / 64);
    bool hit = fix->n <= s->n && memcmp(s->p, fix->p, fix->n) == 0;
    return gr_j_of(hit ? gr_j_sub(k->c, s, fix->n, s->n) : s);
}
static jv m_removesuffix(jcall *k) {
    const jstr *s = k->self.s, *fix = gr_j_arg_str(k, 0);
    gr_j_step(k->c, fix->n / 64);
    bool hit = fix->n <= s->n && memcmp(s->p + s->n - fix->n, fix->p, fix->n) == 0;
    return gr_j_of(hit ? gr_j_sub(k->c, s, 0, s->n - fix->n) : s);
}

static bool line_break(uint32_t cp) {
    return (cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

jlist *gr_j_split_lines(jctx *c, const jstr *s, bool keep) {
    jlist *l = gr_j_new_list(c, JL_LIST, 0);
    size_t from = 0;
    for (size_t at = 0; at < s->n;) {
        uint32_t cp;
        size_t end = at;
        at += gr_j_decode(s->p + at, s->p + s->n, &cp);
        if (!line_break(cp)) continue;
        if (cp == '\r' && at < s->n && s->p[at] == '\n') at++;
        gr_j_push(c, l, gr_j_of(gr_j_sub(c, s, from, keep ? at : end)));
        from = at;
    }
    if (from < s->n) gr_j_push(c, l, gr_j_of(gr_j_sub(c, s, from, s->n)));
    return l;
}
static jv m_splitlines(jcall *k) {
    return gr_j_from_list(gr_j_split_lines(k->c, k->self.s, gr_j_arg_true(k, 0, false)));
}

/* split() without a separator: runs of white space. */
static jlist *split_space(jctx *c, const jstr *s, int64_t max) {
    jlist *l = gr_j_new_list(c, JL_LIST, 0);
    s = gr_j_strip(c, s, NULL, true, false);
    while (s->n) {
        size_t at = 0;
        uint32_t cp;
        if (max-- == 0) {
            gr_j_push(c, l, gr_j_of(s));
            break;
        }
        for (; at < s->n; at += gr_j_decode(s->p + at, s->p + s->n, &cp)) {
            gr_j_decode(s->p + at, s->p + s->n, &cp);
            if (gr_j_space(cp)) break;
        }
        gr_j_push(c, l, gr_j_of(gr_j_sub(c, s, 0, at)));
        s = gr_j_strip(c, gr_j_sub(c, s, at, s->n), NULL, true, false);
    }
    return l;
}

/* The same from the right; the words come in reverse. */
static jlist *rsplit_space(jctx *c, const jstr *s, int64_t max) {
    jlist *l = gr_j_new_list(c, JL_LIST, 0);
    s = gr_j_strip(c, s, NULL, false, true);
    while (s->n) {
        size_t word = s->n;
        uint32_t cp;
        if (max-- == 0) {
            gr_j_push(c, l, gr_j_of(s));
            break;
        }
        for (; word > 0;) {
            size_t last = word - 1;
            while (last > 0 && ((unsigned char)s->p[last] & 0xc0) == 0x80) last--;
            gr_j_decode(s->p + last, s->p + s->n, &cp);
            if (gr_j_space(cp)) break;
            word = last;
        }
        gr_j_push(c, l, gr_j_of(gr_j_sub(c, s, word, s->n)));
        s = gr_j_strip(c, gr_j_sub(c, s, 0, word), NULL, false, true);
    }
    return l;
}

static jlist *split_by(jctx *c, const jstr *s, const jstr *sep, int64_t max) {
    jlist *l = gr_j_new_list(c, JL_LIST, 0);
    size_t from = 0, hit;
    while (max-- != 0 && (hit = gr_j_find(c, s, sep, from)) != SIZE_MAX) {
        gr_j_push(c, l, gr_j_of(gr_j_sub(c, s, from, hit)));
        from = hit + sep->n;
    }
    gr_j_push(c, l, gr_j_of(gr_j_sub(c, s, from, s->n)));
    return l;
}

static size_t find_last(jctx *c, const jstr *s, const jstr *needle, size_t end) {
    for (size_t at = end >= needle->n ? end - needle->n + 1 : 0; at-- > 0;) {
        if (s->p[at] != needle->p[0]) continue;
        gr_j_step(c, 1 + needle->n / 64);
        if (memcmp(s->p + at, needle->p, needle->n) == 0) return at;
    }
    gr_j_step(c, end / 16);
    return SIZE_MAX;
}

static jlist *rsplit_by(jctx *c, const jstr *s, const jstr *sep, int64_t max) {
    jlist *l = gr_j_new_list(c, JL_LIST, 0);
    size_t end = s->n, hit;
    while (max-- != 0 && (hit = find_last(c, s, sep, end)) != SIZE_MAX) {
        gr_j_push(c, l, gr_j_of(gr_j_sub(c, s, hit + sep->n, end)));
        end = hit;
    }
    gr_j_push(c, l, gr_j_of(gr_j_sub(c, s, 0, end)));
    return l;
}

static jv reversed(jlist *l) {
    for (size_t i = 0, j = l->n; i + 1 < j; i++) {
        jv v = l->items[i];
        l->items[i] = l->items[--j];
        l->items[j] = v;
    }
    return gr_j_from_list(l);
}

static const jstr *separator(jcall *k) {
    const jstr *sep = chars(k);
    if (sep && !sep->n) gr_j_error(k->c, "empty separator");
    return sep;
}

static jv m_split(jcall *k) {
    const jstr *sep = separator(k);
    int64_t max = gr_j_arg_int(k, 1, -1);
    return gr_j_from_list(sep ? split_by(k->c, k->self.s, sep, max) : split_space(k->c, k->self.s, max));
}
static jv m_rsplit(jcall *k) {
    const jstr *sep = separator(k);
    int64_t max = gr_j_arg_int(k, 1, -1);
    return reversed(sep ? rsplit_by(k->c, k->self.s, sep, max) : rsplit_space(k->c, k->self.s, max));
}

static jv parts(jcall *k, size_t at, size_t n, bool whole_last) {
    const jstr *s = k->self.s;
    jlist *l = gr_j_new_list(k->c, JL_TUPLE, 3);
    bool hit = at != SIZE_MAX;
    jv none = gr_j_str(k->c, "");
    gr_j_push(k->c, l, hit ? gr_j_of(gr_j_sub(k->c, s, 0, at)) : whole_last ? none : gr_j_of(s));
    gr_j_push(k->c, l, hit ? gr_j_of(gr_j_sub(k->c, s, at, at + n)) : none);
    gr_j_push(k->c, l, hit ? gr_j_of(gr_j_sub(k->c, s, at + n, s->n)) : whole_last ? gr_j_of(s) : none);
    return gr_j_from_list(l);
}
static jv m_partition(jcall *k) {
    const jstr *sep = separator(k);
    if (!sep) gr_j_error(k->c, "must be str, not NoneType");
    return parts(k, gr_j_find(k->c, k->self.s, sep, 0), sep->n, false);
}
static jv m_rpartition(jcall *k) {
    const jstr *sep = separator(k);
    if (!sep) gr_j_error(k->c, "must be str, not NoneType");
    return parts(k, find_last(k->c, k->self.s, sep, k->self.s->n), sep->n, true);
}

static jv m_join(jcall *k) {
    const jlist *l = gr_j_iterate(k->c, k->arg[0]);
    jbuild b = {0};
    for (size_t i = 0; i < l->n; i++) {
        if (l->items[i].kind != J_STR)
            gr_j_error(k->c, "sequence item %zu: expected str instance, %s found", i,
                       gr_j_type_name(l->items[i]));
        if (i) gr_j_put_str(k->c, &b, k->self.s);
        gr_j_put_str(k->c, &b, l->items[i].s);
    }
    return gr_j_of(gr_j_built(k->c, &b));
}

static jv m_format(jcall *k) {
    return gr_j_format_braces(k->c, k->self.s, k->raw);
}

/* ljust, rjust, center: `left` of the padding goes before. */
static jv padded(jcall *k, int where) {
    const jstr *s = k->self.s,
               *fill = k->arg[1].kind == J_MISSING ? gr_j_str(k->c, " ").s : gr_j_arg_str(k, 1);
    gr_j_step(k->c, (s->n + fill->n) / 16);
    int64_t width = gr_j_arg_int(k, 0, 0), pad = width - (int64_t)gr_j_points(s);
    if (gr_j_points(fill) != 1) gr_j_error(k->c, "The fill character must be exactly one character long");
    if (pad <= 0) return gr_j_of(s);
    int64_t left = where == 0 ? 0 : where == 1 ? pad : pad / 2 + (pad & width & 1);
    jv head = gr_j_binary(k->c, '+', gr_j_binary(k->c, '*', gr_j_of(fill), gr_j_int(left)), gr_j_of(s));
    return gr_j_binary(k->c, '+', head, gr_j_binary(k->c, '*', gr_j_of(fill), gr_j_int(pad - left)));
}
static jv m_ljust(jcall *k) {
    return padded(k, 0);
}
static jv m_rjust(jcall *k) {
    return padded(k, 1);
}
static jv m_center(jcall *k) {
    return padded(k, 2);
}

static jv m_zfill(jcall *k) {
    const jstr *s = k->self.s;
    gr_j_step(k->c, s->n / 16);
    int64_t pad = gr_j_arg_int(k, 0, 0) - (int64_t)gr_j_points(s);
    if (pad <= 0) return gr_j_of(s);
    size_t sign = s->n && (s->p[0] == '-' || s->p[0] == '+');
    jv zeros = gr_j_binary(k->c, '*', gr_j_str(k->c, "0"), gr_j_int(pad));
    jv head = gr_j_binary(k->c, '+', gr_j_of(gr_j_sub(k->c, s, 0, sign)), zeros);
    return gr_j_binary(k->c, '+', head, gr_j_of(gr_j_sub(k->c, s, sign, s->n)));
}

static jv m_expandtabs(jcall *k) {
    const jstr *s = k->self.s;
    int64_t size = gr_j_arg_int(k, 0, 8), column = 0;
    jbuild b = {0};
    for (size_t at = 0; at < s->n;) {
        uint32_t cp;
        size_t used = gr_j_decode(s->p + at, s->p + s->n, &cp);
        uint8_t mark = s->marks ? s->marks[at] : 0;
        gr_j_step(k->c, 1);
        if (cp == '\t') {
            for (int64_t pad = size > 0 ? size - column % size : 0; pad > 0; pad--, column++)
                gr_j_step(k->c, 1), gr_j_put_mark(k->c, &b, " ", 1, mark);
        } else {
            column = cp == '\n' || cp == '\r' ? 0 : column + 1;
            gr_j_put_mark(k->c, &b, s->p + at, used, mark);
        }
        at += used;
    }
    return gr_j_of(gr_j_built(k->c, &b));
}

const jrow gr_j_str_methods[] = {
    {"strip", "chars", 0, m_strip, J_STR},
    {"lstrip", "chars", 0, m_lstrip, J_STR},
    {"rstrip", "chars", 0, m_rstrip, J_STR},
    {"upper", "", 0, m_upper, J_STR},
    {"lower", "", 0, m_lower, J_STR},
    {"title", "", 0, m_title, J_STR},
    {"capitalize", "", 0, m_capitalize, J_STR},
    {"swapcase", "", 0, m_swapcase, J_STR},
    {"casefold", "", 0, m_casefold, J_STR},
    {"replace", "old new count", 2, m_replace, J_STR},
    {"removeprefix", "prefix", 1, m_removeprefix, J_STR},
    {"removesuffix", "suffix", 1, m_removesuffix, J_STR},
    {"splitlines", "keepends", 0, m_splitlines, J_STR},
    {"split", "sep maxsplit", 0, m_split, J_STR},
    {"rsplit", "sep maxsplit", 0, m_rsplit, J_STR},
    {"partition", "sep", 1, m_partition, J_STR},
    {"rpartition", "sep", 1, m_rpartition, J_STR},
    {"join", "iterable", 1, m_join, J_STR},
    {"format", "*", 0, m_format, J_STR},
    {"ljust", "width fillchar", 1, m_ljust, J_STR},
    {"rjust", "width fillchar", 1, m_rjust, J_STR},
    {"center", "width fillchar", 1, m_center, J_STR},
    {"expandtabs", "tabsize", 0, m_expandtabs, J_STR},
    {"zfill", "width", 1, m_zfill, J_STR},
    {NULL, NULL, 0, NULL, 0},
};
