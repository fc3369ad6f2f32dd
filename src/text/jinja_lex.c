/* Template source to tokens: jinja2's lexer with trim_blocks and lstrip_blocks. */
#include "text/jinja_parts.h"
#include <errno.h>
#include <utf8proc.h>

typedef struct lexer {
    jctx *c;
    const char *p, *end, *begin;
    bool line_starting; /* the last token ended a line */
    jtoken *t;
    size_t n, cap;
} lexer;

static jtoken *push(lexer *x, jtok kind) {
    if (x->n == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 64;
        jtoken *t = gr_j_alloc(x->c, cap, sizeof *t);
        if (x->n) memcpy(t, x->t, x->n * sizeof *t);
        x->t = t;
        x->cap = cap;
    }
    jtoken *t = &x->t[x->n++];
    t->kind = kind;
    t->line = x->c->line;
    return t;
}

/* Moves to `to`, counting lines. */
static void advance(lexer *x, const char *to) {
    for (; x->p < to; x->p++) x->c->line += *x->p == '\n';
    if (to > x->begin) x->line_starting = to[-1] == '\n';
}

static bool at(const char *p, const char *end, const char *text) {
    size_t n = strlen(text);
    return (size_t)(end - p) >= n && memcmp(p, text, n) == 0;
}

static const char *skip_space(const char *p, const char *end) {
    uint32_t cp;
    while (p < end) {
        size_t used = gr_j_decode(p, end, &cp);
        if (!gr_j_space(cp)) break;
        p += used;
    }
    return p;
}

/* After the sign-and-close of a tag at p: "-" eats white space, "+" nothing, else trim_blocks eats a newline.
 */
static const char *after_close(const char *p, const char *end, char sign) {
    if (sign == '-') return skip_space(p, end);
    return sign == 0 && p < end && *p == '\n' ? p + 1 : p;
}

/* Is a close tag ("%}", "#}") with its optional sign at p? Where the text goes on, else NULL. */
static const char *closes(const char *p, const char *end, const char *tag) {
    char sign = p < end && (*p == '-' || *p == '+') ? *p : 0;
    if (sign) p++;
    return at(p, end, tag) ? after_close(p + 2, end, sign) : NULL;
}

/* The text before a tag, stripped as its sign and lstrip_blocks say. `tag` points at "{%" etc. */
static void push_text(lexer *x, const char *tag, bool is_variable) {
    jstr whole = {.p = x->p, .n = (size_t)(tag - x->p)};
    const jstr *text = &whole;
    char sign = tag + 2 < x->end && (tag[2] == '-' || tag[2] == '+') ? tag[2] : 0;
    if (sign == '-')
        text = gr_j_strip(x->c, text, NULL, false, true);
    else if (sign != '+' && !is_variable) {
        size_t line = whole.n;
        while (line > 0 && whole.p[line - 1] != '\n') line--;
        bool whole_line = line > 0 || x->line_starting;
        if (whole_line && skip_space(whole.p + line, tag) == tag) whole.n = line;
    }
    if (text->n) push(x, T_TEXT)->v = gr_j_strn(x->c, text->p, text->n);
    advance(x, tag);
}

static const char *find_tag(const char *p, const char *end) {
    for (; p + 1 < end; p++)
        if (*p == '{' && (p[1] == '%' || p[1] == '#' || p[1] == '{')) return p;
    return NULL;
}

static void comment(lexer *x) {
    const char *p = x->p + 2, *after = NULL;
    if (p < x->end && (*p == '-' || *p == '+')) p++;
    for (; p < x->end && !(after = closes(p, x->end, "#}")); p++) {
    }
    if (!after && x->p + 2 == x->end) after = x->end; /* jinja2 does not mind one that begins at the end */
    if (!after) gr_j_error(x->c, "Missing end of comment tag");
    advance(x, after);
}

/* "{%[-+] word [-+]%}" at p: where the text goes on, else NULL. */
static const char *word_tag(const char *p, const char *end, const char *word, bool is_end) {
    if (!at(p, end, "{%")) return NULL;
    p += 2;
    if (p < end && (*p == '-' || *p == '+')) p++;
    p = skip_space(p, end);
    if (!at(p, end, word)) return NULL;
    p = skip_space(p + strlen(word), end);
    if (is_end) return closes(p, end, "%}");
    if (at(p, end, "-%}")) return skip_space(p + 3, end);
    return at(p, end, "%}") ? p + 2 : NULL;
}

static bool raw_block(lexer *x) {
    const char *body = word_tag(x->p, x->end, "raw", false), *after = NULL, *p;
    if (!body) return false;
    advance(x, body);
    for (p = body; p < x->end && !(after = word_tag(p, x->end, "endraw", true)); p++) {
    }
    if (!after && body == x->end) return true; /* as for comments */
    if (!after) gr_j_error(x->c, "Missing end of raw directive");
    push_text(x, p, false);
    advance(x, after);
    return true;
}

static size_t digits(const char *p, const char *end, int base) {
    const char *q = p;
    for (; q < end; q++) {
        int d = *q >= '0' && *q <= '9'                 ? *q - '0'
                : (*q | 32) >= 'a' && (*q | 32) <= 'f' ? (*q | 32) - 'a' + 10
                                                       : 99;
        bool gap = *q == '_' && q > p && q + 1 < end && q[-1] != '_';
        if (d >= base && !gap) break;
    }
    while (q > p && q[-1] == '_') q--;
    return (size_t)(q - p);
}

/* The text without its underscores. */
static char *compact(jctx *c, const char *p, size_t n) {
    char *out = gr_j_alloc(c, n + 1, 1);
    for (size_t i = 0, k = 0; i < n; i++)
        if (p[i] != '_') out[k++] = p[i];
    return out;
}

static void integer(lexer *x, const char *p, size_t n, int base) {
    char *end;
    errno = 0;
    long long value = strtoll(compact(x->c, p, n), &end, base);
    if (errno) gr_j_raise(x->c, GRAFT_RANGE, "an integer does not fit 64 bits");
    push(x, T_INT)->v = gr_j_int(value);
    advance(x, p + n);
}

static void number(lexer *x) {
    const char *p = x->p, *end = x->end;
    if (*p == '0' && p + 2 < end) {
        char kind = (char)(p[1] | 32);
        int base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
        const char *start = p + 2 + (p[2] == '_');
        size_t n = base ? digits(start, end, base) : 0;
        if (n) {
            integer(x, start, n, base);
            return;
        }
    }
    size_t n = digits(p, end, 10), whole = n;
    bool after_dot = p > x->begin && p[-1] == '.';
    if (!after_dot && p + n + 1 < end && p[n] == '.' && digits(p + n + 1, end, 10))
        n += 1 + digits(p + n + 1, end, 10);
    if (!after_dot && p + n < end && (p[n] | 32) == 'e') {
        size_t sign = p + n + 1 < end && (p[n + 1] == '+' || p[n + 1] == '-');
        size_t exponent = digits(p + n + 1 + sign, end, 10);
        if (exponent) n += 1 + sign + exponent;
    }
    if (n == whole) {
        if (*p == '0') n = strspn(p, "0_"); /* 08 is 0 and then 8 */
        while (p[n - 1] == '_') n--;
        integer(x, p, n, 10);
        return;
    }
    push(x, T_FLOAT)->v = gr_j_float(gr_to_real(compact(x->c, p, n), NULL));
    advance(x, p + n);
}

static void string(lexer *x) {
    const char *p = x->p + 1;
    for (; p < x->end && *p != *x->p; p++)
        if (*p == '\\') p++;
    if (p >= x->end) gr_j_error(x->c, "unexpected char %c", *x->p);
    push(x, T_STRING)->v = gr_j_unescape(x->c, x->p + 1, (size_t)(p - x->p - 1));
    advance(x, p + 1);
}

static size_t name_length(const char *p, const char *end) {
    const char *q = p;
    uint32_t cp;
    while (q < end) {
        size_t used = gr_j_decode(q, end, &cp);
        bool ascii =
            cp < 0x80 && (cp == '_' || (cp >= '0' && cp <= '9') || ((cp | 32) >= 'a' && (cp | 32) <= 'z'));
        utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)cp);
        bool letter = cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_NL;
        if (!(ascii || (cp >= 0x80 && letter))) break;
        q += used;
    }
    return (size_t)(q - p);
}

static bool operator_token(lexer *x) {
    static const char *const ops[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                      "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (!at(x->p, x->end, ops[i])) continue;
        memcpy(push(x, T_OP)->op, ops[i], strlen(ops[i]) + 1);
        advance(x, x->p + strlen(ops[i]));
        return true;
    }
    return false;
}

/* Where the tag that is open ends: "-}}" eats white space, blocks also follow trim_blocks. */
static const char *tag_end(const lexer *x, bool block) {
    if (block) return closes(x->p, x->end, "%}");
    if (at(x->p, x->end, "-}}")) return skip_space(x->p + 3, x->end);
    return at(x->p, x->end, "}}") ? x->p + 2 : NULL;
}

/* Brackets that are open; jinja2 does not look for the end of a tag inside them. */
static void balance(lexer *x, char *stack, size_t *depth) {
    char op = x->t[x->n - 1].op[0];
    if (op == '(' || op == '[' || op == '{') {
        if (*depth == GR_J_MAX_DEPTH) gr_j_raise(x->c, GRAFT_RANGE, "too many open brackets");
        stack[(*depth)++] = (char)(op == '(' ? ')' : op == '[' ? ']' : '}');
    } else if (op == ')' || op == ']' || op == '}') {
        if (*depth == 0 || stack[--*depth] != op) gr_j_error(x->c, "unexpected '%c'", op);
    }
}

static void tag(lexer *x, bool block) {
    char stack[GR_J_MAX_DEPTH];
    size_t depth = 0;
    push(x, block ? T_BLOCK_BEGIN : T_VAR_BEGIN);
    advance(x, x->p + 2);
    if (x->p < x->end && (*x->p == '-' || *x->p == '+')) advance(x, x->p + 1);
    for (;;) {
        const char *after = depth ? NULL : tag_end(x, block), *space = skip_space(x->p, x->end);
        if (after) {
            push(x, block ? T_BLOCK_END : T_VAR_END);
            advance(x, after);
            return;
        }
        if (space > x->p) {
            advance(x, space);
            continue;
        }
        if (x->p >= x->end) gr_j_error(x->c, "unexpected end of template inside a tag");
        size_t name;
        if (*x->p >= '0' && *x->p <= '9')
            number(x);
        else if ((name = name_length(x->p, x->end)) != 0) {
            push(x, T_NAME)->v = gr_j_strn(x->c, x->p, name);
            advance(x, x->p + name);
        } else if (*x->p == '"' || *x->p == '\'')
            string(x);
        else if (operator_token(x))
            balance(x, stack, &depth);
        else
            gr_j_error(x->c, "unexpected char in a tag");
    }
}

/* Newlines become "\n" and one trailing newline goes, as in jinja2. */
static const jstr *normalized(jctx *c, const char *source, size_t len) {
    char *out = gr_j_alloc(c, len + 1, 1);
    jstr *s = gr_j_alloc(c, 1, sizeof *s);
    for (size_t i = 0; i < len; i++) {
        bool cr = source[i] == '\r';
        out[s->n++] = cr ? '\n' : source[i];
        if (cr && i + 1 < len && source[i + 1] == '\n') i++;
    }
    if (s->n && out[s->n - 1] == '\n') s->n--;
    s->p = out;
    return s;
}

jtoken *gr_j_lex(jctx *c, const char *source, size_t len, size_t *count) {
    const jstr *text = normalized(c, source, len);
    lexer x = {.c = c, .p = text->p, .begin = text->p, .end = text->p + text->n, .line_starting = true};
    c->line = 1;
    while (x.p < x.end) {
        const char *begin = find_tag(x.p, x.end);
        if (!begin) {
            push(&x, T_TEXT)->v = gr_j_strn(c, x.p, (size_t)(x.end - x.p));
            advance(&x, x.end);
            break;
        }
        push_text(&x, begin, begin[1] == '{');
        if (begin[1] == '#')
            comment(&x);
        else if (begin[1] == '{' || !raw_block(&x))
            tag(&x, begin[1] == '%');
    }
    push(&x, T_EOF);
    *count = x.n;
    return x.t;
}
