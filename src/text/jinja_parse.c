/* Statements of a template: one row a keyword. */
#include "text/jinja_parts.h"

bool gr_j_is_op(jparser *p, const char *op) {
    const jtoken *t = gr_j_now(p);
    return t->kind == T_OP && strcmp(t->op, op) == 0;
}

static bool text_is(const jstr *s, const char *text) {
    return s->n == strlen(text) && memcmp(s->p, text, s->n) == 0;
}

bool gr_j_is_name(jparser *p, const char *name) {
    const jtoken *t = gr_j_now(p);
    return t->kind == T_NAME && text_is(t->v.s, name);
}

bool gr_j_skip_op(jparser *p, const char *op) {
    bool hit = gr_j_is_op(p, op);
    p->pos += hit;
    return hit;
}

bool gr_j_skip_name(jparser *p, const char *name) {
    bool hit = gr_j_is_name(p, name);
    p->pos += hit;
    return hit;
}

_Noreturn void gr_j_unexpected(jparser *p, const char *wanted) {
    const jtoken *t = gr_j_now(p);
    p->c->line = t->line;
    const char *found = t->kind == T_OP     ? t->op
                        : t->kind == T_NAME ? t->v.s->p
                        : t->kind == T_EOF  ? "the end"
                                            : "another token";
    gr_j_error(p->c, "expected %s, found '%.60s'", wanted, found);
}

void gr_j_expect_op(jparser *p, const char *op) {
    if (!gr_j_skip_op(p, op)) gr_j_unexpected(p, op);
}

const jstr *gr_j_expect_name(jparser *p) {
    const jtoken *t = gr_j_now(p);
    if (t->kind != T_NAME) gr_j_unexpected(p, "a name");
    p->pos++;
    return t->v.s;
}

static void expect(jparser *p, jtok kind, const char *what) {
    if (gr_j_now(p)->kind != kind) gr_j_unexpected(p, what);
    p->pos++;
}

static jnode *name_target(jparser *p) {
    jnode *n = gr_j_node(p, N_NAME);
    n->s = gr_j_expect_name(p);
    static const char *const fixed[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < 6; i++)
        if (text_is(n->s, fixed[i])) gr_j_error(p->c, "can't assign to '%s'", fixed[i]);
    return n;
}

static jnode *one_target(jparser *p) {
    if (!gr_j_skip_op(p, "(")) return name_target(p);
    gr_j_enter(p->c);
    jnode *n = gr_j_target(p, false);
    gr_j_leave(p->c);
    gr_j_expect_op(p, ")");
    return n;
}

jnode *gr_j_target(jparser *p, bool with_namespace) {
    const jtoken *t = gr_j_now(p);
    if (with_namespace && t->kind == T_NAME && t[1].kind == T_OP && strcmp(t[1].op, ".") == 0) {
        jnode *n = gr_j_node(p, N_NSREF);
        n->s = gr_j_expect_name(p);
        gr_j_expect_op(p, ".");
        n->t = gr_j_expect_name(p);
        return n;
    }
    jnode *tuple = gr_j_node(p, N_TUPLE), *first = one_target(p);
    if (!gr_j_is_op(p, ",")) return first;
    gr_j_kid(p, tuple, first);
    while (gr_j_skip_op(p, ",")) {
        if (gr_j_now(p)->kind != T_NAME && !gr_j_is_op(p, "(")) break;
        if (gr_j_is_name(p, "in")) break;
        gr_j_kid(p, tuple, one_target(p));
    }
    return tuple;
}

/* Statements up to a tag whose keyword is in `ends` (NULL-terminated); that keyword is current afterwards. */
static jnode *body_until(jparser *p, const char *const *ends);

/* The body behind an open tag, and its end tag. */
static jnode *block_body(jparser *p, const char *end) {
    const char *ends[] = {end, NULL};
    expect(p, T_BLOCK_END, "the end of the tag");
    jnode *body = body_until(p, ends);
    p->pos++;
    expect(p, T_BLOCK_END, "the end of the tag");
    return body;
}

/* The body of something that is a function of its own: loops outside are not its loops. */
static jnode *function_body(jparser *p, const char *end) {
    int loops = p->loops;
    p->loops = 0;
    jnode *body = block_body(p, end);
    p->loops = loops;
    return body;
}

static jnode *parse_if(jparser *p) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    jnode *n = gr_j_node(p, N_IF);
    n->x = gr_j_tuple(p, false, false);
    expect(p, T_BLOCK_END, "the end of the tag");
    n->y = body_until(p, ends);
    if (gr_j_skip_name(p, "elif")) {
        gr_j_enter(p->c);
        n->z = parse_if(p);
        gr_j_leave(p->c);
        return n;
    }
    if (gr_j_skip_name(p, "else"))
        n->z = block_body(p, "endif");
    else {
        p->pos++;
        expect(p, T_BLOCK_END, "the end of the tag");
    }
    return n;
}

static jnode *parse_for(jparser *p) {
    static const char *const ends[] = {"else", "endfor", NULL};
    jnode *n = gr_j_node(p, N_FOR);
    n->x = gr_j_target(p, false);
    if (!gr_j_skip_name(p, "in")) gr_j_unexpected(p, "in");
    n->y = gr_j_tuple(p, false, false);
    if (gr_j_skip_name(p, "if")) n->z = gr_j_expression(p, true);
    n->op = gr_j_skip_name(p, "recursive");
    expect(p, T_BLOCK_END, "the end of the tag");
    p->loops++;
    gr_j_kid(p, n, body_until(p, ends));
    p->loops--;
    if (gr_j_skip_name(p, "else"))
        gr_j_kid(p, n, block_body(p, "endfor"));
    else {
        p->pos++;
        expect(p, T_BLOCK_END, "the end of the tag");
    }
    return n;
}

static jnode *parse_set(jparser *p) {
    jnode *n = gr_j_node(p, N_SET);
    n->x = gr_j_target(p, true);
    if (gr_j_skip_op(p, "=")) {
        n->y = gr_j_tuple(p, true, false);
        expect(p, T_BLOCK_END, "the end of the tag");
        return n;
    }
    n->kind = N_SETBLOCK;
    n->y = gr_j_filter_chain(p, NULL, false);
    n->z = block_body(p, "endset");
    return n;
}

static void parameters(jparser *p, jnode *macro) {
    gr_j_expect_op(p, "(");
    bool defaults = false;
    while (!gr_j_is_op(p, ")")) {
        if (macro->nkids) gr_j_expect_op(p, ",");
        jnode *arg = gr_j_node(p, N_KWARG);
        arg->s = name_target(p)->s;
        if (gr_j_skip_op(p, "=")) {
            arg->x = gr_j_expression(p, true);
            defaults = true;
        } else if (defaults)
            gr_j_error(p->c, "non-default argument follows default argument");
        gr_j_kid(p, macro, arg);
    }
    gr_j_expect_op(p, ")");
}

/* The body of a macro, and which special names it mentions. */
static void macro_body(jparser *p, jnode *macro, const char *end) {
    size_t from = p->pos;
    macro->y = function_body(p, end);
    for (size_t i = from; i < p->pos; i++) {
        if (p->t[i].kind != T_NAME) continue;
        if (text_is(p->t[i].v.s, "varargs")) macro->op |= GR_J_USES_VARARGS;
        if (text_is(p->t[i].v.s, "kwargs")) macro->op |= GR_J_USES_KWARGS;
        if (text_is(p->t[i].v.s, "caller")) macro->op |= GR_J_USES_CALLER;
    }
}

static jnode *parse_macro(jparser *p) {
    jnode *n = gr_j_node(p, N_MACRO);
    n->s = name_target(p)->s;
    parameters(p, n);
    macro_body(p, n, "endmacro");
    return n;
}

static jnode *parse_call(jparser *p) {
    jnode *n = gr_j_node(p, N_CALLBLOCK), *caller = gr_j_node(p, N_MACRO);
    caller->s = gr_j_new_str(p->c, "caller", 6);
    if (gr_j_is_op(p, "(")) parameters(p, caller);
    n->x = gr_j_expression(p, true);
    if (n->x->kind != N_CALL) gr_j_unexpected(p, "a call");
    n->y = caller;
    macro_body(p, caller, "endcall");
    return n;
}

static jnode *parse_filter(jparser *p) {
    jnode *n = gr_j_node(p, N_FILTERBLOCK);
    n->x = gr_j_filter_chain(p, NULL, true);
    n->y = block_body(p, "endfilter");
    return n;
}

static jnode *parse_with(jparser *p) {
    jnode *n = gr_j_node(p, N_WITH);
    while (gr_j_now(p)->kind != T_BLOCK_END) {
        if (n->nkids) gr_j_expect_op(p, ",");
        gr_j_kid(p, n, gr_j_target(p, false));
        gr_j_expect_op(p, "=");
        gr_j_kid(p, n, gr_j_expression(p, true));
    }
    n->y = block_body(p, "endwith");
    return n;
}

static jnode *parse_generation(jparser *p) {
    jnode *n = gr_j_node(p, N_GENERATION);
    p->generation = true;
    n->y = function_body(p, "endgeneration");
    return n;
}

/* A block stands where it is written: no template can extend this one. */
static jnode *parse_block(jparser *p) {
    jnode *n = gr_j_node(p, N_BLOCK);
    n->s = gr_j_expect_name(p);
    if (gr_j_dict_text(p->c, &p->blocks, n->s->p, n->s->n))
        gr_j_error(p->c, "block '%.60s' defined twice", n->s->p);
    gr_j_dict_set(p->c, &p->blocks, gr_j_of(n->s), gr_j_none());
    if (gr_j_skip_name(p, "scoped")) n->op = 's';
    if (gr_j_skip_name(p, "required")) n->op = 'r';
    static const char *const ends[] = {"endblock", NULL};
    int loops = p->loops;
    p->loops = 0; /* as of a function: loops outside are not its loops */
    expect(p, T_BLOCK_END, "the end of the tag");
    n->y = body_until(p, ends);
    p->loops = loops;
    p->pos++;
    (void)gr_j_skip_name(p, n->s->p);
    expect(p, T_BLOCK_END, "the end of the tag");
    return n;
}

/* Only what is so anyway. */
static jnode *parse_autoescape(jparser *p) {
    jnode *n = gr_j_node(p, N_WITH), *on = gr_j_expression(p, true);
    if (on->kind != N_CONST || gr_j_true(p->c, on->v))
        gr_j_raise(p->c, GRAFT_UNSUPPORTED,
                   "'autoescape' is not supported in a chat template, but for false");
    n->y = block_body(p, "endautoescape");
    return n;
}

static jnode *jump(jparser *p, jop kind) {
    jnode *n = gr_j_node(p, kind);
    if (!p->loops) gr_j_error(p->c, "break or continue outside of a loop");
    expect(p, T_BLOCK_END, "the end of the tag");
    return n;
}
static jnode *parse_break(jparser *p) {
    return jump(p, N_BREAK);
}
static jnode *parse_continue(jparser *p) {
    return jump(p, N_CONTINUE);
}

static jnode *parse_print(jparser *p) {
    jnode *n = gr_j_node(p, N_BODY);
    do {
        jnode *item = gr_j_node(p, N_PRINT);
        item->x = gr_j_expression(p, true);
        gr_j_kid(p, n, item);
    } while (gr_j_skip_op(p, ","));
    expect(p, T_BLOCK_END, "the end of the tag");
    return n;
}

static jnode *refuse(jparser *p) {
    p->pos--; /* back to the keyword */
    gr_j_raise(p->c, GRAFT_UNSUPPORTED, "'%s' is not supported in a chat template", gr_j_now(p)->v.s->p);
}

static const struct {
    const char *name;
    jnode *(*parse)(jparser *p);
} statements[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call},
    {"filter", parse_filter},
    {"with", parse_with},
    {"print", parse_print},
    {"generation", parse_generation},
    {"break", parse_break},
    {"continue", parse_continue},
    {"include", refuse},
    {"import", refuse},
    {"from", refuse},
    {"extends", refuse},
    {"block", parse_block},
    {"autoescape", parse_autoescape},
};

static jnode *statement(jparser *p) {
    const jstr *name = gr_j_expect_name(p);
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (text_is(name, statements[i].name)) return statements[i].parse(p);
    gr_j_error(p->c, "Encountered unknown tag '%.60s'", name->p);
}

static bool at_end_tag(jparser *p, const char *const *ends) {
    for (; ends && *ends; ends++) {
        if (!gr_j_is_name(p, *ends)) continue;
        return true;
    }
    return false;
}

static jnode *body_until(jparser *p, const char *const *ends) {
    jnode *body = gr_j_node(p, N_BODY);
    gr_j_enter(p->c);
    for (;;) {
        jtoken *t = gr_j_now(p);
        p->c->line = t->line;
        if (t->kind == T_EOF) {
            if (ends) gr_j_error(p->c, "the template ends where '%s' was expected", *ends);
            break;
        }
        p->pos++;
        if (t->kind == T_TEXT) {
            jnode *n = gr_j_node(p, N_TEXT);
            n->v = t->v;
            gr_j_kid(p, body, n);
        } else if (t->kind == T_VAR_BEGIN) {
            jnode *n = gr_j_node(p, N_PRINT);
            n->x = gr_j_tuple(p, true, false);
            expect(p, T_VAR_END, "the end of the print statement");
            gr_j_kid(p, body, n);
        } else { /* the lexer leaves only T_BLOCK_BEGIN between tags */
            if (at_end_tag(p, ends)) break;
            gr_j_kid(p, body, statement(p));
        }
    }
    gr_j_leave(p->c);
    return body;
}

jnode *gr_j_parse(jparser *p) {
    return body_until(p, NULL);
}
