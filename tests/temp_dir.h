/* tests/temp_dir.h - a directory for a test's files, removed with all it holds. */
#ifndef TEMP_DIR_H
#define TEMP_DIR_H
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct temp_dir {
    char path[64];
    char joined[8][256]; /* the last eight results of temp_path */
    int next;
} temp_dir;

static inline temp_dir temp_dir_new(void) {
    temp_dir dir = {.path = "/tmp/graft-test-XXXXXX"};
    if (!mkdtemp(dir.path)) abort();
    return dir;
}

static inline int temp_dir_remove_one(const char *path, const struct stat *info, int flag, struct FTW *ftw) {
    (void)info;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static inline void temp_dir_free(temp_dir *dir) {
    nftw(dir->path, temp_dir_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* DIR/name; valid until seven more calls. */
static inline const char *temp_path(temp_dir *dir, const char *name) {
    char *out = dir->joined[dir->next++ % 8], base[sizeof dir->path];
    memcpy(base, dir->path, sizeof base); /* the compiler fears that source and result overlap */
    snprintf(out, sizeof dir->joined[0], "%s/%s", base, name);
    return out;
}

/* Writes a file and returns its path. */
static inline const char *temp_file(temp_dir *dir, const char *name, const void *data, size_t size) {
    const char *path = temp_path(dir, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) abort();
    return path;
}

#endif
