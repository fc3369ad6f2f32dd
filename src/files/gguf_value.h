/* files/gguf_value.h - GGUF metadata values: parsing (for gguf.c) and the typed getters of gguf.h. */
#ifndef GR_FILES_GGUF_VALUE_H
#define GR_FILES_GGUF_VALUE_H
#include "files/gguf.h"

/* A cursor over the mapped file; at <= size always. */
typedef struct gr_gguf_reader {
    const uint8_t *data;
    size_t size, at;
} gr_gguf_reader;

/* Numbers of the format. */
enum {
    GR_GGUF_U8,
    GR_GGUF_I8,
    GR_GGUF_U16,
    GR_GGUF_I16,
    GR_GGUF_U32,
    GR_GGUF_I32,
    GR_GGUF_FLOAT,
    GR_GGUF_BOOL,
    GR_GGUF_STRING,
    GR_GGUF_ARRAY,
    GR_GGUF_U64,
    GR_GGUF_I64,
    GR_GGUF_DOUBLE
};

typedef struct gr_gguf_value {
    char *key;     /* owned by the file */
    uint32_t type; /* of the value, or of an array's elements */
    bool array;
    uint64_t count;      /* elements; 1 for a single value */
    const uint8_t *data; /* first element; of a string: its length word */
    uint64_t *offsets;   /* arrays of strings: of each length word from data; NULL otherwise */
} gr_gguf_value;

/* All return false at the end of the file, leaving the cursor where it was. */
bool gr_gguf_read_u32(gr_gguf_reader *in, uint32_t *value);
bool gr_gguf_read_u64(gr_gguf_reader *in, uint64_t *value);
/* A string as a NUL-terminated copy: false when cut off, with a zero byte inside or not UTF-8; *name NULL
 * when out of memory. */
bool gr_gguf_read_name(gr_gguf_reader *in, char **name);
/* Key, type and value. value->key is set as soon as it is known and owned by the caller, as are the offsets.
 */
graft_status gr_gguf_read_value(gr_gguf_reader *in, gr_gguf_value *value, graft_error *err) GR_MUST_CHECK;

/* Bytes of the elements from value->data on. */
size_t gr_gguf_value_bytes(const gr_gguf_value *value);

/* NULL past the end / when absent. */
const gr_gguf_value *gr_gguf_value_at(const gr_gguf *file, size_t index);
const gr_gguf_value *gr_gguf_value_find(const gr_gguf *file, const char *key);

#endif
