/* tests/gguf_bytes.h - GGUF files made in memory, piece by piece. */
#ifndef GGUF_BYTES_H
#define GGUF_BYTES_H
#include "base/memory.h"
#include "files/gguf_value.h"

static inline void put_u32(gr_buf *b, uint32_t x) {
    gr_buf_add(b, &x, 4);
}
static inline void put_u64(gr_buf *b, uint64_t x) {
    gr_buf_add(b, &x, 8);
}

static inline void put_string(gr_buf *b, const char *s) {
    put_u64(b, strlen(s));
    gr_buf_puts(b, s);
}

static inline void put_header(gr_buf *b, uint32_t version, uint64_t tensors, uint64_t keys) {
    gr_buf_puts(b, "GGUF");
    put_u32(b, version);
    put_u64(b, tensors);
    put_u64(b, keys);
}

static inline void put_key_u32(gr_buf *b, const char *key, uint32_t value) {
    put_string(b, key);
    put_u32(b, GR_GGUF_U32);
    put_u32(b, value);
}

static inline void put_key_float(gr_buf *b, const char *key, float value) {
    put_string(b, key);
    put_u32(b, GR_GGUF_FLOAT);
    gr_buf_add(b, &value, 4);
}

static inline void put_key_string(gr_buf *b, const char *key, const char *value) {
    put_string(b, key);
    put_u32(b, GR_GGUF_STRING);
    put_string(b, value);
}

/* The head of an array; its elements follow. */
static inline void put_key_array(gr_buf *b, const char *key, uint32_t type, uint64_t count) {
    put_string(b, key);
    put_u32(b, GR_GGUF_ARRAY);
    put_u32(b, type);
    put_u64(b, count);
}

/* A tensor of one or two dimensions: rows 0 means one. */
static inline void put_tensor(gr_buf *b, const char *name, uint64_t rows, uint64_t cols, uint32_t type,
                              uint64_t offset) {
    put_string(b, name);
    put_u32(b, rows ? 2 : 1);
    put_u64(b, cols);
    if (rows) put_u64(b, rows);
    put_u32(b, type);
    put_u64(b, offset);
}

/* Zero bytes up to a multiple of `to`. */
static inline void put_padding(gr_buf *b, size_t to) {
    while (b->len % to) gr_buf_putc(b, 0);
}

#endif
