/* Methods of mappings, lists, loops and cyclers. Those that change a value are kept from templates. */
#include "text/jinja_parts.h"

static jv m_keys(jcall *k) {
    jlist *l = gr_j_iterate(k->c, k->self);
    l->flavor = JL_KEYS;
    return gr_j_from_list(l);
}

static jv m_values(jcall *k) {
    jlist *l = gr_j_new_list(k->c, JL_VALUES, k->self.d->n);
    for (size_t i = 0; i < k->self.d->n; i++) gr_j_push(k->c, l, k->self.d->vals[i]);
    return gr_j_from_list(l);
}

static jv m_items(jcall *k) {
    jlist *l = gr_j_new_list(k->c, JL_ITEMS, k->self.d->n);
    for (size_t i = 0; i < k->self.d->n; i++)
        gr_j_push(k->c, l, gr_j_from_list(gr_j_pair(k->c, k->self.d->keys[i], k->self.d->vals[i])));
    return gr_j_from_list(l);
}

static jv m_get(jcall *k) {
    const jv *slot = gr_j_dict_find(k->c, k->self.d, k->arg[0]);
    if (slot) return *slot;
    return k->arg[1].kind == J_MISSING ? gr_j_none() : k->arg[1];
}

static jv m_copy(jcall *k) {
    jv v = {.kind = J_DICT, .d = gr_j_new_dict(k->c)};
    for (size_t i = 0; i < k->self.d->n; i++)
        gr_j_dict_set(k->c, v.d, k->self.d->keys[i], k->self.d->vals[i]);
    return v;
}

static jv m_list_copy(jcall *k) {
    return gr_j_slice(k->c, k->self, gr_j_none(), gr_j_none(), gr_j_none());
}

static jv m_list_count(jcall *k) {
    int64_t count = 0;
    for (size_t i = 0; i < k->self.l->n; i++) count += gr_j_equal(k->c, k->self.l->items[i], k->arg[0]);
    return gr_j_int(count);
}

static jv m_list_index(jcall *k) {
    int64_t n = (int64_t)k->self.l->n, from = gr_j_arg_int(k, 1, 0), to = gr_j_arg_int(k, 2, n);
    if (from < 0) from = from < -n ? 0 : from + n;
    if (to < 0) to = to < -n ? 0 : to + n;
    for (int64_t i = from; i < to && i < n; i++)
        if (gr_j_equal(k->c, k->self.l->items[i], k->arg[0])) return gr_j_int(i);
    gr_j_error(k->c, "the value is not in the list");
}

static jv m_loop_cycle(jcall *k) {
    if (!k->raw->npos) gr_j_error(k->c, "no items for cycling given");
    return k->raw->pos[k->self.loop->index % k->raw->npos];
}

static jv m_loop_changed(jcall *k) {
    jlist *l = gr_j_new_list(k->c, JL_TUPLE, k->raw->npos);
    for (size_t i = 0; i < k->raw->npos; i++) gr_j_push(k->c, l, k->raw->pos[i]);
    jlist *last = k->self.loop->changed;
    bool changed = !last || !gr_j_equal(k->c, gr_j_from_list(last), gr_j_from_list(l));
    k->self.loop->changed = l;
    return gr_j_bool(changed);
}

static jv m_cycler_next(jcall *k) {
    jcycler *y = k->self.cycler;
    jv v = y->items->items[y->pos];
    y->pos = (y->pos + 1) % y->items->n;
    return v;
}

static jv m_cycler_reset(jcall *k) {
    k->self.cycler->pos = 0;
    return gr_j_none();
}

const jrow gr_j_object_methods[] = {
    {"keys", "", 0, m_keys, J_DICT},
    {"values", "", 0, m_values, J_DICT},
    {"items", "", 0, m_items, J_DICT},
    {"get", "key default", 1, m_get, J_DICT},
    {"copy", "", 0, m_copy, J_DICT},
    {"copy", "", 0, m_list_copy, J_LIST},
    {"count", "value", 1, m_list_count, J_LIST},
    {"index", "value start stop", 1, m_list_index, J_LIST},
    {"cycle", "*", 0, m_loop_cycle, J_LOOP},
    {"changed", "*", 0, m_loop_changed, J_LOOP},
    {"next", "", 0, m_cycler_next, J_CYCLER},
    {"reset", "", 0, m_cycler_reset, J_CYCLER},
    {NULL, NULL, 0, NULL, 0},
};
