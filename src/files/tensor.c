#include "files/tensor.h"

int64_t gr_tensor_count(const gr_tensor *tensor) {
    int64_t count = 1;
    for (int i = 0; i < tensor->ndim; i++) count *= tensor->shape[i];
    return count;
}
