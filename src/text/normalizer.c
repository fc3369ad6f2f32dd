/* Normalizers: the steps that rewrite a text before it is cut. */
#include "text/token_parts.h"
#include <utf8proc.h>

typedef enum step_kind { UNICODE_FORM, PREPEND, REPLACE, LOWERCASE, STRIP, CHARSMAP } step_kind;
typedef struct step {
    step_kind kind;
    utf8proc_option_t form;
    char *text; /* Prepend, Replace */
    size_t len;
    gr_pattern *pattern;
    gr_charsmap *map;
    bool left, right;
} step;
struct gr_normalizer {
    step *steps;
    size_t count, cap;
};

static graft_status add_step(gr_normalizer *n, step **out, step_kind kind, graft_error *err) {
    GR_TRY(gr_steps_check(n->count, "normalizer", err));
    if (!gr_grow((void **)&n->steps, &n->cap, n->count, sizeof *n->steps))
        return gr_no_memory(err, sizeof(step));
    *out = &n->steps[n->count++];
    **out = (step){.kind = kind};
    return GRAFT_OK;
}

static graft_status copy_text(step *s, const json_t *node, const char *key, graft_error *err) {
    const json_t *value = json_object_get(node, key);
    if (!json_is_string(value))
        return gr_fail(err, GRAFT_CORRUPT, "a normalizer of the tokenizer lacks \"%s\"", key);
    s->len = json_string_length(value);
    s->text = gr_strndup(json_string_value(value), s->len);
    return s->text ? GRAFT_OK : gr_no_memory(err, s->len);
}

static graft_status add_steps(gr_normalizer *n, const json_t *node, graft_error *err) {
    static const struct {
        const char *name;
        utf8proc_option_t form;
    } forms[] = {{"NFC", UTF8PROC_COMPOSE},
                 {"NFD", UTF8PROC_DECOMPOSE},
                 {"NFKC", UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
                 {"NFKD", UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};
    const char *type;
    step *s = NULL;
    GR_TRY(gr_member_string(node, "type", &type, NULL, err));
    if (!type) return gr_fail(err, GRAFT_CORRUPT, "a normalizer of the tokenizer has no type");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(node, "normalizers"), *item;
        size_t i;
        if (!json_is_array(list))
            return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's normalizers are not a list");
        json_array_foreach(list, i, item) GR_TRY(add_steps(n, item, err));
        return GRAFT_OK;
    }
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(type, forms[i].name)) continue;
        GR_TRY(add_step(n, &s, UNICODE_FORM, err));
        s->form = forms[i].form;
        return GRAFT_OK;
    }
    if (!strcmp(type, "Prepend")) {
        GR_TRY(add_step(n, &s, PREPEND, err));
        return copy_text(s, node, "prepend", err);
    }
    if (!strcmp(type, "Replace")) {
        GR_TRY(add_step(n, &s, REPLACE, err));
        GR_TRY(gr_pattern_from_json(&s->pattern, json_object_get(node, "pattern"), err));
        return copy_text(s, node, "content", err);
    }
    if (!strcmp(type, "Lowercase")) return add_step(n, &s, LOWERCASE, err);
    if (!strcmp(type, "Strip")) {
        GR_TRY(add_step(n, &s, STRIP, err));
        GR_TRY(gr_member_bool(node, "strip_left", true, &s->left, err));
        return gr_member_bool(node, "strip_right", true, &s->right, err);
    }
    if (!strcmp(type, "Precompiled")) {
        GR_TRY(add_step(n, &s, CHARSMAP, err));
        return gr_charsmap_from_json(&s->map, node, err);
    }
    gr_fail(err, GRAFT_UNSUPPORTED, "the tokenizer's normalizer \"%.60s\" is not supported", type);
    return gr_expected(err,
                       "NFC, NFD, NFKC, NFKD, Prepend, Replace, Lowercase, Strip, Precompiled, Sequence");
}

graft_status gr_normalizer_from_json(gr_normalizer **normalizer, const json_t *node, graft_error *err) {
    *normalizer = NULL;
    if (!node || json_is_null(node)) return GRAFT_OK;
    gr_normalizer *n = gr_calloc(1, sizeof *n);
    if (!n) return gr_no_memory(err, sizeof *n);
    graft_status st = add_steps(n, node, err);
    if (st)
        gr_normalizer_free(n);
    else
        *normalizer = n;
    return st;
}

void gr_normalizer_free(gr_normalizer *normalizer) {
    if (!normalizer) return;
    for (size_t i = 0; i < normalizer->count; i++) {
        free(normalizer->steps[i].text);
        gr_pattern_free(normalizer->steps[i].pattern);
        gr_charsmap_free(normalizer->steps[i].map);
    }
    free(normalizer->steps);
    free(normalizer);
}

/* True where a text may be cut so that both sides normalize alone: before characters that neither move nor
 * join what stands before them. Marks, Hangul letters and the half-width signs that become such are no place
 * to cut. */
static bool is_boundary(int32_t c) {
    if (c < 0x300) return true;
    if ((c >= 0x1100 && c <= 0x11ff) || (c >= 0x3130 && c <= 0x318f) || (c >= 0xa960 && c <= 0xa97f) ||
        (c >= 0xd7b0 && c <= 0xd7ff) || (c >= 0xff9e && c <= 0xffdc) || (c >= 0x16d60 && c <= 0x16d6f))
        return false;
    const utf8proc_property_t *p = utf8proc_get_property(c);
    return !p->combining_class && p->category != UTF8PROC_CATEGORY_MN &&
           p->category != UTF8PROC_CATEGORY_MC && p->category != UTF8PROC_CATEGORY_ME &&
           p->category != UTF8PROC_CATEGORY_CN;
}

/* utf8proc sorts a run of marks by exchanging neighbours, which takes its length squared: longer ones come
 * sorted to it. No word has so many bytes of marks. */
#define SHORT_RUN 1024

typedef struct codes {
    utf8proc_int32_t *at, *spare;
    size_t count, cap;
} codes;

static bool decompose(codes *out, utf8proc_int32_t code, utf8proc_option_t form) {
    enum { MOST = 32 }; /* of one character: 18 */
    int boundary = 0;
    if (out->cap - out->count < MOST) {
        size_t cap = out->cap * 2 + 1024;
        utf8proc_int32_t *grown = gr_realloc_array(out->at, cap, sizeof *grown);
        if (grown) out->at = grown;
        utf8proc_int32_t *spare = grown ? gr_realloc_array(out->spare, cap, sizeof *spare) : NULL;
        if (!spare) return false;
        out->spare = spare;
        out->cap = cap;
    }
    utf8proc_option_t how = UTF8PROC_STABLE | form | UTF8PROC_DECOMPOSE;
    utf8proc_ssize_t n = utf8proc_decompose_char(code, out->at + out->count, MOST, how, &boundary);
    if (n < 0 || n > MOST) return false;
    out->count += (size_t)n;
    return true;
}

/* Sorts marks by class, those of one class in their order: counted, then placed. */
static void sort_marks(utf8proc_int32_t *marks, utf8proc_int32_t *spare, size_t n) {
    size_t place[257] = {0};
    for (size_t i = 0; i < n; i++) place[utf8proc_get_property(marks[i])->combining_class % 256 + 1]++;
    for (int c = 0; c < 256; c++) place[c + 1] += place[c];
    for (size_t i = 0; i < n; i++)
        spare[place[utf8proc_get_property(marks[i])->combining_class % 256]++] = marks[i];
    memcpy(marks, spare, n * sizeof *marks);
}

/* One long run in canonical order, then put together as the form says. */
static graft_status long_run(utf8proc_option_t form, const char *s, size_t n, uint32_t origin, gr_ntext *out,
                             graft_error *err) {
    codes run = {0};
    int32_t c;
    bool ok = true;
    for (size_t i = 0; i < n && ok; i += (size_t)gr_utf8_get(s + i, n - i, &c)) {
        gr_utf8_get(s + i, n - i, &c);
        ok = decompose(&run, c, form);
    }
    for (size_t i = 0, end; i < run.count && ok; i = end) {
        for (end = i; end < run.count && utf8proc_get_property(run.at[end])->combining_class;) end++;
        if (end - i > 1) sort_marks(run.at + i, run.spare + i, end - i);
        if (end == i) end++;
    }
    utf8proc_ssize_t count =
        ok ? utf8proc_normalize_utf32(run.at, (utf8proc_ssize_t)run.count, UTF8PROC_STABLE | form) : 0;
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        utf8proc_uint8_t bytes[4];
        utf8proc_ssize_t len = utf8proc_encode_char(run.at[i], bytes);
        gr_ntext_add(out, (const char *)bytes, (size_t)len, origin);
    }
    free(run.at);
    free(run.spare);
    return ok && count >= 0 ? GRAFT_OK : gr_no_memory(err, n);
}

static graft_status unicode_form(utf8proc_option_t form, const gr_ntext *in, gr_ntext *out,
                                 graft_error *err) {
    for (size_t i = 0, end; i < in->len; i = end) {
        int32_t c, first;
        bool ascii = (uint8_t)in->data[i] < 0x80;
        for (end = i + (size_t)gr_utf8_get(in->data + i, in->len - i, &first); end < in->len;) {
            int len = gr_utf8_get(in->data + end, in->len - end, &c);
            if (is_boundary(c) || gr_unicode_no_form(c) || gr_unicode_no_form(first)) break;
            ascii = false;
            end += (size_t)len;
        }
        if (ascii || gr_unicode_no_form(first)) {
            gr_ntext_copy(out, in, i, end);
            continue;
        }
        if (end - i > SHORT_RUN) {
            GR_TRY(long_run(form, in->data + i, end - i, in->origin[i], out, err));
            continue;
        }
        utf8proc_uint8_t *mapped = NULL;
        utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)in->data + i, (utf8proc_ssize_t)(end - i),
                                          &mapped, UTF8PROC_STABLE | form);
        if (n < 0)
            return n == UTF8PROC_ERROR_NOMEM
                       ? gr_no_memory(err, end - i)
                       : gr_fail(err, GRAFT_RANGE, "a text could not be normalized: %s", utf8proc_errmsg(n));
        gr_ntext_add(out, (const char *)mapped, (size_t)n, in->origin[i]);
        free(mapped);
    }
    return GRAFT_OK;
}

static void lowercase(const gr_ntext *in, gr_ntext *out) {
    for (size_t i = 0; i < in->len;) {
        int32_t c;
        utf8proc_uint8_t bytes[4];
        int len = gr_utf8_get(in->data + i, in->len - i, &c);
        int32_t lower = gr_unicode_late_lower(c);
        if (c == 0x130) { /* the one character whose lower case is two */
            gr_ntext_add(out, "i\xcc\x87", 3, in->origin[i]);
        } else {
            utf8proc_ssize_t n = utf8proc_encode_char(lower ? lower : utf8proc_tolower(c), bytes);
            gr_ntext_add(out, (const char *)bytes, (size_t)n, in->origin[i]);
        }
        i += (size_t)len;
    }
}

static void strip(const step *s, const gr_ntext *in, gr_ntext *out) {
    size_t start = 0, end = in->len;
    int32_t c;
    while (s->left && start < end) {
        int len = gr_utf8_get(in->data + start, end - start, &c);
        if (!gr_char_is_space(c)) break;
        start += (size_t)len;
    }
    while (s->right && end > start) {
        size_t at = end - 1;
        while (at > start && ((uint8_t)in->data[at] & 0xc0) == 0x80) at--;
        gr_utf8_get(in->data + at, end - at, &c);
        if (!gr_char_is_space(c)) break;
        end = at;
    }
    gr_ntext_copy(out, in, start, end);
}

static graft_status replace(const step *s, const gr_ntext *in, gr_ntext *out, gr_match_spans *spans,
                            size_t before, graft_error *err) {
    GR_TRY(gr_pattern_find(s->pattern, in->data, in->len, spans, err));
    GR_TRY(gr_answer_check(before, gr_replaced_bytes(spans, in->len, s->len), err));
    for (size_t i = 0; i < spans->count; i++) {
        const gr_match_span *m = &spans->items[i];
        if (!m->is_match)
            gr_ntext_copy(out, in, m->start, m->end);
        else if (m->start < in->len)
            gr_ntext_add(out, s->text, s->len, in->origin[m->start]);
        else
            gr_ntext_add(out, s->text, s->len, in->origin[in->len - 1]);
    }
    return GRAFT_OK;
}

graft_status gr_normalizer_run(const gr_normalizer *normalizer, gr_ntext *text, gr_ntext *other,
                               gr_match_spans *spans, graft_error *err) {
    size_t before = text->len;
    for (size_t i = 0; normalizer && i < normalizer->count && text->len; i++) {
        const step *s = &normalizer->steps[i];
        gr_ntext_clear(other);
        switch (s->kind) {
        case UNICODE_FORM: GR_TRY(unicode_form(s->form, text, other, err)); break;
        case PREPEND:
            gr_ntext_add(other, s->text, s->len, text->origin[0]);
            gr_ntext_copy(other, text, 0, text->len);
            break;
        case REPLACE: GR_TRY(replace(s, text, other, spans, before, err)); break;
        case LOWERCASE: lowercase(text, other); break;
        case STRIP: strip(s, text, other); break;
        case CHARSMAP: GR_TRY(gr_charsmap_run(s->map, text, other, err)); break;
        }
        if (other->failed) return gr_no_memory(err, text->len);
        GR_TRY(gr_answer_check(before, other->len, err));
        gr_ntext swap = *text;
        *text = *other;
        *other = swap;
    }
    return GRAFT_OK;
}
