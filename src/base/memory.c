#include "base/memory.h"
#include "base/number.h"
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>

char *gr_strndup(const char *s, size_t n) {
    char *copy = malloc(n + 1);
    if (!copy) return NULL;
    memcpy(copy, s, n);
    copy[n] = 0;
    return copy;
}

char *gr_strdup(const char *s) {
    return gr_strndup(s, strlen(s));
}

bool gr_grow(void **items, size_t *cap, size_t count, size_t size) {
    if (count < *cap) return true;
    size_t more = *cap ? *cap * 2 : 8;
    void *grown = gr_realloc_array(*items, more, size);
    if (!grown) return false;
    *items = grown;
    *cap = more;
    return true;
}

/* Makes room for n more bytes and the NUL. */
static bool buf_room(gr_buf *buf, size_t n) {
    size_t need;
    if (buf->failed) return false;
    if (!gr_add_size(buf->len, n, &need) || !gr_add_size(need, 1, &need)) {
        buf->failed = true;
        return false;
    }
    if (need <= buf->cap) return true;
    size_t cap = buf->cap ? buf->cap : 64;
    while (cap < need) cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    char *grown = realloc(buf->data, cap);
    if (!grown) {
        buf->failed = true;
        return false;
    }
    buf->data = grown;
    buf->cap = cap;
    return true;
}

void gr_buf_add(gr_buf *buf, const void *bytes, size_t n) {
    if (!buf_room(buf, n)) return;
    if (n) memcpy(buf->data + buf->len, bytes, n);
    buf->len += n;
    buf->data[buf->len] = 0;
}

void gr_buf_puts(gr_buf *buf, const char *s) {
    gr_buf_add(buf, s, strlen(s));
}

void gr_buf_putc(gr_buf *buf, char c) {
    gr_buf_add(buf, &c, 1);
}

void gr_buf_printf(gr_buf *buf, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = gr_vformat(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        buf->failed = true;
    } else if (buf_room(buf, (size_t)n)) {
        gr_vformat(buf->data + buf->len, (size_t)n + 1, fmt, again);
        buf->len += (size_t)n;
    }
    va_end(again);
}

void gr_buf_clear(gr_buf *buf) {
    buf->len = 0;
    if (buf->data) buf->data[0] = 0;
}

void gr_buf_free(gr_buf *buf) {
    free(buf->data);
    memset(buf, 0, sizeof *buf);
}

char *gr_buf_take(gr_buf *buf) {
    buf_room(buf, 0); /* an empty buffer still gives "" */
    char *data = buf->failed ? NULL : buf->data;
    if (data)
        data[buf->len] = 0;
    else
        free(buf->data);
    memset(buf, 0, sizeof *buf);
    return data;
}

void *gr_arena_take(gr_arena *arena, size_t bytes) {
    size_t start = gr_round_up(arena->used, GR_ARENA_ALIGN), end;
    if (!gr_add_size(start, bytes, &end)) {
        arena->overflow = true;
        return NULL;
    }
    arena->used = end;
    if (!arena->base) return NULL;
    if (end > arena->cap) {
        arena->overflow = true;
        return NULL;
    }
    return arena->base + start;
}

void *gr_arena_array(gr_arena *arena, int64_t count, size_t size) {
    size_t bytes;
    if (count < 0 || !gr_mul_size((size_t)count, size, &bytes)) {
        arena->overflow = true;
        return NULL;
    }
    return gr_arena_take(arena, bytes);
}

#define HUGE_PAGE ((size_t)2 << 20)

graft_status gr_arena_reserve(gr_arena *arena, size_t bytes, graft_error *err) {
    size_t cap = gr_round_up(bytes ? bytes : 1, 4096);
    /* MAP_NORESERVE: the kernel counts pages when they are touched, as our forecast does. */
    void *base = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return gr_no_memory(err, cap);
#ifdef MADV_HUGEPAGE
    if (cap >= 4 * HUGE_PAGE) madvise(base, cap, MADV_HUGEPAGE);
#endif
    *arena = (gr_arena){.base = base, .cap = cap};
    return GRAFT_OK;
}

void gr_arena_free(gr_arena *arena) {
    if (arena->base) munmap(arena->base, arena->cap);
    memset(arena, 0, sizeof *arena);
}
