#include "files/gguf_write.h"
#include <stdio.h>

/* ---- metadata */

static void put_u32(gr_buf *b, uint32_t value) {
    gr_buf_add(b, &value, sizeof value);
}

static void put_u64(gr_buf *b, uint64_t value) {
    gr_buf_add(b, &value, sizeof value);
}

static void put_text(gr_buf *b, const char *text) {
    size_t n = strlen(text);
    put_u64(b, n);
    gr_buf_add(b, text, n);
}

static gr_buf *put_key(gr_gguf_keys *keys, const char *key, uint32_t type) {
    keys->count++;
    put_text(&keys->bytes, key);
    put_u32(&keys->bytes, type);
    return &keys->bytes;
}

void gr_gguf_put_string(gr_gguf_keys *keys, const char *key, const char *value) {
    put_text(put_key(keys, key, GR_GGUF_STRING), value);
}

void gr_gguf_put_u32(gr_gguf_keys *keys, const char *key, uint32_t value) {
    put_u32(put_key(keys, key, GR_GGUF_U32), value);
}

void gr_gguf_put_float(gr_gguf_keys *keys, const char *key, float value) {
    gr_buf_add(put_key(keys, key, GR_GGUF_FLOAT), &value, sizeof value);
}

void gr_gguf_put_bool(gr_gguf_keys *keys, const char *key, bool value) {
    gr_buf_putc(put_key(keys, key, GR_GGUF_BOOL), value);
}

void gr_gguf_put_value(gr_gguf_keys *keys, const gr_gguf_value *value) {
    gr_buf *b = put_key(keys, value->key, value->array ? GR_GGUF_ARRAY : value->type);
    if (value->array) {
        put_u32(b, value->type);
        put_u64(b, value->count);
    }
    gr_buf_add(b, value->data, gr_gguf_value_bytes(value));
    if (strcmp(value->key, "general.alignment") == 0 && value->type == GR_GGUF_U32 && !value->array) {
        uint32_t alignment;
        memcpy(&alignment, value->data, sizeof alignment);
        keys->alignment = alignment;
    }
}

void gr_gguf_keys_free(gr_gguf_keys *keys) {
    gr_buf_free(&keys->bytes);
    *keys = (gr_gguf_keys){0};
}

/* ---- the file */

struct gr_gguf_writer {
    gr_writer out;
    size_t *bytes;           /* [count], of each tensor */
    size_t count, at, given; /* tensor in progress, and what of it is written */
    uint64_t alignment;
};

static graft_status pad(gr_gguf_writer *w, uint64_t n, graft_error *err) {
    static const char zeros[256] = {0};
    for (uint64_t left = n; left > 0;) {
        size_t piece = left < sizeof zeros ? (size_t)left : sizeof zeros;
        GR_TRY(gr_writer_write(&w->out, zeros, piece, err));
        left -= piece;
    }
    return GRAFT_OK;
}

/* Goes on to the first tensor with bytes that are still to come. */
static graft_status next_tensor(gr_gguf_writer *w, graft_error *err) {
    while (w->at < w->count && w->given == w->bytes[w->at]) {
        GR_TRY(pad(w, gr_round_up(w->given, w->alignment) - w->given, err));
        w->at++;
        w->given = 0;
    }
    return GRAFT_OK;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static graft_status check_tensors(const char *path, const gr_gguf_tensor *tensors, size_t count,
                                  graft_error *err) {
    const char **names = gr_calloc(count, sizeof *names);
    graft_status st = names ? GRAFT_OK : gr_no_memory(err, count * sizeof *names);
    for (size_t i = 0; st == GRAFT_OK && i < count; i++) {
        const gr_gguf_tensor *t = &tensors[i];
        size_t bytes;
        names[i] = t->name;
        if (!gr_gguf_tensor_bytes(&bytes, t->type, t->shape, t->ndim) || bytes != t->bytes)
            st = gr_fail(err, GRAFT_INTERNAL, "tensor %s is declared with %zu bytes, its shape has others",
                         t->name, t->bytes);
    }
    if (st == GRAFT_OK) qsort(names, count, sizeof *names, by_text);
    for (size_t i = 1; st == GRAFT_OK && i < count; i++)
        if (strcmp(names[i], names[i - 1]) == 0)
            st = gr_fail(err, GRAFT_INTERNAL, "tensor %s is declared twice", names[i]);
    free(names);
    if (st != GRAFT_OK) gr_where(err, "%s", path);
    return st;
}

/* Everything before the data, but for its padding. */
static void put_header(gr_buf *b, const gr_gguf_keys *keys, uint64_t alignment, const gr_gguf_tensor *tensors,
                       size_t count) {
    uint64_t offset = 0;
    gr_buf_puts(b, "GGUF");
    put_u32(b, 3);
    put_u64(b, count);
    put_u64(b, keys->count);
    gr_buf_add(b, keys->bytes.data, keys->bytes.len);
    for (size_t i = 0; i < count; i++) {
        const gr_gguf_tensor *t = &tensors[i];
        put_text(b, t->name);
        put_u32(b, (uint32_t)t->ndim);
        for (int d = t->ndim - 1; d >= 0; d--) put_u64(b, (uint64_t)t->shape[d]); /* innermost first */
        put_u32(b, (uint32_t)t->type);
        put_u64(b, offset);
        offset += gr_round_up(t->bytes, alignment);
    }
}

static graft_status begin(gr_gguf_writer *w, const char *path, const gr_gguf_keys *keys,
                          const gr_gguf_tensor *tensors, graft_error *err) {
    gr_buf head = {0};
    for (size_t i = 0; i < w->count; i++) w->bytes[i] = tensors[i].bytes;
    put_header(&head, keys, w->alignment, tensors, w->count);
    graft_status st = head.failed || keys->bytes.failed ? gr_no_memory(err, head.len) : GRAFT_OK;
    if (st == GRAFT_OK) st = gr_writer_begin(&w->out, path, err);
    if (st == GRAFT_OK) {
        st = gr_writer_write(&w->out, head.data, head.len, err);
        if (st == GRAFT_OK) st = pad(w, gr_round_up(head.len, w->alignment) - head.len, err);
        if (st != GRAFT_OK) gr_writer_abort(&w->out);
    }
    gr_buf_free(&head);
    return st;
}

static void drop(gr_gguf_writer *w) {
    free(w->bytes);
    free(w);
}

graft_status gr_gguf_create(gr_gguf_writer **writer, const char *path, gr_gguf_keys *keys,
                            const gr_gguf_tensor *tensors, size_t count, graft_error *err) {
    *writer = NULL;
    graft_status st = check_tensors(path, tensors, count, err);
    gr_gguf_writer *w = st == GRAFT_OK ? gr_calloc(1, sizeof *w) : NULL;
    if (w) w->bytes = gr_calloc(count, sizeof *w->bytes);
    if (st == GRAFT_OK && (!w || !w->bytes)) st = gr_no_memory(err, sizeof *w + count * sizeof *w->bytes);
    if (st == GRAFT_OK) {
        w->count = count;
        w->alignment = keys->alignment ? keys->alignment : 32;
        st = begin(w, path, keys, tensors, err);
    }
    gr_gguf_keys_free(keys);
    if (st == GRAFT_OK)
        *writer = w;
    else if (w)
        drop(w);
    return st;
}

graft_status gr_gguf_write(gr_gguf_writer *w, const void *bytes, size_t n, graft_error *err) {
    GR_TRY(next_tensor(w, err));
    if (n && (w->at == w->count || n > w->bytes[w->at] - w->given)) {
        gr_fail(err, GRAFT_INTERNAL, "more bytes than tensor %zu was declared with", w->at);
        return gr_where(err, "%s", w->out.path);
    }
    w->given += n;
    return gr_writer_write(&w->out, bytes, n, err);
}

graft_status gr_gguf_seal(gr_gguf_writer *w, graft_error *err) {
    graft_status st = next_tensor(w, err);
    if (st == GRAFT_OK && w->at < w->count) {
        gr_fail(err, GRAFT_INTERNAL, "the tensors' bytes do not match their declaration");
        gr_where(err, "%s", w->out.path);
        gr_expected(err, "%zu bytes of tensor %zu", w->bytes[w->at], w->at);
        st = gr_found(err, "%zu", w->given);
    }
    if (st == GRAFT_OK)
        st = gr_writer_seal(&w->out, err);
    else
        gr_writer_abort(&w->out);
    if (st != GRAFT_OK) drop(w);
    return st;
}

graft_status gr_gguf_replace(gr_gguf_writer *w, graft_error *err) {
    GR_TRY(gr_gguf_seal(w, err));
    graft_status st = gr_writer_replace(&w->out, err);
    gr_gguf_abort(w);
    return st;
}

graft_status gr_gguf_commit(gr_gguf_writer *w, graft_error *err) {
    GR_TRY(gr_gguf_seal(w, err));
    graft_status st = gr_writer_commit(&w->out, err);
    drop(w);
    return st;
}

void gr_gguf_abort(gr_gguf_writer *w) {
    if (!w) return;
    gr_writer_abort(&w->out);
    drop(w);
}
