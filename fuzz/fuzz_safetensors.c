/* Any bytes as a safetensors file: refused, or every tensor readable to its last byte. */
#include "files/safetensors.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    graft_error err = {0};
    gr_safetensors *file;
    char path[64];
    int fd = memory_file(path, data, size);
    if (gr_safetensors_open(&file, path, &err) == GRAFT_OK) {
        volatile uint8_t sum = 0;
        for (size_t i = 0; i < gr_safetensors_count(file); i++) {
            const gr_tensor *t = gr_safetensors_at(file, i);
            for (size_t b = 0; b < t->bytes; b++) sum = (uint8_t)(sum + t->data[b]);
            if ((size_t)gr_tensor_count(t) * gr_dtype_bytes(t->dtype) != t->bytes) abort();
            if (gr_safetensors_find(file, t->name) != t) abort();
        }
        gr_safetensors_close(file);
    } else if (err.status == GRAFT_OK || !err.what[0]) {
        abort();
    }
    close(fd);
    return 0;
}
