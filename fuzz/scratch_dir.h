/* fuzz/scratch_dir.h - a directory for what a target has to have as files: in memory where the system has
 * such a place, and emptied with all that the code under test wrote into it. */
#ifndef SCRATCH_DIR_H
#define SCRATCH_DIR_H
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct scratch_dir {
    char path[40];
} scratch_dir;

static inline scratch_dir scratch_dir_new(void) {
    scratch_dir shm = {"/dev/shm/graft-fuzz-XXXXXX"}, tmp = {"/tmp/graft-fuzz-XXXXXX"};
    scratch_dir dir = access("/dev/shm", W_OK) == 0 ? shm : tmp;
    if (!mkdtemp(dir.path)) abort();
    return dir;
}

static inline int scratch_remove(const char *path, const struct stat *info, int flag, struct FTW *ftw) {
    (void)info;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static inline void scratch_dir_free(const scratch_dir *dir) {
    if (nftw(dir->path, scratch_remove, 8, FTW_DEPTH | FTW_PHYS) != 0) abort();
}

static inline void scratch_file(const scratch_dir *dir, const char *name, const void *data, size_t size) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", dir->path, name);
    FILE *file = fopen(path, "wb");
    if (!file || (size && fwrite(data, 1, size, file) != size) || fclose(file) != 0) abort();
}

#endif
