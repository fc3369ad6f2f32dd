/* fuzz/memory_file.h - bytes as a file that can be opened by name and is gone when its descriptor is closed.
 */
#ifndef MEMORY_FILE_H
#define MEMORY_FILE_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Returns the descriptor to close; path names the file meanwhile. */
static inline int memory_file(char path[64], const uint8_t *data, size_t size) {
    char shm[] = "/dev/shm/graft-fuzz-XXXXXX", tmp[] = "/tmp/graft-fuzz-XXXXXX";
    char *name = access("/dev/shm", W_OK) == 0 ? shm : tmp; /* memory where the system has such a place */
    int fd = mkstemp(name);
    if (fd < 0 || unlink(name) != 0) abort();
    for (size_t at = 0; at < size;) {
        ssize_t n = write(fd, data + at, size - at);
        if (n <= 0) abort();
        at += (size_t)n;
    }
    snprintf(path, 64, "/dev/fd/%d", fd);
    return fd;
}

#endif
