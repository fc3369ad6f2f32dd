/* tests/process_state.h - what a process holds right now: resident pages, open descriptors, threads. Linux.
 */
#ifndef PROCESS_STATE_H
#define PROCESS_STATE_H
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Entries of a directory of /proc, without . and ..; -1 where there is none. */
static inline int process_entries(const char *path) {
    DIR *dir = opendir(path);
    int n = -2;
    if (!dir) return -1;
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

/* Descriptors but the one that looks. */
static inline int process_descriptors(void) {
    int n = process_entries("/proc/self/fd");
    return n < 0 ? n : n - 1;
}

/* A thread that was joined may still be listed for a moment: looks until two looks agree. */
static inline int process_threads(void) {
    int n = process_entries("/proc/self/task");
    for (int before = -1; n != before;) {
        usleep(20000);
        before = n;
        n = process_entries("/proc/self/task");
    }
    return n;
}

/* KiB of a field of the kernel's sum over all mappings, counted page by page (VmRSS is brought up to date
 * late). "Rss"; "Anonymous": heap, stacks, arenas, without the pages of files, which come and go with the
 * system's cache. -1 where the system cannot tell. */
static inline long process_kib(const char *field) {
    char line[256];
    long kib = -1;
    size_t n = strlen(field);
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    if (!file) return -1;
    while (kib < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, field, n) == 0 && line[n] == ':') sscanf(line + n + 1, "%ld", &kib);
    fclose(file);
    return kib;
}

#endif
