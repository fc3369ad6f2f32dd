/* Filters of text. */
#include "text/jinja_parts.h"
#include <stdio.h>

static jv recased(jcall *k, jcase how) {
    return gr_j_of(gr_j_recase(k->c, gr_j_self_str(k), how));
}
static jv f_upper(jcall *k) {
    return recased(k, JC_UPPER);
}
static jv f_lower(jcall *k) {
    return recased(k, JC_LOWER);
}
static jv f_capitalize(jcall *k) {
    return recased(k, JC_CAPITAL);
}

/* jinja2's own title: words begin after space, hyphen or an opening bracket. */
static jv f_title(jcall *k) {
    const jstr *s = gr_j_self_str(k);
    jbuild b = {0};
    for (size_t at = 0; at < s->n;) {
        size_t from = at;
        uint32_t cp;
        bool separator = true;
        for (; at < s->n; at += gr_j_decode(s->p + at, s->p + s->n, &cp)) {
            gr_j_decode(s->p + at, s->p + s->n, &cp);
            separator = gr_j_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp));
            if (separator) break;
        }
        gr_j_put_str(k->c, &b, gr_j_recase(k->c, gr_j_sub(k->c, s, from, at), JC_CAPITAL));
        if (at < s->n) {
            size_t used = gr_j_decode(s->p + at, s->p + s->n, &cp);
            gr_j_put_str(k->c, &b, gr_j_sub(k->c, s, at, at + used));
            at += used;
        }
    }
    return gr_j_of(gr_j_built(k->c, &b));
}

static jv f_trim(jcall *k) {
    bool given = k->arg[0].kind == J_STR;
    return gr_j_of(gr_j_strip(k->c, gr_j_self_str(k), given ? k->arg[0].s : NULL, true, true));
}

static jv f_replace(jcall *k) {
    int64_t max = k->arg[2].kind == J_NONE ? -1 : gr_j_arg_int(k, 2, -1);
    return gr_j_of(gr_j_replace(k->c, gr_j_self_str(k), gr_j_to_str(k->c, k->arg[0]),
                                gr_j_to_str(k->c, k->arg[1]), max));
}

static jv f_string(jcall *k) {
    return gr_j_of(gr_j_self_str(k));
}

static jv marked_safe(jctx *c, const jstr *s) {
    jstr *out = gr_j_alloc(c, 1, sizeof *out);
    *out = *s;
    out->safe = true;
    return gr_j_of(out);
}
static jv f_safe(jcall *k) {
    return marked_safe(k->c, gr_j_self_str(k));
}

static jv escaped(jctx *c, const jstr *s) {
    static const struct {
        char ch;
        const char *entity;
    } map[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    jbuild b = {0};
    for (size_t i = 0; i < s->n; i++) {
        uint8_t mark = s->marks ? s->marks[i] : 0;
        const char *entity = NULL;
        gr_j_step(c, 1);
        for (size_t m = 0; m < 5; m++)
            if (s->p[i] == map[m].ch) entity = map[m].entity;
        gr_j_put_mark(c, &b, entity ? entity : s->p + i, entity ? strlen(entity) : 1, mark);
    }
    return marked_safe(c, gr_j_built(c, &b));
}
static jv f_escape(jcall *k) {
    const jstr *s = gr_j_self_str(k);
    return s->safe ? gr_j_of(s) : escaped(k->c, s);
}
static jv f_forceescape(jcall *k) {
    return escaped(k->c, gr_j_self_str(k));
}

static jv f_xmlattr(jcall *k) {
    jctx *c = k->c;
    jbuild b = {0};
    if (k->self.kind != J_DICT) gr_j_error(c, "xmlattr needs a mapping, not %s", gr_j_type_name(k->self));
    const char *space = gr_j_arg_true(k, 0, true) ? " " : "";
    for (size_t i = 0; i < k->self.d->n; i++) {
        jv key = k->self.d->keys[i], value = k->self.d->vals[i];
        if (value.kind == J_NONE || value.kind == J_UNDEF) continue;
        if (key.kind != J_STR) gr_j_error(c, "xmlattr: a key is a %s", gr_j_type_name(key));
        if (strpbrk(key.s->p, " \t\n\r\f\v/>="))
            gr_j_error(c, "Invalid character in attribute name: '%.60s'", key.s->p);
        const jstr *text = gr_j_to_str(c, value);
        gr_j_puts(c, &b, space);
        gr_j_put_str(c, &b, escaped(c, key.s).s);
        gr_j_puts(c, &b, "=\"");
        gr_j_put_str(c, &b, text->safe ? text : escaped(c, text).s);
        gr_j_puts(c, &b, "\"");
        space = " ";
    }
    return gr_j_of(gr_j_built(c, &b));
}

static jv f_indent(jcall *k) {
    const jstr *s = k->self.kind == J_STR ? k->self.s : gr_j_self_str(k), *width;
    jctx *c = k->c;
    if (k->self.kind != J_STR) gr_j_error(c, "indent needs a string, not %s", gr_j_type_name(k->self));
    if (k->arg[0].kind == J_STR)
        width = k->arg[0].s;
    else
        width = gr_j_binary(c, '*', gr_j_str(c, " "), gr_j_int(gr_j_arg_int(k, 0, 4))).s;
    bool first = gr_j_arg_true(k, 1, false), blank = gr_j_arg_true(k, 2, false);
    const jlist *lines = gr_j_split_lines(c, gr_j_binary(c, '+', gr_j_of(s), gr_j_str(c, "\n")).s, false);
    jbuild b = {0};
    if (first) gr_j_put_str(c, &b, width);
    for (size_t i = 0; i < lines->n; i++) {
        if (i) gr_j_puts(c, &b, "\n");
        if (i && (blank || lines->items[i].s->n)) gr_j_put_str(c, &b, width);
        gr_j_put_str(c, &b, lines->items[i].s);
    }
    return gr_j_of(gr_j_built(c, &b));
}

static jv f_truncate(jcall *k) {
    jctx *c = k->c;
    const jstr *s = gr_j_self_str(k), *end = k->arg[2].kind == J_STR ? k->arg[2].s : gr_j_str(c, "...").s;
    int64_t length = gr_j_arg_int(k, 0, 255), leeway = gr_j_arg_int(k, 3, 5);
    gr_j_step(k->c, (s->n + end->n) / 8);
    int64_t points = (int64_t)gr_j_points(s), keep = length - (int64_t)gr_j_points(end);
    if (keep < 0 || leeway < 0) gr_j_error(c, "truncate: the length is shorter than its end");
    if (points - leeway <= length) return gr_j_of(s);
    const jstr *head = gr_j_sub(c, s, 0, gr_j_offset(s, (size_t)keep));
    const char *space = memrchr(head->p, ' ', head->n);
    if (!gr_j_arg_true(k, 1, false) && space) head = gr_j_sub(c, head, 0, (size_t)(space - head->p));
    return gr_j_binary(c, '+', gr_j_of(head), gr_j_of(end));
}

static jv f_center(jcall *k) {
    const jstr *s = gr_j_self_str(k);
    gr_j_step(k->c, s->n / 16);
    int64_t pad = gr_j_arg_int(k, 0, 80) - (int64_t)gr_j_points(s), width = gr_j_arg_int(k, 0, 80);
    if (pad <= 0) return gr_j_of(s);
    int64_t left = pad / 2 + (pad & width & 1);
    jv space = gr_j_str(k->c, " ");
    jv head = gr_j_binary(k->c, '+', gr_j_binary(k->c, '*', space, gr_j_int(left)), gr_j_of(s));
    return gr_j_binary(k->c, '+', head, gr_j_binary(k->c, '*', space, gr_j_int(pad - left)));
}

static jv f_wordcount(jcall *k) {
    const jstr *s = gr_j_self_str(k);
    gr_j_step(k->c, s->n / 8);
    int64_t count = 0;
    bool inside = false;
    for (const char *p = s->p, *end = p + s->n; p < end;) {
        uint32_t cp;
        p += gr_j_decode(p, end, &cp);
        bool word = cp == '_' || gr_j_is_alnum(cp);
        count += word && !inside;
        inside = word;
    }
    return gr_j_int(count);
}

/* A path keeps its slashes; a query writes spaces as "+". */
static void quote(jctx *c, jbuild *b, const jstr *s, bool path) {
    for (size_t i = 0; i < s->n; i++) {
        unsigned char ch = (unsigned char)s->p[i];
        char text[8];
        bool plain = (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z') ||
                     (ch && strchr("_.-~", ch)) || (path && ch == '/');
        gr_j_step(c, 1);
        snprintf(text, sizeof text, plain ? "%c" : ch == ' ' && !path ? "+" : "%%%02X", ch);
        gr_j_puts(c, b, text);
    }
}

static jv f_urlencode(jcall *k) {
    jbuild b = {0};
    bool pairs = k->self.kind == J_DICT || (k->self.kind == J_LIST);
    if (!pairs) {
        quote(k->c, &b, gr_j_self_str(k), true);
        return gr_j_of(gr_j_built(k->c, &b));
    }
    const jlist *l = gr_j_iterate(k->c, k->self);
    for (size_t i = 0; i < l->n; i++) {
        jv key = l->items[i], value;
        if (k->self.kind == J_DICT)
            value = k->self.d->vals[i];
        else {
            const jlist *pair = gr_j_iterate(k->c, key);
            if (pair->n != 2) gr_j_error(k->c, "urlencode needs pairs");
            key = pair->items[0];
            value = pair->items[1];
        }
        if (i) gr_j_puts(k->c, &b, "&");
        quote(k->c, &b, gr_j_to_str(k->c, key), false);
        gr_j_puts(k->c, &b, "=");
        quote(k->c, &b, gr_j_to_str(k->c, value), false);
    }
    return gr_j_of(gr_j_built(k->c, &b));
}

static jv f_tojson(jcall *k) {
    return gr_j_tojson(k->c, k->self, gr_j_arg_true(k, 0, false), k->arg[1], k->arg[2],
                       gr_j_arg_true(k, 3, false));
}

static jv f_format(jcall *k) {
    jlist *l = gr_j_new_list(k->c, JL_TUPLE, 0);
    for (size_t i = 0; i < k->raw->npos; i++) gr_j_push(k->c, l, k->raw->pos[i]);
    if (k->raw->nkw && l->n)
        gr_j_error(k->c, "can't handle positional and keyword arguments at the same time");
    if (!k->raw->nkw) return gr_j_format_percent(k->c, gr_j_self_str(k), gr_j_from_list(l));
    jv d = {.kind = J_DICT, .d = gr_j_new_dict(k->c)};
    for (size_t i = 0; i < k->raw->nkw; i++) gr_j_dict_set(k->c, d.d, k->raw->names[i], k->raw->vals[i]);
    return gr_j_format_percent(k->c, gr_j_self_str(k), d);
}

const jrow gr_j_text_filters[] = {
    {"upper", "", 0, f_upper, 0},
    {"lower", "", 0, f_lower, 0},
    {"capitalize", "", 0, f_capitalize, 0},
    {"title", "", 0, f_title, 0},
    {"trim", "chars", 0, f_trim, 0},
    {"replace", "old new count", 2, f_replace, 0},
    {"string", "", 0, f_string, 0},
    {"safe", "", 0, f_safe, 0},
    {"e", "", 0, f_escape, 0},
    {"escape", "", 0, f_escape, 0},
    {"forceescape", "", 0, f_forceescape, 0},
    {"xmlattr", "autospace", 0, f_xmlattr, 0},
    {"indent", "width first blank", 0, f_indent, 0},
    {"truncate", "length killwords end leeway", 0, f_truncate, 0},
    {"center", "width", 0, f_center, 0},
    {"wordcount", "", 0, f_wordcount, 0},
    {"urlencode", "", 0, f_urlencode, 0},
    {"tojson", "ensure_ascii indent separators sort_keys", 0, f_tojson, 0},
    {"format", "*", 0, f_format, 0},
    {NULL, NULL, 0, NULL, 0},
};
