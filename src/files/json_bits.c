#include "files/json_bits.h"
#include <stdio.h>

json_t *gr_json_hex(uint64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)value);
    return json_string(text);
}

graft_status gr_json_read_hex(const gr_json_scope *root, const char *key, uint64_t *value, graft_error *err) {
    const char *text = NULL;
    char *end;
    GR_TRY(gr_json_need(root, key, err));
    GR_TRY(gr_json_string(root, key, &text, err));
    *value = strtoull(text, &end, 16);
    if (*end == 0 && end != text) return GRAFT_OK;
    return gr_json_wrong(root, key, "a hexadecimal word", gr_json_field(root, key), err);
}

enum { WORD = 16 }; /* hexadecimal digits of a double */

json_t *gr_json_bits(const double *x, size_t n) {
    char text[WORD * GR_WORDS_MOST + 1] = "";
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        snprintf(text + WORD * i, WORD + 1, "%016llx", (unsigned long long)bits);
    }
    return json_string(text);
}

graft_status gr_json_read_bits(const gr_json_scope *root, const char *key, double *x, size_t n,
                               graft_error *err) {
    const char *text = "";
    GR_TRY(gr_json_string(root, key, &text, err));
    if (strlen(text) != WORD * n || strspn(text, "0123456789abcdef") != WORD * n)
        return gr_json_wrong(root, key, "hexadecimal words", gr_json_field(root, key), err);
    for (size_t i = 0; i < n; i++) {
        char word[WORD + 1] = "";
        memcpy(word, text + WORD * i, WORD);
        uint64_t bits = strtoull(word, NULL, 16);
        memcpy(&x[i], &bits, sizeof bits);
    }
    return GRAFT_OK;
}
