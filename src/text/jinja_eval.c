/* Evaluates expressions. */
#include "text/jinja_parts.h"

static jv eval_compare(jctx *c, char op, jv a, jv b) {
    static const char *const names[] = {"<", "<=", ">", ">="};
    switch (op) {
    case '=': return gr_j_bool(gr_j_equal(c, a, b));
    case '!': return gr_j_bool(!gr_j_equal(c, a, b));
    case 'i': return gr_j_bool(gr_j_contains(c, a, b));
    case 'n': return gr_j_bool(!gr_j_contains(c, a, b));
    default: break;
    }
    size_t which = (size_t)(strchr("<l>g", op) - "<l>g");
    int order = gr_j_compare(c, a, b, names[which]);
    if (order == 2) return gr_j_bool(false);
    return gr_j_bool(which == 0 ? order < 0 : which == 1 ? order <= 0 : which == 2 ? order > 0 : order >= 0);
}

/* a < b < c: each operand once, stops at the first false. */
static jv eval_chain(jctx *c, const jnode *n) {
    jv left = gr_j_eval(c, n->x), result = gr_j_bool(true);
    for (size_t i = 0; i < n->nkids && result.b; i++) {
        jv right = gr_j_eval(c, n->kids[i]->x);
        result = eval_compare(c, n->kids[i]->op, left, right);
        left = right;
    }
    return result;
}

static jv eval_items(jctx *c, const jnode *n, jflavor flavor) {
    jlist *l = gr_j_new_list(c, flavor, n->nkids);
    for (size_t i = 0; i < n->nkids; i++) gr_j_push(c, l, gr_j_eval(c, n->kids[i]));
    return gr_j_from_list(l);
}

static jv eval_dict(jctx *c, const jnode *n) {
    jv v = {.kind = J_DICT, .d = gr_j_new_dict(c)};
    for (size_t i = 0; i + 1 < n->nkids; i += 2) {
        jv key = gr_j_eval(c, n->kids[i]);
        gr_j_dict_set(c, v.d, key, gr_j_eval(c, n->kids[i + 1]));
    }
    return v;
}

static jv eval_item(jctx *c, const jnode *n) {
    jv obj = gr_j_eval(c, n->x);
    if (n->y->kind != N_SLICE) return gr_j_item(c, obj, gr_j_eval(c, n->y));
    jv part[3];
    for (size_t i = 0; i < 3; i++) part[i] = n->y->kids[i] ? gr_j_eval(c, n->y->kids[i]) : gr_j_none();
    return gr_j_slice(c, obj, part[0], part[1], part[2]);
}

static jv eval_concat(jctx *c, const jnode *n) {
    jbuild b = {0};
    for (size_t i = 0; i < n->nkids; i++) gr_j_print(c, &b, gr_j_eval(c, n->kids[i]));
    return gr_j_of(gr_j_built(c, &b));
}

static jv eval_sign(jctx *c, const jnode *n) {
    jv v = gr_j_eval(c, n->x);
    if (v.kind == J_UNDEF) gr_j_use_undefined(c, v);
    if (!gr_j_is_number(v))
        gr_j_error(c, "bad operand type for unary %s: '%s'", n->kind == N_NEG ? "-" : "+", gr_j_type_name(v));
    if (v.kind == J_FLOAT) return gr_j_float(n->kind == N_NEG ? -v.f : v.f);
    return gr_j_binary(c, n->kind == N_NEG ? '-' : '+', gr_j_int(0), v);
}

static jv eval_filter(jctx *c, const jnode *n) {
    jv in = n->x ? gr_j_eval(c, n->x) : c->block_text;
    return gr_j_call_filter(c, n->s, in, gr_j_args(c, n));
}

static jv eval_condition(jctx *c, const jnode *n) {
    if (gr_j_true(c, gr_j_eval(c, n->y))) return gr_j_eval(c, n->x);
    if (n->z) return gr_j_eval(c, n->z);
    return gr_j_undefined(c, "the inline if-expression evaluated to false and no else section was defined");
}

static jv eval_call(jctx *c, const jnode *n) {
    jv callee = gr_j_eval(c, n->x);
    return gr_j_call(c, callee, gr_j_args(c, n));
}

static jv eval_node(jctx *c, const jnode *n) {
    jv v;
    switch (n->kind) {
    case N_CONST: return n->v;
    case N_NAME: return gr_j_lookup(c, n->s);
    case N_LIST: return eval_items(c, n, JL_LIST);
    case N_TUPLE: return eval_items(c, n, JL_TUPLE);
    case N_DICT: return eval_dict(c, n);
    case N_ATTR: return gr_j_attr(c, gr_j_eval(c, n->x), n->s);
    case N_ITEM: return eval_item(c, n);
    case N_CALL: return eval_call(c, n);
    case N_FILTER: return eval_filter(c, n);
    case N_TEST: v = gr_j_eval(c, n->x); return gr_j_bool(gr_j_call_test(c, n->s, v, gr_j_args(c, n)));
    case N_NOT: return gr_j_bool(!gr_j_true(c, gr_j_eval(c, n->x)));
    case N_NEG:
    case N_POS: return eval_sign(c, n);
    case N_AND: v = gr_j_eval(c, n->x); return gr_j_true(c, v) ? gr_j_eval(c, n->y) : v;
    case N_OR: v = gr_j_eval(c, n->x); return gr_j_true(c, v) ? v : gr_j_eval(c, n->y);
    case N_BINARY: v = gr_j_eval(c, n->x); return gr_j_binary(c, n->op, v, gr_j_eval(c, n->y));
    case N_CONCAT: return eval_concat(c, n);
    case N_COMPARE: return eval_chain(c, n);
    case N_COND: return eval_condition(c, n);
    default: gr_j_raise(c, GRAFT_INTERNAL, "not an expression");
    }
}

jv gr_j_eval(jctx *c, const jnode *n) {
    gr_j_enter(c);
    c->line = n->line;
    jv v = eval_node(c, n);
    gr_j_leave(c);
    return v;
}
