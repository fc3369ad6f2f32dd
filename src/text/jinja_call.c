/* Calls: arguments, macros, and rows of the tables. */
#include "text/jinja_parts.h"

static void add_keyword(jctx *c, jargs *a, size_t *cap, jv name, jv value) {
    gr_j_step(c, a->nkw / 4);
    for (size_t i = 0; i < a->nkw; i++)
        if (gr_j_same(c, a->names[i].s, name.s))
            gr_j_error(c, "got multiple values for keyword argument '%.60s'", name.s->p);
    if (a->nkw == *cap) {
        size_t more = *cap ? *cap * 2 : 4;
        jv *names = gr_j_alloc(c, more, sizeof *names), *vals = gr_j_alloc(c, more, sizeof *vals);
        if (a->nkw) {
            memcpy(names, a->names, a->nkw * sizeof *names);
            memcpy(vals, a->vals, a->nkw * sizeof *vals);
        }
        a->names = names;
        a->vals = vals;
        *cap = more;
    }
    a->names[a->nkw] = name;
    a->vals[a->nkw++] = value;
}

static void add_keywords(jctx *c, jargs *a, size_t *cap, jv v) {
    if (v.kind != J_DICT) gr_j_error(c, "argument after ** must be a mapping, not %s", gr_j_type_name(v));
    for (size_t i = 0; i < v.d->n; i++) {
        if (v.d->keys[i].kind != J_STR) gr_j_error(c, "keywords must be strings");
        add_keyword(c, a, cap, v.d->keys[i], v.d->vals[i]);
    }
}

jargs gr_j_args(jctx *c, const jnode *call) {
    jargs a = {0};
    size_t cap = 0;
    if (!call->nkids) return a;
    jlist *pos = gr_j_new_list(c, JL_LIST, call->nkids);
    for (size_t i = 0; i < call->nkids; i++) {
        const jnode *arg = call->kids[i];
        if (arg->kind == N_STAR) {
            const jlist *l = gr_j_iterate(c, gr_j_eval(c, arg->x));
            for (size_t k = 0; k < l->n; k++) gr_j_push(c, pos, l->items[k]);
        } else if (arg->kind == N_STARSTAR)
            add_keywords(c, &a, &cap, gr_j_eval(c, arg->x));
        else if (arg->kind == N_KWARG)
            add_keyword(c, &a, &cap, gr_j_of(arg->s), gr_j_eval(c, arg->x));
        else
            gr_j_push(c, pos, gr_j_eval(c, arg));
    }
    a.pos = pos->items;
    a.npos = pos->n;
    return a;
}

const jrow *gr_j_find_row(const jrow *rows, const char *p, size_t n) {
    for (; rows->name; rows++)
        if (strlen(rows->name) == n && memcmp(rows->name, p, n) == 0) return rows;
    return NULL;
}

/* Index of a parameter name in "a b c", or -1. */
static int param_index(const char *params, const jstr *name) {
    int index = 0;
    for (const char *p = params; *p; index++) {
        size_t n = strcspn(p, " ");
        if (n == name->n && memcmp(p, name->p, n) == 0) return index;
        p += n + (p[n] == ' ');
    }
    return -1;
}

static int param_count(const char *params) {
    int count = *params != 0;
    for (const char *p = params; *p; p++) count += *p == ' ';
    return count;
}

jv gr_j_run(jctx *c, const jrow *row, jv self, const jargs *args) {
    jcall k = {.c = c, .self = self, .raw = args};
    gr_j_step(c, 1);
    if (row->params[0] == '*') return row->fn(&k);
    int count = param_count(row->params);
    if (args->npos > (size_t)count)
        gr_j_error(c, "%s takes at most %d arguments (%zu given)", row->name, count, args->npos);
    for (size_t i = 0; i < args->npos; i++) k.arg[i] = args->pos[i];
    for (size_t i = 0; i < args->nkw; i++) {
        int at = param_index(row->params, args->names[i].s);
        if (at < 0)
            gr_j_error(c, "%s got an unexpected keyword argument '%.60s'", row->name, args->names[i].s->p);
        if (k.arg[at].kind != J_MISSING)
            gr_j_error(c, "%s got multiple values for argument '%.60s'", row->name, args->names[i].s->p);
        k.arg[at] = args->vals[i];
    }
    for (int i = 0; i < row->required; i++)
        if (k.arg[i].kind == J_MISSING) gr_j_error(c, "%s is missing argument %d", row->name, i + 1);
    return row->fn(&k);
}

int64_t gr_j_arg_int(jcall *k, int i, int64_t missing) {
    jv v = k->arg[i];
    if (v.kind == J_MISSING) return missing;
    if (v.kind == J_UNDEF) gr_j_use_undefined(k->c, v);
    if (v.kind != J_INT && v.kind != J_BOOL)
        gr_j_error(k->c, "'%s' object cannot be interpreted as an integer", gr_j_type_name(v));
    return v.kind == J_INT ? v.i : v.b;
}

const jstr *gr_j_arg_str(jcall *k, int i) {
    jv v = k->arg[i];
    if (v.kind == J_UNDEF) gr_j_use_undefined(k->c, v);
    if (v.kind != J_STR) gr_j_error(k->c, "argument must be str, not %s", gr_j_type_name(v));
    return v.s;
}

const jstr *gr_j_self_str(jcall *k) {
    return gr_j_to_str(k->c, k->self);
}

bool gr_j_arg_true(jcall *k, int i, bool missing) {
    return k->arg[i].kind == J_MISSING ? missing : gr_j_true(k->c, k->arg[i]);
}

/* What jinja2 has and this does not. */
static void check_built(jctx *c, const char *const *names, const char *what, const jstr *name) {
    for (; *names; names++)
        if (strlen(*names) == name->n && memcmp(*names, name->p, name->n) == 0)
            gr_j_raise(c, GRAFT_UNSUPPORTED, "the %s '%s' is not supported in a chat template", what, *names);
}

jv gr_j_call_filter(jctx *c, const jstr *name, jv in, jargs args) {
    const jrow *const tables[] = {gr_j_text_filters, gr_j_list_filters, gr_j_pick_filters,
                                  gr_j_number_filters};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        const jrow *row = gr_j_find_row(tables[i], name->p, name->n);
        if (row) return gr_j_run(c, row, in, &args);
    }
    static const char *const others[] = {"wordwrap", "striptags", "urlize", "pprint", "random", NULL};
    check_built(c, others, "filter", name);
    gr_j_error(c, "No filter named '%.60s'.", name->p);
}

bool gr_j_call_test(jctx *c, const jstr *name, jv in, jargs args) {
    const jrow *row = gr_j_find_row(gr_j_tests, name->p, name->n);
    if (!row) gr_j_error(c, "No test named '%.60s'.", name->p);
    return gr_j_true(c, gr_j_run(c, row, in, &args));
}

jv gr_j_method(jctx *c, jv obj, const jstr *name) {
    const jrow *const tables[] = {gr_j_str_methods, gr_j_str_searches, gr_j_object_methods};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        for (const jrow *row = tables[i]; row->name; row++) {
            if (row->of != obj.kind || strlen(row->name) != name->n ||
                memcmp(row->name, name->p, name->n) != 0)
                continue;
            jmethod *m = gr_j_alloc(c, 1, sizeof *m);
            m->row = row;
            m->self = gr_j_alloc(c, 1, sizeof *m->self);
            *m->self = obj;
            return (jv){.kind = J_METHOD, .method = m};
        }
    }
    static const char *const others[] = {"encode", "translate", "format_map", NULL};
    if (obj.kind == J_STR) check_built(c, others, "method", name);
    return (jv){.kind = J_MISSING};
}

/* The macro's keyword of this name, marked as used. */
static const jv *take_keyword(jctx *c, const jargs *args, bool *used, const jstr *name) {
    gr_j_step(c, args->nkw / 4);
    for (size_t i = 0; i < args->nkw; i++) {
        if (!gr_j_same(c, args->names[i].s, name)) continue;
        used[i] = true;
        return &args->vals[i];
    }
    return NULL;
}

static void bind_parameter(jctx *c, const jmacro *m, size_t i, const jargs *args, bool *used) {
    const jnode *param = m->node->kids[i];
    const jv *keyword = take_keyword(c, args, used, param->s);
    jv v;
    if (i < args->npos) {
        if (keyword) gr_j_error(c, "macro '%s' got two values for '%s'", m->name->p, param->s->p);
        v = args->pos[i];
    } else if (keyword)
        v = *keyword;
    else if (param->x)
        v = gr_j_eval(c, param->x);
    else
        v = gr_j_undefined(c, "parameter '%.80s' was not provided", param->s->p);
    gr_j_dict_set(c, &c->scope->vars, gr_j_of(param->s), v);
}

/* caller, kwargs and varargs, for a macro that mentions them. */
static void bind_special(jctx *c, const jmacro *m, const jargs *args, bool *used) {
    char uses = m->node->op;
    jdict *vars = &c->scope->vars;
    jv name = gr_j_str(c, "caller");
    if (uses & GR_J_USES_CALLER) {
        const jv *caller = take_keyword(c, args, used, name.s);
        gr_j_dict_set(c, vars, name, caller ? *caller : gr_j_undefined(c, "No caller defined"));
    }
    jdict *rest = gr_j_new_dict(c);
    for (size_t i = 0; i < args->nkw; i++) {
        if (used[i]) continue;
        if (!(uses & GR_J_USES_KWARGS))
            gr_j_error(c, "macro '%s' takes no keyword argument '%.60s'", m->name->p, args->names[i].s->p);
        gr_j_dict_set(c, rest, args->names[i], args->vals[i]);
    }
    if (uses & GR_J_USES_KWARGS)
        gr_j_dict_set(c, vars, gr_j_str(c, "kwargs"), (jv){.kind = J_DICT, .d = rest});
    size_t count = m->node->nkids;
    if (args->npos > count && !(uses & GR_J_USES_VARARGS))
        gr_j_error(c, "macro '%s' takes not more than %zu argument(s)", m->name->p, count);
    jlist *more = gr_j_new_list(c, JL_TUPLE, 0);
    for (size_t i = count; i < args->npos; i++) gr_j_push(c, more, args->pos[i]);
    if (uses & GR_J_USES_VARARGS) gr_j_dict_set(c, vars, gr_j_str(c, "varargs"), gr_j_from_list(more));
}

jv gr_j_call_macro(jctx *c, const jmacro *m, const jargs *args) {
    jscope *scope = c->scope;
    bool *used = gr_j_alloc(c, args->nkw, sizeof *used);
    c->scope = m->scope;
    gr_j_push_scope(c);
    for (size_t i = 0; i < m->node->nkids; i++) bind_parameter(c, m, i, args, used);
    bind_special(c, m, args, used);
    const jstr *text = gr_j_run_body(c, m->node->y);
    c->scope = scope;
    return gr_j_of(text);
}

jv gr_j_call(jctx *c, jv callee, jargs args) {
    static const jv none = {.kind = J_MISSING};
    gr_j_enter(c);
    jv v;
    switch (callee.kind) {
    case J_UNDEF: gr_j_use_undefined(c, callee);
    case J_FUNC: v = gr_j_run(c, callee.func, none, &args); break;
    case J_METHOD: v = gr_j_run(c, callee.method->row, *callee.method->self, &args); break;
    case J_MACRO: v = gr_j_call_macro(c, callee.macro, &args); break;
    case J_LOOP: v = gr_j_recurse(c, callee.loop, &args); break;
    case J_JOINER:
        v = callee.joiner->used ? gr_j_of(callee.joiner->sep) : gr_j_str(c, "");
        callee.joiner->used = true;
        break;
    default: gr_j_error(c, "'%s' object is not callable", gr_j_type_name(callee));
    }
    gr_j_leave(c);
    return v;
}
