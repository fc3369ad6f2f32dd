/* files/gguf.h - reading GGUF v2 and v3: metadata and tensors (mapped, checked). Never interprets names. */
#ifndef GR_FILES_GGUF_H
#define GR_FILES_GGUF_H
#include "base/os.h"
#include "files/tensor.h"

/* Block formats by ggml's numbers; X(NAME, number, elements per block, bytes per block). One row each. */
#define GR_GGUF_TYPE_MAP(X)                                                                                  \
    X(F32, 0, 1, 4)                                                                                          \
    X(F16, 1, 1, 2)                                                                                          \
    X(Q4_0, 2, 32, 18)                                                                                       \
    X(Q4_1, 3, 32, 20)                                                                                       \
    X(Q5_0, 6, 32, 22)                                                                                       \
    X(Q5_1, 7, 32, 24)                                                                                       \
    X(Q8_0, 8, 32, 34)                                                                                       \
    X(Q2_K, 10, 256, 84)                                                                                     \
    X(Q3_K, 11, 256, 110)                                                                                    \
    X(Q4_K, 12, 256, 144) X(Q5_K, 13, 256, 176) X(Q6_K, 14, 256, 210) X(Q8_K, 15, 256, 292) X(BF16, 30, 1, 2)

typedef enum gr_gguf_type {
#define X(name, number, elements, bytes) GR_GGUF_##name = number,
    GR_GGUF_TYPE_MAP(X)
#undef X
} gr_gguf_type;

typedef struct gr_gguf_tensor {
    const char *name;
    gr_gguf_type type;
    int ndim;
    int64_t shape[GR_MAX_DIMS]; /* outermost first: a linear is [out, in] */
    const uint8_t *data;        /* borrowed; aligned to general.alignment at best */
    size_t bytes;
} gr_gguf_tensor;

typedef struct gr_gguf gr_gguf;
graft_status gr_gguf_open_as(gr_gguf **file, const char *path, gr_reading how,
                             graft_error *err) GR_MUST_CHECK;
/* Mapped. */
GR_MUST_CHECK static inline graft_status gr_gguf_open(gr_gguf **file, const char *path, graft_error *err) {
    return gr_gguf_open_as(file, path, GR_MAPPED, err);
}
void gr_gguf_close(gr_gguf *file);
const char *gr_gguf_path(const gr_gguf *file); /* as it was opened */
size_t gr_gguf_count(const gr_gguf *file);
const gr_gguf_tensor *gr_gguf_at(const gr_gguf *file, size_t index);
const gr_gguf_tensor *gr_gguf_find(const gr_gguf *file, const char *name);
const char *gr_gguf_type_name(gr_gguf_type type);
/* Bytes of a tensor of that type and shape (outermost first); false when it overflows, a row is not a whole
 * number of blocks, or the type is unknown. */
bool gr_gguf_tensor_bytes(size_t *bytes, gr_gguf_type type, const int64_t *shape, int ndim);

/* Metadata. Each getter returns false when the key is absent or has another type. */
bool gr_gguf_string(const gr_gguf *file, const char *key, const char **value,
                    size_t *len); /* not NUL-terminated */
bool gr_gguf_int(const gr_gguf *file, const char *key,
                 int64_t *value); /* any integer type or bool that fits */
bool gr_gguf_float(const gr_gguf *file, const char *key, double *value); /* f32, f64 or any integer */
/* Arrays: the count, then elements. */
bool gr_gguf_array(const gr_gguf *file, const char *key, size_t *count);
bool gr_gguf_array_string(const gr_gguf *file, const char *key, size_t index, const char **value,
                          size_t *len);
bool gr_gguf_array_int(const gr_gguf *file, const char *key, size_t index, int64_t *value);
bool gr_gguf_array_float(const gr_gguf *file, const char *key, size_t index, double *value);
/* For `graft info`: key number `index` and a short printable value. NULL past the end. */
const char *gr_gguf_key(const gr_gguf *file, size_t index);
void gr_gguf_value_text(const gr_gguf *file, size_t index, gr_buf *out);

#endif
