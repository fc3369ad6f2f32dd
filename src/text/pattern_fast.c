/* The word patterns that most models use, for ASCII text, without the interpreter of regular expressions.
 * Each function gives the end of the match at `at`, or 0 where a byte beyond ASCII could take part: the
 * regular expression decides there. Both patterns match at every place of any text. */
#include "text/token_parts.h"

enum { OTHER, LETTER, DIGIT, SPACE, BEYOND };

static int class_of(const char *s, size_t n, size_t at) {
    if (at >= n) return -1;
    uint8_t c = (uint8_t)s[at], lower = c | 0x20;
    if (c >= 0x80) return BEYOND;
    if (lower >= 'a' && lower <= 'z') return LETTER;
    if (c >= '0' && c <= '9') return DIGIT;
    return c == ' ' || (c >= 9 && c <= 13) ? SPACE : OTHER;
}

/* The end of the run of `class` that begins at `at`; 0 where it meets a byte beyond ASCII. */
static size_t run_end(const char *s, size_t n, size_t at, int class) {
    int next;
    while ((next = class_of(s, n, at)) == class) at++;
    return next == BEYOND ? 0 : at;
}

/* 's 't 're 've 'm 'll 'd at an apostrophe: their length with it, 0 none. */
static size_t contraction(const char *s, size_t n, size_t at, bool any_case) {
    char fold = any_case ? 0x20 : 0;
    char a = at + 1 < n ? (char)(s[at + 1] | fold) : '\0', b = at + 2 < n ? (char)(s[at + 2] | fold) : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ over the run of spaces at..end: all but the last where something follows. */
static size_t spaces(size_t n, size_t at, size_t end) {
    return end < n && end - at > 1 ? end - 1 : end;
}

static size_t gpt2(const char *s, size_t n, size_t at) {
    if (s[at] == '\'') {
        size_t len = contraction(s, n, at, false);
        if (len) return at + len;
    }
    size_t first = at + (s[at] == ' ' && at + 1 < n && class_of(s, n, at + 1) != SPACE);
    int class = class_of(s, n, first);
    if (class == BEYOND) return 0;
    size_t end = run_end(s, n, first, class);
    return class == SPACE && end ? spaces(n, at, end) : end;
}

/* \s*[\r\n]+ before the rest of what begins with a space. */
static size_t lines(const char *s, size_t n, size_t at, size_t end) {
    for (size_t i = end; i > at; i--)
        if (s[i - 1] == '\n' || s[i - 1] == '\r') return i;
    return spaces(n, at, end);
}

static size_t digits(const char *s, size_t n, size_t at, size_t most) {
    size_t end = at;
    while (end - at < most && class_of(s, n, end) == DIGIT) end++;
    return end - at < most && class_of(s, n, end) == BEYOND ? 0 : end;
}

static size_t llama3(const char *s, size_t n, size_t at, size_t most_digits) {
    int class = class_of(s, n, at), next = class_of(s, n, at + 1);
    if (class == BEYOND || next == BEYOND) return 0;
    if (s[at] == '\'') {
        size_t len = contraction(s, n, at, true);
        if (len) return at + len;
    }
    if (class == LETTER) return run_end(s, n, at, LETTER);
    if (class == DIGIT) return digits(s, n, at, most_digits);
    if (next == LETTER && s[at] != '\r' && s[at] != '\n') return run_end(s, n, at + 1, LETTER);
    size_t first = at + (s[at] == ' ' && next == OTHER);
    if (class_of(s, n, first) == OTHER) {
        size_t end = run_end(s, n, first, OTHER);
        while (end && end < n && (s[end] == '\r' || s[end] == '\n')) end++;
        return end;
    }
    size_t end = run_end(s, n, at, SPACE);
    return end ? lines(s, n, at, end) : 0;
}

static size_t llama3_three(const char *s, size_t n, size_t at) {
    return llama3(s, n, at, 3);
}

static size_t qwen2(const char *s, size_t n, size_t at) {
    return llama3(s, n, at, 1);
}

#define LLAMA3(number)                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number                                     \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

gr_pattern_at *gr_pattern_fast(const char *source, size_t len) {
    static const struct {
        const char *source;
        gr_pattern_at *at;
    } rows[] = {{GR_GPT2_PATTERN, gpt2}, {LLAMA3("\\p{N}{1,3}"), llama3_three}, {LLAMA3("\\p{N}"), qwen2}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strlen(rows[i].source) == len && memcmp(rows[i].source, source, len) == 0) return rows[i].at;
    return NULL;
}
