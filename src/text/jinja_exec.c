/* Executes statements. Scopes are jinja2's: a loop's round, a block's body and a macro have their own, an if
 * has not. */
#include "text/jinja_parts.h"

typedef enum jflow { GO_ON, BREAK, CONTINUE } jflow;

static jflow exec(jctx *c, const jnode *n);

jv gr_j_lookup(jctx *c, const jstr *name) {
    const jv *slot = NULL;
    for (const jscope *s = c->scope; s && !slot; s = s->parent) {
        gr_j_step(c, 1);
        slot = gr_j_dict_text(c, &s->vars, name->p, name->n);
    }
    if (!slot) slot = gr_j_dict_text(c, c->globals, name->p, name->n);
    if (slot) return *slot;
    const jrow *row = gr_j_find_row(gr_j_globals, name->p, name->n);
    if (row) return (jv){.kind = J_FUNC, .func = row};
    return gr_j_undefined(c, "'%.80s' is undefined", name->p);
}

jscope *gr_j_push_scope(jctx *c) {
    jscope *s = gr_j_alloc(c, 1, sizeof *s);
    s->parent = c->scope;
    return c->scope = s;
}

static void assign_namespace(jctx *c, const jnode *target, jv value) {
    jv ns = gr_j_lookup(c, target->s);
    if (ns.kind != J_NS) gr_j_error(c, "cannot assign attribute on non-namespace object");
    if (target->t->p[0] == '_')
        gr_j_error(c, "names that begin with an underscore cannot be stored on a namespace");
    gr_j_dict_set(c, ns.d, gr_j_of(target->t), value);
}

void gr_j_assign(jctx *c, const jnode *target, jv value) {
    if (target->kind == N_NSREF) {
        assign_namespace(c, target, value);
        return;
    }
    if (target->kind == N_NAME) {
        gr_j_dict_set(c, &c->scope->vars, gr_j_of(target->s), value);
        return;
    }
    const jlist *l = gr_j_iterate(c, value);
    if (l->n != target->nkids)
        gr_j_error(c, "%s values to unpack (expected %zu, got %zu)",
                   l->n < target->nkids ? "not enough" : "too many", target->nkids, l->n);
    for (size_t i = 0; i < l->n; i++) gr_j_assign(c, target->kids[i], l->items[i]);
}

/* Runs a body and keeps its text instead of putting it out. */
static jflow capture(jctx *c, const jnode *body, const jstr **text) {
    jbuild b = {0}, *out = c->out;
    c->out = &b;
    jflow flow = exec(c, body);
    c->out = out;
    *text = gr_j_built(c, &b);
    return flow;
}

const jstr *gr_j_run_body(jctx *c, const jnode *body) {
    const jstr *text;
    (void)capture(c, body, &text); /* the parser lets no break out of a function */
    return text;
}

/* The same in a scope of its own, then through the block's filters. */
static jflow filtered(jctx *c, const jnode *filter, const jnode *body, jv *result) {
    jscope *scope = c->scope;
    const jstr *text;
    gr_j_push_scope(c);
    jflow flow = capture(c, body, &text);
    c->scope = scope;
    *result = gr_j_of(text);
    if (filter && flow == GO_ON) {
        jv before = c->block_text;
        c->block_text = *result;
        *result = gr_j_eval(c, filter);
        c->block_text = before;
    }
    return flow;
}

bool gr_j_loop_fill(jctx *c, jloop *loop, size_t count) {
    jscope *scope = c->scope;
    while (loop->seq->n < count && loop->taken < loop->source->n) {
        jv item = loop->source->items[loop->taken++];
        bool pass = true;
        if (loop->node->z) {
            c->scope = loop->scope;
            gr_j_push_scope(c);
            gr_j_assign(c, loop->node->x, item);
            pass = gr_j_true(c, gr_j_eval(c, loop->node->z));
            c->scope = scope;
        }
        if (pass) gr_j_push(c, loop->seq, item);
    }
    return loop->seq->n >= count;
}

/* Loops over what `seq` holds, in the current scope. */
static void run_loop(jctx *c, const jnode *n, jv seq, int depth) {
    jscope *scope = c->scope;
    jloop *loop = gr_j_alloc(c, 1, sizeof *loop);
    *loop = (jloop){.node = n, .scope = scope, .depth = depth};
    loop->source = gr_j_iterate(c, seq);
    loop->seq = gr_j_new_list(c, JL_LIST, 0);
    jflow flow = GO_ON;
    bool finished_one = false; /* jinja2 runs `else` also when no round came to its end */
    for (; flow != BREAK && gr_j_loop_fill(c, loop, loop->index + 1); loop->index++) {
        gr_j_push_scope(c);
        gr_j_dict_set(c, &c->scope->vars, gr_j_str(c, "loop"), (jv){.kind = J_LOOP, .loop = loop});
        gr_j_assign(c, n->x, loop->seq->items[loop->index]);
        flow = exec(c, n->kids[0]);
        finished_one |= flow == GO_ON;
        c->scope = scope;
    }
    if (!finished_one && n->nkids > 1) {
        gr_j_push_scope(c);
        exec(c, n->kids[1]);
        c->scope = scope;
    }
}

jv gr_j_recurse(jctx *c, const jloop *loop, const jargs *args) {
    jscope *scope = c->scope;
    jbuild b = {0}, *out = c->out;
    if (!loop->node->op) gr_j_error(c, "The loop must have the 'recursive' marker to be called recursively.");
    if (args->npos != 1 || args->nkw) gr_j_error(c, "loop() takes one argument");
    c->scope = loop->scope;
    c->out = &b;
    run_loop(c, loop->node, args->pos[0], loop->depth + 1);
    c->out = out;
    c->scope = scope;
    return gr_j_of(gr_j_built(c, &b));
}

static jflow exec_if(jctx *c, const jnode *n) {
    if (gr_j_true(c, gr_j_eval(c, n->x))) return exec(c, n->y);
    return n->z ? exec(c, n->z) : GO_ON;
}

static jv new_macro(jctx *c, const jnode *n) {
    jmacro *m = gr_j_alloc(c, 1, sizeof *m);
    *m = (jmacro){.node = n, .scope = c->scope, .name = n->s};
    return (jv){.kind = J_MACRO, .macro = m};
}

static void exec_call(jctx *c, const jnode *n) {
    jv callee = gr_j_eval(c, n->x->x);
    jargs args = gr_j_args(c, n->x);
    jargs with = args;
    with.names = gr_j_alloc(c, args.nkw + 1, sizeof *with.names);
    with.vals = gr_j_alloc(c, args.nkw + 1, sizeof *with.vals);
    for (size_t i = 0; i < args.nkw; i++) {
        with.names[i] = args.names[i];
        with.vals[i] = args.vals[i];
    }
    with.names[args.nkw] = gr_j_str(c, "caller");
    with.vals[args.nkw] = new_macro(c, n->y);
    with.nkw = args.nkw + 1;
    gr_j_print(c, c->out, gr_j_call(c, callee, with));
}

static jflow exec_with(jctx *c, const jnode *n) {
    jscope *scope = c->scope;
    jv *values = gr_j_alloc(c, n->nkids, sizeof *values);
    for (size_t i = 1; i < n->nkids; i += 2) values[i] = gr_j_eval(c, n->kids[i]);
    gr_j_push_scope(c);
    for (size_t i = 1; i < n->nkids; i += 2) gr_j_assign(c, n->kids[i - 1], values[i]);
    jflow flow = exec(c, n->y);
    c->scope = scope;
    return flow;
}

static void exec_generation(jctx *c, const jnode *n) {
    jv text;
    (void)filtered(c, NULL, n->y, &text);
    jstr *s = gr_j_alloc(c, 1, sizeof *s);
    uint8_t *marks = gr_j_alloc(c, text.s->n, 1);
    for (size_t i = 0; i < text.s->n; i++)
        marks[i] = (uint8_t)(GR_J_GENERATED | (text.s->marks ? text.s->marks[i] : 0));
    *s = *text.s;
    s->marks = marks;
    gr_j_put_str(c, c->out, s);
}

/* Of what is around it a block sees the whole template's variables, unless it is scoped. */
static jflow exec_block(jctx *c, const jnode *n) {
    jscope *scope = c->scope;
    if (n->op == 'r') gr_j_error(c, "Required block '%.60s' not found", n->s->p);
    while (n->op != 's' && c->scope->parent) c->scope = c->scope->parent;
    gr_j_push_scope(c);
    jflow flow = exec(c, n->y);
    c->scope = scope;
    return flow;
}

static jflow exec_body(jctx *c, const jnode *n) {
    jflow flow = GO_ON;
    for (size_t i = 0; i < n->nkids && flow == GO_ON; i++) flow = exec(c, n->kids[i]);
    return flow;
}

static jflow exec_node(jctx *c, const jnode *n) {
    jv v;
    jflow flow = GO_ON;
    switch (n->kind) {
    case N_BODY: return exec_body(c, n);
    case N_TEXT: gr_j_put_str(c, c->out, n->v.s); break;
    case N_PRINT: gr_j_print(c, c->out, gr_j_eval(c, n->x)); break;
    case N_IF: return exec_if(c, n);
    case N_FOR: run_loop(c, n, gr_j_eval(c, n->y), 1); break;
    case N_SET: gr_j_assign(c, n->x, gr_j_eval(c, n->y)); break;
    case N_SETBLOCK:
        flow = filtered(c, n->y, n->z, &v);
        if (flow == GO_ON) gr_j_assign(c, n->x, v);
        return flow;
    case N_MACRO: gr_j_dict_set(c, &c->scope->vars, gr_j_of(n->s), new_macro(c, n)); break;
    case N_CALLBLOCK: exec_call(c, n); break;
    case N_FILTERBLOCK:
        flow = filtered(c, n->x, n->y, &v);
        if (flow == GO_ON) gr_j_print(c, c->out, v);
        return flow;
    case N_WITH: return exec_with(c, n);
    case N_GENERATION: exec_generation(c, n); break;
    case N_BLOCK: return exec_block(c, n);
    case N_BREAK: return BREAK;
    case N_CONTINUE: return CONTINUE;
    default: gr_j_raise(c, GRAFT_INTERNAL, "not a statement");
    }
    return flow;
}

static jflow exec(jctx *c, const jnode *n) {
    gr_j_enter(c);
    c->line = n->line;
    jflow flow = exec_node(c, n);
    gr_j_leave(c);
    return flow;
}

void gr_j_exec(jctx *c, const jnode *body) {
    (void)exec(c, body);
}
