/* graft_file.h - a file that the host holds in memory, for systems and applications without one on a disk.
 */
#ifndef GRAFT_FILE_H
#define GRAFT_FILE_H
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whatever opens `path` reads these bytes, and the disk is not asked. Paths are compared as they are written,
 * so "base/config.json" is found by the model "base". The bytes are copied each time it is opened. The list
 * and its bytes stay for as long as options that name them are borrowed: a chat or a server opens adapters
 * later. */
typedef struct graft_file {
    const char *path;
    const void *data;
    size_t bytes;
} graft_file;

#ifdef __cplusplus
}
#endif
#endif
