/* Oniguruma's Ruby syntax, in which tokenizer.json writes its patterns, rewritten for PCRE2. What differs:
 *   \s \w \d and \p{..}   other sets and a newer Unicode, so they are spelled out as classes
 *   \p{Han}               Script, not Script_Extensions
 *   (?m)                  the dot matches newlines, PCRE2's (?s)
 *   \uHHHH, \h, {,n}      unknown to PCRE2 or something else there
 * Constructs that would silently mean something else are refused. Source: Oniguruma doc/RE, pcre2pattern(3).
 */
#include "text/token_parts.h"
#include <ctype.h>

/* White_Space, and \w as Oniguruma has it. Both end in something that a following hyphen cannot extend to a
 * range. */
#define SPACE "\\x09-\\x0d\\x{85}\\p{Z}"
#define WORD  "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

typedef struct rewrite {
    const char *s;
    size_t n, i;
    gr_buf *out;
    graft_error *err;
} rewrite;

static graft_status refuse(rewrite *r, const char *what) {
    gr_fail(r->err, GRAFT_UNSUPPORTED, "a regular expression of the tokenizer uses %s", what);
    return gr_found(r->err, "%.200s", r->s);
}

static void word_extras(gr_buf *out) {
    static const char *const names[] = {"L", "M", "Nd", "Pc"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        gr_unicode_extra(names[i], strlen(names[i]), out);
}

/* A set: inside a class its members, outside a class of its own. */
static void put_set(rewrite *r, bool in_class, bool negated, const char *members, const char *extra_of) {
    if (!in_class) gr_buf_puts(r->out, negated ? "[^" : "[");
    gr_buf_puts(r->out, members);
    if (extra_of && !strcmp(extra_of, "w"))
        word_extras(r->out);
    else if (extra_of)
        gr_unicode_extra(extra_of, strlen(extra_of), r->out);
    if (!in_class) gr_buf_putc(r->out, ']');
}

/* \p{Name}, \p{^Name}, \P{Name}; i stands behind the letter. */
static graft_status property(rewrite *r, bool in_class, bool negated) {
    if (r->i >= r->n || r->s[r->i] != '{') return refuse(r, "a property without braces");
    size_t start = ++r->i;
    if (start < r->n && r->s[start] == '^') negated = !negated, start++;
    while (r->i < r->n && r->s[r->i] != '}') r->i++;
    if (r->i >= r->n || r->i <= start || r->i - start > 40) return refuse(r, "a property that does not end");
    const char *name = r->s + start;
    size_t len = r->i++ - start;
    for (size_t k = 0; k < len; k++)
        if (!isalnum((unsigned char)name[k]) && name[k] != '_' && name[k] != '&')
            return refuse(r, "an odd property");
    if (len == 5 && !strncasecmp(name, "Alpha", 5)) name = "Alphabetic", len = 10;
    bool alphabetic = len == 10 && !strncasecmp(name, "Alphabetic", 10);
    const char *scope = len <= 2 || alphabetic || (len == 3 && !strncasecmp(name, "Any", 3)) ? "" : "sc:";
    if (in_class && negated) { /* a class cannot leave the newer characters out of a complement */
        gr_buf_printf(r->out, "\\P{%s%.*s}", scope, (int)len, name);
        return GRAFT_OK;
    }
    if (!in_class) gr_buf_puts(r->out, negated ? "[^" : "[");
    gr_buf_printf(r->out, "\\p{%s%.*s}", scope, (int)len, name);
    gr_unicode_extra(alphabetic ? "L" : name, alphabetic ? 1 : len, r->out);
    if (!in_class) gr_buf_putc(r->out, ']');
    return GRAFT_OK;
}

/* \uHHHH; i stands behind the u. */
static graft_status code_point(rewrite *r) {
    if (r->i + 4 > r->n) return refuse(r, "a short \\u escape");
    for (int k = 0; k < 4; k++)
        if (!isxdigit((unsigned char)r->s[r->i + k])) return refuse(r, "a short \\u escape");
    gr_buf_printf(r->out, "\\x{%.4s}", r->s + r->i);
    r->i += 4;
    return GRAFT_OK;
}

/* i stands behind the backslash. */
static graft_status escape(rewrite *r, bool in_class) {
    if (r->i >= r->n) return refuse(r, "a backslash at its end");
    char c = r->s[r->i++];
    switch (c) {
    case 's': put_set(r, in_class, false, SPACE, NULL); break;
    case 'd': put_set(r, in_class, false, "\\p{Nd}", "Nd"); break;
    case 'w': put_set(r, in_class, false, WORD, "w"); break;
    case 'h': put_set(r, in_class, false, "0-9a-fA-F", NULL); break;
    case 'S':
        if (in_class)
            gr_buf_puts(r->out, "\\S\\x{180e}");
        else
            put_set(r, false, true, SPACE, NULL);
        break;
    case 'D':
        if (in_class)
            gr_buf_puts(r->out, "\\P{Nd}");
        else
            put_set(r, false, true, "\\p{Nd}", "Nd");
        break;
    case 'W':
        if (in_class) return refuse(r, "\\W in a class");
        put_set(r, false, true, WORD, "w");
        break;
    case 'p':
    case 'P': return property(r, in_class, c == 'P');
    case 'u': return code_point(r);
    case 'R':
    case 'X':
    case 'K':
    case 'N':
    case 'O':
    case 'H':
    case 'g':
    case 'k':
    case 'C':
    case 'Q':
    case 'E':
    case 'c':
    case 'M': return refuse(r, "an escape that is not known here");
    default: gr_buf_putc(r->out, '\\'); gr_buf_putc(r->out, c);
    }
    return GRAFT_OK;
}

/* A class; i stands behind the bracket. */
static graft_status class(rewrite *r) {
    gr_buf_putc(r->out, '[');
    if (r->i < r->n && r->s[r->i] == '^') gr_buf_putc(r->out, r->s[r->i++]);
    if (r->i < r->n && r->s[r->i] == ']') return refuse(r, "an empty class");
    while (r->i < r->n && r->s[r->i] != ']') {
        char c = r->s[r->i++];
        if (c == '\\') {
            GR_TRY(escape(r, true));
        } else if (c == '[') {
            return refuse(r, "a class within a class");
        } else if (c == '&' && r->i < r->n && r->s[r->i] == '&') {
            return refuse(r, "an intersection of classes");
        } else {
            gr_buf_putc(r->out, c);
        }
    }
    if (r->i >= r->n) return refuse(r, "a class that does not end");
    gr_buf_putc(r->out, r->s[r->i++]);
    return GRAFT_OK;
}

/* "(" and what follows a "?" up to the end of option letters; i stands behind the parenthesis. */
static graft_status group(rewrite *r) {
    gr_buf_putc(r->out, '(');
    if (r->i < r->n && r->s[r->i] == '*') return refuse(r, "a verb");
    if (r->i >= r->n || r->s[r->i] != '?') return GRAFT_OK;
    gr_buf_putc(r->out, r->s[r->i++]);
    while (r->i < r->n && strchr("imx-", r->s[r->i])) {
        gr_buf_putc(r->out, r->s[r->i] == 'm' ? 's' : r->s[r->i]);
        r->i++;
    }
    if (r->i < r->n && !strchr(":)=!<>#", r->s[r->i]))
        return refuse(r, "a kind of group that is not known here");
    return GRAFT_OK;
}

/* An interval; i stands behind the brace. Ruby's {,n} is {0,n}; its {n}+ is not possessive. */
static graft_status interval(rewrite *r) {
    size_t end = r->i;
    while (end < r->n && (isdigit((unsigned char)r->s[end]) || r->s[end] == ',')) end++;
    gr_buf_putc(r->out, '{');
    if (end == r->i || end >= r->n || r->s[end] != '}') return GRAFT_OK;
    if (r->s[r->i] == ',') gr_buf_putc(r->out, '0');
    gr_buf_add(r->out, r->s + r->i, end + 1 - r->i);
    r->i = end + 1;
    if (r->i < r->n && r->s[r->i] == '+') return refuse(r, "a plus after an interval");
    return GRAFT_OK;
}

graft_status gr_pattern_translate(const char *source, size_t len, gr_buf *out, graft_error *err) {
    rewrite r = {source, len, 0, out, err};
    while (r.i < r.n) {
        char c = r.s[r.i++];
        if (c == '\\')
            GR_TRY(escape(&r, false));
        else if (c == '[')
            GR_TRY(class(&r));
        else if (c == '(')
            GR_TRY(group(&r));
        else if (c == '{')
            GR_TRY(interval(&r));
        else
            gr_buf_putc(out, c);
    }
    return out->failed ? gr_no_memory(err, len) : GRAFT_OK;
}
