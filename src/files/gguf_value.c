#include "files/gguf_value.h"
#include <jansson.h>

static bool skip(gr_gguf_reader *in, uint64_t n) {
    if (n > in->size - in->at) return false;
    in->at += (size_t)n;
    return true;
}

bool gr_gguf_read_u32(gr_gguf_reader *in, uint32_t *value) {
    if (in->size - in->at < 4) return false;
    memcpy(value, in->data + in->at, 4);
    return skip(in, 4);
}

bool gr_gguf_read_u64(gr_gguf_reader *in, uint64_t *value) {
    if (in->size - in->at < 8) return false;
    memcpy(value, in->data + in->at, 8);
    return skip(in, 8);
}

/* UTF-8, as jansson sees it: names become JSON strings. */
static bool is_text(const char *text, size_t len) {
    json_t *string = json_stringn(text, len);
    json_decref(string);
    return string != NULL;
}

bool gr_gguf_read_name(gr_gguf_reader *in, char **name) {
    size_t start = in->at;
    uint64_t len;
    if (!gr_gguf_read_u64(in, &len)) return false;
    const char *text = (const char *)in->data + in->at;
    if (!skip(in, len) || memchr(text, 0, (size_t)len) || !is_text(text, (size_t)len)) {
        in->at = start;
        return false;
    }
    *name = gr_strndup(text, (size_t)len);
    return true;
}

/* Bytes of one element; 0 for strings, arrays and unknown types. */
static size_t element_bytes(uint32_t type) {
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof bytes ? bytes[type] : 0;
}

static graft_status cut_off(graft_error *err) {
    return gr_fail(err, GRAFT_CORRUPT, "metadata is cut off");
}

/* Walks the strings of an array, noting where each begins, so that a getter need not. */
static graft_status read_strings(gr_gguf_reader *in, gr_gguf_value *value, graft_error *err) {
    if (value->count > (in->size - in->at) / 8) return cut_off(err);
    value->offsets = gr_calloc((size_t)value->count, sizeof *value->offsets);
    if (!value->offsets) return gr_no_memory(err, (size_t)value->count * sizeof *value->offsets);
    for (uint64_t i = 0; i < value->count; i++) {
        uint64_t len;
        value->offsets[i] = (uint64_t)(in->data + in->at - value->data);
        if (!gr_gguf_read_u64(in, &len) || !skip(in, len)) return cut_off(err);
    }
    return GRAFT_OK;
}

graft_status gr_gguf_read_value(gr_gguf_reader *in, gr_gguf_value *value, graft_error *err) {
    uint64_t len, bytes;
    if (!gr_gguf_read_name(in, &value->key))
        return gr_fail(err, GRAFT_CORRUPT, "metadata key is cut off, contains a zero byte or is not UTF-8");
    if (!value->key) return gr_no_memory(err, in->size);
    value->count = 1;
    if (!gr_gguf_read_u32(in, &value->type)) return cut_off(err);
    if (value->type == GR_GGUF_ARRAY) {
        value->array = true;
        if (!gr_gguf_read_u32(in, &value->type) || !gr_gguf_read_u64(in, &value->count)) return cut_off(err);
        if (value->type == GR_GGUF_ARRAY)
            return gr_fail(err, GRAFT_UNSUPPORTED, "arrays of arrays in metadata");
    }
    value->data = in->data + in->at;
    if (value->type == GR_GGUF_STRING) {
        if (value->array) return read_strings(in, value, err);
        return gr_gguf_read_u64(in, &len) && skip(in, len) ? GRAFT_OK : cut_off(err);
    }
    size_t each = element_bytes(value->type);
    if (!each) {
        gr_fail(err, GRAFT_CORRUPT, "metadata has an unknown value type");
        return gr_found(err, "type number %u", value->type);
    }
    if (__builtin_mul_overflow(value->count, each, &bytes) || !skip(in, bytes)) return cut_off(err);
    return GRAFT_OK;
}

size_t gr_gguf_value_bytes(const gr_gguf_value *v) {
    uint64_t len;
    if (v->type != GR_GGUF_STRING) return (size_t)v->count * element_bytes(v->type);
    if (!v->count) return 0;
    const uint8_t *last = v->data + (v->offsets ? v->offsets[v->count - 1] : 0);
    memcpy(&len, last, 8);
    return (size_t)(last - v->data) + 8 + (size_t)len;
}

/* ---- getters */

static bool element_string(const gr_gguf_value *v, uint64_t index, const char **value, size_t *len) {
    uint64_t n;
    if (v->type != GR_GGUF_STRING || index >= v->count) return false;
    const uint8_t *at = v->data + (v->offsets ? v->offsets[index] : 0);
    memcpy(&n, at, 8);
    *value = (const char *)at + 8;
    *len = (size_t)n;
    return true;
}

#define LOAD(ctype)                                                                                          \
    do {                                                                                                     \
        ctype x;                                                                                             \
        memcpy(&x, v->data + index * sizeof x, sizeof x);                                                    \
        *value = x;                                                                                          \
    } while (0)

static bool element_int(const gr_gguf_value *v, uint64_t index, int64_t *value) {
    if (index >= v->count) return false;
    switch (v->type) {
    case GR_GGUF_U8: LOAD(uint8_t); return true;
    case GR_GGUF_I8: LOAD(int8_t); return true;
    case GR_GGUF_U16: LOAD(uint16_t); return true;
    case GR_GGUF_I16: LOAD(int16_t); return true;
    case GR_GGUF_U32: LOAD(uint32_t); return true;
    case GR_GGUF_I32: LOAD(int32_t); return true;
    case GR_GGUF_I64: LOAD(int64_t); return true;
    case GR_GGUF_BOOL: *value = v->data[index] != 0; return true;
    case GR_GGUF_U64: {
        uint64_t x;
        memcpy(&x, v->data + index * 8, 8);
        if (x > INT64_MAX) return false;
        *value = (int64_t)x;
        return true;
    }
    default: return false;
    }
}

static bool element_float(const gr_gguf_value *v, uint64_t index, double *value) {
    int64_t whole;
    if (index >= v->count) return false;
    if (v->type == GR_GGUF_FLOAT) {
        LOAD(float);
        return true;
    }
    if (v->type == GR_GGUF_DOUBLE) {
        LOAD(double);
        return true;
    }
    if (v->type == GR_GGUF_BOOL || !element_int(v, index, &whole)) return false;
    *value = (double)whole;
    return true;
}

/* The value when it is there and is, or is not, an array. */
static const gr_gguf_value *lookup(const gr_gguf *file, const char *key, bool array) {
    const gr_gguf_value *v = gr_gguf_value_find(file, key);
    return v && v->array == array ? v : NULL;
}

bool gr_gguf_string(const gr_gguf *file, const char *key, const char **value, size_t *len) {
    const gr_gguf_value *v = lookup(file, key, false);
    return v && element_string(v, 0, value, len);
}

bool gr_gguf_int(const gr_gguf *file, const char *key, int64_t *value) {
    const gr_gguf_value *v = lookup(file, key, false);
    return v && element_int(v, 0, value);
}

bool gr_gguf_float(const gr_gguf *file, const char *key, double *value) {
    const gr_gguf_value *v = lookup(file, key, false);
    return v && element_float(v, 0, value);
}

bool gr_gguf_array(const gr_gguf *file, const char *key, size_t *count) {
    const gr_gguf_value *v = lookup(file, key, true);
    if (v) *count = (size_t)v->count;
    return v != NULL;
}

bool gr_gguf_array_string(const gr_gguf *file, const char *key, size_t index, const char **value,
                          size_t *len) {
    const gr_gguf_value *v = lookup(file, key, true);
    return v && element_string(v, index, value, len);
}

bool gr_gguf_array_int(const gr_gguf *file, const char *key, size_t index, int64_t *value) {
    const gr_gguf_value *v = lookup(file, key, true);
    return v && element_int(v, index, value);
}

bool gr_gguf_array_float(const gr_gguf *file, const char *key, size_t index, double *value) {
    const gr_gguf_value *v = lookup(file, key, true);
    return v && element_float(v, index, value);
}

/* ---- for people */

#define TEXT_LIMIT 72 /* bytes of a string that are shown */
#define SHOWN      6  /* elements of an array that are shown */

static void string_text(const char *text, size_t len, gr_buf *out) {
    size_t n = len < TEXT_LIMIT ? len : TEXT_LIMIT;
    while (n < len && n && ((uint8_t)text[n] & 0xc0) == 0x80) n--; /* not inside a UTF-8 sequence */
    gr_buf_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        if ((uint8_t)text[i] < 0x20 || text[i] == 0x7f)
            gr_buf_printf(out, "\\x%02x", (uint8_t)text[i]);
        else
            gr_buf_putc(out, text[i]);
    }
    gr_buf_puts(out, n < len ? "...\"" : "\"");
}

static void element_text(const gr_gguf_value *v, uint64_t index, gr_buf *out) {
    const char *text;
    size_t len;
    int64_t whole;
    double real;
    if (element_string(v, index, &text, &len))
        string_text(text, len, out);
    else if (v->type == GR_GGUF_BOOL)
        gr_buf_puts(out, v->data[index] ? "true" : "false");
    else if (element_int(v, index, &whole))
        gr_buf_printf(out, "%lld", (long long)whole);
    else if (element_float(v, index, &real))
        gr_buf_printf(out, "%.9g", real);
    else
        gr_buf_puts(out, "beyond 63 bits");
}

void gr_gguf_value_text(const gr_gguf *file, size_t index, gr_buf *out) {
    const gr_gguf_value *v = gr_gguf_value_at(file, index);
    if (!v) return;
    if (!v->array) {
        element_text(v, 0, out);
        return;
    }
    gr_buf_putc(out, '[');
    for (uint64_t i = 0; i < v->count && i < SHOWN; i++) {
        if (i) gr_buf_puts(out, ", ");
        element_text(v, i, out);
    }
    if (v->count > SHOWN) gr_buf_printf(out, ", ... %llu in all", (unsigned long long)v->count);
    gr_buf_putc(out, ']');
}
