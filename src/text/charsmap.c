/* The characters' map of a SentencePiece model: a trie (Darts-clone's double array) from text to what
 * replaces it. Follows the tokenizers package, which asks it for whole grapheme clusters of less than six
 * bytes and then for single characters, and takes the shortest entry that the text begins with. */
#include "text/token_parts.h"
#include <utf8proc.h>

#define MAX_CLUSTER 6 /* bytes; longer clusters are asked for character by character */

struct gr_charsmap {
    uint32_t *units;
    size_t nunits;
    char *texts; /* NUL-terminated, one after the other */
    size_t texts_len;
};

static int base64_digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static bool decode_base64(const char *text, size_t len, gr_buf *out) {
    while (len && text[len - 1] == '=') len--;
    uint32_t bits = 0;
    int have = 0;
    for (size_t i = 0; i < len; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0) return false;
        bits = bits << 6 | (uint32_t)digit;
        have += 6;
        if (have < 8) continue;
        have -= 8;
        gr_buf_putc(out, (char)(bits >> have));
    }
    return true;
}

/* u32 size of the trie in bytes, the trie, the texts. All little-endian. */
static graft_status from_blob(gr_charsmap *map, const char *blob, size_t len, graft_error *err) {
    uint32_t size;
    gr_ntext valid = {0};
    if (len < 4) return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's precompiled_charsmap is cut off");
    memcpy(&size, blob, 4);
    if (size % 4 || size > len - 4 || !size) {
        gr_fail(err, GRAFT_CORRUPT, "the tokenizer's precompiled_charsmap contradicts itself");
        return gr_found(err, "a trie of %u bytes in %zu", size, len - 4);
    }
    map->nunits = size / 4;
    map->units = gr_calloc(map->nunits, 4);
    map->texts_len = len - 4 - size;
    map->texts = gr_strndup(blob + 4 + size, map->texts_len);
    if (!map->units || !map->texts) return gr_no_memory(err, len);
    memcpy(map->units, blob + 4, size);
    gr_ntext_sanitize(&valid, map->texts, map->texts_len, 0);
    bool good = !valid.failed && valid.len == map->texts_len && !memcmp(valid.data, map->texts, valid.len);
    gr_ntext_free(&valid);
    return good || !map->texts_len
               ? GRAFT_OK
               : gr_fail(err, GRAFT_CORRUPT,
                         "the tokenizer's precompiled_charsmap holds texts that are not UTF-8");
}

graft_status gr_charsmap_from_json(gr_charsmap **map, const json_t *node, graft_error *err) {
    const char *text;
    size_t len;
    gr_buf blob = {0};
    *map = NULL;
    GR_TRY(gr_member_string(node, "precompiled_charsmap", &text, &len, err));
    if (!text || !decode_base64(text, len, &blob)) {
        gr_buf_free(&blob);
        return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's precompiled_charsmap is not base64");
    }
    gr_charsmap *m = gr_calloc(1, sizeof *m);
    graft_status st =
        m && !blob.failed ? from_blob(m, blob.data ? blob.data : "", blob.len, err) : gr_no_memory(err, len);
    gr_buf_free(&blob);
    if (st)
        gr_charsmap_free(m);
    else
        *map = m;
    return st;
}

void gr_charsmap_free(gr_charsmap *map) {
    if (!map) return;
    free(map->units);
    free(map->texts);
    free(map);
}

/* What replaces the shortest entry that s begins with; NULL: none. A unit is: bits 0-7 the byte that leads to
 * it (bit 31 set: a value instead), bit 8 a value follows, bits 10.. the offset of its children, bit 9 that
 * times 256. */
static const char *find(const gr_charsmap *map, const char *s, size_t n) {
    size_t at = 0;
    uint32_t unit = map->units[0];
    at ^= (size_t)(unit >> 10) << ((unit & 512) >> 6);
    for (size_t i = 0; i < n && s[i]; i++) {
        at ^= (uint8_t)s[i];
        if (at >= map->nunits) return NULL;
        unit = map->units[at];
        if ((unit & 0x800000ff) != (uint8_t)s[i]) return NULL;
        at ^= (size_t)(unit >> 10) << ((unit & 512) >> 6);
        if (at >= map->nunits) return NULL;
        if (!(unit >> 8 & 1)) continue;
        size_t text = map->units[at] & 0x7fffffff;
        /* A text that begins inside a character is no text. */
        return text < map->texts_len && ((uint8_t)map->texts[text] & 0xc0) != 0x80 ? map->texts + text : NULL;
    }
    return NULL;
}

static size_t cluster_end(const gr_ntext *in, size_t start) {
    utf8proc_int32_t state = 0;
    int32_t before, c;
    size_t end = start + (size_t)gr_utf8_get(in->data + start, in->len - start, &before);
    while (end < in->len) {
        int len = gr_utf8_get(in->data + end, in->len - end, &c);
        if (utf8proc_grapheme_break_stateful(before, c, &state)) break;
        before = c;
        end += (size_t)len;
    }
    return end;
}

graft_status gr_charsmap_run(const gr_charsmap *map, const gr_ntext *in, gr_ntext *out, graft_error *err) {
    for (size_t i = 0, end; i < in->len; i = end) {
        const char *text;
        int32_t c;
        end = cluster_end(in, i);
        if (end - i < MAX_CLUSTER && (text = find(map, in->data + i, end - i)))
            gr_ntext_add(out, text, strlen(text), in->origin[i]);
        else
            for (size_t k = i, len; k < end; k += len) {
                len = (size_t)gr_utf8_get(in->data + k, end - k, &c);
                if ((text = find(map, in->data + k, len)))
                    gr_ntext_add(out, text, strlen(text), in->origin[k]);
                else
                    gr_ntext_copy(out, in, k, k + len);
            }
        GR_TRY(gr_answer_check(in->len, out->len, err));
    }
    return GRAFT_OK;
}
