#include "base/os.h"
#include "base/number.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h> /* malloc_trim */
#endif

int gr_open(const char *path, int flags, int mode) {
    int fd;
    do fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR); /* a network's file system may be asked again */
    return fd;
}

/* Opens for reading and gives the size; refuses directories and other things without a size. A FIFO without a
 * writer would block the opening for ever: O_NONBLOCK, which means nothing for regular files. */
static graft_status open_regular(int *fd, size_t *size, const char *path, graft_error *err) {
    struct stat info;
    *fd = gr_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (*fd < 0) return gr_fail_errno(err, errno, "cannot open", path);
    if (fstat(*fd, &info) != 0) {
        int os_errno = errno;
        close(*fd);
        return gr_fail_errno(err, os_errno, "cannot read", path);
    }
    if (!S_ISREG(info.st_mode)) {
        close(*fd);
        gr_fail(err, GRAFT_IO, "cannot read: not a regular file");
        return gr_where(err, "%s", path);
    }
    *size = (size_t)info.st_size;
    return GRAFT_OK;
}

/* All of the file's `total` bytes, or as many as there are. */
static graft_status read_all(char *to, size_t total, size_t *have, int fd, const char *path,
                             graft_error *err) {
    *have = 0;
    while (*have < total) {
        ssize_t n = read(fd, to + *have, total - *have > INT_MAX ? INT_MAX : total - *have);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return gr_fail_errno(err, errno, "cannot read", path);
        if (n == 0) break;
        *have += (size_t)n;
    }
    return GRAFT_OK;
}

/* Into memory that is shared (with nobody): what gr_map_release drops from it comes back as it was. Of
 * GR_HEAD the pages behind `want` bytes are never touched and take nothing. */
static graft_status read_map(gr_map *map, size_t want, int fd, const char *path, graft_error *err) {
    size_t have;
    void *data = mmap(NULL, map->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return gr_no_memory(err, map->size);
    map->data = data;
    GR_TRY(read_all(data, want, &have, fd, path, err));
    if (have == want) return mprotect(data, map->size, PROT_READ) == 0 ? GRAFT_OK : gr_no_memory(err, 0);
    gr_fail(err, GRAFT_CORRUPT, "the file shrank while it was read");
    gr_where(err, "%s", path);
    gr_expected(err, "%zu bytes", want);
    return gr_found(err, "%zu", have);
}

#define HEAD_BYTES ((size_t)1 << 20)

/* The caller's file at this path, or NULL. */
static const graft_file *held(const char *path, gr_reading how) {
    for (size_t i = 0; i < how.count; i++)
        if (strcmp(how.files[i].path, path) == 0) return &how.files[i];
    return NULL;
}

/* A copy, in memory of the kind that read_map takes, and for the same reason. */
static graft_status copy_map(gr_map *map, const graft_file *file, graft_error *err) {
    if (!file->bytes) return GRAFT_OK;
    void *data = mmap(NULL, file->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return gr_no_memory(err, file->bytes);
    *map = (gr_map){data, file->bytes};
    memcpy(data, file->data, file->bytes);
    return GRAFT_OK;
}

graft_status gr_map_open(gr_map *map, const char *path, gr_reading how, graft_error *err) {
    int fd;
    graft_status st = GRAFT_OK;
    *map = (gr_map){0};
    const graft_file *file = held(path, how);
    if (file) return copy_map(map, file, err);
    GR_TRY(open_regular(&fd, &map->size, path, err));
    if (map->size && how.kind != GR_READ_MAPPED) {
        st = read_map(map, how.kind == GR_READ_HEAD ? gr_min_size(map->size, HEAD_BYTES) : map->size, fd,
                      path, err);
    } else if (map->size) {
        void *data = mmap(NULL, map->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            st = gr_fail_errno(err, errno, "cannot map", path);
        else
            map->data = data;
    }
    close(fd);
    if (st != GRAFT_OK) gr_map_close(map);
    return st;
}

void gr_map_close(gr_map *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (gr_map){0};
}

void gr_map_release(const void *start, size_t bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)start + page - 1) / page * page,
              last = ((uintptr_t)start + bytes) / page * page;
    if (first < last) madvise((void *)first, last - first, MADV_DONTNEED);
}

bool gr_file_uncache(const char *path) {
#ifdef POSIX_FADV_DONTNEED
    int fd = gr_open(path, O_RDONLY, 0);
    if (fd < 0) return false;
    bool done = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0;
    close(fd);
    return done;
#else
    (void)path;
    return false;
#endif
}

static graft_status too_large(const char *path, size_t limit, size_t total, graft_error *err) {
    gr_fail(err, GRAFT_RANGE, "file is larger than this kind of file can be");
    gr_where(err, "%s", path);
    gr_expected(err, "at most %zu bytes", limit);
    return gr_found(err, "%zu bytes", total);
}

graft_status gr_file_read_as(char **data, size_t *size, const char *path, size_t limit, gr_reading how,
                             graft_error *err) {
    int fd = -1;
    size_t total, have;
    *data = NULL;
    *size = 0;
    const graft_file *file = held(path, how);
    if (file)
        total = file->bytes;
    else
        GR_TRY(open_regular(&fd, &total, path, err));
    char *bytes = total > limit ? NULL : malloc(total + 1);
    graft_status st = total > limit ? too_large(path, limit, total, err)
                      : !bytes      ? gr_no_memory(err, total)
                                    : GRAFT_OK;
    if (st == GRAFT_OK && file)
        memcpy(bytes, total ? file->data : "", have = total);
    else if (st == GRAFT_OK)
        st = read_all(bytes, total, &have, fd, path, err);
    if (!file) close(fd);
    if (st != GRAFT_OK) {
        free(bytes);
        return st;
    }
    bytes[have] = 0; /* where the file shrank meanwhile: what is there is what we report */
    *data = bytes;
    *size = have;
    return GRAFT_OK;
}

graft_status gr_make_dirs(const char *path, graft_error *err) {
    if (!path[0]) return gr_fail(err, GRAFT_USAGE, "an empty path is no directory");
    char *part = gr_strdup(path);
    if (!part) return gr_no_memory(err, strlen(path));
    graft_status st = GRAFT_OK;
    for (char *p = part + 1; st == GRAFT_OK; p++) {
        if (*p != '/' && *p) continue;
        char keep = *p;
        *p = 0;
        if (mkdir(part, 0777) == 0)
            st = gr_dir_sync_of(part, err); /* what is synced inside is lost with its name */
        else if (errno != EEXIST) {
            int os_errno = errno; /* of a mount without writing also EROFS, for one that is there */
            if (!gr_path_is_dir(part)) st = gr_fail_written(err, os_errno, "cannot create directory", part);
        }
        *p = keep;
        if (!keep) break;
    }
    if (st == GRAFT_OK && !gr_path_is_dir(path)) {
        gr_fail(err, GRAFT_IO, "not a directory");
        st = gr_where(err, "%s", path);
    }
    free(part);
    return st;
}

static bool holds_dir(const char *path, gr_reading how) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    for (size_t i = 0; i < how.count; i++)
        if (strncmp(how.files[i].path, path, n) == 0 && how.files[i].path[n] == '/') return true;
    return false;
}

/* What a file system that does not answer (a lost mount, say) leaves open is answered by opening. */
static bool cannot_be(int os_errno) {
    return os_errno == ENOENT || os_errno == ENOTDIR || os_errno == ENAMETOOLONG;
}

bool gr_path_exists_as(const char *path, gr_reading how) {
    struct stat info;
    if (held(path, how) || holds_dir(path, how)) return true;
    return stat(path, &info) == 0 || !cannot_be(errno);
}

bool gr_path_is_dir_as(const char *path, gr_reading how) {
    struct stat info;
    if (holds_dir(path, how)) return true;
    if (held(path, how)) return false;
    return stat(path, &info) == 0 ? S_ISDIR(info.st_mode) : !cannot_be(errno);
}

DIR *gr_list_open(const char *dir) {
    DIR *list;
    do list = opendir(dir);
    while (!list && errno == EINTR);
    return list;
}

char *gr_env_path(const char *const (*rows)[2], size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *value = getenv(rows[i][0]);
        if (value && *value) return *rows[i][1] ? gr_path_join(value, rows[i][1]) : gr_strdup(value);
    }
    return NULL;
}

char *gr_path_join(const char *dir, const char *name) {
    gr_buf path = {0};
    size_t n = strlen(dir);
    gr_buf_printf(&path, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
    return gr_buf_take(&path);
}

double gr_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A "Key:   123 kB" line of a /proc file, in bytes; 0 if it is not there. */
static uint64_t proc_kilobytes(const char *path, const char *key) {
    FILE *file = fopen(path, "re");
    char line[256];
    uint64_t kb = 0;
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, key, strlen(key)) == 0) {
            kb = strtoull(line + strlen(key), NULL, 10);
            break;
        }
    }
    fclose(file);
    return kb * 1024;
}

uint64_t gr_peak_rss(void) {
    uint64_t bytes = proc_kilobytes("/proc/self/status", "VmHWM:");
    if (bytes) return bytes;
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#ifdef __APPLE__
    return (uint64_t)usage.ru_maxrss; /* bytes there, kilobytes elsewhere */
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

bool gr_peak_rss_reset(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    int fd = gr_open("/proc/self/clear_refs", O_WRONLY, 0); /* proc(5): 5 resets the peak */
    if (fd < 0) return false;
    bool done = write(fd, "5", 1) == 1;
    close(fd);
    return done;
}

uint64_t gr_current_rss(void) {
    return proc_kilobytes("/proc/self/status", "VmRSS:");
}

uint64_t gr_memory_available(void) {
    return proc_kilobytes("/proc/meminfo", "MemAvailable:");
}

graft_status gr_memory_fits(uint64_t bytes, uint64_t available, graft_error *err, const char *what, ...) {
    char text[120];
    va_list args;
    if (!available || bytes <= available) return GRAFT_OK;
    va_start(args, what);
    gr_vformat(text, sizeof text, what, args);
    va_end(args);
    gr_fail(err, GRAFT_RANGE, "%s more memory than there is", text);
    gr_expected(err, "at most %llu MB", (unsigned long long)(available >> 20));
    return gr_found(err, "%llu MB", (unsigned long long)(bytes >> 20));
}

int gr_processors(void) {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}
