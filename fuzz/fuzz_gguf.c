/* Any bytes as a GGUF file: refused, or all metadata and tensors readable. */
#include "files/gguf.h"
#include "memory_file.h"

static void read_metadata(const gr_gguf *file) {
    gr_buf text = {0};
    const char *key, *string;
    size_t count, len;
    int64_t whole;
    double real;
    for (size_t i = 0; (key = gr_gguf_key(file, i)); i++) {
        gr_gguf_value_text(file, i, &text);
        gr_gguf_int(file, key, &whole);
        gr_gguf_float(file, key, &real);
        gr_gguf_string(file, key, &string, &len);
        if (!gr_gguf_array(file, key, &count) || !count) continue;
        gr_gguf_array_int(file, key, count - 1, &whole);
        gr_gguf_array_float(file, key, count - 1, &real);
        if (gr_gguf_array_string(file, key, count - 1, &string, &len)) gr_buf_add(&text, string, len);
        if (gr_gguf_array_int(file, key, count, &whole)) abort();
    }
    gr_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    graft_error err = {0};
    gr_gguf *file;
    char path[64];
    int fd = memory_file(path, data, size);
    if (gr_gguf_open(&file, path, &err) == GRAFT_OK) {
        volatile uint8_t sum = 0;
        read_metadata(file);
        for (size_t i = 0; i < gr_gguf_count(file); i++) {
            const gr_gguf_tensor *t = gr_gguf_at(file, i);
            for (size_t b = 0; b < t->bytes; b++) sum = (uint8_t)(sum + t->data[b]);
            if (gr_gguf_find(file, t->name) != t) abort();
        }
        gr_gguf_close(file);
    } else if (err.status == GRAFT_OK || !err.what[0]) {
        abort();
    }
    close(fd);
    return 0;
}
