/* Filters that apply other filters and tests: map, select and their kin; attr and default. */
#include "text/jinja_parts.h"

static const jv *keyword(const jargs *a, const char *name) {
    for (size_t i = 0; i < a->nkw; i++)
        if (strcmp(a->names[i].s->p, name) == 0) return &a->vals[i];
    return NULL;
}

/* The arguments behind the first `skip`. */
static jargs rest(const jargs *a, size_t skip) {
    jargs r = *a;
    if (skip) {
        r.pos += skip;
        r.npos -= skip;
    }
    return r;
}

/* jinja2 looks into nothing that is false: not even into none, which no loop takes. */
static bool nothing(const jcall *k) {
    return !gr_j_true(k->c, k->self);
}

static jv f_map(jcall *k) {
    jctx *c = k->c;
    if (nothing(k)) return gr_j_from_list(gr_j_new_list(c, JL_GEN, 0));
    const jlist *l = gr_j_iterate(c, k->self);
    jlist *out = gr_j_new_list(c, JL_GEN, l->n);
    const jv *attribute = keyword(k->raw, "attribute"), *missing = keyword(k->raw, "default");
    bool by_attribute = k->raw->npos == 0 && attribute;
    if (by_attribute && k->raw->nkw > (missing ? 2u : 1u))
        gr_j_error(c, "Unexpected keyword argument of map");
    if (!by_attribute && (!k->raw->npos || k->raw->pos[0].kind != J_STR))
        gr_j_error(c, "map requires a filter argument");
    for (size_t i = 0; i < l->n; i++) {
        jv v;
        if (by_attribute) {
            v = gr_j_path(c, l->items[i], *attribute, missing ? *missing : GR_J_MISSING);
        } else
            v = gr_j_call_filter(c, k->raw->pos[0].s, l->items[i], rest(k->raw, 1));
        gr_j_push(c, out, v);
    }
    return gr_j_from_list(out);
}

/* Keeps what passes the test (or is true), `keep` false: what does not. */
static jv pick(jcall *k, bool keep, bool by_attribute) {
    jctx *c = k->c;
    if (nothing(k)) return gr_j_from_list(gr_j_new_list(c, JL_GEN, 0));
    const jlist *l = gr_j_iterate(c, k->self);
    jlist *out = gr_j_new_list(c, JL_GEN, 0);
    size_t skip = by_attribute ? 1 : 0;
    if (k->raw->npos < skip) gr_j_error(c, "Missing parameter for attribute name");
    bool tested = k->raw->npos > skip;
    if (tested && k->raw->pos[skip].kind != J_STR) gr_j_error(c, "the name of a test must be a string");
    for (size_t i = 0; i < l->n; i++) {
        jv v = by_attribute ? gr_j_path(c, l->items[i], k->raw->pos[0], GR_J_MISSING) : l->items[i];
        bool pass =
            tested ? gr_j_call_test(c, k->raw->pos[skip].s, v, rest(k->raw, skip + 1)) : gr_j_true(c, v);
        if (pass == keep) gr_j_push(c, out, l->items[i]);
    }
    return gr_j_from_list(out);
}
static jv f_select(jcall *k) {
    return pick(k, true, false);
}
static jv f_reject(jcall *k) {
    return pick(k, false, false);
}
static jv f_selectattr(jcall *k) {
    return pick(k, true, true);
}
static jv f_rejectattr(jcall *k) {
    return pick(k, false, true);
}

static jv f_default(jcall *k) {
    bool use = k->self.kind == J_UNDEF || (gr_j_arg_true(k, 1, false) && !gr_j_true(k->c, k->self));
    if (!use) return k->self;
    return k->arg[0].kind == J_MISSING ? gr_j_str(k->c, "") : k->arg[0];
}

static jv f_attr(jcall *k) {
    if (k->self.kind == J_DICT && k->arg[0].kind == J_STR) { /* attributes only: no keys */
        jv v = gr_j_method(k->c, k->self, k->arg[0].s);
        return v.kind != J_MISSING
                   ? v
                   : gr_j_undefined(k->c, "'dict object' has no attribute '%.80s'", k->arg[0].s->p);
    }
    return gr_j_attr(k->c, k->self, gr_j_arg_str(k, 0));
}

const jrow gr_j_pick_filters[] = {
    {"map", "*", 0, f_map, 0},
    {"select", "*", 0, f_select, 0},
    {"reject", "*", 0, f_reject, 0},
    {"selectattr", "*", 0, f_selectattr, 0},
    {"rejectattr", "*", 0, f_rejectattr, 0},
    {"default", "default_value boolean", 0, f_default, 0},
    {"d", "default_value boolean", 0, f_default, 0},
    {"attr", "name", 1, f_attr, 0},
    {NULL, NULL, 0, NULL, 0},
};
