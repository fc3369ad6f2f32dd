/* Literal strings and regular expressions as the Split and Replace steps use them. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/token_parts.h"
#include <pcre2.h>

/* Steps and memory of one match: more than any real pattern needs on a megabyte, yet an end. They do not
 * bound the time: a repeat that looks at a megabyte from each of its letters is one step each time. So
 * expressions that are not known are compiled with callouts between all of their parts, and those count where
 * the matcher goes. The patterns of real models take up to 20 units for a byte of any text that was
 * tried. */
#define MATCH_STEPS   50000000u
#define MATCH_HEAP_KB 131072u
#define WORK_BASE                                                                                            \
    ((uint64_t)64 << 20) /* digits grouped from the right: quadratic, good for 5,000 of them                 \
                          */
#define WORK_PER_BYTE  256
#define PATTERN_LENGTH 16384 /* the longest known has 700 bytes */

struct gr_pattern {
    char *literal; /* NULL: regex */
    size_t len;
    pcre2_code *code;
    gr_pattern_at *fast; /* NULL: none */
};

void gr_match_spans_add(gr_match_spans *spans, size_t start, size_t end, bool is_match) {
    if (!gr_grow((void **)&spans->items, &spans->cap, spans->count, sizeof *spans->items)) {
        spans->failed = true;
        return;
    }
    spans->items[spans->count++] = (gr_match_span){start, end, is_match};
}

void gr_match_spans_free(gr_match_spans *spans) {
    free(spans->items);
    pcre2_match_data_free(spans->match_data);
    pcre2_match_context_free(spans->match_context);
    memset(spans, 0, sizeof *spans);
}

static graft_status compile(gr_pattern *p, const char *source, size_t len, const char *shown,
                            graft_error *err) {
    int code;
    PCRE2_SIZE at;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return gr_no_memory(err, len);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, 100);
    p->code = pcre2_compile((PCRE2_SPTR)source, len,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C |
                                (p->fast ? 0 : PCRE2_AUTO_CALLOUT),
                            &code, &at, context);
    pcre2_compile_context_free(context);
    if (p->code) return GRAFT_OK;
    if (code == PCRE2_ERROR_HEAP_FAILED) return gr_no_memory(err, len);
    PCRE2_UCHAR message[128] = {0};
    pcre2_get_error_message(code, message, sizeof message);
    gr_fail(err, GRAFT_UNSUPPORTED, "a regular expression of the tokenizer cannot be used: %s",
            (const char *)message);
    return gr_found(err, "%.200s", shown);
}

graft_status gr_pattern_regex(gr_pattern **pattern, const char *source, size_t len, graft_error *err) {
    gr_buf translated = {0};
    *pattern = NULL;
    if (len > PATTERN_LENGTH)
        return gr_fail(err, GRAFT_RANGE, "a regular expression of the tokenizer is longer than %d bytes",
                       PATTERN_LENGTH);
    gr_pattern *p = gr_calloc(1, sizeof *p);
    if (!p) return gr_no_memory(err, sizeof *p);
    graft_status st = gr_pattern_translate(source, len, &translated, err);
    if (!st && translated.failed) st = gr_no_memory(err, len);
    p->fast = gr_pattern_fast(source, len);
    if (!st) st = compile(p, translated.data ? translated.data : "", translated.len, source, err);
    gr_buf_free(&translated);
    if (st)
        gr_pattern_free(p);
    else
        *pattern = p;
    return st;
}

graft_status gr_pattern_from_json(gr_pattern **pattern, const json_t *node, graft_error *err) {
    *pattern = NULL;
    const json_t *regex = json_object_get(node, "Regex"), *literal = json_object_get(node, "String");
    if (json_is_string(regex))
        return gr_pattern_regex(pattern, json_string_value(regex), json_string_length(regex), err);
    if (!json_is_string(literal)) {
        gr_fail(err, GRAFT_CORRUPT, "a pattern of the tokenizer is neither text nor a regular expression");
        return gr_expected(err, "{\"String\": ...} or {\"Regex\": ...}");
    }
    if (!json_string_length(literal))
        return gr_fail(err, GRAFT_UNSUPPORTED, "an empty pattern in the tokenizer");
    gr_pattern *p = gr_calloc(1, sizeof *p);
    if (!p) return gr_no_memory(err, sizeof *p);
    p->len = json_string_length(literal);
    p->literal = gr_strndup(json_string_value(literal), p->len);
    if (!p->literal) {
        gr_pattern_free(p);
        return gr_no_memory(err, json_string_length(literal));
    }
    *pattern = p;
    return GRAFT_OK;
}

void gr_pattern_free(gr_pattern *pattern) {
    if (!pattern) return;
    free(pattern->literal);
    pcre2_code_free(pattern->code);
    free(pattern);
}

static void find_literal(const gr_pattern *p, const char *text, size_t len, gr_match_spans *spans) {
    size_t done = 0;
    while (done < len) {
        const char *hit = memmem(text + done, len - done, p->literal, p->len);
        if (!hit) break;
        size_t at = (size_t)(hit - text);
        if (at > done) gr_match_spans_add(spans, done, at, false);
        gr_match_spans_add(spans, at, at + p->len, true);
        done = at + p->len;
    }
    if (done < len) gr_match_spans_add(spans, done, len, false);
}

size_t gr_replaced_bytes(const gr_match_spans *spans, size_t len, size_t with) {
    size_t matched = 0, matches = 0, total;
    for (size_t i = 0; i < spans->count; i++)
        if (spans->items[i].is_match) matched += spans->items[i].end - spans->items[i].start, matches++;
    return gr_mul_size(matches, with, &total) && gr_add_size(total, len - matched, &total) ? total : SIZE_MAX;
}

/* Between two parts of the expression: the way since the last one counts. */
typedef struct worker {
    gr_match_spans *spans;
    size_t at;
} worker;

static int count_work(pcre2_callout_block *block, void *data) {
    worker *w = data;
    size_t at = block->current_position;
    w->spans->work += 1 + (at > w->at ? at - w->at : w->at - at);
    w->at = at;
    return w->spans->work > w->spans->allowed ? PCRE2_ERROR_MATCHLIMIT : 0;
}

/* Short texts need no more than their square: a token decoded alone, of which there are many. */
static uint64_t allowed_work(uint64_t bytes) {
    uint64_t square = bytes < 2048 ? 4096 + 16 * bytes * bytes : WORK_BASE;
    return WORK_PER_BYTE * bytes + (square < WORK_BASE ? square : WORK_BASE);
}

static bool prepare(gr_match_spans *spans) {
    if (spans->match_context && spans->match_data) return true;
    pcre2_match_data_free(spans->match_data);
    pcre2_match_context_free(spans->match_context);
    spans->match_data = pcre2_match_data_create(1, NULL);
    spans->match_context = pcre2_match_context_create(NULL);
    if (!spans->match_data || !spans->match_context) return false;
    pcre2_set_match_limit(spans->match_context, MATCH_STEPS);
    pcre2_set_heap_limit(spans->match_context, MATCH_HEAP_KB);
    return true;
}

static graft_status match_failed(int code, graft_error *err) {
    if (code == PCRE2_ERROR_NOMEMORY) return gr_no_memory(err, 0);
    PCRE2_UCHAR message[128] = {0};
    pcre2_get_error_message(code, message, sizeof message);
    gr_fail(err, GRAFT_RANGE, "a regular expression of the tokenizer needs too many steps: %s",
            (const char *)message);
    return gr_hint(err, "break the text into shorter rows");
}

graft_status gr_pattern_find(const gr_pattern *p, const char *text, size_t len, gr_match_spans *spans,
                             graft_error *err) {
    spans->count = 0;
    if (p->literal) {
        find_literal(p, text, len, spans);
        return spans->failed ? gr_no_memory(err, len) : GRAFT_OK;
    }
    if (!prepare(spans)) return gr_no_memory(err, sizeof(PCRE2_SIZE));
    worker work = {spans, 0};
    spans->bytes += len;
    spans->allowed = allowed_work(spans->bytes);
    pcre2_set_callout(spans->match_context, count_work, &work);
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(spans->match_data);
    size_t done = 0, from = 0;
    bool matched = false;
    while (from <= len && !spans->failed) {
        size_t end = p->fast && from == done && from < len ? p->fast(text, len, from) : 0;
        if (end) {
            gr_match_spans_add(spans, from, end, true);
            done = from = end;
            matched = true;
            continue;
        }
        int rc = pcre2_match(p->code, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK, spans->match_data,
                             spans->match_context);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc < 0) return match_failed(rc, err);
        if (at[0] > at[1] || at[0] < done) break; /* \K can move the start about; nothing sensible follows */
        if (at[0] == at[1]) { /* an empty match: not right after the last one, and step over a character */
            size_t step = at[1] + 1;
            while (step < len && ((uint8_t)text[step] & 0xc0) == 0x80) step++;
            from = step;
            if (matched && at[1] == done) continue;
        } else {
            from = at[1];
        }
        if (at[0] > done) gr_match_spans_add(spans, done, at[0], false);
        gr_match_spans_add(spans, at[0], at[1], true);
        done = at[1];
        matched = true;
    }
    if (done < len) gr_match_spans_add(spans, done, len, false);
    return spans->failed ? gr_no_memory(err, len) : GRAFT_OK;
}
