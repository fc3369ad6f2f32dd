/* Arithmetic, attributes, subscripts and slices with Python's results. */
#include "text/jinja_parts.h"
#include <inttypes.h>
#include <math.h>

_Noreturn static void bad_operands(jctx *c, const char *op, jv a, jv b) {
    if (a.kind == J_UNDEF) gr_j_use_undefined(c, a);
    if (b.kind == J_UNDEF) gr_j_use_undefined(c, b);
    gr_j_error(c, "unsupported operand type(s) for %s: '%s' and '%s'", op, gr_j_type_name(a),
               gr_j_type_name(b));
}

static const char *op_name(char op, char text[2]) {
    if (op == 'f') return "//";
    if (op == 'p') return "**";
    text[0] = op;
    text[1] = 0;
    return text;
}

static int64_t int_power(jctx *c, int64_t base, int64_t exponent) {
    int64_t result = 1;
    while (exponent > 0) {
        gr_j_step(c, 1);
        bool fits = true;
        if (exponent & 1) fits = gr_mul_i64(result, base, &result);
        exponent >>= 1;
        if (exponent && fits) fits = gr_mul_i64(base, base, &base);
        if (!fits) gr_j_raise(c, GRAFT_RANGE, "an integer does not fit 64 bits");
    }
    return result;
}

static jv int_op(jctx *c, char op, int64_t a, int64_t b) {
    int64_t r = 0;
    bool fits = true;
    switch (op) {
    case '+': fits = !__builtin_add_overflow(a, b, &r); break;
    case '-': fits = !__builtin_sub_overflow(a, b, &r); break;
    case '*': fits = gr_mul_i64(a, b, &r); break;
    case 'p':
        if (b < 0 && a == 0) gr_j_error(c, "0.0 cannot be raised to a negative power");
        return b < 0 ? gr_j_float(pow((double)a, (double)b)) : gr_j_int(int_power(c, a, b));
    case '/':
        if (b == 0) gr_j_error(c, "division by zero");
        return gr_j_float((double)a / (double)b);
    default: /* // and % */
        if (b == 0) gr_j_error(c, "integer division or modulo by zero");
        if (b == -1) { /* INT64_MIN / -1 traps */
            fits = !__builtin_sub_overflow((int64_t)0, a, &r);
            if (op == '%') return gr_j_int(0);
            break;
        }
        r = a % b;
        if (r != 0 && (r < 0) != (b < 0)) r += b;
        if (op == 'f') r = (a - r) / b;
    }
    if (!fits) gr_j_raise(c, GRAFT_RANGE, "an integer does not fit 64 bits");
    return gr_j_int(r);
}

static jv float_op(jctx *c, char op, double a, double b) {
    if (op == '+') return gr_j_float(a + b);
    if (op == '-') return gr_j_float(a - b);
    if (op == '*') return gr_j_float(a * b);
    if (op == 'p') {
        double r = pow(a, b);
        if (isnan(r) && !isnan(a) && !isnan(b)) gr_j_error(c, "a negative number to a fractional power");
        return gr_j_float(r);
    }
    if (b == 0) gr_j_error(c, "float division by zero");
    if (op == '/') return gr_j_float(a / b);
    double mod = fmod(a, b);
    if (mod != 0) {
        if ((b < 0) != (mod < 0)) mod += b;
    } else
        mod = copysign(0.0, b);
    if (op == '%') return gr_j_float(mod);
    double div = (a - mod) / b, whole = floor(div);
    if (div != 0 && div - whole > 0.5) whole += 1;
    return gr_j_float(div != 0 ? whole : copysign(0.0, a / b));
}

static jv join_strings(jctx *c, const jstr *a, const jstr *b) {
    jbuild out = {0};
    if (a->safe != b->safe) { /* Markup escapes what it is joined with */
        jargs none = {0};
        const jstr *e = gr_j_new_str(c, "e", 1);
        if (!a->safe) a = gr_j_call_filter(c, e, gr_j_of(a), none).s;
        if (!b->safe) b = gr_j_call_filter(c, e, gr_j_of(b), none).s;
    }
    gr_j_put_str(c, &out, a);
    gr_j_put_str(c, &out, b);
    jstr *s = gr_j_alloc(c, 1, sizeof *s);
    *s = *gr_j_built(c, &out);
    s->safe = a->safe;
    return gr_j_of(s);
}

static jv join_lists(jctx *c, const jlist *a, const jlist *b) {
    jlist *l = gr_j_new_list(c, a->flavor, a->n + b->n);
    for (size_t i = 0; i < a->n; i++) gr_j_push(c, l, a->items[i]);
    for (size_t i = 0; i < b->n; i++) gr_j_push(c, l, b->items[i]);
    return gr_j_from_list(l);
}

static bool is_sequence(jv v) {
    return v.kind == J_LIST && (v.l->flavor == JL_LIST || v.l->flavor == JL_TUPLE);
}

static jv repeat(jctx *c, jv what, int64_t times) {
    size_t n = times > 0 ? (size_t)times : 0;
    if (what.kind == J_STR) {
        jbuild out = {0};
        size_t total;
        if (!gr_mul_size(what.s->n, n, &total) || total > GR_J_MAX_HEAP)
            gr_j_raise(c, GRAFT_RANGE, "a repeated string is too long");
        for (size_t i = 0; what.s->n && i < n; i++) {
            gr_j_step(c, 1);
            gr_j_put_str(c, &out, what.s);
        }
        return gr_j_of(gr_j_built(c, &out));
    }
    jlist *l = gr_j_new_list(c, what.l->flavor, 0);
    for (size_t i = 0; what.l->n && i < n; i++)
        for (size_t k = 0; k < what.l->n; k++) gr_j_push(c, l, what.l->items[k]);
    return gr_j_from_list(l);
}

jv gr_j_binary(jctx *c, char op, jv a, jv b) {
    char text[2];
    bool ai = a.kind == J_INT || a.kind == J_BOOL, bi = b.kind == J_INT || b.kind == J_BOOL;
    if (ai && bi) return int_op(c, op, a.kind == J_INT ? a.i : a.b, b.kind == J_INT ? b.i : b.b);
    if (gr_j_is_number(a) && gr_j_is_number(b)) return float_op(c, op, gr_j_to_double(a), gr_j_to_double(b));
    if (op == '%' && a.kind == J_STR) return gr_j_format_percent(c, a.s, b);
    if (op == '+' && a.kind == J_STR && b.kind == J_STR) return join_strings(c, a.s, b.s);
    if (op == '+' && is_sequence(a) && is_sequence(b) && a.l->flavor == b.l->flavor)
        return join_lists(c, a.l, b.l);
    if (op == '*' && bi && (a.kind == J_STR || is_sequence(a)))
        return repeat(c, a, b.kind == J_INT ? b.i : b.b);
    if (op == '*' && ai && (b.kind == J_STR || is_sequence(b)))
        return repeat(c, b, a.kind == J_INT ? a.i : a.b);
    bad_operands(c, op_name(op, text), a, b);
}

/* "'dict object' has no attribute 'x'" */
static jv no_attribute(jctx *c, jv obj, const jstr *name) {
    if (obj.kind == J_NONE) return gr_j_undefined(c, "'None' has no attribute '%.80s'", name->p);
    return gr_j_undefined(c, "'%s object' has no attribute '%.80s'", gr_j_type_name(obj), name->p);
}

static bool is(const jstr *s, const char *text) {
    return s->n == strlen(text) && memcmp(s->p, text, s->n) == 0;
}

/* Position of a loop; jinja2 looks ahead only when asked. */
static jv loop_field(jctx *c, jloop *loop, const jstr *name) {
    int64_t index = (int64_t)loop->index;
    if (is(name, "index")) return gr_j_int(index + 1);
    if (is(name, "index0")) return gr_j_int(index);
    if (is(name, "first")) return gr_j_bool(index == 0);
    if (is(name, "last")) return gr_j_bool(!gr_j_loop_fill(c, loop, loop->index + 2));
    if (is(name, "depth")) return gr_j_int(loop->depth);
    if (is(name, "depth0")) return gr_j_int(loop->depth - 1);
    if (is(name, "previtem"))
        return index ? loop->seq->items[index - 1] : gr_j_undefined(c, "there is no previous item");
    if (is(name, "nextitem"))
        return gr_j_loop_fill(c, loop, loop->index + 2) ? loop->seq->items[index + 1]
                                                        : gr_j_undefined(c, "there is no next item");
    bool length = is(name, "length");
    if (!length && !is(name, "revindex") && !is(name, "revindex0")) return (jv){.kind = J_MISSING};
    gr_j_loop_fill(c, loop, SIZE_MAX);
    int64_t n = (int64_t)loop->seq->n;
    return gr_j_int(length ? n : is(name, "revindex") ? n - index : n - index - 1);
}

static jv field(jctx *c, jv obj, const jstr *name) {
    if (obj.kind == J_LOOP) return loop_field(c, obj.loop, name);
    if (obj.kind == J_LIST && obj.l->flavor == JL_GROUP) {
        if (is(name, "grouper")) return obj.l->items[0];
        if (is(name, "list")) return obj.l->items[1];
    }
    if (obj.kind == J_MACRO && is(name, "name")) return gr_j_of(obj.macro->name);
    if (obj.kind == J_CYCLER && is(name, "current")) return obj.cycler->items->items[obj.cycler->pos];
    return (jv){.kind = J_MISSING};
}

/* What ImmutableSandboxedEnvironment keeps from templates. */
static bool mutates(jv obj, const jstr *name) {
    static const char *const list[] = {"append", "clear", "pop",    "reverse",
                                       "insert", "sort",  "extend", "remove"};
    static const char *const dict[] = {"clear", "pop", "popitem", "setdefault", "update"};
    if (obj.kind == J_LIST && obj.l->flavor == JL_LIST) {
        for (size_t i = 0; i < sizeof list / sizeof *list; i++)
            if (is(name, list[i])) return true;
    } else if (obj.kind == J_DICT) {
        for (size_t i = 0; i < sizeof dict / sizeof *dict; i++)
            if (is(name, dict[i])) return true;
    }
    return false;
}

/* Python's getattr: a field, a method, or J_MISSING. */
static jv python_attr(jctx *c, jv obj, const jstr *name) {
    if (obj.kind == J_FUNC && strcmp(obj.func->name, "self") == 0)
        gr_j_raise(c, GRAFT_UNSUPPORTED, "'self' is not supported in a chat template");
    jv v = field(c, obj, name);
    if (v.kind == J_MISSING) v = gr_j_method(c, obj, name);
    if (v.kind == J_MISSING && mutates(obj, name))
        return gr_j_undefined(c, "access to attribute '%s' of '%s' object is unsafe.", name->p,
                              gr_j_type_name(obj));
    return v;
}

jv gr_j_attr(jctx *c, jv obj, const jstr *name) {
    if (obj.kind == J_UNDEF) gr_j_use_undefined(c, obj);
    jv v = python_attr(c, obj, name);
    if (v.kind != J_MISSING) return v;
    jv *slot = obj.kind == J_DICT || obj.kind == J_NS ? gr_j_dict_text(c, obj.d, name->p, name->n) : NULL;
    return slot ? *slot : no_attribute(c, obj, name);
}

static bool is_tuple(const jlist *l) {
    return l->flavor == JL_TUPLE || l->flavor == JL_GROUP;
}

static bool is_indexed(jv v) {
    return v.kind == J_LIST && (v.l->flavor <= JL_RANGE || v.l->flavor == JL_GROUP);
}

static bool integral(jv v, int64_t *i) {
    if (v.kind != J_INT && v.kind != J_BOOL) return false;
    *i = v.kind == J_INT ? v.i : v.b;
    return true;
}

jv gr_j_item(jctx *c, jv obj, jv key) {
    if (obj.kind == J_UNDEF) gr_j_use_undefined(c, obj);
    int64_t i;
    if (obj.kind == J_DICT && key.kind != J_DICT && key.kind != J_LIST) {
        jv *slot = gr_j_dict_find(c, obj.d, key);
        if (slot) return *slot;
    } else if (is_indexed(obj) && integral(key, &i)) {
        int64_t n = (int64_t)obj.l->n;
        if (i < 0) i += n;
        if (i >= 0 && i < n) return obj.l->items[i];
    } else if (obj.kind == J_STR && integral(key, &i)) {
        gr_j_step(c, obj.s->n / 8);
        int64_t n = (int64_t)gr_j_points(obj.s);
        if (i < 0) i += n;
        if (i >= 0 && i < n) {
            size_t at = gr_j_offset(obj.s, (size_t)i);
            uint32_t cp;
            size_t used = gr_j_decode(obj.s->p + at, obj.s->p + obj.s->n, &cp);
            return gr_j_of(gr_j_sub(c, obj.s, at, at + used));
        }
    }
    if (key.kind == J_INT)
        return gr_j_undefined(c, "%s object has no element %" PRId64, gr_j_type_name(obj), key.i);
    if (key.kind != J_STR) return gr_j_undefined(c, "%s object has no such element", gr_j_type_name(obj));
    jv v = obj.kind == J_NS ? gr_j_attr(c, obj, key.s) : python_attr(c, obj, key.s);
    return v.kind != J_MISSING ? v : no_attribute(c, obj, key.s);
}

/* One bound of a slice, clipped to the sequence as Python clips it. */
static int64_t bound(jctx *c, jv v, int64_t missing, int64_t n, bool backwards) {
    int64_t i;
    if (v.kind == J_NONE || v.kind == J_MISSING) return missing;
    if (v.kind == J_UNDEF) gr_j_use_undefined(c, v);
    if (!integral(v, &i)) gr_j_error(c, "slice indices must be integers or None");
    if (i < 0) i = i < -n ? -1 : i + n;
    if (i < 0) return backwards ? -1 : 0;
    return i >= n ? (backwards ? n - 1 : n) : i;
}

jv gr_j_slice(jctx *c, jv obj, jv start, jv stop, jv step) {
    int64_t by = 1;
    if (obj.kind == J_UNDEF) gr_j_use_undefined(c, obj);
    if (obj.kind != J_STR && !is_indexed(obj))
        gr_j_error(c, "'%s' object has no slices", gr_j_type_name(obj));
    if (step.kind != J_NONE && step.kind != J_MISSING && !integral(step, &by))
        gr_j_error(c, "slice indices must be integers or None");
    if (by == 0) gr_j_error(c, "slice step cannot be zero");
    int64_t n = (int64_t)gr_j_length(c, obj);
    int64_t from = bound(c, start, by < 0 ? n - 1 : 0, n, by < 0),
            to = bound(c, stop, by < 0 ? -1 : n, n, by < 0);
    if (obj.kind == J_STR && by == 1)
        return from >= to ? gr_j_str(c, "")
                          : gr_j_of(gr_j_sub(c, obj.s, gr_j_offset(obj.s, (size_t)from),
                                             gr_j_offset(obj.s, (size_t)to)));
    const jlist *all = gr_j_iterate(c, obj);
    jlist *l = gr_j_new_list(c, obj.kind == J_LIST && is_tuple(obj.l) ? JL_TUPLE : JL_LIST, 0);
    jbuild text = {0};
    while (by > 0 ? from < to : from > to) {
        if (obj.kind == J_STR)
            gr_j_put_str(c, &text, all->items[from].s);
        else
            gr_j_push(c, l, all->items[from]);
        if (__builtin_add_overflow(from, by, &from)) break;
    }
    if (obj.kind == J_STR) return gr_j_of(gr_j_built(c, &text));
    if (obj.l->flavor == JL_RANGE) {
        l->flavor = JL_RANGE;
        l->step = obj.l->step * by;
        l->start = obj.l->start + bound(c, start, by < 0 ? n - 1 : 0, n, by < 0) * obj.l->step;
        l->stop = obj.l->start + to * obj.l->step;
    }
    return gr_j_from_list(l);
}
