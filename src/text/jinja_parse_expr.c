/* Expressions, with jinja2's precedence (lowest first): if, or, and, not, compare, + -, ~, * / // %, **,
 * unary, postfix, filters and tests. */
#include "text/jinja_parts.h"

jnode *gr_j_node(jparser *p, jop kind) {
    jnode *n = gr_j_alloc(p->c, 1, sizeof *n);
    n->kind = kind;
    n->line = p->c->line = gr_j_now(p)->line;
    return n;
}

void gr_j_kid(jparser *p, jnode *parent, jnode *kid) {
    if (parent->nkids == parent->cap) {
        size_t cap = parent->cap ? parent->cap * 2 : 4;
        jnode **kids = gr_j_alloc(p->c, cap, sizeof *kids);
        if (parent->nkids) memcpy(kids, parent->kids, parent->nkids * sizeof *kids);
        parent->kids = kids;
        parent->cap = cap;
    }
    parent->kids[parent->nkids++] = kid;
}

static jnode *constant(jparser *p, jv v) {
    jnode *n = gr_j_node(p, N_CONST);
    n->v = v;
    return n;
}

static jnode *pair(jparser *p, jop kind, char op, jnode *x, jnode *y) {
    jnode *n = gr_j_node(p, kind);
    n->op = op;
    n->x = x;
    n->y = y;
    return n;
}

static jnode *unary(jparser *p, bool with_filter);

static jnode *power(jparser *p) {
    jnode *left = unary(p, true);
    while (gr_j_skip_op(p, "**")) left = pair(p, N_BINARY, 'p', left, unary(p, true));
    return left;
}

static jnode *product(jparser *p) {
    static const char *const ops[] = {"*", "/", "//", "%"};
    static const char codes[] = "*/f%";
    jnode *left = power(p);
    for (size_t i = 0; i < 4;) {
        if (gr_j_skip_op(p, ops[i])) {
            left = pair(p, N_BINARY, codes[i], left, power(p));
            i = 0;
        } else
            i++;
    }
    return left;
}

static jnode *concat(jparser *p) {
    jnode *first = product(p);
    if (!gr_j_is_op(p, "~")) return first;
    jnode *n = gr_j_node(p, N_CONCAT);
    gr_j_kid(p, n, first);
    while (gr_j_skip_op(p, "~")) gr_j_kid(p, n, product(p));
    return n;
}

static jnode *sum(jparser *p) {
    jnode *left = concat(p);
    for (;;) {
        if (gr_j_skip_op(p, "+"))
            left = pair(p, N_BINARY, '+', left, concat(p));
        else if (gr_j_skip_op(p, "-"))
            left = pair(p, N_BINARY, '-', left, concat(p));
        else
            return left;
    }
}

/* The operator of a comparison if one is next, taken; else 0. Codes as at N_OPERAND. */
static char comparison(jparser *p) {
    static const char *const ops[] = {"==", "!=", "<", "<=", ">", ">="};
    static const char codes[] = "=!<l>g";
    for (size_t i = 0; i < 6; i++)
        if (gr_j_skip_op(p, ops[i])) return codes[i];
    if (gr_j_skip_name(p, "in")) return 'i';
    const jtoken *next = gr_j_now(p) + 1;
    if (gr_j_is_name(p, "not") && next->kind == T_NAME && next->v.s->n == 2 &&
        memcmp(next->v.s->p, "in", 2) == 0) {
        p->pos += 2;
        return 'n';
    }
    return 0;
}

static jnode *compare(jparser *p) {
    jnode *first = sum(p), *n = NULL;
    for (char op; (op = comparison(p)) != 0;) {
        if (!n) n = pair(p, N_COMPARE, 0, first, NULL);
        gr_j_kid(p, n, pair(p, N_OPERAND, op, sum(p), NULL));
    }
    return n ? n : first;
}

static jnode *negation(jparser *p) {
    if (!gr_j_skip_name(p, "not")) return compare(p);
    gr_j_enter(p->c);
    jnode *n = pair(p, N_NOT, 0, negation(p), NULL);
    gr_j_leave(p->c);
    return n;
}

static jnode *conjunction(jparser *p) {
    jnode *left = negation(p);
    while (gr_j_skip_name(p, "and")) left = pair(p, N_AND, 0, left, negation(p));
    return left;
}

static jnode *disjunction(jparser *p) {
    jnode *left = conjunction(p);
    while (gr_j_skip_name(p, "or")) left = pair(p, N_OR, 0, left, conjunction(p));
    return left;
}

jnode *gr_j_expression(jparser *p, bool with_condition) {
    gr_j_enter(p->c);
    jnode *value = disjunction(p);
    while (with_condition && gr_j_skip_name(p, "if")) {
        jnode *n = pair(p, N_COND, 0, value, disjunction(p));
        if (gr_j_skip_name(p, "else")) n->z = gr_j_expression(p, true);
        value = n;
    }
    gr_j_leave(p->c);
    return value;
}

static bool tuple_ends(jparser *p, bool stop_at_in) {
    jtok kind = gr_j_now(p)->kind;
    return kind == T_VAR_END || kind == T_BLOCK_END || kind == T_EOF || gr_j_is_op(p, ")") ||
           (stop_at_in && gr_j_is_name(p, "in")) || gr_j_is_name(p, "recursive");
}

/* Expressions with commas become a tuple, a single one stays itself. */
jnode *gr_j_tuple(jparser *p, bool with_condition, bool stop_at_in) {
    jnode *n = gr_j_node(p, N_TUPLE);
    bool comma = false;
    while (!tuple_ends(p, stop_at_in)) {
        gr_j_kid(p, n, gr_j_expression(p, with_condition));
        if (!gr_j_skip_op(p, ",")) break;
        comma = true;
    }
    if (n->nkids == 1 && !comma) return n->kids[0];
    if (n->nkids == 0) gr_j_unexpected(p, "an expression");
    return n;
}

static jnode *parenthesis(jparser *p) {
    jnode *n = gr_j_node(p, N_TUPLE);
    if (!gr_j_is_op(p, ")")) n = gr_j_tuple(p, true, false);
    gr_j_expect_op(p, ")");
    return n;
}

static jnode *list_literal(jparser *p) {
    jnode *n = gr_j_node(p, N_LIST);
    while (!gr_j_is_op(p, "]")) {
        if (n->nkids) gr_j_expect_op(p, ",");
        if (gr_j_is_op(p, "]")) break;
        gr_j_kid(p, n, gr_j_expression(p, true));
    }
    gr_j_expect_op(p, "]");
    return n;
}

static jnode *dict_literal(jparser *p) {
    jnode *n = gr_j_node(p, N_DICT);
    while (!gr_j_is_op(p, "}")) {
        if (n->nkids) gr_j_expect_op(p, ",");
        if (gr_j_is_op(p, "}")) break;
        gr_j_kid(p, n, gr_j_expression(p, true));
        gr_j_expect_op(p, ":");
        gr_j_kid(p, n, gr_j_expression(p, true));
    }
    gr_j_expect_op(p, "}");
    return n;
}

static jnode *string_literal(jparser *p) {
    jbuild b = {0};
    jnode *n = gr_j_node(p, N_CONST);
    for (; gr_j_now(p)->kind == T_STRING; p->pos++) gr_j_put_str(p->c, &b, gr_j_now(p)->v.s);
    n->v = gr_j_of(gr_j_built(p->c, &b));
    return n;
}

static jnode *name(jparser *p) {
    static const struct {
        const char *name;
        jv v;
    } consts[] = {{"true", {.kind = J_BOOL, .b = true}},
                  {"True", {.kind = J_BOOL, .b = true}},
                  {"false", {.kind = J_BOOL, .b = false}},
                  {"False", {.kind = J_BOOL, .b = false}},
                  {"none", {.kind = J_NONE}},
                  {"None", {.kind = J_NONE}}};
    for (size_t i = 0; i < sizeof consts / sizeof *consts; i++)
        if (gr_j_skip_name(p, consts[i].name)) return constant(p, consts[i].v);
    jnode *n = gr_j_node(p, N_NAME);
    n->s = gr_j_expect_name(p);
    return n;
}

static jnode *primary(jparser *p) {
    const jtoken *t = gr_j_now(p);
    if (t->kind == T_NAME) return name(p);
    if (t->kind == T_STRING) return string_literal(p);
    if (t->kind == T_INT || t->kind == T_FLOAT) {
        jnode *n = constant(p, t->v);
        p->pos++;
        return n;
    }
    if (gr_j_skip_op(p, "(")) return parenthesis(p);
    if (gr_j_skip_op(p, "[")) return list_literal(p);
    if (gr_j_skip_op(p, "{")) return dict_literal(p);
    gr_j_unexpected(p, "an expression");
}

static jnode *slice_or_index(jparser *p) {
    jnode *n = gr_j_node(p, N_SLICE);
    bool colon = false;
    for (int part = 0; part < 3; part++) {
        bool empty = gr_j_is_op(p, ":") || gr_j_is_op(p, "]") || gr_j_is_op(p, ",");
        gr_j_kid(p, n, empty ? NULL : gr_j_expression(p, true));
        if (part == 2 || !gr_j_skip_op(p, ":")) break;
        colon = true;
    }
    if (!colon) {
        if (!n->kids[0]) gr_j_unexpected(p, "an index");
        return n->kids[0];
    }
    while (n->nkids < 3) gr_j_kid(p, n, NULL);
    return n;
}

static jnode *subscript(jparser *p, jnode *x) {
    if (gr_j_skip_op(p, "]"))
        return pair(p, N_ITEM, 0, x, gr_j_node(p, N_TUPLE)); /* jinja2 takes an empty one */
    jnode *index = slice_or_index(p);
    if (gr_j_is_op(p, ",")) {
        jnode *tuple = gr_j_node(p, N_TUPLE);
        if (index->kind == N_SLICE) gr_j_unexpected(p, "]");
        gr_j_kid(p, tuple, index);
        while (gr_j_skip_op(p, ",")) gr_j_kid(p, tuple, gr_j_expression(p, true));
        index = tuple;
    }
    gr_j_expect_op(p, "]");
    return pair(p, N_ITEM, 0, x, index);
}

static jnode *attribute(jparser *p, jnode *x) {
    const jtoken *t = gr_j_now(p);
    if (t->kind == T_INT) {
        jnode *index = constant(p, t->v);
        p->pos++;
        return pair(p, N_ITEM, 0, x, index);
    }
    jnode *n = pair(p, N_ATTR, 0, x, NULL);
    n->s = gr_j_expect_name(p);
    return n;
}

static void call_args(jparser *p, jnode *call) {
    gr_j_expect_op(p, "(");
    for (bool first = true; !gr_j_is_op(p, ")"); first = false) {
        if (!first) gr_j_expect_op(p, ",");
        if (gr_j_is_op(p, ")")) break;
        const jtoken *t = gr_j_now(p);
        if (gr_j_skip_op(p, "*"))
            gr_j_kid(p, call, pair(p, N_STAR, 0, gr_j_expression(p, true), NULL));
        else if (gr_j_skip_op(p, "**"))
            gr_j_kid(p, call, pair(p, N_STARSTAR, 0, gr_j_expression(p, true), NULL));
        else if (t->kind == T_NAME && t[1].kind == T_OP && strcmp(t[1].op, "=") == 0) {
            p->pos += 2;
            jnode *arg = pair(p, N_KWARG, 0, gr_j_expression(p, true), NULL);
            arg->s = t->v.s;
            gr_j_kid(p, call, arg);
        } else
            gr_j_kid(p, call, gr_j_expression(p, true));
    }
    gr_j_expect_op(p, ")");
}

jnode *gr_j_postfix_call(jparser *p, jnode *callee) {
    jnode *call = pair(p, N_CALL, 0, callee, NULL);
    call_args(p, call);
    return call;
}

static jnode *postfix(jparser *p, jnode *x) {
    for (;;) {
        gr_j_step(p->c, 1);
        if (gr_j_skip_op(p, "."))
            x = attribute(p, x);
        else if (gr_j_skip_op(p, "["))
            x = subscript(p, x);
        else if (gr_j_is_op(p, "("))
            x = gr_j_postfix_call(p, x);
        else
            return x;
    }
}

/* A dotted name, as filters and tests may have. */
static const jstr *dotted(jparser *p) {
    jbuild b = {0};
    gr_j_put_str(p->c, &b, gr_j_expect_name(p));
    while (gr_j_skip_op(p, ".")) {
        gr_j_puts(p->c, &b, ".");
        gr_j_put_str(p->c, &b, gr_j_expect_name(p));
    }
    return gr_j_built(p->c, &b);
}

static jnode *test(jparser *p, jnode *x) {
    bool negated = gr_j_skip_name(p, "not");
    jnode *n = pair(p, N_TEST, 0, x, NULL);
    n->s = dotted(p);
    const jtoken *t = gr_j_now(p);
    bool operand = t->kind == T_NAME || t->kind == T_STRING || t->kind == T_INT || t->kind == T_FLOAT ||
                   gr_j_is_op(p, "[") || gr_j_is_op(p, "{");
    if (gr_j_is_op(p, "("))
        call_args(p, n);
    else if (operand && !gr_j_is_name(p, "else") && !gr_j_is_name(p, "or") && !gr_j_is_name(p, "and")) {
        if (gr_j_is_name(p, "is")) gr_j_error(p->c, "You cannot chain multiple tests with is");
        gr_j_kid(p, n, postfix(p, primary(p)));
    }
    return negated ? pair(p, N_NOT, 0, n, NULL) : n;
}

/* start_inline: the first filter stands without its bar ({% filter upper %}). */
jnode *gr_j_filter_chain(jparser *p, jnode *x, bool start_inline) {
    while (start_inline || gr_j_skip_op(p, "|")) {
        jnode *n = pair(p, N_FILTER, 0, x, NULL);
        n->s = dotted(p);
        if (gr_j_is_op(p, "(")) call_args(p, n);
        x = n;
        start_inline = false;
    }
    return x;
}

static jnode *filters_and_tests(jparser *p, jnode *x) {
    for (;;) {
        gr_j_step(p->c, 1);
        if (gr_j_is_op(p, "|"))
            x = gr_j_filter_chain(p, x, false);
        else if (gr_j_skip_name(p, "is"))
            x = test(p, x);
        else if (gr_j_is_op(p, "("))
            x = gr_j_postfix_call(p, x);
        else
            return x;
    }
}

static jnode *unary(jparser *p, bool with_filter) {
    jnode *n;
    gr_j_enter(p->c);
    if (gr_j_skip_op(p, "-"))
        n = pair(p, N_NEG, 0, unary(p, false), NULL);
    else if (gr_j_skip_op(p, "+"))
        n = pair(p, N_POS, 0, unary(p, false), NULL);
    else
        n = primary(p);
    n = postfix(p, n);
    if (with_filter) n = filters_and_tests(p, n);
    gr_j_leave(p->c);
    return n;
}
