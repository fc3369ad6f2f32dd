#include "files/json_read.h"
#include <math.h>
#include <stdio.h>

/* Undoes JSON_DECODE_INT_AS_REAL where the real is exactly an integer that a double holds without doubt. */
static bool restore_integers(json_t *value) {
    if (json_is_object(value)) {
        const char *key;
        json_t *item;
        void *next;
        json_object_foreach_safe(value, next, key, item) {
            double x = json_real_value(item);
            if (json_is_real(item) && fabs(x) <= 0x1p53 && floor(x) == x) {
                if (json_object_set_new_nocheck(value, key, json_integer((json_int_t)x)) != 0) return false;
            } else if (!restore_integers(item)) {
                return false;
            }
        }
    } else if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            json_t *item = json_array_get(value, i);
            double x = json_real_value(item);
            if (json_is_real(item) && fabs(x) <= 0x1p53 && floor(x) == x) {
                if (json_array_set_new(value, i, json_integer((json_int_t)x)) != 0) return false;
            } else if (!restore_integers(item)) {
                return false;
            }
        }
    }
    return true;
}

/* At most so many bytes do jansson's values take for one byte of punctuation: an object with its first
 * buckets, an array with its first slots, a number or a string's head with the slot that holds it. */
enum { OBJECT_BYTES = 256, ARRAY_BYTES = 128, ITEM_BYTES = 96 };

graft_status gr_json_fits_in(const char *text, size_t len, size_t limit, size_t memory, graft_error *err) {
    size_t bytes = 0;
    if (len > limit) {
        gr_fail(err, GRAFT_RANGE, "longer than a JSON text of this kind can be");
        gr_expected(err, "at most %zu bytes", limit);
        return gr_found(err, "%zu bytes", len);
    }
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '"') /* what a string holds is counted by its own length */
            while (++i < len && text[i] != '"') i += text[i] == '\\';
        else if (c == '{')
            bytes += OBJECT_BYTES;
        else if (c == '[')
            bytes += ARRAY_BYTES;
        else if (c == ',')
            bytes += ITEM_BYTES;
    }
    if (bytes <= memory) return GRAFT_OK;
    gr_fail(err, GRAFT_RANGE, "too many values in a JSON text");
    gr_expected(err, "values of at most %zu bytes of memory", memory);
    return gr_found(err, "about %zu bytes", bytes);
}

graft_status gr_json_parse(json_t **root, const char *text, size_t len, const char *name, graft_error *err) {
    json_error_t why;
    *root = NULL;
    if (gr_json_fits(text, len, SIZE_MAX, err) != GRAFT_OK) {
        gr_where(err, "%s", name);
        return GRAFT_RANGE;
    }
    *root = gr_json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!*root && json_error_code(&why) == json_error_numeric_overflow) {
        *root = gr_json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &why);
        if (*root && !restore_integers(*root)) {
            json_decref(*root);
            *root = NULL;
            return gr_no_memory(err, len);
        }
    }
    if (*root) return GRAFT_OK;
    if (gr_json_no_memory(&why)) return gr_no_memory(err, len);
    gr_fail(err, GRAFT_CORRUPT, "not valid JSON: %s", why.text);
    return gr_where(err, "%s, line %d, column %d", name, why.line, why.column);
}

graft_status gr_json_load_as(json_t **root, const char *path, size_t limit, gr_reading how,
                             graft_error *err) {
    char *text;
    size_t len;
    *root = NULL;
    GR_TRY(gr_file_read_as(&text, &len, path, limit, how, err));
    size_t bom = len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    graft_status st = gr_json_parse(root, text + bom, len - bom, path, err);
    free(text);
    return st;
}

/* Recurses at most `most` deep. */
static bool is_within(const json_t *value, int most) {
    const char *key;
    json_t *item;
    size_t i;
    if (!json_is_object(value) && !json_is_array(value)) return true;
    if (!most) return false;
    json_object_foreach((json_t *)(uintptr_t)value, key, item) if (!is_within(item, most - 1)) return false;
    json_array_foreach(value, i, item) if (!is_within(item, most - 1)) return false;
    return true;
}

graft_status gr_json_shallow(const json_t *value, const char *name, graft_error *err) {
    if (is_within(value, GR_JSON_DEPTH)) return GRAFT_OK;
    gr_fail(err, GRAFT_RANGE, "JSON values nest too deep");
    gr_where(err, "%s", name);
    return gr_expected(err, "at most %d levels", GR_JSON_DEPTH);
}

const json_t *gr_json_field(const gr_json_scope *scope, const char *key) {
    const json_t *value = json_object_get(scope->object, key);
    return json_is_null(value) ? NULL : value;
}

static graft_status where_key(const gr_json_scope *scope, const char *key, graft_error *err) {
    return gr_where(err, "%s: %s%s%s", scope->file, scope->path, scope->path[0] ? "." : "", key);
}

graft_status gr_json_need(const gr_json_scope *scope, const char *key, graft_error *err) {
    if (gr_json_field(scope, key)) return GRAFT_OK;
    gr_fail(err, GRAFT_NOT_FOUND, "key \"%s\" is missing", key);
    return where_key(scope, key, err);
}

const char *gr_json_type_text(const json_t *value) {
    if (!value) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number with a fraction";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    }
    return "something else";
}

graft_status gr_json_wrong(const gr_json_scope *scope, const char *key, const char *expected,
                           const json_t *value, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "key \"%s\" has the wrong type", key);
    where_key(scope, key, err);
    gr_expected(err, "%s", expected);
    return gr_found(err, "%s", gr_json_type_text(value));
}

graft_status gr_json_int(const gr_json_scope *scope, const char *key, int64_t lo, int64_t hi, int64_t *value,
                         graft_error *err) {
    const json_t *field = gr_json_field(scope, key);
    int64_t x;
    if (!field) return GRAFT_OK;
    if (json_is_integer(field)) {
        x = json_integer_value(field);
    } else if (json_is_real(field) && fabs(json_real_value(field)) <= 0x1p53 &&
               floor(json_real_value(field)) == json_real_value(field)) {
        x = (int64_t)json_real_value(field);
    } else {
        return gr_json_wrong(scope, key, "an integer", field, err);
    }
    if (x < lo || x > hi) {
        gr_fail(err, GRAFT_RANGE, "key \"%s\" is out of range", key);
        where_key(scope, key, err);
        gr_expected(err, "%lld to %lld", (long long)lo, (long long)hi);
        return gr_found(err, "%lld", (long long)x);
    }
    *value = x;
    return GRAFT_OK;
}

graft_status gr_json_real(const gr_json_scope *scope, const char *key, double lo, double hi, double *value,
                          graft_error *err) {
    const json_t *field = gr_json_field(scope, key);
    if (!field) return GRAFT_OK;
    if (!json_is_number(field)) return gr_json_wrong(scope, key, "a number", field, err);
    double x = json_number_value(field);
    if (!(x >= lo && x <= hi)) {
        gr_fail(err, GRAFT_RANGE, "key \"%s\" is out of range", key);
        where_key(scope, key, err);
        gr_expected(err, "%g to %g", lo, hi);
        return gr_found(err, "%g", x);
    }
    *value = x;
    return GRAFT_OK;
}

graft_status gr_json_bool(const gr_json_scope *scope, const char *key, bool *value, graft_error *err) {
    const json_t *field = gr_json_field(scope, key);
    if (!field) return GRAFT_OK;
    if (!json_is_boolean(field)) return gr_json_wrong(scope, key, "true or false", field, err);
    *value = json_is_true(field);
    return GRAFT_OK;
}

graft_status gr_json_string(const gr_json_scope *scope, const char *key, const char **value,
                            graft_error *err) {
    const json_t *field = gr_json_field(scope, key);
    if (!field) return GRAFT_OK;
    if (!json_is_string(field)) return gr_json_wrong(scope, key, "a string", field, err);
    *value = json_string_value(field);
    return GRAFT_OK;
}

graft_status gr_json_object(const gr_json_scope *scope, const char *key, gr_json_scope *inner, char path[128],
                            graft_error *err) {
    const json_t *field = gr_json_field(scope, key);
    snprintf(path, 128, "%s%s%s", scope->path, scope->path[0] ? "." : "", key);
    *inner = (gr_json_scope){NULL, scope->file, path};
    if (!field) return GRAFT_OK;
    if (!json_is_object(field)) return gr_json_wrong(scope, key, "an object", field, err);
    inner->object = field;
    return GRAFT_OK;
}

graft_status gr_json_array(const gr_json_scope *scope, const char *key, const json_t **value,
                           graft_error *err) {
    const json_t *field = gr_json_field(scope, key);
    *value = NULL;
    if (!field) return GRAFT_OK;
    if (!json_is_array(field)) return gr_json_wrong(scope, key, "an array", field, err);
    *value = field;
    return GRAFT_OK;
}

bool gr_plain_file_name(const char *name) {
    return name[0] && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strchr(name, '/') &&
           !strchr(name, '\\');
}
