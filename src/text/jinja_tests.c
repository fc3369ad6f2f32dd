/* Tests: what stands behind `is`. */
#include "text/jinja_parts.h"

static jv t_defined(jcall *k) {
    return gr_j_bool(k->self.kind != J_UNDEF);
}
static jv t_undefined(jcall *k) {
    return gr_j_bool(k->self.kind == J_UNDEF);
}
static jv t_none(jcall *k) {
    return gr_j_bool(k->self.kind == J_NONE);
}
static jv t_boolean(jcall *k) {
    return gr_j_bool(k->self.kind == J_BOOL);
}
static jv t_true(jcall *k) {
    return gr_j_bool(k->self.kind == J_BOOL && k->self.b);
}
static jv t_false(jcall *k) {
    return gr_j_bool(k->self.kind == J_BOOL && !k->self.b);
}
static jv t_integer(jcall *k) {
    return gr_j_bool(k->self.kind == J_INT);
}
static jv t_float(jcall *k) {
    return gr_j_bool(k->self.kind == J_FLOAT);
}
static jv t_number(jcall *k) {
    return gr_j_bool(gr_j_is_number(k->self));
}
static jv t_string(jcall *k) {
    return gr_j_bool(k->self.kind == J_STR);
}
static jv t_mapping(jcall *k) {
    return gr_j_bool(k->self.kind == J_DICT);
}
static jv t_iterable(jcall *k) {
    jkind kind = k->self.kind;
    return gr_j_bool(kind == J_STR || kind == J_LIST || kind == J_DICT || kind == J_UNDEF || kind == J_LOOP);
}

/* len() and [] must exist. */
static jv t_sequence(jcall *k) {
    jkind kind = k->self.kind;
    bool list = kind == J_LIST && (k->self.l->flavor <= JL_RANGE || k->self.l->flavor == JL_GROUP);
    return gr_j_bool(kind == J_STR || kind == J_DICT || kind == J_UNDEF || list);
}

static jv t_callable(jcall *k) {
    jkind kind = k->self.kind;
    return gr_j_bool(kind == J_FUNC || kind == J_METHOD || kind == J_MACRO || kind == J_JOINER ||
                     kind == J_LOOP || kind == J_UNDEF);
}

/* str.islower and str.isupper: some letter has case and none has the other. */
static jv one_case(jcall *k, bool upper) {
    const jstr *s = gr_j_self_str(k);
    gr_j_step(k->c, s->n / 8);
    bool some = false;
    for (const char *p = s->p, *end = p + s->n; p < end;) {
        uint32_t cp;
        p += gr_j_decode(p, end, &cp);
        bool is_upper = gr_j_cp_lower(cp) != cp, is_lower = gr_j_cp_upper(cp) != cp || cp == 0xdf;
        if (upper ? is_lower : is_upper) return gr_j_bool(false);
        some |= is_upper || is_lower;
    }
    return gr_j_bool(some);
}
static jv t_lower(jcall *k) {
    return one_case(k, false);
}
static jv t_upper(jcall *k) {
    return one_case(k, true);
}

static jv remainder_is(jcall *k, int64_t by, int64_t r) {
    return gr_j_bool(gr_j_equal(k->c, gr_j_binary(k->c, '%', k->self, gr_j_int(by)), gr_j_int(r)));
}
static jv t_odd(jcall *k) {
    return remainder_is(k, 2, 1);
}
static jv t_even(jcall *k) {
    return remainder_is(k, 2, 0);
}
static jv t_divisibleby(jcall *k) {
    return gr_j_bool(gr_j_equal(k->c, gr_j_binary(k->c, '%', k->self, k->arg[0]), gr_j_int(0)));
}

static jv t_eq(jcall *k) {
    return gr_j_bool(gr_j_equal(k->c, k->self, k->arg[0]));
}
static jv t_ne(jcall *k) {
    return gr_j_bool(!gr_j_equal(k->c, k->self, k->arg[0]));
}
static jv t_lt(jcall *k) {
    return gr_j_bool(gr_j_compare(k->c, k->self, k->arg[0], "<") < 0);
}
static jv t_le(jcall *k) {
    return gr_j_bool(gr_j_compare(k->c, k->self, k->arg[0], "<=") <= 0);
}
static jv t_gt(jcall *k) {
    return gr_j_bool(gr_j_compare(k->c, k->self, k->arg[0], ">") == 1);
}
static jv t_ge(jcall *k) {
    int order = gr_j_compare(k->c, k->self, k->arg[0], ">=");
    return gr_j_bool(order >= 0 && order != 2);
}
static jv t_in(jcall *k) {
    return gr_j_bool(gr_j_contains(k->c, k->self, k->arg[0]));
}

/* Python's `is`. */
static jv t_sameas(jcall *k) {
    jv a = k->self, b = k->arg[0];
    bool small = a.kind == b.kind && (a.kind <= J_INT || a.kind == J_STR);
    return gr_j_bool(small ? gr_j_equal(k->c, a, b) : a.kind == b.kind && a.kind != J_FLOAT && a.d == b.d);
}

static jv t_escaped(jcall *k) {
    return gr_j_bool(k->self.kind == J_STR && k->self.s->safe);
}

static jv t_filter(jcall *k) {
    const jrow *const tables[] = {gr_j_text_filters, gr_j_list_filters, gr_j_pick_filters,
                                  gr_j_number_filters};
    bool found = false;
    for (size_t i = 0; k->self.kind == J_STR && i < 4; i++)
        found |= gr_j_find_row(tables[i], k->self.s->p, k->self.s->n) != NULL;
    return gr_j_bool(found);
}
static jv t_test(jcall *k) {
    return gr_j_bool(k->self.kind == J_STR && gr_j_find_row(gr_j_tests, k->self.s->p, k->self.s->n));
}

const jrow gr_j_tests[] = {
    {"defined", "", 0, t_defined, 0},
    {"undefined", "", 0, t_undefined, 0},
    {"none", "", 0, t_none, 0},
    {"boolean", "", 0, t_boolean, 0},
    {"true", "", 0, t_true, 0},
    {"false", "", 0, t_false, 0},
    {"integer", "", 0, t_integer, 0},
    {"float", "", 0, t_float, 0},
    {"number", "", 0, t_number, 0},
    {"string", "", 0, t_string, 0},
    {"mapping", "", 0, t_mapping, 0},
    {"iterable", "", 0, t_iterable, 0},
    {"sequence", "", 0, t_sequence, 0},
    {"callable", "", 0, t_callable, 0},
    {"lower", "", 0, t_lower, 0},
    {"upper", "", 0, t_upper, 0},
    {"odd", "", 0, t_odd, 0},
    {"even", "", 0, t_even, 0},
    {"divisibleby", "num", 1, t_divisibleby, 0},
    {"eq", "b", 1, t_eq, 0},
    {"==", "b", 1, t_eq, 0},
    {"equalto", "b", 1, t_eq, 0},
    {"ne", "b", 1, t_ne, 0},
    {"!=", "b", 1, t_ne, 0},
    {"lt", "b", 1, t_lt, 0},
    {"<", "b", 1, t_lt, 0},
    {"lessthan", "b", 1, t_lt, 0},
    {"le", "b", 1, t_le, 0},
    {"<=", "b", 1, t_le, 0},
    {"gt", "b", 1, t_gt, 0},
    {">", "b", 1, t_gt, 0},
    {"greaterthan", "b", 1, t_gt, 0},
    {"ge", "b", 1, t_ge, 0},
    {">=", "b", 1, t_ge, 0},
    {"in", "seq", 1, t_in, 0},
    {"sameas", "other", 1, t_sameas, 0},
    {"escaped", "", 0, t_escaped, 0},
    {"filter", "", 0, t_filter, 0},
    {"test", "", 0, t_test, 0},
    {NULL, NULL, 0, NULL, 0},
};
