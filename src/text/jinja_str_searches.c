/* Methods of str that look into it. */
#include "text/jinja_parts.h"
#include <utf8proc.h>

/* Byte range of [start:end] in code points: arguments i and i + 1. False when start lies behind the end. */
static bool window(jcall *k, int i, size_t *from, size_t *to) {
    const jstr *s = k->self.s;
    gr_j_step(k->c, s->n / 8);
    int64_t n = (int64_t)gr_j_points(s), bound[2] = {0, n};
    for (int b = 0; b < 2; b++) {
        if (k->arg[i + b].kind == J_MISSING || k->arg[i + b].kind == J_NONE) continue;
        bound[b] = gr_j_arg_int(k, i + b, 0);
        if (bound[b] < 0) bound[b] = bound[b] < -n ? 0 : bound[b] + n;
    }
    if (bound[0] > n || bound[0] > bound[1]) return false;
    *from = gr_j_offset(s, (size_t)bound[0]);
    *to = gr_j_offset(s, (size_t)(bound[1] > n ? n : bound[1]));
    return true;
}

static int64_t search(jcall *k, bool last) {
    size_t from, to, hit = SIZE_MAX;
    const jstr *needle = gr_j_arg_str(k, 0);
    if (!window(k, 1, &from, &to)) return -1;
    const jstr *part = gr_j_sub(k->c, k->self.s, 0, to);
    for (size_t at = gr_j_find(k->c, part, needle, from); at != SIZE_MAX;
         at = gr_j_find(k->c, part, needle, at + 1)) {
        hit = at;
        gr_j_step(k->c, 1);
        if (!last) break;
    }
    return hit == SIZE_MAX ? -1 : (int64_t)gr_j_points(gr_j_sub(k->c, part, 0, hit));
}
static jv m_find(jcall *k) {
    return gr_j_int(search(k, false));
}
static jv m_rfind(jcall *k) {
    return gr_j_int(search(k, true));
}
static jv found(jcall *k, int64_t at) {
    if (at < 0) gr_j_error(k->c, "substring not found");
    return gr_j_int(at);
}
static jv m_index(jcall *k) {
    return found(k, search(k, false));
}
static jv m_rindex(jcall *k) {
    return found(k, search(k, true));
}

static jv m_count(jcall *k) {
    size_t from, to;
    int64_t count = 0;
    const jstr *needle = gr_j_arg_str(k, 0);
    if (!window(k, 1, &from, &to)) return gr_j_int(0);
    const jstr *part = gr_j_sub(k->c, k->self.s, from, to);
    if (!needle->n) return gr_j_int((int64_t)gr_j_points(part) + 1);
    for (size_t at = 0; (at = gr_j_find(k->c, part, needle, at)) != SIZE_MAX; at += needle->n) {
        gr_j_step(k->c, 1);
        count++;
    }
    return gr_j_int(count);
}

static bool fits(jcall *k, jv fix, bool end, size_t from, size_t to) {
    if (fix.kind != J_STR)
        gr_j_error(k->c, "argument must be str or a tuple of str, not %s", gr_j_type_name(fix));
    size_t n = fix.s->n;
    gr_j_step(k->c, 1 + n / 64);
    return n <= to - from && memcmp(k->self.s->p + (end ? to - n : from), fix.s->p, n) == 0;
}

static jv affix(jcall *k, bool end) {
    size_t from, to;
    bool hit = false;
    if (k->arg[0].kind == J_UNDEF) gr_j_use_undefined(k->c, k->arg[0]);
    if (!window(k, 1, &from, &to)) return gr_j_bool(false);
    if (k->arg[0].kind == J_LIST && k->arg[0].l->flavor == JL_TUPLE) {
        for (size_t i = 0; i < k->arg[0].l->n && !hit; i++)
            hit = fits(k, k->arg[0].l->items[i], end, from, to);
        return gr_j_bool(hit);
    }
    return gr_j_bool(fits(k, k->arg[0], end, from, to));
}
static jv m_startswith(jcall *k) {
    return affix(k, false);
}
static jv m_endswith(jcall *k) {
    return affix(k, true);
}

static bool is_alpha(uint32_t cp) {
    utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)cp);
    return cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_LO;
}
static bool is_decimal(uint32_t cp) {
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_ND;
}
static bool is_digit(uint32_t cp) {
    return is_decimal(cp) || cp == 0xb2 || cp == 0xb3 || cp == 0xb9 ||
           (cp >= 0x2070 && cp <= 0x2089 && cp != 0x2071);
}
static bool is_numeric(uint32_t cp) {
    utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)cp);
    return cat >= UTF8PROC_CATEGORY_ND && cat <= UTF8PROC_CATEGORY_NO;
}
bool gr_j_is_alnum(uint32_t cp) {
    return is_alpha(cp) || is_numeric(cp);
}
static bool is_ascii(uint32_t cp) {
    return cp < 0x80;
}

/* True for all code points of a string that is not empty. */
static jv all(jcall *k, bool (*what)(uint32_t)) {
    const jstr *s = k->self.s;
    gr_j_step(k->c, s->n / 8);
    for (const char *p = s->p, *end = p + s->n; p < end;) {
        uint32_t cp;
        p += gr_j_decode(p, end, &cp);
        if (!what(cp)) return gr_j_bool(false);
    }
    return gr_j_bool(s->n != 0);
}
static jv m_isalpha(jcall *k) {
    return all(k, is_alpha);
}
static jv m_isalnum(jcall *k) {
    return all(k, gr_j_is_alnum);
}
static jv m_isdigit(jcall *k) {
    return all(k, is_digit);
}
static jv m_isdecimal(jcall *k) {
    return all(k, is_decimal);
}
static jv m_isnumeric(jcall *k) {
    return all(k, is_numeric);
}
static jv m_isspace(jcall *k) {
    return all(k, gr_j_space);
}
static jv m_isascii(jcall *k) {
    return gr_j_bool(!k->self.s->n || all(k, is_ascii).b);
}
static jv m_isprintable(jcall *k) {
    return gr_j_bool(!k->self.s->n || all(k, gr_j_printable).b);
}
/* Letters and _ in front, then also digits and marks. */
static bool continues_name(uint32_t cp) {
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return is_alpha(cp);
    }
}
static jv m_isidentifier(jcall *k) {
    uint32_t first = '0';
    if (k->self.s->n) gr_j_decode(k->self.s->p, k->self.s->p + k->self.s->n, &first);
    bool starts =
        is_alpha(first) || first == '_' || utf8proc_category((utf8proc_int32_t)first) == UTF8PROC_CATEGORY_NL;
    return gr_j_bool(starts && all(k, continues_name).b);
}
static jv test(jcall *k, const char *name) {
    jargs none = {0};
    return gr_j_bool(gr_j_call_test(k->c, gr_j_str(k->c, name).s, k->self, none));
}
static jv m_islower(jcall *k) {
    return test(k, "lower");
}
static jv m_isupper(jcall *k) {
    return test(k, "upper");
}
static jv m_istitle(jcall *k) {
    bool cased = false;
    const jstr *s = k->self.s;
    gr_j_step(k->c, s->n / 8);
    for (const char *p = s->p, *end = p + s->n; p < end;) {
        uint32_t cp;
        p += gr_j_decode(p, end, &cp);
        cased |= gr_j_cp_upper(cp) != cp || gr_j_cp_lower(cp) != cp;
    }
    return gr_j_bool(cased && gr_j_same(k->c, s, gr_j_recase(k->c, s, JC_TITLE)));
}

const jrow gr_j_str_searches[] = {
    {"find", "sub start end", 1, m_find, J_STR},
    {"rfind", "sub start end", 1, m_rfind, J_STR},
    {"index", "sub start end", 1, m_index, J_STR},
    {"rindex", "sub start end", 1, m_rindex, J_STR},
    {"count", "sub start end", 1, m_count, J_STR},
    {"startswith", "prefix start end", 1, m_startswith, J_STR},
    {"endswith", "suffix start end", 1, m_endswith, J_STR},
    {"isalpha", "", 0, m_isalpha, J_STR},
    {"isalnum", "", 0, m_isalnum, J_STR},
    {"isdigit", "", 0, m_isdigit, J_STR},
    {"isdecimal", "", 0, m_isdecimal, J_STR},
    {"isnumeric", "", 0, m_isnumeric, J_STR},
    {"isspace", "", 0, m_isspace, J_STR},
    {"isascii", "", 0, m_isascii, J_STR},
    {"isprintable", "", 0, m_isprintable, J_STR},
    {"isidentifier", "", 0, m_isidentifier, J_STR},
    {"islower", "", 0, m_islower, J_STR},
    {"isupper", "", 0, m_isupper, J_STR},
    {"istitle", "", 0, m_istitle, J_STR},
    {NULL, NULL, 0, NULL, 0},
};
