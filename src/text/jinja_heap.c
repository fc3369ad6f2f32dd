/* Memory, limits and errors of a template: all of it ends with the context. */
#include "text/jinja_parts.h"
#include <stdio.h>

struct jblock {
    jblock *next;
    size_t used, cap;
    _Alignas(16) char data[];
};

#define BLOCK_BYTES ((size_t)64 << 10)

void *gr_j_alloc(jctx *c, size_t count, size_t size) {
    size_t bytes, total;
    if (!gr_mul_size(count, size, &bytes) || bytes > GR_J_MAX_HEAP || !gr_add_size(c->heap, bytes, &total) ||
        total > GR_J_MAX_HEAP)
        gr_j_raise(c, GRAFT_RANGE, "the chat template needs more than %zu bytes of memory", GR_J_MAX_HEAP);
    bytes = gr_round_up(bytes ? bytes : 1, 16);
    jblock *block = c->blocks;
    if (!block || block->cap - block->used < bytes) {
        size_t cap = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        block = calloc(1, sizeof *block + cap);
        if (!block) gr_j_raise(c, GRAFT_NO_MEMORY, "could not allocate %zu bytes", cap);
        block->cap = cap;
        block->next = c->blocks;
        c->blocks = block;
    }
    void *p = block->data + block->used;
    block->used += bytes;
    c->heap += bytes;
    return p;
}

void gr_j_free_blocks(jblock *blocks) {
    while (blocks) {
        jblock *next = blocks->next;
        free(blocks);
        blocks = next;
    }
}

_Noreturn void gr_j_raise(jctx *c, graft_status status, const char *fmt, ...) {
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    gr_vformat(text, sizeof text, fmt, ap);
    va_end(ap);
    c->status = gr_fail(c->err, status, "%s", text);
    gr_where(c->err, "line %d of the chat template", c->line);
    longjmp(c->fail, 1);
}

void gr_j_step(jctx *c, size_t n) {
    c->steps += n;
    if (c->steps > GR_J_MAX_STEPS) gr_j_raise(c, GRAFT_RANGE, "the chat template takes too many steps");
}

void gr_j_enter(jctx *c) {
    if (++c->depth > GR_J_MAX_DEPTH)
        gr_j_raise(c, GRAFT_RANGE, "the chat template nests deeper than %d levels", GR_J_MAX_DEPTH);
    gr_j_step(c, 1);
}

static void reserve(jctx *c, jbuild *b, size_t more, bool marked) {
    size_t need = b->n + more + 1; /* both are bounded by the heap */
    if (need > b->cap) {
        size_t cap = b->cap * 2 > need ? b->cap * 2 : need + 32;
        char *p = gr_j_alloc(c, cap, 1);
        if (b->n) memcpy(p, b->p, b->n);
        b->p = p;
        if (b->marks) {
            uint8_t *marks = gr_j_alloc(c, cap, 1);
            memcpy(marks, b->marks, b->n);
            b->marks = marks;
        }
        b->cap = cap;
    }
    if (marked && !b->marks) b->marks = gr_j_alloc(c, b->cap, 1);
}

void gr_j_put(jctx *c, jbuild *b, const char *p, size_t n, const uint8_t *marks) {
    gr_j_step(c, n / 64);
    reserve(c, b, n, marks != NULL);
    if (n) memcpy(b->p + b->n, p, n);
    if (b->marks && n) {
        if (marks)
            memcpy(b->marks + b->n, marks, n);
        else
            memset(b->marks + b->n, 0, n);
    }
    b->n += n;
    b->p[b->n] = 0;
}

void gr_j_put_mark(jctx *c, jbuild *b, const char *p, size_t n, uint8_t mark) {
    if (mark) reserve(c, b, n, true);
    gr_j_put(c, b, p, n, NULL);
    if (mark && n) memset(b->marks + b->n - n, mark, n);
}

void gr_j_puts(jctx *c, jbuild *b, const char *s) {
    gr_j_put(c, b, s, strlen(s), NULL);
}

void gr_j_put_str(jctx *c, jbuild *b, const jstr *s) {
    gr_j_put(c, b, s->p, s->n, s->marks);
}

const jstr *gr_j_built(jctx *c, jbuild *b) {
    jstr *s = gr_j_alloc(c, 1, sizeof *s);
    s->p = b->p ? b->p : "";
    s->n = b->n;
    s->marks = b->marks;
    return s;
}

char *gr_j_format(jctx *c, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    gr_vformat(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t n = strlen(text) + 1;
    char *copy = gr_j_alloc(c, n, 1);
    memcpy(copy, text, n);
    return copy;
}
