/* files/tensor.h - a tensor as a file describes it: name, type, shape, and where its bytes are (mapped). */
#ifndef GR_FILES_TENSOR_H
#define GR_FILES_TENSOR_H
#include "base/dtype.h"
#include "base/memory.h"

#define GR_MAX_DIMS 8

typedef struct gr_tensor {
    const char *name; /* borrowed from the file object */
    gr_dtype dtype;
    int ndim;
    int64_t shape[GR_MAX_DIMS]; /* row-major, outermost first (GGUF's order is reversed on reading) */
    const uint8_t *data;        /* borrowed, may be unaligned */
    size_t bytes;
} gr_tensor;

/* Product of the shape (1 for a scalar). The reader has checked that it fits. */
int64_t gr_tensor_count(const gr_tensor *tensor);

#endif
