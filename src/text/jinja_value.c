/* Values of a template: making, comparing and walking them as Python would. */
#include "text/jinja_parts.h"
#include <math.h>
#include <stdio.h>

jstr *gr_j_new_str(jctx *c, const char *p, size_t n) {
    jstr *s = gr_j_alloc(c, 1, sizeof *s);
    char *copy = gr_j_alloc(c, n + 1, 1);
    if (n) memcpy(copy, p, n);
    s->p = copy;
    s->n = n;
    return s;
}

jv gr_j_strn(jctx *c, const char *p, size_t n) {
    return gr_j_of(gr_j_new_str(c, p, n));
}
jv gr_j_str(jctx *c, const char *s) {
    return gr_j_strn(c, s, strlen(s));
}

jv gr_j_undefined(jctx *c, const char *fmt, ...) {
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    gr_vformat(text, sizeof text, fmt, ap);
    va_end(ap);
    jundef *u = gr_j_alloc(c, 1, sizeof *u);
    u->why = gr_j_format(c, "%s", text);
    return (jv){.kind = J_UNDEF, .undef = u};
}

jlist *gr_j_new_list(jctx *c, jflavor flavor, size_t cap) {
    jlist *l = gr_j_alloc(c, 1, sizeof *l);
    l->flavor = flavor;
    l->items = cap ? gr_j_alloc(c, cap, sizeof *l->items) : NULL;
    l->cap = cap;
    return l;
}

void gr_j_push(jctx *c, jlist *l, jv v) {
    gr_j_step(c, 1);
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        jv *items = gr_j_alloc(c, cap, sizeof *items);
        if (l->n) memcpy(items, l->items, l->n * sizeof *items);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = v;
}

jlist *gr_j_pair(jctx *c, jv a, jv b) {
    jlist *l = gr_j_new_list(c, JL_TUPLE, 2);
    gr_j_push(c, l, a);
    gr_j_push(c, l, b);
    return l;
}

jdict *gr_j_new_dict(jctx *c) {
    return gr_j_alloc(c, 1, sizeof(jdict));
}

static void check_hashable(jctx *c, jv key) {
    gr_j_enter(c); /* tuples can be nested without end by a loop */
    bool list = key.kind == J_LIST && (key.l->flavor == JL_LIST || key.l->flavor == JL_ITEMS);
    if (list || key.kind == J_DICT) gr_j_error(c, "unhashable type: '%s'", gr_j_type_name(key));
    if (key.kind == J_LIST && key.l->flavor == JL_TUPLE)
        for (size_t i = 0; i < key.l->n; i++) check_hashable(c, key.l->items[i]);
    gr_j_leave(c);
}

jv *gr_j_dict_text(jctx *c, const jdict *d, const char *p, size_t n) {
    const jstr wanted = {.p = p, .n = n};
    gr_j_step(c, d->n / 4);
    for (size_t i = 0; i < d->n; i++)
        if (d->keys[i].kind == J_STR && gr_j_same(c, d->keys[i].s, &wanted)) return &d->vals[i];
    return NULL;
}

jv *gr_j_dict_find(jctx *c, const jdict *d, jv key) {
    if (key.kind == J_STR) return gr_j_dict_text(c, d, key.s->p, key.s->n);
    gr_j_step(c, d->n / 4);
    check_hashable(c, key);
    for (size_t i = 0; i < d->n; i++)
        if (gr_j_equal(c, d->keys[i], key)) return &d->vals[i];
    return NULL;
}

static void dict_append(jctx *c, jdict *d, jv key, jv value) {
    gr_j_step(c, 1);
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 4;
        jv *keys = gr_j_alloc(c, cap, sizeof *keys), *vals = gr_j_alloc(c, cap, sizeof *vals);
        if (d->n) {
            memcpy(keys, d->keys, d->n * sizeof *keys);
            memcpy(vals, d->vals, d->n * sizeof *vals);
        }
        d->keys = keys;
        d->vals = vals;
        d->cap = cap;
    }
    d->keys[d->n] = key;
    d->vals[d->n++] = value;
}

void gr_j_dict_set(jctx *c, jdict *d, jv key, jv value) {
    jv *slot = gr_j_dict_find(c, d, key);
    if (slot)
        *slot = value;
    else
        dict_append(c, d, key, value);
}

static jv from_json_str(jctx *c, const char *p, size_t n, uint8_t mark) {
    jstr *s = gr_j_new_str(c, p, n);
    if (mark && n) {
        uint8_t *marks = gr_j_alloc(c, n, 1);
        memset(marks, mark, n);
        s->marks = marks;
    }
    return gr_j_of(s);
}

static jv from_json_object(jctx *c, const json_t *json, uint8_t mark) {
    jv v = {.kind = J_DICT, .d = gr_j_new_dict(c)};
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)json, key, item) /* keys are unique: no search */
        dict_append(c, v.d, from_json_str(c, key, strlen(key), mark), gr_j_from_json(c, item, mark));
    return v;
}

jv gr_j_from_json(jctx *c, const json_t *json, uint8_t mark) {
    jv v = gr_j_none();
    size_t i;
    json_t *item;
    gr_j_enter(c);
    switch (json ? json_typeof(json) : JSON_NULL) {
    case JSON_OBJECT: v = from_json_object(c, json, mark); break;
    case JSON_ARRAY:
        v = gr_j_from_list(gr_j_new_list(c, JL_LIST, json_array_size(json)));
        json_array_foreach((json_t *)json, i, item) gr_j_push(c, v.l, gr_j_from_json(c, item, mark));
        break;
    case JSON_STRING: v = from_json_str(c, json_string_value(json), json_string_length(json), mark); break;
    case JSON_INTEGER: v = gr_j_int(json_integer_value(json)); break;
    case JSON_REAL: v = gr_j_float(json_real_value(json)); break;
    case JSON_TRUE: v = gr_j_bool(true); break;
    case JSON_FALSE: v = gr_j_bool(false); break;
    case JSON_NULL: break;
    }
    gr_j_leave(c);
    return v;
}

bool gr_j_is_number(jv v) {
    return v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT;
}

double gr_j_to_double(jv v) {
    return v.kind == J_FLOAT ? v.f : v.kind == J_INT ? (double)v.i : (double)v.b;
}

bool gr_j_true(const jctx *c, jv v) {
    (void)c;
    switch (v.kind) {
    case J_MISSING:
    case J_UNDEF:
    case J_NONE: return false;
    case J_BOOL: return v.b;
    case J_INT: return v.i != 0;
    case J_FLOAT: return v.f != 0;
    case J_STR: return v.s->n != 0;
    case J_LIST: return v.l->flavor == JL_GEN || v.l->n != 0;
    case J_DICT: return v.d->n != 0;
    default: return true;
    }
}

static bool equal_lists(jctx *c, const jlist *a, const jlist *b) {
    jflavor fa = a->flavor == JL_GROUP ? JL_TUPLE : a->flavor,
            fb = b->flavor == JL_GROUP ? JL_TUPLE : b->flavor;
    if (a == b) return true;
    if (fa != fb || a->n != b->n || fa == JL_GEN || fa == JL_VALUES) return false;
    gr_j_enter(c);
    bool same = true;
    for (size_t i = 0; same && i < a->n; i++) same = gr_j_equal(c, a->items[i], b->items[i]);
    gr_j_leave(c);
    return same;
}

static bool equal_dicts(jctx *c, const jdict *a, const jdict *b) {
    if (a == b) return true;
    if (a->n != b->n) return false;
    gr_j_enter(c);
    bool same = true;
    for (size_t i = 0; same && i < a->n; i++) {
        const jv *other = gr_j_dict_find(c, b, a->keys[i]);
        same = other && gr_j_equal(c, a->vals[i], *other);
    }
    gr_j_leave(c);
    return same;
}

bool gr_j_equal(jctx *c, jv a, jv b) {
    gr_j_step(c, 1);
    if (gr_j_is_number(a) && gr_j_is_number(b)) {
        if (a.kind == J_INT && b.kind == J_INT) return a.i == b.i;
        return gr_j_to_double(a) == gr_j_to_double(b);
    }
    if (a.kind != b.kind) return false;
    switch (a.kind) {
    case J_UNDEF:
    case J_NONE:
    case J_MISSING: return true;
    case J_STR: return gr_j_same(c, a.s, b.s);
    case J_LIST: return equal_lists(c, a.l, b.l);
    case J_DICT: return equal_dicts(c, a.d, b.d);
    case J_METHOD: return a.method == b.method;
    default: return (const void *)a.d == (const void *)b.d; /* identity, as Python's default */
    }
}

static int compare_lists(jctx *c, const jlist *a, const jlist *b, const char *op) {
    int order = 0;
    gr_j_enter(c);
    for (size_t i = 0; !order && i < a->n && i < b->n; i++)
        if (!gr_j_equal(c, a->items[i], b->items[i])) order = gr_j_compare(c, a->items[i], b->items[i], op);
    gr_j_leave(c);
    if (order) return order;
    return a->n < b->n ? -1 : a->n > b->n;
}

int gr_j_compare(jctx *c, jv a, jv b, const char *op) {
    gr_j_step(c, 1);
    if (a.kind == J_UNDEF) gr_j_use_undefined(c, a);
    if (b.kind == J_UNDEF) gr_j_use_undefined(c, b);
    if (gr_j_is_number(a) && gr_j_is_number(b)) {
        if (a.kind == J_INT && b.kind == J_INT) return a.i < b.i ? -1 : a.i > b.i;
        double x = gr_j_to_double(a), y = gr_j_to_double(b);
        if (isnan(x) || isnan(y)) return 2;
        return x < y ? -1 : x > y;
    }
    if (a.kind == J_STR && b.kind == J_STR) {
        gr_j_step(c, gr_min_size(a.s->n, b.s->n) / 64);
        return gr_j_str_order(a.s, b.s);
    }
    if (a.kind == J_LIST && b.kind == J_LIST && a.l->flavor == b.l->flavor &&
        (a.l->flavor == JL_LIST || a.l->flavor == JL_TUPLE || a.l->flavor == JL_GROUP))
        return compare_lists(c, a.l, b.l, op);
    gr_j_error(c, "'%s' not supported between instances of '%s' and '%s'", op, gr_j_type_name(a),
               gr_j_type_name(b));
}

const char *gr_j_type_name(jv v) {
    static const char *const flavors[] = {"list",      "tuple",       "range",      "generator",
                                          "dict_keys", "dict_values", "dict_items", "_GroupTuple"};
    static const char *const kinds[] = {
        "missing", "Undefined", "NoneType",    "bool",  "int",      "float",  "str",    "list",
        "dict",    "Namespace", "LoopContext", "Macro", "function", "method", "Cycler", "Joiner"};
    return v.kind == J_LIST ? flavors[v.l->flavor] : kinds[v.kind];
}

_Noreturn void gr_j_use_undefined(jctx *c, jv v) {
    gr_j_error(c, "%s", v.undef->why);
}

static jlist *points_of(jctx *c, const jstr *s) {
    jlist *l = gr_j_new_list(c, JL_LIST, gr_j_points(s));
    uint32_t cp;
    for (size_t at = 0; at < s->n;) {
        size_t used = gr_j_decode(s->p + at, s->p + s->n, &cp);
        gr_j_push(c, l, gr_j_of(gr_j_sub(c, s, at, at + used)));
        at += used;
    }
    return l;
}

jlist *gr_j_iterate(jctx *c, jv v) {
    jlist *l = gr_j_new_list(c, JL_LIST, 0);
    switch (v.kind) {
    case J_UNDEF: return l;
    case J_STR: return points_of(c, v.s);
    case J_DICT:
        for (size_t i = 0; i < v.d->n; i++) gr_j_push(c, l, v.d->keys[i]);
        return l;
    case J_LIST:
        gr_j_step(c, v.l->n);
        l->items = v.l->n ? v.l->items + v.l->cursor : NULL;
        l->n = l->cap = v.l->n - v.l->cursor;
        if (v.l->flavor == JL_GEN) v.l->cursor = v.l->n;
        return l;
    default: gr_j_error(c, "'%s' object is not iterable", gr_j_type_name(v));
    }
}

size_t gr_j_length(jctx *c, jv v) {
    switch (v.kind) {
    case J_UNDEF: return 0;
    case J_STR: gr_j_step(c, v.s->n / 16); return gr_j_points(v.s);
    case J_DICT: return v.d->n;
    case J_LIST:
        if (v.l->flavor != JL_GEN) return v.l->n;
        break;
    default: break;
    }
    gr_j_error(c, "object of type '%s' has no len()", gr_j_type_name(v));
}

bool gr_j_contains(jctx *c, jv item, jv in) {
    if (in.kind == J_STR) {
        if (item.kind != J_STR)
            gr_j_error(c, "'in <string>' requires string as left operand, not %s", gr_j_type_name(item));
        return gr_j_find(c, in.s, item.s, 0) != SIZE_MAX;
    }
    if (in.kind == J_DICT) return gr_j_dict_find(c, in.d, item) != NULL;
    if (in.kind != J_LIST && in.kind != J_UNDEF)
        gr_j_error(c, "argument of type '%s' is not iterable", gr_j_type_name(in));
    const jlist *l = gr_j_iterate(c, in);
    for (size_t i = 0; i < l->n; i++)
        if (gr_j_equal(c, item, l->items[i])) return true;
    return false;
}
