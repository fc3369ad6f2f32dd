/* The tojson filter: json.dumps as transformers calls it. */
#include "text/jinja_parts.h"
#include <math.h>
#include <stdio.h>

typedef struct dump {
    jctx *c;
    jbuild b;
    const jstr *indent; /* NULL: one line */
    const jstr *comma, *colon;
    bool ascii, sort_keys;
} dump;

static void newline(dump *d, int level) {
    if (!d->indent) return;
    gr_j_step(d->c, (size_t)level);
    gr_j_puts(d->c, &d->b, "\n");
    for (int i = 0; i < level; i++) gr_j_put_str(d->c, &d->b, d->indent);
}

static void dump_point(dump *d, uint32_t cp, const char *p, size_t n, uint8_t mark) {
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    char text[16];
    const char *hit = cp && cp < 0x80 ? strchr(plain, (int)cp) : NULL;
    if (hit)
        snprintf(text, sizeof text, "\\%c", letters[hit - plain]);
    else if (cp < 0x20 || (d->ascii && cp > 0x7e && cp < 0x10000))
        snprintf(text, sizeof text, "\\u%04x", (unsigned)cp);
    else if (d->ascii && cp >= 0x10000)
        snprintf(text, sizeof text, "\\u%04x\\u%04x", (unsigned)(0xd800 + ((cp - 0x10000) >> 10)),
                 (unsigned)(0xdc00 + ((cp - 0x10000) & 0x3ff)));
    else {
        gr_j_put_mark(d->c, &d->b, p, n, mark);
        return;
    }
    gr_j_put_mark(d->c, &d->b, text, strlen(text), mark);
}

static void dump_str(dump *d, const jstr *s) {
    gr_j_puts(d->c, &d->b, "\"");
    for (size_t at = 0; at < s->n;) {
        uint32_t cp;
        size_t used = gr_j_decode(s->p + at, s->p + s->n, &cp);
        gr_j_step(d->c, 1);
        dump_point(d, cp, s->p + at, used, s->marks ? s->marks[at] : 0);
        at += used;
    }
    gr_j_puts(d->c, &d->b, "\"");
}

static void dump_value(dump *d, jv v, int level);

static void dump_list(dump *d, const jlist *l, int level) {
    gr_j_puts(d->c, &d->b, "[");
    for (size_t i = 0; i < l->n; i++) {
        if (i) gr_j_put_str(d->c, &d->b, d->comma);
        newline(d, level + 1);
        dump_value(d, l->items[i], level + 1);
    }
    if (l->n) newline(d, level);
    gr_j_puts(d->c, &d->b, "]");
}

/* json.dumps writes these keys as strings and refuses others. */
static const jstr *key_text(dump *d, jv key) {
    switch (key.kind) {
    case J_STR: return key.s;
    case J_NONE: return gr_j_new_str(d->c, "null", 4);
    case J_BOOL: return key.b ? gr_j_new_str(d->c, "true", 4) : gr_j_new_str(d->c, "false", 5);
    case J_INT:
    case J_FLOAT: return gr_j_to_str(d->c, key);
    default: gr_j_error(d->c, "keys must be str, int, float, bool or None, not %s", gr_j_type_name(key));
    }
}

static void dump_dict(dump *d, const jdict *dict, int level) {
    jdict sorted = *dict;
    if (d->sort_keys && dict->n) {
        jlist *pairs = gr_j_new_list(d->c, JL_LIST, dict->n);
        jv *keys = gr_j_alloc(d->c, dict->n, sizeof *keys);
        memcpy(keys, dict->keys, dict->n * sizeof *keys);
        for (size_t i = 0; i < dict->n; i++)
            gr_j_push(d->c, pairs, gr_j_from_list(gr_j_pair(d->c, dict->keys[i], dict->vals[i])));
        gr_j_sort(d->c, pairs->items, keys, pairs->n, false);
        sorted = (jdict){0};
        for (size_t i = 0; i < pairs->n; i++)
            gr_j_dict_set(d->c, &sorted, pairs->items[i].l->items[0], pairs->items[i].l->items[1]);
    }
    gr_j_puts(d->c, &d->b, "{");
    for (size_t i = 0; i < sorted.n; i++) {
        if (i) gr_j_put_str(d->c, &d->b, d->comma);
        newline(d, level + 1);
        dump_str(d, key_text(d, sorted.keys[i]));
        gr_j_put_str(d->c, &d->b, d->colon);
        dump_value(d, sorted.vals[i], level + 1);
    }
    if (sorted.n) newline(d, level);
    gr_j_puts(d->c, &d->b, "}");
}

static void dump_float(dump *d, double f) {
    char text[40];
    gr_j_float_repr(f, text);
    gr_j_puts(d->c, &d->b, isnan(f) ? "NaN" : isinf(f) ? (f < 0 ? "-Infinity" : "Infinity") : text);
}

static void dump_value(dump *d, jv v, int level) {
    gr_j_enter(d->c);
    if (v.kind == J_STR)
        dump_str(d, v.s);
    else if (v.kind == J_NONE)
        gr_j_puts(d->c, &d->b, "null");
    else if (v.kind == J_BOOL)
        gr_j_puts(d->c, &d->b, v.b ? "true" : "false");
    else if (v.kind == J_INT)
        gr_j_repr(d->c, &d->b, v);
    else if (v.kind == J_FLOAT)
        dump_float(d, v.f);
    else if (v.kind == J_DICT)
        dump_dict(d, v.d, level);
    else if (v.kind == J_LIST &&
             (v.l->flavor == JL_LIST || v.l->flavor == JL_TUPLE || v.l->flavor == JL_GROUP))
        dump_list(d, v.l, level);
    else
        gr_j_error(d->c, "Object of type %s is not JSON serializable", gr_j_type_name(v));
    gr_j_leave(d->c);
}

static const jstr *spaces(jctx *c, int64_t n) {
    if (n > 100000) gr_j_raise(c, GRAFT_RANGE, "tojson: an indentation of more than 100000");
    jbuild b = {0};
    for (int64_t i = 0; i < n; i++) gr_j_puts(c, &b, " ");
    return gr_j_built(c, &b);
}

jv gr_j_tojson(jctx *c, jv v, bool ascii, jv indent, jv separators, bool sort_keys) {
    dump d = {.c = c, .ascii = ascii, .sort_keys = sort_keys};
    if (indent.kind == J_INT || indent.kind == J_BOOL)
        d.indent = spaces(c, indent.kind == J_INT ? indent.i : indent.b);
    else if (indent.kind == J_STR)
        d.indent = indent.s;
    else if (indent.kind != J_NONE && indent.kind != J_MISSING)
        gr_j_error(c, "tojson: indent is a %s", gr_j_type_name(indent));
    d.comma = d.indent ? gr_j_new_str(c, ",", 1) : gr_j_new_str(c, ", ", 2);
    d.colon = gr_j_new_str(c, ": ", 2);
    if (separators.kind != J_NONE && separators.kind != J_MISSING) {
        const jlist *pair = gr_j_iterate(c, separators);
        if (pair->n != 2 || pair->items[0].kind != J_STR || pair->items[1].kind != J_STR)
            gr_j_error(c, "tojson: separators are not two strings");
        d.comma = pair->items[0].s;
        d.colon = pair->items[1].s;
    }
    dump_value(&d, v, 0);
    return gr_j_of(gr_j_built(c, &d.b));
}
