/* Filters of lists and mappings. */
#include "text/jinja_parts.h"

static jv f_length(jcall *k) {
    return gr_j_int((int64_t)gr_j_length(k->c, k->self));
}

static jlist *copied(jctx *c, const jlist *from, jflavor flavor) {
    jlist *l = gr_j_new_list(c, flavor, from->n);
    for (size_t i = 0; i < from->n; i++) gr_j_push(c, l, from->items[i]);
    return l;
}
static jv f_list(jcall *k) {
    return gr_j_from_list(copied(k->c, gr_j_iterate(k->c, k->self), JL_LIST));
}

static jv f_join(jcall *k) {
    const jstr *between = k->arg[0].kind == J_MISSING ? NULL : gr_j_to_str(k->c, k->arg[0]);
    const jlist *l = gr_j_iterate(k->c, k->self);
    jbuild b = {0};
    for (size_t i = 0; i < l->n; i++) {
        if (i && between) gr_j_put_str(k->c, &b, between);
        jv v =
            k->arg[1].kind == J_MISSING ? l->items[i] : gr_j_path(k->c, l->items[i], k->arg[1], GR_J_MISSING);
        gr_j_print(k->c, &b, v);
    }
    return gr_j_of(gr_j_built(k->c, &b));
}

static jv f_items(jcall *k) {
    jlist *l = gr_j_new_list(k->c, JL_GEN, 0);
    if (k->self.kind == J_UNDEF) return gr_j_from_list(l);
    if (k->self.kind != J_DICT) gr_j_error(k->c, "Can only get item pairs from a mapping.");
    for (size_t i = 0; i < k->self.d->n; i++)
        gr_j_push(k->c, l, gr_j_from_list(gr_j_pair(k->c, k->self.d->keys[i], k->self.d->vals[i])));
    return gr_j_from_list(l);
}

static jv f_first(jcall *k) {
    if (k->self.kind == J_LIST && k->self.l->flavor == JL_GEN) { /* takes one */
        jlist *l = k->self.l;
        return l->cursor < l->n ? l->items[l->cursor++]
                                : gr_j_undefined(k->c, "No first item, sequence was empty.");
    }
    const jlist *l = gr_j_iterate(k->c, k->self);
    return l->n ? l->items[0] : gr_j_undefined(k->c, "No first item, sequence was empty.");
}

static jv f_last(jcall *k) {
    if (k->self.kind == J_LIST && k->self.l->flavor == JL_GEN)
        gr_j_error(k->c, "'generator' object is not reversible");
    const jlist *l = gr_j_iterate(k->c, k->self);
    return l->n ? l->items[l->n - 1] : gr_j_undefined(k->c, "No last item, sequence was empty.");
}

static jv f_reverse(jcall *k) {
    const jlist *l = gr_j_iterate(k->c, k->self);
    jlist *out = gr_j_new_list(k->c, JL_GEN, l->n);
    for (size_t i = l->n; i-- > 0;) gr_j_push(k->c, out, l->items[i]);
    if (k->self.kind != J_STR) return gr_j_from_list(out);
    jbuild b = {0};
    for (size_t i = 0; i < out->n; i++) gr_j_put_str(k->c, &b, out->items[i].s);
    return gr_j_of(gr_j_built(k->c, &b));
}

jv gr_j_fold(jctx *c, jv v) {
    return v.kind == J_STR ? gr_j_of(gr_j_recase(c, v.s, JC_LOWER)) : v;
}

/* Merges two sorted halves; equal keys keep their order (reversed too, as Python's reverse=True). */
static void merge(jctx *c, jv *items, jv *keys, size_t mid, size_t n, bool reverse) {
    jv *out = gr_j_alloc(c, n, sizeof *out), *out_keys = gr_j_alloc(c, n, sizeof *out_keys);
    for (size_t i = 0, j = mid, to = 0; to < n; to++) {
        bool right = i == mid;
        if (!right && j < n) {
            int order =
                reverse ? gr_j_compare(c, keys[i], keys[j], "<") : gr_j_compare(c, keys[j], keys[i], "<");
            right = order < 0;
        }
        size_t from = right ? j++ : i++;
        out[to] = items[from];
        out_keys[to] = keys[from];
    }
    memcpy(items, out, n * sizeof *out);
    memcpy(keys, out_keys, n * sizeof *out_keys);
}

void gr_j_sort(jctx *c, jv *items, jv *keys, size_t n, bool reverse) {
    if (n < 2) return;
    size_t mid = n / 2;
    gr_j_sort(c, items, keys, mid, reverse);
    gr_j_sort(c, items + mid, keys + mid, n - mid, reverse);
    merge(c, items, keys, mid, n, reverse);
}

jv gr_j_path(jctx *c, jv v, jv path, jv missing) {
    bool given = missing.kind != J_MISSING && missing.kind != J_NONE;
    if (path.kind != J_STR) {
        v = gr_j_item(c, v, path);
        return given && v.kind == J_UNDEF ? missing : v;
    }
    const char *p = path.s->p, *end = p + path.s->n;
    for (;;) {
        const char *dot = memchr(p, '.', (size_t)(end - p)), *stop = dot ? dot : end;
        jv part = gr_j_strn(c, p, (size_t)(stop - p));
        bool number = stop > p && stop - p < 10;
        for (const char *q = p; q < stop; q++) number &= *q >= '0' && *q <= '9';
        v = gr_j_item(c, v, number ? gr_j_int(atoll(part.s->p)) : part);
        if (given && v.kind == J_UNDEF) v = missing;
        if (!dot) return v;
        p = dot + 1;
    }
}

/* Keys of items by attribute paths ("a,b" sorts by two), without case unless asked. */
static jv *sort_keys(jctx *c, const jlist *l, jv attribute, bool case_sensitive, bool several) {
    jv *keys = gr_j_alloc(c, l->n, sizeof *keys);
    bool given = attribute.kind != J_MISSING && attribute.kind != J_NONE;
    for (size_t i = 0; i < l->n; i++) {
        jv key = l->items[i];
        if (given && several && attribute.kind == J_STR && memchr(attribute.s->p, ',', attribute.s->n)) {
            jlist *parts = gr_j_new_list(c, JL_LIST, 0);
            const char *p = attribute.s->p;
            for (;;) {
                size_t n = strcspn(p, ",");
                jv v = gr_j_path(c, l->items[i], gr_j_strn(c, p, n), GR_J_MISSING);
                gr_j_push(c, parts, case_sensitive ? v : gr_j_fold(c, v));
                if (!p[n]) break;
                p += n + 1;
            }
            keys[i] = gr_j_from_list(parts);
            continue;
        }
        if (given) key = gr_j_path(c, key, attribute, GR_J_MISSING);
        keys[i] = case_sensitive ? key : gr_j_fold(c, key);
        /* jinja2 sorts by lists of keys: what has no order, but is equal, stays as it stands */
        if (several && keys[i].kind != J_STR && !gr_j_is_number(keys[i])) {
            jlist *one = gr_j_new_list(c, JL_LIST, 1);
            gr_j_push(c, one, keys[i]);
            keys[i] = gr_j_from_list(one);
        }
    }
    return keys;
}

static jv f_sort(jcall *k) {
    jlist *l = copied(k->c, gr_j_iterate(k->c, k->self), JL_LIST);
    jv *keys = sort_keys(k->c, l, k->arg[2], gr_j_arg_true(k, 1, false), true);
    gr_j_sort(k->c, l->items, keys, l->n, gr_j_arg_true(k, 0, false));
    return gr_j_from_list(l);
}

static jv f_dictsort(jcall *k) {
    jctx *c = k->c;
    if (k->self.kind != J_DICT) gr_j_error(c, "dictsort needs a mapping, not %s", gr_j_type_name(k->self));
    const jdict *d = k->self.d;
    const jstr *by = k->arg[1].kind == J_STR ? k->arg[1].s : gr_j_str(c, "key").s;
    bool value = strcmp(by->p, "value") == 0, sensitive = gr_j_arg_true(k, 0, false);
    if (!value && strcmp(by->p, "key") != 0)
        gr_j_error(c, "You can only sort by either \"key\" or \"value\"");
    jlist *l = gr_j_new_list(c, JL_LIST, d->n);
    jv *keys = gr_j_alloc(c, d->n, sizeof *keys);
    for (size_t i = 0; i < d->n; i++) {
        gr_j_push(c, l, gr_j_from_list(gr_j_pair(c, d->keys[i], d->vals[i])));
        keys[i] = value ? d->vals[i] : d->keys[i];
        if (!sensitive) keys[i] = gr_j_fold(c, keys[i]);
    }
    gr_j_sort(c, l->items, keys, l->n, gr_j_arg_true(k, 2, false));
    return gr_j_from_list(l);
}

static jv extreme(jcall *k, bool largest) {
    const jlist *l = gr_j_iterate(k->c, k->self);
    if (!l->n) return gr_j_undefined(k->c, "No aggregated item, sequence was empty.");
    const jv *keys = sort_keys(k->c, l, k->arg[1], gr_j_arg_true(k, 0, false), false);
    size_t best = 0;
    for (size_t i = 1; i < l->n; i++) {
        int order = largest ? gr_j_compare(k->c, keys[best], keys[i], ">")
                            : gr_j_compare(k->c, keys[i], keys[best], "<");
        if (order < 0) best = i;
    }
    return l->items[best];
}
static jv f_min(jcall *k) {
    return extreme(k, false);
}
static jv f_max(jcall *k) {
    return extreme(k, true);
}

static jv f_unique(jcall *k) {
    const jlist *l = gr_j_iterate(k->c, k->self);
    const jv *keys = sort_keys(k->c, l, k->arg[1], gr_j_arg_true(k, 0, false), false);
    jdict *seen = gr_j_new_dict(k->c);
    jlist *out = gr_j_new_list(k->c, JL_GEN, 0);
    for (size_t i = 0; i < l->n; i++) {
        if (gr_j_dict_find(k->c, seen, keys[i])) continue;
        gr_j_dict_set(k->c, seen, keys[i], gr_j_none());
        gr_j_push(k->c, out, l->items[i]);
    }
    return gr_j_from_list(out);
}

static jv f_groupby(jcall *k) {
    jctx *c = k->c;
    jlist *l = copied(c, gr_j_iterate(c, k->self), JL_LIST), *out = gr_j_new_list(c, JL_LIST, 0);
    jv *keys = gr_j_alloc(c, l->n, sizeof *keys);
    jv *named = gr_j_alloc(c, l->n, sizeof *named); /* pairs of key as it is and item */
    for (size_t i = 0; i < l->n; i++) {
        jv key = gr_j_path(c, l->items[i], k->arg[0], k->arg[1]);
        keys[i] = gr_j_arg_true(k, 2, false) ? key : gr_j_fold(c, key);
        named[i] = gr_j_from_list(gr_j_pair(c, key, l->items[i]));
    }
    gr_j_sort(c, named, keys, l->n, false);
    for (size_t i = 0; i < l->n;) {
        size_t from = i;
        jlist *group = gr_j_new_list(c, JL_LIST, 0), *row;
        for (; i < l->n && gr_j_equal(c, keys[i], keys[from]); i++) gr_j_push(c, group, named[i].l->items[1]);
        row = gr_j_pair(c, named[from].l->items[0], gr_j_from_list(group));
        row->flavor = JL_GROUP;
        gr_j_push(c, out, gr_j_from_list(row));
    }
    return gr_j_from_list(out);
}

static jv f_batch(jcall *k) {
    int64_t size = gr_j_arg_int(k, 0, 1);
    const jlist *l = gr_j_iterate(k->c, k->self);
    jlist *out = gr_j_new_list(k->c, JL_GEN, 0), *row = NULL;
    for (size_t i = 0; i < l->n; i++) {
        if (!row || (int64_t)row->n == size) {
            row = gr_j_new_list(k->c, JL_LIST, 0);
            gr_j_push(k->c, out, gr_j_from_list(row));
        }
        gr_j_push(k->c, row, l->items[i]);
    }
    bool fill = k->arg[1].kind != J_MISSING && k->arg[1].kind != J_NONE;
    while (fill && row && (int64_t)row->n < size) gr_j_push(k->c, row, k->arg[1]);
    return gr_j_from_list(out);
}

static jv f_slice(jcall *k) {
    int64_t slices = gr_j_arg_int(k, 0, 1);
    const jlist *l = gr_j_iterate(k->c, k->self);
    if (slices == 0) gr_j_error(k->c, "integer division or modulo by zero");
    jlist *out = gr_j_new_list(k->c, JL_GEN, 0);
    int64_t per = (int64_t)l->n / slices, extra = (int64_t)l->n % slices, from = 0;
    bool fill = k->arg[1].kind != J_MISSING && k->arg[1].kind != J_NONE;
    for (int64_t s = 0; s < slices; s++) {
        jlist *row = gr_j_new_list(k->c, JL_LIST, 0);
        int64_t n = per + (s < extra);
        for (int64_t i = 0; i < n; i++) gr_j_push(k->c, row, l->items[from + i]);
        if (fill && s >= extra) gr_j_push(k->c, row, k->arg[1]);
        from += n;
        gr_j_push(k->c, out, gr_j_from_list(row));
    }
    return gr_j_from_list(out);
}

const jrow gr_j_list_filters[] = {
    {"length", "", 0, f_length, 0},
    {"count", "", 0, f_length, 0},
    {"list", "", 0, f_list, 0},
    {"join", "d attribute", 0, f_join, 0},
    {"items", "", 0, f_items, 0},
    {"first", "", 0, f_first, 0},
    {"last", "", 0, f_last, 0},
    {"reverse", "", 0, f_reverse, 0},
    {"sort", "reverse case_sensitive attribute", 0, f_sort, 0},
    {"dictsort", "case_sensitive by reverse", 0, f_dictsort, 0},
    {"min", "case_sensitive attribute", 0, f_min, 0},
    {"max", "case_sensitive attribute", 0, f_max, 0},
    {"unique", "case_sensitive attribute", 0, f_unique, 0},
    {"groupby", "attribute default case_sensitive", 1, f_groupby, 0},
    {"batch", "linecount fill_with", 1, f_batch, 0},
    {"slice", "slices fill_with", 1, f_slice, 0},
    {NULL, NULL, 0, NULL, 0},
};
