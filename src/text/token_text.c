/* Texts that know where their bytes came from, pieces of them, and the classes of characters. */
#include "text/token_parts.h"
#include <utf8proc.h>

static bool ntext_room(gr_ntext *text, size_t n) {
    size_t need;
    if (text->failed) return false;
    if (!gr_add_size(text->len, n, &need) || need > UINT32_MAX / 2) {
        text->failed = true;
        return false;
    }
    if (need <= text->cap) return true;
    size_t cap = text->cap ? text->cap * 2 : 256;
    while (cap < need) cap *= 2;
    char *data = gr_realloc_array(text->data, cap, 1);
    if (data) text->data = data;
    uint32_t *origin = gr_realloc_array(text->origin, cap, sizeof *origin);
    if (origin) text->origin = origin;
    if (!data || !origin) {
        text->failed = true;
        return false;
    }
    text->cap = cap;
    return true;
}

void gr_ntext_add(gr_ntext *text, const char *bytes, size_t n, uint32_t origin) {
    if (!n || !ntext_room(text, n)) return;
    memcpy(text->data + text->len, bytes, n);
    for (size_t i = 0; i < n; i++) text->origin[text->len + i] = origin;
    text->len += n;
}

void gr_ntext_copy(gr_ntext *text, const gr_ntext *from, size_t start, size_t end) {
    size_t n = end - start;
    if (!n || !ntext_room(text, n)) return;
    memcpy(text->data + text->len, from->data + start, n);
    memcpy(text->origin + text->len, from->origin + start, n * sizeof *text->origin);
    text->len += n;
}

void gr_ntext_clear(gr_ntext *text) {
    text->len = 0;
}

void gr_ntext_free(gr_ntext *text) {
    free(text->data);
    free(text->origin);
    memset(text, 0, sizeof *text);
}

/* Bytes of the well-formed character at s, or minus the length of the ill-formed part that one U+FFFD
 * replaces (Unicode's "maximal subpart"). */
static int utf8_scan(const uint8_t *s, size_t n) {
    uint8_t c = s[0], low = 0x80, high = 0xbf;
    int more;
    if (c < 0x80) return 1;
    if (c >= 0xc2 && c <= 0xdf)
        more = 1;
    else if (c >= 0xe0 && c <= 0xef)
        more = 2;
    else if (c >= 0xf0 && c <= 0xf4)
        more = 3;
    else
        return -1;
    if (c == 0xe0) low = 0xa0;
    if (c == 0xed) high = 0x9f;
    if (c == 0xf0) low = 0x90;
    if (c == 0xf4) high = 0x8f;
    for (int i = 1; i <= more; i++) {
        if ((size_t)i >= n || s[i] < low || s[i] > high) return -i;
        low = 0x80, high = 0xbf;
    }
    return more + 1;
}

void gr_ntext_sanitize(gr_ntext *text, const char *bytes, size_t n, uint32_t base) {
    const uint8_t *s = (const uint8_t *)bytes;
    for (size_t i = 0; i < n && !text->failed;) {
        size_t start = i;
        int step = 1;
        while (i < n && (step = utf8_scan(s + i, n - i)) > 0) i += (size_t)step;
        if (i > start && ntext_room(text, i - start)) {
            memcpy(text->data + text->len, bytes + start, i - start);
            for (size_t j = start; j < i; j++) text->origin[text->len++] = base + (uint32_t)j;
        }
        if (step < 0) {
            gr_ntext_add(text, "\xef\xbf\xbd", 3, base + (uint32_t)i);
            i += (size_t)-step;
        }
    }
}

void gr_pieces_add(gr_pieces *pieces, size_t start, size_t end, int32_t id) {
    if (id < 0 && start >= end) return;
    if (!gr_grow((void **)&pieces->items, &pieces->cap, pieces->count, sizeof *pieces->items)) {
        pieces->failed = true;
        return;
    }
    pieces->items[pieces->count++] = (gr_piece){start, end, id};
}

void gr_pieces_free(gr_pieces *pieces) {
    gr_ntext_free(&pieces->text);
    free(pieces->items);
    memset(pieces, 0, sizeof *pieces);
}

int gr_utf8_get(const char *s, size_t n, int32_t *code) {
    if ((uint8_t)s[0] < 0x80) {
        *code = (uint8_t)s[0];
        return 1;
    }
    utf8proc_int32_t c;
    utf8proc_ssize_t len =
        utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)(n < 4 ? n : 4), &c);
    if (len < 1) { /* callers hold valid text; still never step by zero */
        *code = 0xfffd;
        return 1;
    }
    *code = c;
    return (int)len;
}

bool gr_char_is_space(int32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

bool gr_char_is_number(int32_t c) {
    utf8proc_category_t category = utf8proc_category(c);
    return (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) ||
           gr_unicode_late_number(c);
}

bool gr_char_is_punct(int32_t c) {
    if (c < 0x80)
        return c > 0x20 && c < 0x7f && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
    utf8proc_category_t category = utf8proc_category(c);
    if (c == 0x166d || c == 0x111c9) return true; /* were punctuation once */
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO && !gr_unicode_not_punct(c);
}

bool gr_char_is_word(int32_t c) {
    utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC ||
           c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9);
}
