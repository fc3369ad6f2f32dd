/* Decoders: the steps that turn token strings back into text. Each maps a list of strings to a list of
 * strings. */
#include "text/token_parts.h"

typedef enum step_kind { BYTE_LEVEL, BYTE_FALLBACK, FUSE, STRIP, REPLACE, METASPACE } step_kind;
typedef struct step {
    step_kind kind;
    gr_pattern *pattern;
    char *text; /* Replace: content; Strip, Metaspace: one character */
    size_t len;
    size_t start, stop; /* Strip: most characters to take away at either end */
    bool keep_first;    /* Metaspace: the first token keeps its leading replacement as a space */
} step;
struct gr_decoder {
    step *steps;
    size_t count, cap;
};

void gr_token_text_end(gr_token_text *tokens) {
    if (!gr_grow((void **)&tokens->ends, &tokens->cap, tokens->count, sizeof *tokens->ends)) {
        tokens->failed = true;
        return;
    }
    tokens->ends[tokens->count++] = tokens->bytes.len;
}

void gr_token_text_free(gr_token_text *tokens) {
    gr_buf_free(&tokens->bytes);
    free(tokens->ends);
    memset(tokens, 0, sizeof *tokens);
}

/* ---- reading */
static graft_status copy_text(step *s, const json_t *node, const char *key, graft_error *err) {
    const json_t *value = json_object_get(node, key);
    if (!json_is_string(value))
        return gr_fail(err, GRAFT_CORRUPT, "a decoder of the tokenizer lacks \"%s\"", key);
    s->len = json_string_length(value);
    s->text = gr_strndup(json_string_value(value), s->len);
    return s->text ? GRAFT_OK : gr_no_memory(err, s->len);
}

static graft_status copy_char(step *s, const json_t *node, const char *key, graft_error *err) {
    int32_t c;
    GR_TRY(copy_text(s, node, key, err));
    if (!s->len || gr_utf8_get(s->text, s->len, &c) != (int)s->len)
        return gr_fail(err, GRAFT_CORRUPT, "a decoder's \"%s\" is not one character", key);
    return GRAFT_OK;
}

static graft_status read_count(const json_t *node, const char *key, size_t *value, graft_error *err) {
    const json_t *number = json_object_get(node, key);
    if (!json_is_integer(number) || json_integer_value(number) < 0)
        return gr_fail(err, GRAFT_CORRUPT, "a decoder of the tokenizer lacks \"%s\"", key);
    *value = (size_t)json_integer_value(number);
    return GRAFT_OK;
}

static graft_status read_metaspace(step *s, const json_t *node, graft_error *err) {
    const char *scheme;
    bool prefix;
    GR_TRY(gr_member_bool(node, "add_prefix_space", true, &prefix, err));
    GR_TRY(gr_member_string(node, "prepend_scheme", &scheme, NULL, err));
    s->keep_first = scheme ? !strcmp(scheme, "never") : !prefix;
    return copy_char(s, node, "replacement", err);
}

static graft_status add_steps(gr_decoder *d, const json_t *node, graft_error *err) {
    static const char *const names[] = {"ByteLevel", "ByteFallback", "Fuse", "Strip", "Replace", "Metaspace"};
    const char *type;
    GR_TRY(gr_member_string(node, "type", &type, NULL, err));
    if (!type) return gr_fail(err, GRAFT_CORRUPT, "a decoder of the tokenizer has no type");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(node, "decoders"), *item;
        size_t i;
        if (!json_is_array(list))
            return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's decoders are not a list");
        json_array_foreach(list, i, item) GR_TRY(add_steps(d, item, err));
        return GRAFT_OK;
    }
    int kind = 0;
    while (kind < 6 && strcmp(type, names[kind])) kind++;
    if (kind == 6) {
        gr_fail(err, GRAFT_UNSUPPORTED, "the tokenizer's decoder \"%.60s\" is not supported", type);
        return gr_expected(err, "ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, Sequence");
    }
    GR_TRY(gr_steps_check(d->count, "decoder", err));
    if (!gr_grow((void **)&d->steps, &d->cap, d->count, sizeof *d->steps))
        return gr_no_memory(err, sizeof(step));
    step *s = &d->steps[d->count++];
    *s = (step){.kind = (step_kind)kind};
    if (s->kind == STRIP) {
        GR_TRY(copy_char(s, node, "content", err));
        GR_TRY(read_count(node, "start", &s->start, err));
        return read_count(node, "stop", &s->stop, err);
    }
    if (s->kind == REPLACE) {
        GR_TRY(gr_pattern_from_json(&s->pattern, json_object_get(node, "pattern"), err));
        return copy_text(s, node, "content", err);
    }
    return s->kind == METASPACE ? read_metaspace(s, node, err) : GRAFT_OK;
}

graft_status gr_decoder_from_json(gr_decoder **decoder, const json_t *node, graft_error *err) {
    *decoder = NULL;
    if (!node || json_is_null(node)) return GRAFT_OK;
    gr_decoder *d = gr_calloc(1, sizeof *d);
    if (!d) return gr_no_memory(err, sizeof *d);
    graft_status st = add_steps(d, node, err);
    if (st)
        gr_decoder_free(d);
    else
        *decoder = d;
    return st;
}

void gr_decoder_free(gr_decoder *decoder) {
    if (!decoder) return;
    for (size_t i = 0; i < decoder->count; i++) {
        free(decoder->steps[i].text);
        gr_pattern_free(decoder->steps[i].pattern);
    }
    free(decoder->steps);
    free(decoder);
}

/* ---- running */
static const char *token_at(const gr_token_text *tokens, size_t i, size_t *n) {
    size_t start = i ? tokens->ends[i - 1] : 0;
    *n = tokens->ends[i] - start;
    return *n ? tokens->bytes.data + start : "";
}

/* A token whose characters all stand for bytes gives those bytes, any other its own. */
static void put_bytes(const char *s, size_t n, gr_buf *out) {
    int32_t c;
    for (size_t i = 0; i < n; i += (size_t)gr_utf8_get(s + i, n - i, &c)) {
        gr_utf8_get(s + i, n - i, &c);
        if (gr_char_to_byte(c) < 0) {
            gr_buf_add(out, s, n);
            return;
        }
    }
    for (size_t i = 0; i < n;) {
        i += (size_t)gr_utf8_get(s + i, n - i, &c);
        gr_buf_putc(out, (char)gr_char_to_byte(c));
    }
}

static void add_valid(const char *s, size_t n, gr_buf *out) {
    gr_ntext valid = {0};
    gr_ntext_sanitize(&valid, s, n, 0);
    gr_buf_add(out, valid.data, valid.len);
    if (valid.failed) out->failed = true;
    gr_ntext_free(&valid);
}

static void byte_level(const gr_token_text *in, gr_token_text *out) {
    gr_buf bytes = {0};
    for (size_t i = 0; i < in->count; i++) {
        size_t n;
        const char *t = token_at(in, i, &n);
        put_bytes(t, n, &bytes);
    }
    if (bytes.failed)
        out->failed = true;
    else
        add_valid(bytes.data ? bytes.data : "", bytes.len, &out->bytes);
    gr_token_text_end(out);
    gr_buf_free(&bytes);
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') return (c | 0x20) - 'a' + 10;
    return -1;
}

/* The byte that "<0xHH>" names, else -1. "+F" counts too: Rust's number parser takes a sign. */
static int named_byte(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) || s[5] != '>') return -1;
    int high = s[3] == '+' ? 0 : hex_digit(s[3]), low = hex_digit(s[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Steps before that one may take away what stands around a byte's name. */
bool gr_decoder_may_take_byte(const gr_decoder *decoder, const char *token, size_t len) {
    bool named = false, takes = false;
    for (size_t i = 0; !named && i + 3 <= len; i++) named = !memcmp(token + i, "<0x", 3);
    for (size_t i = 0; decoder && i < decoder->count; i++) takes |= decoder->steps[i].kind == BYTE_FALLBACK;
    return named && takes;
}

/* Each token by itself until they are put together; of what is whole then only the beginning is changed, and
 * no further than the first character that stays. */
bool gr_decoder_restarts(const gr_decoder *decoder) {
    bool whole = false;
    for (size_t i = 0; decoder && i < decoder->count; i++) {
        const step *s = &decoder->steps[i];
        if (whole && s->kind != FUSE && !(s->kind == STRIP && !s->stop)) return false;
        whole |= s->kind == FUSE || s->kind == BYTE_LEVEL;
    }
    return true;
}

/* A run of byte tokens: its text if it is well-formed, else a U+FFFD for each byte. */
static void flush_bytes(gr_buf *run, gr_token_text *out) {
    if (!run->len) return;
    gr_ntext valid = {0};
    gr_ntext_sanitize(&valid, run->data, run->len, 0);
    if (valid.failed)
        out->failed = true;
    else if (valid.len == run->len && !memcmp(valid.data, run->data, run->len))
        gr_buf_add(&out->bytes, run->data, run->len);
    else
        for (size_t i = 0; i < run->len; i++) gr_buf_puts(&out->bytes, "\xef\xbf\xbd");
    gr_token_text_end(out);
    gr_ntext_free(&valid);
    gr_buf_clear(run);
}

static void byte_fallback(const gr_token_text *in, gr_token_text *out) {
    gr_buf run = {0};
    for (size_t i = 0; i < in->count; i++) {
        size_t n;
        const char *t = token_at(in, i, &n);
        int byte = named_byte(t, n);
        if (byte >= 0) {
            gr_buf_putc(&run, (char)byte);
            continue;
        }
        flush_bytes(&run, out);
        gr_buf_add(&out->bytes, t, n);
        gr_token_text_end(out);
    }
    flush_bytes(&run, out);
    if (run.failed) out->failed = true;
    gr_buf_free(&run);
}

static void strip(const step *s, const char *t, size_t n, gr_buf *out) {
    size_t start = 0, end = n;
    for (size_t i = 0; i < s->start && end - start >= s->len && !memcmp(t + start, s->text, s->len); i++)
        start += s->len;
    for (size_t i = 0; i < s->stop && end - start >= s->len && !memcmp(t + end - s->len, s->text, s->len);
         i++)
        end -= s->len;
    gr_buf_add(out, t + start, end - start);
}

static void metaspace(const step *s, const char *t, size_t n, bool first, gr_buf *out) {
    for (size_t i = 0; i < n;) {
        if (n - i >= s->len && !memcmp(t + i, s->text, s->len)) {
            if (!first || s->keep_first) gr_buf_putc(out, ' ');
            i += s->len;
        } else {
            gr_buf_putc(out, t[i++]);
        }
    }
}

static graft_status replace(const step *s, const char *t, size_t n, size_t before, gr_match_spans *spans,
                            gr_buf *out, graft_error *err) {
    size_t after;
    GR_TRY(gr_pattern_find(s->pattern, t, n, spans, err));
    if (!gr_add_size(out->len, gr_replaced_bytes(spans, n, s->len), &after)) after = SIZE_MAX;
    GR_TRY(gr_answer_check(before, after, err));
    for (size_t i = 0; i < spans->count; i++) {
        const gr_match_span *m = &spans->items[i];
        if (m->is_match)
            gr_buf_add(out, s->text, s->len);
        else
            gr_buf_add(out, t + m->start, m->end - m->start);
    }
    return GRAFT_OK;
}

static graft_status run_step(const step *s, const gr_token_text *in, gr_token_text *out, size_t before,
                             gr_match_spans *spans, graft_error *err) {
    if (s->kind == BYTE_LEVEL)
        byte_level(in, out);
    else if (s->kind == BYTE_FALLBACK)
        byte_fallback(in, out);
    else if (s->kind == FUSE) {
        gr_buf_add(&out->bytes, in->bytes.data, in->bytes.len);
        gr_token_text_end(out);
    } else {
        for (size_t i = 0; i < in->count; i++) {
            size_t n;
            const char *t = token_at(in, i, &n);
            if (s->kind == STRIP)
                strip(s, t, n, &out->bytes);
            else if (s->kind == METASPACE)
                metaspace(s, t, n, i == 0, &out->bytes);
            else
                GR_TRY(replace(s, t, n, before, spans, &out->bytes, err));
            gr_token_text_end(out);
        }
    }
    return out->failed || out->bytes.failed ? gr_no_memory(err, in->bytes.len) : GRAFT_OK;
}

graft_status gr_decoder_run(const gr_decoder *decoder, gr_token_text *tokens, gr_buf *out, graft_error *err) {
    gr_token_text other = {0};
    gr_match_spans spans = {0};
    graft_status st =
        tokens->failed || tokens->bytes.failed ? gr_no_memory(err, tokens->bytes.len) : GRAFT_OK;
    size_t before = tokens->bytes.len;
    for (size_t i = 0; decoder && i < decoder->count && !st; i++) {
        other.count = 0;
        gr_buf_clear(&other.bytes);
        st = run_step(&decoder->steps[i], tokens, &other, before, &spans, err);
        gr_token_text swap = *tokens;
        *tokens = other;
        other = swap;
    }
    for (size_t i = 0; i < tokens->count && !st; i++) {
        size_t n;
        const char *t = token_at(tokens, i, &n);
        if (!decoder && i) gr_buf_putc(out, ' '); /* without a decoder the tokens stand side by side */
        gr_buf_add(out, t, n);
    }
    if (!st && out->failed) st = gr_no_memory(err, tokens->bytes.len);
    gr_token_text_free(&other);
    gr_match_spans_free(&spans);
    return st;
}
