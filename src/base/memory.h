/* base/memory.h - checked arithmetic, allocation with checked sizes, growing buffers, arenas.
 * May include: base only. Never: an unchecked product of numbers that came from a file.
 */
#ifndef GR_BASE_MEMORY_H
#define GR_BASE_MEMORY_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* *out = a + b, a * b; false when the result does not fit (then *out is unspecified). */
static inline bool gr_add_size(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}
static inline bool gr_mul_size(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool gr_mul_i64(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

/* n rounded up to a multiple of `to` (a power of two). */
static inline size_t gr_round_up(size_t n, size_t to) {
    return (n + to - 1) & ~(to - 1);
}

static inline size_t gr_min_size(size_t a, size_t b) {
    return a < b ? a : b;
}
static inline int64_t gr_min_i64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t gr_max_i64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* count * size bytes, zeroed, or NULL (also on overflow). Owned by caller until free(). */
static inline void *gr_calloc(size_t count, size_t size) {
    return calloc(count ? count : 1, size ? size : 1);
}

/* Resizes to count * size bytes; NULL on failure (ptr stays valid). New bytes are not cleared. */
static inline void *gr_realloc_array(void *ptr, size_t count, size_t size) {
    size_t bytes;
    if (!gr_mul_size(count, size, &bytes)) return NULL;
    return realloc(ptr, bytes ? bytes : 1);
}

/* A copy of the first n bytes of s with a terminating NUL; NULL on failure. Owned by caller until free(). */
char *gr_strndup(const char *s, size_t n);
char *gr_strdup(const char *s);
static inline bool gr_ends_with(const char *s, const char *suffix) {
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

/* Makes room for one more element in a growing array: *items has *cap elements of `size` bytes, `count` used.
 * Returns false on failure (array unchanged). */
bool gr_grow(void **items, size_t *cap, size_t count, size_t size);

/* ---- growing byte buffer; always NUL-terminated when data != NULL. Failure is sticky: test `failed` once.
 */
typedef struct gr_buf {
    char *data;
    size_t len, cap;
    bool failed;
} gr_buf;

void gr_buf_add(gr_buf *buf, const void *bytes, size_t n);
void gr_buf_puts(gr_buf *buf, const char *s);
void gr_buf_putc(gr_buf *buf, char c);
void gr_buf_printf(gr_buf *buf, const char *fmt, ...) GR_PRINTF(2, 3);
void gr_buf_clear(gr_buf *buf); /* empties, keeps the memory */
void gr_buf_free(gr_buf *buf);
/* Hands the bytes to the caller (free()), NULL if an allocation failed; buf is empty afterwards. */
char *gr_buf_take(gr_buf *buf);

/* ---- arena: one reserved block, taken from front to back.
 * With base == NULL it only counts: gr_arena_take returns NULL and `used` still grows. The same bind code
 * therefore runs twice, once to measure and once for real. Taking more than `cap` sets `overflow`. */
typedef struct gr_arena {
    char *base;
    size_t used, cap;
    bool overflow;
} gr_arena;

#define GR_ARENA_ALIGN 64

/* `bytes` bytes aligned to 64; NULL while measuring or after overflow. Not cleared. */
void *gr_arena_take(gr_arena *arena, size_t bytes);
/* count elements of `size` bytes. Overflow of the product sets `overflow`. */
void *gr_arena_array(gr_arena *arena, int64_t count, size_t size);
/* Reserves zeroed pages from the system (huge pages asked for); they cost memory only once touched. */
graft_status gr_arena_reserve(gr_arena *arena, size_t bytes, graft_error *err);
void gr_arena_free(gr_arena *arena);

#endif
