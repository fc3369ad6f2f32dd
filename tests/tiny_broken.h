/* tests/tiny_broken.h - a tiny model that goes wrong for some rows and not for others. */
#ifndef TINY_BROKEN_H
#define TINY_BROKEN_H
#include "tests/tiny_run.h"

/* A model whose embedding of 'Z' alone is not a number, so that only rows with a Z go wrong. */
static inline char *broken_model(const char *name, int bits) {
    char *dir = tiny_model_dir(root, name, &(tiny_spec){.untied = true, .bits = bits});
    char *path = tiny_join(dir, "model.safetensors");
    graft_error err = {0};
    gr_safetensors *file;
    size_t size;
    float row[TINY_HIDDEN];
    if (gr_safetensors_open(&file, path, &err) != GRAFT_OK) fail_msg("%s", err.what);
    const gr_tensor *embed = gr_safetensors_find(file, "model.embed_tokens.weight");
    memcpy(row, embed->data + 'Z' * sizeof row, sizeof row);
    gr_safetensors_close(file);
    char *bytes = tiny_read(dir, "model.safetensors", &size), *at = memmem(bytes, size, row, sizeof row);
    assert_non_null(at);
    row[5] = NAN;
    row[6] = INFINITY;
    memcpy(at, row, sizeof row);
    assert_int_equal(gr_file_replace(path, bytes, size, &err), GRAFT_OK);
    free(bytes);
    free(path);
    return dir;
}

#endif
