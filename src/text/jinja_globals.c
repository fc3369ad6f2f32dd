/* Functions that every template sees. */
#include "text/jinja_parts.h"
#include <time.h>

static int64_t range_arg(jcall *k, size_t i) {
    jcall one = *k;
    one.arg[0] = k->raw->pos[i];
    return gr_j_arg_int(&one, 0, 0);
}

static jv g_range(jcall *k) {
    size_t n = k->raw->npos;
    if (n < 1 || n > 3 || k->raw->nkw) gr_j_error(k->c, "range expected 1 to 3 arguments, got %zu", n);
    int64_t start = n > 1 ? range_arg(k, 0) : 0, stop = range_arg(k, n > 1),
            step = n > 2 ? range_arg(k, 2) : 1;
    if (step == 0) gr_j_error(k->c, "range() arg 3 must not be zero");
    jlist *l = gr_j_new_list(k->c, JL_RANGE, 0);
    l->start = start;
    l->stop = stop;
    l->step = step;
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (l->n == GR_J_MAX_RANGE)
            gr_j_error(k->c, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                       GR_J_MAX_RANGE);
        gr_j_push(k->c, l, gr_j_int(i));
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    return gr_j_from_list(l);
}

static jdict *dict_of_args(jcall *k) {
    jdict *d = gr_j_new_dict(k->c);
    if (k->raw->npos > 1) gr_j_error(k->c, "dict expected at most 1 argument, got %zu", k->raw->npos);
    if (k->raw->npos && k->raw->pos[0].kind == J_DICT) {
        const jdict *from = k->raw->pos[0].d;
        for (size_t i = 0; i < from->n; i++) gr_j_dict_set(k->c, d, from->keys[i], from->vals[i]);
    } else if (k->raw->npos) {
        const jlist *pairs = gr_j_iterate(k->c, k->raw->pos[0]);
        for (size_t i = 0; i < pairs->n; i++) {
            const jlist *pair = gr_j_iterate(k->c, pairs->items[i]);
            if (pair->n != 2)
                gr_j_error(k->c, "dictionary update sequence element has length %zu; 2 is required", pair->n);
            gr_j_dict_set(k->c, d, pair->items[0], pair->items[1]);
        }
    }
    for (size_t i = 0; i < k->raw->nkw; i++) gr_j_dict_set(k->c, d, k->raw->names[i], k->raw->vals[i]);
    return d;
}
static jv g_dict(jcall *k) {
    return (jv){.kind = J_DICT, .d = dict_of_args(k)};
}

static jv g_namespace(jcall *k) {
    jdict *d = dict_of_args(k);
    for (size_t i = 0; i < d->n; i++)
        if (d->keys[i].kind == J_STR && d->keys[i].s->p[0] == '_')
            gr_j_error(k->c, "names that begin with an underscore cannot be stored on a namespace");
    return (jv){.kind = J_NS, .d = d};
}

static jv g_cycler(jcall *k) {
    jcycler *y = gr_j_alloc(k->c, 1, sizeof *y);
    if (!k->raw->npos) gr_j_error(k->c, "at least one item has to be provided");
    y->items = gr_j_new_list(k->c, JL_LIST, k->raw->npos);
    for (size_t i = 0; i < k->raw->npos; i++) gr_j_push(k->c, y->items, k->raw->pos[i]);
    return (jv){.kind = J_CYCLER, .cycler = y};
}

static jv g_joiner(jcall *k) {
    jjoiner *j = gr_j_alloc(k->c, 1, sizeof *j);
    jstr *sep = gr_j_alloc(k->c, 1, sizeof *sep);
    *sep = k->arg[0].kind == J_MISSING ? *gr_j_str(k->c, ", ").s : *gr_j_to_str(k->c, k->arg[0]);
    j->sep = sep;
    return (jv){.kind = J_JOINER, .joiner = j};
}

static jv g_raise_exception(jcall *k) {
    gr_j_error(k->c, "%s", gr_j_to_str(k->c, k->arg[0])->p);
}

static jv g_strftime_now(jcall *k) {
    const jstr *format = gr_j_arg_str(k, 0);
    time_t now = (time_t)k->c->now;
    struct tm tm;
    char text[1024];
    if (!localtime_r(&now, &tm)) gr_j_raise(k->c, GRAFT_RANGE, "strftime_now: the time is out of range");
    /* %f is Python's: the time comes in whole seconds */
    const jstr *plain = gr_j_replace(k->c, format, gr_j_str(k->c, "%f").s, gr_j_str(k->c, "000000").s, -1);
    if (plain->n > 200) gr_j_error(k->c, "strftime_now: the format is too long");
    size_t n = gr_format_time(text, sizeof text, plain->p, &tm);
    return gr_j_strn(k->c, text, n);
}

static jv g_refused(jcall *k) {
    gr_j_raise(k->c, GRAFT_UNSUPPORTED, "lipsum and self are not supported in a chat template");
}

const jrow gr_j_globals[] = {
    {"range", "*", 0, g_range, 0},
    {"dict", "*", 0, g_dict, 0},
    {"namespace", "*", 0, g_namespace, 0},
    {"cycler", "*", 0, g_cycler, 0},
    {"joiner", "sep", 0, g_joiner, 0},
    {"raise_exception", "message", 1, g_raise_exception, 0},
    {"strftime_now", "format", 1, g_strftime_now, 0},
    {"lipsum", "*", 0, g_refused, 0},
    {"self", "*", 0, g_refused, 0},
    {NULL, NULL, 0, NULL, 0},
};
