/* Pre-tokenizers: the steps that cut a normalized text into the pieces that BPE sees. */
#include "text/token_parts.h"

typedef enum step_kind { BYTE_LEVEL, SPLIT, METASPACE } step_kind;
typedef enum behavior { REMOVED, ISOLATED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS } behavior;
typedef enum scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } scheme;

typedef struct step {
    step_kind kind;
    gr_pattern *pattern;         /* Split: a pattern or, */
    bool (*is_match)(int32_t c); /* when that is NULL, single characters */
    behavior behavior;
    bool invert;
    bool add_prefix_space; /* ByteLevel */
    bool split;            /* ByteLevel with regex (its pattern is `pattern`), Metaspace */
    char replacement[8];   /* Metaspace */
    scheme scheme;
} step;
struct gr_pretokenizer {
    step *steps;
    size_t count, cap;
};

/* \w of the Whitespace step, which is not Oniguruma's. */
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}"

/* ---- bytes as visible characters: printable Latin-1 stands for itself, the rest for U+0100 and on, in order
 */
static bool byte_is_visible(int b) {
    return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

int32_t gr_byte_to_char(uint8_t byte) {
    if (byte_is_visible(byte)) return byte;
    if (byte <= ' ') return 0x100 + byte;
    return byte == 0xad ? 0x143 : 0x121 + (byte - 0x7f);
}

int gr_char_to_byte(int32_t code) {
    if (code < 0x100) return code >= 0 && byte_is_visible(code) ? code : -1;
    if (code <= 0x120) return code - 0x100;
    if (code <= 0x142) return code - 0x121 + 0x7f;
    return code == 0x143 ? 0xad : -1;
}

/* ---- reading */
static graft_status add_step(gr_pretokenizer *pre, step **out, step_kind kind, graft_error *err) {
    GR_TRY(gr_steps_check(pre->count, "pre-tokenizer", err));
    if (!gr_grow((void **)&pre->steps, &pre->cap, pre->count, sizeof *pre->steps))
        return gr_no_memory(err, sizeof(step));
    *out = &pre->steps[pre->count++];
    **out = (step){.kind = kind};
    return GRAFT_OK;
}

static graft_status read_behavior(step *s, const json_t *node, behavior fallback, graft_error *err) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
    const char *name;
    s->behavior = fallback;
    GR_TRY(gr_member_string(node, "behavior", &name, NULL, err));
    if (!name) return GRAFT_OK;
    for (int i = 0; i < 5; i++) {
        if (strcmp(name, names[i])) continue;
        s->behavior = (behavior)i;
        return GRAFT_OK;
    }
    gr_fail(err, GRAFT_UNSUPPORTED, "the tokenizer's split behavior \"%.60s\" is not known", name);
    return gr_expected(err, "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

static graft_status read_byte_level(step *s, const json_t *node, graft_error *err) {
    GR_TRY(gr_member_bool(node, "add_prefix_space", true, &s->add_prefix_space, err));
    GR_TRY(gr_member_bool(node, "use_regex", true, &s->split, err));
    s->behavior = ISOLATED;
    return s->split ? gr_pattern_regex(&s->pattern, GR_GPT2_PATTERN, strlen(GR_GPT2_PATTERN), err) : GRAFT_OK;
}

static graft_status read_metaspace(step *s, const json_t *node, graft_error *err) {
    const char *name, *replacement;
    size_t len;
    bool prefix;
    int32_t code;
    GR_TRY(gr_member_string(node, "replacement", &replacement, &len, err));
    if (!replacement || !len || gr_utf8_get(replacement, len, &code) != (int)len || len > 4)
        return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's Metaspace replacement is not one character");
    memcpy(s->replacement, replacement, len);
    GR_TRY(gr_member_bool(node, "split", true, &s->split, err));
    GR_TRY(gr_member_bool(node, "add_prefix_space", true, &prefix, err));
    GR_TRY(gr_member_string(node, "prepend_scheme", &name, NULL, err));
    if (!name)
        s->scheme = prefix ? PREPEND_ALWAYS : PREPEND_NEVER;
    else if (!strcmp(name, "always"))
        s->scheme = PREPEND_ALWAYS;
    else if (!strcmp(name, "first"))
        s->scheme = PREPEND_FIRST;
    else if (!strcmp(name, "never"))
        s->scheme = PREPEND_NEVER;
    else
        return gr_fail(err, GRAFT_UNSUPPORTED, "the tokenizer's prepend_scheme \"%.60s\" is not known", name);
    return GRAFT_OK;
}

static graft_status read_regex(step *s, const char *source, behavior b, bool invert, graft_error *err) {
    s->behavior = b;
    s->invert = invert;
    return gr_pattern_regex(&s->pattern, source, strlen(source), err);
}

static graft_status read_digits(step *s, const json_t *node, graft_error *err) {
    bool individual;
    s->is_match = gr_char_is_number;
    GR_TRY(gr_member_bool(node, "individual_digits", false, &individual, err));
    s->behavior = individual ? ISOLATED : CONTIGUOUS;
    return GRAFT_OK;
}

static graft_status add_steps(gr_pretokenizer *pre, const json_t *node, graft_error *err) {
    const char *type;
    step *s = NULL;
    GR_TRY(gr_member_string(node, "type", &type, NULL, err));
    if (!type) return gr_fail(err, GRAFT_CORRUPT, "a pre-tokenizer of the tokenizer has no type");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(node, "pretokenizers"), *item;
        size_t i;
        if (!json_is_array(list))
            return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's pretokenizers are not a list");
        json_array_foreach(list, i, item) GR_TRY(add_steps(pre, item, err));
        return GRAFT_OK;
    }
    GR_TRY(add_step(pre, &s, SPLIT, err));
    if (!strcmp(type, "ByteLevel")) {
        s->kind = BYTE_LEVEL;
        return read_byte_level(s, node, err);
    }
    if (!strcmp(type, "Metaspace")) {
        s->kind = METASPACE;
        return read_metaspace(s, node, err);
    }
    if (!strcmp(type, "Split")) {
        GR_TRY(gr_pattern_from_json(&s->pattern, json_object_get(node, "pattern"), err));
        GR_TRY(gr_member_bool(node, "invert", false, &s->invert, err));
        return read_behavior(s, node, ISOLATED, err);
    }
    if (!strcmp(type, "Digits")) return read_digits(s, node, err);
    if (!strcmp(type, "Punctuation")) {
        s->is_match = gr_char_is_punct;
        return read_behavior(s, node, ISOLATED, err);
    }
    if (!strcmp(type, "Whitespace")) return read_regex(s, "[" WORD "]+|[^" WORD "\\s]+", REMOVED, true, err);
    if (!strcmp(type, "WhitespaceSplit")) {
        s->is_match = gr_char_is_space;
        s->behavior = REMOVED;
        return GRAFT_OK;
    }
    gr_fail(err, GRAFT_UNSUPPORTED, "the tokenizer's pre-tokenizer \"%.60s\" is not supported", type);
    return gr_expected(
        err, "ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, Metaspace, Sequence");
}

graft_status gr_pretokenizer_from_json(gr_pretokenizer **pre, const json_t *node, graft_error *err) {
    *pre = NULL;
    if (!node || json_is_null(node)) return GRAFT_OK;
    gr_pretokenizer *p = gr_calloc(1, sizeof *p);
    if (!p) return gr_no_memory(err, sizeof *p);
    graft_status st = add_steps(p, node, err);
    if (st)
        gr_pretokenizer_free(p);
    else
        *pre = p;
    return st;
}

void gr_pretokenizer_free(gr_pretokenizer *pre) {
    if (!pre) return;
    for (size_t i = 0; i < pre->count; i++) gr_pattern_free(pre->steps[i].pattern);
    free(pre->steps);
    free(pre);
}

/* ---- cutting */
static graft_status find(const step *s, const char *text, size_t n, gr_match_spans *spans, graft_error *err) {
    if (s->pattern) return gr_pattern_find(s->pattern, text, n, spans, err);
    size_t done = 0;
    spans->count = 0;
    for (size_t i = 0, len; i < n; i += len) {
        int32_t c;
        len = (size_t)gr_utf8_get(text + i, n - i, &c);
        if (!s->is_match(c)) continue;
        if (i > done) gr_match_spans_add(spans, done, i, false);
        gr_match_spans_add(spans, i, i + len, true);
        done = i + len;
    }
    if (done < n) gr_match_spans_add(spans, done, n, false);
    return spans->failed ? gr_no_memory(err, n) : GRAFT_OK;
}

/* Joins or drops neighbouring spans as the behavior says; the survivors move to the front (to the back for
 * MERGED_WITH_NEXT, which reads backwards). Returns the index of the first survivor. */
static size_t join(behavior b, gr_match_spans *spans, size_t *survivors) {
    gr_match_span *items = spans->items;
    size_t n = spans->count, kept = 0;
    bool previous = false; /* was the last span a match? */
    if (b == MERGED_WITH_NEXT) {
        size_t first = n;
        for (size_t i = n; i-- > 0;) {
            bool match = items[i].is_match;
            if (match && !previous && first < n)
                items[first].start = items[i].start;
            else
                items[--first] = items[i];
            previous = match;
        }
        *survivors = n - first;
        return first;
    }
    for (size_t i = 0; i < n; i++) {
        bool match = items[i].is_match, merge = false;
        if (b == REMOVED && match) continue;
        if (b == MERGED_WITH_PREVIOUS) merge = match && !previous && kept;
        if (b == CONTIGUOUS) merge = match == previous && kept;
        if (merge)
            items[kept - 1].end = items[i].end;
        else
            items[kept++] = items[i];
        previous = match;
    }
    *survivors = kept;
    return 0;
}

/* Cuts bytes start..end of out->text, which are there already, and appends the pieces. */
static graft_status cut(const step *s, gr_pieces *out, const gr_ntext *text, size_t start, size_t end,
                        gr_match_spans *spans, graft_error *err) {
    if (start >= end) return GRAFT_OK;
    GR_TRY(find(s, text->data + start, end - start, spans, err));
    if (s->invert)
        for (size_t i = 0; i < spans->count; i++) spans->items[i].is_match = !spans->items[i].is_match;
    size_t count, first = join(s->behavior, spans, &count);
    for (size_t i = first; i < first + count; i++)
        gr_pieces_add(out, start + spans->items[i].start, start + spans->items[i].end, -1);
    return GRAFT_OK;
}

static graft_status byte_level(const step *s, gr_ntext *text, const gr_piece *piece, gr_pieces *out,
                               gr_ntext *plain, gr_match_spans *spans, const char (*chars)[4],
                               graft_error *err) {
    gr_ntext_clear(plain);
    if (s->add_prefix_space && text->data[piece->start] != ' ')
        gr_ntext_add(plain, " ", 1, text->origin[piece->start]);
    gr_ntext_copy(plain, text, piece->start, piece->end);
    if (plain->failed) return gr_no_memory(err, piece->end - piece->start);
    spans->count = 0;
    if (s->pattern)
        GR_TRY(gr_pattern_find(s->pattern, plain->data, plain->len, spans, err));
    else
        gr_match_spans_add(spans, 0, plain->len, true);
    for (size_t i = 0; i < spans->count; i++) {
        size_t begin = out->text.len;
        for (size_t k = spans->items[i].start; k < spans->items[i].end; k++) {
            const char *c = chars[(uint8_t)plain->data[k]];
            gr_ntext_add(&out->text, c, (uint8_t)c[0] < 0x80 ? 1 : 2, plain->origin[k]);
        }
        gr_pieces_add(out, begin, out->text.len, -1);
    }
    return spans->failed ? gr_no_memory(err, plain->len) : GRAFT_OK;
}

static void byte_chars(char (*chars)[4]) {
    for (int b = 0; b < 256; b++) {
        int32_t c = gr_byte_to_char((uint8_t)b);
        if (c < 0x80)
            chars[b][0] = (char)c;
        else
            chars[b][0] = (char)(0xc0 | c >> 6), chars[b][1] = (char)(0x80 | (c & 63));
    }
}

static graft_status metaspace(const step *s, const gr_ntext *text, const gr_piece *piece, gr_pieces *out,
                              gr_match_spans *spans, graft_error *err) {
    size_t begin = out->text.len, rlen = strlen(s->replacement), i = piece->start;
    bool starts =
        text->data[i] == ' ' || (piece->end - i >= rlen && !memcmp(text->data + i, s->replacement, rlen));
    bool first = text->origin[i] == 0;
    if (!starts && (s->scheme == PREPEND_ALWAYS || (s->scheme == PREPEND_FIRST && first)))
        gr_ntext_add(&out->text, s->replacement, rlen, text->origin[i]);
    for (size_t run; i < piece->end; i = run) {
        for (run = i; run < piece->end && text->data[run] != ' ';) run++;
        gr_ntext_copy(&out->text, text, i, run);
        if (run < piece->end) gr_ntext_add(&out->text, s->replacement, rlen, text->origin[run]), run++;
    }
    if (out->text.failed) return gr_no_memory(err, piece->end - piece->start);
    size_t end = out->text.len;
    if (!s->split) {
        gr_pieces_add(out, begin, end, -1);
        return GRAFT_OK;
    }
    spans->count = 0;
    size_t done = begin;
    for (size_t k = begin; k + rlen <= end; k++) {
        if (memcmp(out->text.data + k, s->replacement, rlen)) continue;
        if (k > done) gr_match_spans_add(spans, done, k, false);
        gr_match_spans_add(spans, k, k + rlen, true);
        done = k + rlen, k = done - 1;
    }
    if (done < end) gr_match_spans_add(spans, done, end, false);
    if (spans->failed) return gr_no_memory(err, end - begin);
    size_t count, at = join(MERGED_WITH_NEXT, spans, &count);
    for (size_t k = at; k < at + count; k++)
        gr_pieces_add(out, spans->items[k].start, spans->items[k].end, -1);
    return GRAFT_OK;
}

static graft_status run_step(const step *s, gr_pieces *pieces, gr_pieces *out, gr_match_spans *spans,
                             graft_error *err) {
    char chars[256][4] = {{0}};
    gr_ntext plain = {0};
    graft_status st = GRAFT_OK;
    if (s->kind == BYTE_LEVEL) byte_chars(chars);
    for (size_t i = 0; i < pieces->count && !st; i++) {
        const gr_piece *p = &pieces->items[i];
        if (p->id >= 0)
            gr_pieces_add(out, p->start, p->end, p->id);
        else if (s->kind == SPLIT)
            st = cut(s, out, &pieces->text, p->start, p->end, spans, err);
        else if (s->kind == BYTE_LEVEL)
            st = byte_level(s, &pieces->text, p, out, &plain, spans, (const char(*)[4])chars, err);
        else
            st = metaspace(s, &pieces->text, p, out, spans, err);
    }
    gr_ntext_free(&plain);
    return st;
}

graft_status gr_pretokenizer_run(const gr_pretokenizer *pre, gr_pieces *pieces, gr_pieces *other,
                                 gr_match_spans *spans, graft_error *err) {
    size_t before = pieces->text.len;
    for (size_t i = 0; pre && i < pre->count; i++) {
        other->count = 0;
        gr_ntext_clear(&other->text);
        GR_TRY(run_step(&pre->steps[i], pieces, other, spans, err));
        if (other->failed || other->text.failed) return gr_no_memory(err, pieces->text.len);
        GR_TRY(gr_answer_check(before, other->text.len, err));
        if (pre->steps[i].kind == SPLIT) { /* the text stays, the pieces are new */
            gr_ntext swap = other->text;
            other->text = pieces->text;
            pieces->text = swap;
        }
        gr_pieces swap = *pieces;
        *pieces = *other;
        *other = swap;
    }
    return GRAFT_OK;
}
