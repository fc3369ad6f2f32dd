/* Any bytes as a JSONL file: rows lie inside the file, in order, and hold no newline. */
#include "files/jsonl.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    graft_error err = {0};
    gr_jsonl *file;
    char path[64];
    uint64_t last = 0;
    int fd = memory_file(path, data, size);
    if (gr_jsonl_open(&file, path, &err) != GRAFT_OK)
        abort(); /* nothing in a file can be wrong at this level */
    for (size_t i = 0; i < gr_jsonl_count(file); i++) {
        const char *text;
        size_t len;
        uint64_t line;
        gr_jsonl_row(file, i, &text, &len, &line);
        if (!len || memchr(text, '\n', len) || line <= last) abort();
        last = line;
    }
    gr_jsonl_close(file);
    close(fd);
    return 0;
}
