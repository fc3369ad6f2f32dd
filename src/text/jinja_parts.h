/* text/jinja_parts.h - what the files jinja_*.c share; nobody else includes it.
 * Errors leave through gr_j_raise, which jumps back to the public call: everything a template makes lives in
 * the context's heap (blocks freed together), so nothing leaks. Rows of filters, tests, methods and globals
 * are tables.
 */
#ifndef GR_TEXT_JINJA_PARTS_H
#define GR_TEXT_JINJA_PARTS_H
#include "base/number.h"
#include "text/jinja.h"
#include <setjmp.h>
#include <stdarg.h>

#define GR_J_MAX_DEPTH 600 /* nested expressions, statements, calls and values */
/* Nodes evaluated and elements touched: a chat of a megabyte takes some 60,000. A fuzzer has to try other
 * templates instead of waiting for one. */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#define GR_J_MAX_STEPS ((uint64_t)100000)
#else
#define GR_J_MAX_STEPS ((uint64_t)10000000)
#endif
#define GR_J_MAX_HEAP  ((size_t)192 << 20) /* bytes a rendering may allocate in all: a chat of 9 MB */
#define GR_J_MAX_RANGE 100000              /* jinja2's sandbox allows as much */

typedef enum jkind {
    J_MISSING, /* an argument that was not given */
    J_UNDEF,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STR,
    J_LIST,
    J_DICT,
    J_NS,
    J_LOOP,
    J_MACRO,
    J_FUNC,
    J_METHOD,
    J_CYCLER,
    J_JOINER
} jkind;

/* How a list prints, compares and iterates. */
typedef enum jflavor { JL_LIST, JL_TUPLE, JL_RANGE, JL_GEN, JL_KEYS, JL_VALUES, JL_ITEMS, JL_GROUP } jflavor;

/* Marks, one byte for each byte of a string: where it came from. */
#define GR_J_DATA                                                                                            \
    127 /* these bits: a string nested in a variable, by the values of gr_jinja_result.from_data */
#define GR_J_GENERATED 128 /* a generation block */

typedef struct jstr {
    const char *p; /* valid UTF-8, NUL-terminated */
    size_t n;
    const uint8_t *marks; /* n bytes, or NULL: none */
    bool safe;            /* markupsafe's Markup */
} jstr;

typedef struct jv jv;
typedef struct jlist {
    jv *items;
    size_t n, cap;
    jflavor flavor;
    size_t cursor;             /* JL_GEN: consumed so far */
    int64_t start, stop, step; /* JL_RANGE */
} jlist;
typedef struct jdict {
    jv *keys, *vals;
    size_t n, cap;
} jdict;

typedef struct jnode jnode;
typedef struct jscope {
    struct jscope *parent;
    jdict vars;
} jscope;
typedef struct jloop {
    const jnode *node;
    jlist *source; /* what is looped over */
    size_t taken;  /* of source */
    jlist *seq;    /* what passed the loop's filter so far: jinja2 filters lazily, namespaces may change
                      meanwhile */
    jscope *scope; /* around the loop */
    size_t index;
    int depth;
    jlist *changed; /* last arguments of loop.changed; NULL before */
} jloop;
typedef struct jmacro {
    const jnode *node;
    jscope *scope;
    const jstr *name;
} jmacro;
typedef struct jrow jrow;
typedef struct jmethod {
    const jrow *row;
    jv *self;
} jmethod;
typedef struct jcycler {
    jlist *items;
    size_t pos;
} jcycler;
typedef struct jjoiner {
    jstr *sep;
    bool used;
} jjoiner;
typedef struct jundef {
    const char *why; /* message of the error that using it raises */
} jundef;

struct jv {
    jkind kind;
    union {
        bool b;
        int64_t i;
        double f;
        const jstr *s;
        jlist *l;
        jdict *d; /* J_DICT, J_NS */
        jloop *loop;
        jmacro *macro;
        const jrow *func;
        jmethod *method;
        jcycler *cycler;
        jjoiner *joiner;
        jundef *undef;
    };
};

/* ---- the tree */
typedef enum jop {
    N_CONST,
    N_NAME,
    N_LIST,
    N_TUPLE,
    N_DICT,     /* kids: key, value, key, value .. */
    N_ATTR,     /* x.s */
    N_ITEM,     /* x[y] */
    N_SLICE,    /* as y of N_ITEM: kids[0..2], NULL where left out */
    N_CALL,     /* x(kids) */
    N_FILTER,   /* x|s(kids); x NULL: the block's text */
    N_TEST,     /* x is s(kids) */
    N_KWARG,    /* argument s = x */
    N_STAR,     /* argument *x */
    N_STARSTAR, /* argument **x */
    N_NOT,
    N_NEG,
    N_POS,
    N_AND,
    N_OR,
    N_BINARY,  /* op: + - * / %, 'f' is //, 'p' is ** */
    N_CONCAT,  /* kids joined by ~ */
    N_COMPARE, /* x, then kids N_OPERAND */
    N_OPERAND, /* op x; op: = ! < > l(<=) g(>=) i(in) n(not in) */
    N_COND,    /* x if y else z (z may be NULL) */
    N_NSREF,   /* target s.t */
    /* statements */
    N_BODY,
    N_TEXT,
    N_PRINT,
    N_IF,          /* x, y then, z else (or NULL) */
    N_FOR,         /* target x in y, filter z (or NULL), kids: body, else (or NULL); op 1: recursive */
    N_SET,         /* target x = y */
    N_SETBLOCK,    /* target x, filter y (or NULL), body z */
    N_MACRO,       /* s, kids: parameters N_KWARG (x default or NULL), y body; op: the GR_J_USES bits */
    N_CALLBLOCK,   /* x the call, y N_MACRO of the caller */
    N_FILTERBLOCK, /* x filter, y body */
    N_WITH,        /* kids: target, value, ..; y body */
    N_GENERATION,  /* y body */
    N_BLOCK,       /* s, y body; op: s scoped, r required */
    N_BREAK,
    N_CONTINUE
} jop;

/* Which special names a macro's body mentions: it then takes such arguments. */
#define GR_J_USES_VARARGS 1
#define GR_J_USES_KWARGS  2
#define GR_J_USES_CALLER  4

struct jnode {
    jop kind;
    int line;
    char op;
    jv v;
    const jstr *s, *t;
    jnode *x, *y, *z;
    jnode **kids;
    size_t nkids, cap;
};

/* ---- context of a parse or a rendering */
typedef struct jblock jblock;
typedef struct jbuild {
    char *p;
    uint8_t *marks;
    size_t n, cap;
} jbuild;
typedef struct jctx {
    jblock *blocks;
    size_t heap;
    jmp_buf fail;
    graft_error *err;
    graft_status status;
    int line; /* of the template, for errors */
    int depth;
    uint64_t steps;
    jscope *scope;
    jdict *globals;
    jbuild *out;
    jv block_text; /* what the filters of a block start from */
    int64_t now;
} jctx;

struct gr_jinja {
    jblock *blocks;
    jnode *body;
    bool has_generation;
};

/* ---- jinja_heap.c */
/* Zeroed bytes that live as long as the context; raises when there are too many. */
void *gr_j_alloc(jctx *c, size_t count, size_t size);
void gr_j_free_blocks(jblock *blocks);
/* Leaves with an error; `line` of the context is where. Never returns. */
_Noreturn void gr_j_raise(jctx *c, graft_status status, const char *fmt, ...) GR_PRINTF(3, 4);
/* What Python raises inside a template: GRAFT_CORRUPT. */
#define gr_j_error(c, ...) gr_j_raise(c, GRAFT_CORRUPT, __VA_ARGS__)
/* Counts work; raises GRAFT_RANGE beyond the limit. */
void gr_j_step(jctx *c, size_t n);
void gr_j_enter(jctx *c); /* depth + 1 */
static inline void gr_j_leave(jctx *c) {
    c->depth--;
}
/* Text as it grows, with its marks. */
void gr_j_put(jctx *c, jbuild *b, const char *p, size_t n, const uint8_t *marks);
void gr_j_put_mark(jctx *c, jbuild *b, const char *p, size_t n, uint8_t mark);
void gr_j_puts(jctx *c, jbuild *b, const char *s);
void gr_j_put_str(jctx *c, jbuild *b, const jstr *s);
const jstr *gr_j_built(jctx *c, jbuild *b);
char *gr_j_format(jctx *c, const char *fmt, ...) GR_PRINTF(2, 3);

/* ---- jinja_value.c */
jstr *gr_j_new_str(jctx *c, const char *p, size_t n);
jv gr_j_str(jctx *c, const char *s);
jv gr_j_strn(jctx *c, const char *p, size_t n);
static inline jv gr_j_of(const jstr *s) {
    return (jv){.kind = J_STR, .s = s};
}
static inline jv gr_j_int(int64_t i) {
    return (jv){.kind = J_INT, .i = i};
}
static inline jv gr_j_bool(bool b) {
    return (jv){.kind = J_BOOL, .b = b};
}
static inline jv gr_j_float(double f) {
    return (jv){.kind = J_FLOAT, .f = f};
}
#define GR_J_MISSING ((jv){.kind = J_MISSING})
static inline jv gr_j_none(void) {
    return (jv){.kind = J_NONE};
}
static inline jv gr_j_from_list(jlist *l) {
    return (jv){.kind = J_LIST, .l = l};
}
jv gr_j_undefined(jctx *c, const char *fmt, ...) GR_PRINTF(2, 3);
jlist *gr_j_new_list(jctx *c, jflavor flavor, size_t cap);
void gr_j_push(jctx *c, jlist *l, jv v);
jlist *gr_j_pair(jctx *c, jv a, jv b); /* a tuple */
jdict *gr_j_new_dict(jctx *c);
jv *gr_j_dict_find(jctx *c, const jdict *d, jv key); /* NULL: absent; raises for a key that has no hash */
jv *gr_j_dict_text(jctx *c, const jdict *d, const char *p, size_t n); /* by a name */
void gr_j_dict_set(jctx *c, jdict *d, jv key, jv value);
jv gr_j_from_json(jctx *c, const json_t *json, uint8_t mark);
bool gr_j_true(const jctx *c, jv v);
bool gr_j_equal(jctx *c, jv a, jv b);
int gr_j_compare(jctx *c, jv a, jv b, const char *op); /* <0, 0, >0, 2: a NaN; raises where Python does */
const char *gr_j_type_name(jv v);
bool gr_j_is_number(jv v); /* bool, int, float */
double gr_j_to_double(jv v);
_Noreturn void gr_j_use_undefined(jctx *c, jv v); /* the error of using it */
/* Elements in order: a list of the same items (generators are used up). Raises for what cannot be iterated.
 */
jlist *gr_j_iterate(jctx *c, jv v);
size_t gr_j_length(jctx *c, jv v);
bool gr_j_contains(jctx *c, jv item, jv in);

/* ---- jinja_print.c */
void gr_j_print(jctx *c, jbuild *b, jv v); /* str() */
void gr_j_repr(jctx *c, jbuild *b, jv v);
const jstr *gr_j_to_str(jctx *c, jv v); /* str() as a string */
void gr_j_float_repr(double f, char out[40]);
bool gr_j_printable(uint32_t cp); /* str.isprintable */
/* ---- jinja_json.c */
jv gr_j_tojson(jctx *c, jv v, bool ascii, jv indent, jv separators, bool sort_keys);

/* ---- jinja_unicode.c: code points of valid UTF-8 */
size_t gr_j_decode(const char *p, const char *end, uint32_t *cp); /* bytes used; p < end */
size_t gr_j_encode_cp(uint32_t cp, char out[4]);
size_t gr_j_points(const jstr *s);
size_t gr_j_offset(const jstr *s, size_t points);                     /* byte offset of a code point */
bool gr_j_space(uint32_t cp);                                         /* str.isspace */
const jstr *gr_j_sub(jctx *c, const jstr *s, size_t from, size_t to); /* bytes */
const jstr *gr_j_strip(jctx *c, const jstr *s, const jstr *chars, bool left,
                       bool right); /* chars NULL: space */
typedef enum jcase { JC_LOWER, JC_UPPER, JC_CAPITAL, JC_TITLE, JC_SWAP, JC_FOLD } jcase;
const jstr *gr_j_recase(jctx *c, const jstr *s, jcase how);
uint32_t gr_j_cp_upper(uint32_t cp);
uint32_t gr_j_cp_lower(uint32_t cp);
/* Offset of `needle` in s at or after byte `from`, or SIZE_MAX. */
size_t gr_j_find(jctx *c, const jstr *s, const jstr *needle, size_t from);
const jstr *gr_j_replace(jctx *c, const jstr *s, const jstr *old, const jstr *with, int64_t max);
bool gr_j_is_alnum(uint32_t cp);
jlist *gr_j_split_lines(jctx *c, const jstr *s, bool keep); /* str.splitlines */
bool gr_j_same(jctx *c, const jstr *a, const jstr *b);
int gr_j_str_order(const jstr *a, const jstr *b);

/* ---- jinja_lex.c */
typedef enum jtok {
    T_TEXT,
    T_VAR_BEGIN,
    T_VAR_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_OP,
    T_EOF
} jtok;
typedef struct jtoken {
    jtok kind;
    int line;
    char op[3];
    jv v; /* text, name, string or number */
} jtoken;
/* All tokens, the last one T_EOF. */
jtoken *gr_j_lex(jctx *c, const char *source, size_t len, size_t *count);
/* ---- jinja_strings.c */
jv gr_j_unescape(jctx *c, const char *p, size_t n);

/* ---- jinja_parse.c, jinja_parse_expr.c */
typedef struct jparser {
    jctx *c;
    jtoken *t;
    size_t pos, count;
    int loops; /* enclosing loops of this function body */
    bool generation;
    jdict blocks; /* names of those so far */
} jparser;
jnode *gr_j_parse(jparser *p);
jnode *gr_j_node(jparser *p, jop kind);
void gr_j_kid(jparser *p, jnode *parent, jnode *kid);
jnode *gr_j_expression(jparser *p, bool with_condition);
jnode *gr_j_tuple(jparser *p, bool with_condition, bool stop_at_in);
jnode *gr_j_target(jparser *p, bool with_namespace);
jnode *gr_j_postfix_call(jparser *p, jnode *callee);
jnode *gr_j_filter_chain(jparser *p, jnode *x, bool start_inline);
static inline jtoken *gr_j_now(jparser *p) {
    return &p->t[p->pos];
}
bool gr_j_is_op(jparser *p, const char *op);
bool gr_j_is_name(jparser *p, const char *name);
bool gr_j_skip_op(jparser *p, const char *op);
bool gr_j_skip_name(jparser *p, const char *name);
void gr_j_expect_op(jparser *p, const char *op);
const jstr *gr_j_expect_name(jparser *p);
_Noreturn void gr_j_unexpected(jparser *p, const char *wanted);

/* ---- jinja_eval.c, jinja_operators.c, jinja_exec.c, jinja_call.c */
typedef struct jargs {
    jv *pos;
    size_t npos;
    jv *names, *vals; /* keyword arguments */
    size_t nkw;
} jargs;
jv gr_j_eval(jctx *c, const jnode *n);
jv gr_j_binary(jctx *c, char op, jv a, jv b);
jv gr_j_attr(jctx *c, jv obj, const jstr *name);
jv gr_j_item(jctx *c, jv obj, jv key);
jv gr_j_slice(jctx *c, jv obj, jv start, jv stop, jv step);
/* Filters until `count` items passed or the source is used up: is there an item count - 1? */
bool gr_j_loop_fill(jctx *c, jloop *loop, size_t count);
jv gr_j_recurse(jctx *c, const jloop *loop, const jargs *args); /* loop(x) of a recursive loop */
jv gr_j_lookup(jctx *c, const jstr *name);
void gr_j_assign(jctx *c, const jnode *target, jv value);
jscope *gr_j_push_scope(jctx *c);
void gr_j_exec(jctx *c, const jnode *body);
const jstr *gr_j_run_body(jctx *c, const jnode *body); /* its text; scope and loops are the caller's matter */
jv gr_j_call_macro(jctx *c, const jmacro *macro, const jargs *args);
jargs gr_j_args(jctx *c, const jnode *call);
jv gr_j_call(jctx *c, jv callee, jargs args);
jv gr_j_call_filter(jctx *c, const jstr *name, jv in, jargs args);
bool gr_j_call_test(jctx *c, const jstr *name, jv in, jargs args);
jv gr_j_method(jctx *c, jv obj, const jstr *name); /* J_MISSING: no such method */
jv gr_j_format_percent(jctx *c, const jstr *fmt, jv args);
jv gr_j_format_braces(jctx *c, const jstr *fmt, const jargs *args);

/* ---- tables */
#define GR_J_MAX_ARGS 8
typedef struct jcall {
    jctx *c;
    jv self;               /* what is filtered, tested or whose method it is */
    jv arg[GR_J_MAX_ARGS]; /* by the row's parameters; J_MISSING where not given */
    const jargs *raw;
} jcall;
struct jrow {
    const char *name;
    const char
        *params; /* names in order, "a b"; the first `required` must be given; "*": the function reads raw */
    int required;
    jv (*fn)(jcall *k);
    jkind of; /* methods: kind of self */
};
/* Binds args to the row's parameters and calls. `what` names it in errors. */
jv gr_j_run(jctx *c, const jrow *row, jv self, const jargs *args);
/* Tables end with a row whose name is NULL. */
const jrow *gr_j_find_row(const jrow *rows, const char *p, size_t n);
extern const jrow gr_j_text_filters[], gr_j_list_filters[], gr_j_pick_filters[], gr_j_number_filters[],
    gr_j_tests[], gr_j_globals[], gr_j_str_methods[], gr_j_str_searches[], gr_j_object_methods[];
/* Arguments of a call, with what stands for a missing one. */
int64_t gr_j_arg_int(jcall *k, int i, int64_t missing);
const jstr *gr_j_arg_str(jcall *k, int i);
const jstr *gr_j_self_str(jcall *k); /* str() of self */
bool gr_j_arg_true(jcall *k, int i, bool missing);
/* jinja2's attribute paths: "a.b.0" or an integer. What a part of it does not find is `missing`, where that
 * is given and not none. */
jv gr_j_path(jctx *c, jv v, jv path, jv missing);
/* Stable sort of items by keys; `fold` compares strings without case. */
void gr_j_sort(jctx *c, jv *items, jv *keys, size_t n, bool reverse);
jv gr_j_fold(jctx *c, jv v); /* lower case of a string, else itself */

#endif
