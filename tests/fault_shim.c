/* See fault_shim.h. Linux: dlsym(RTLD_NEXT) finds the functions whose place these take. */
#undef _FILE_OFFSET_BITS /* each function under its own name */
#include "tests/fault_shim.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const kind_names[FAULT_KINDS] = {"alloc",  "open",   "read",  "write",    "fsync",
                                                    "rename", "close",  "mkdir", "truncate", "mmap",
                                                    "unlink", "thread", "lock",  "stat",     "link"};

static const struct {
    const char *name;
    int error;
} effects[] = {{"short", 0},       {"ENOMEM", ENOMEM}, {"EIO", EIO},           {"ENOSPC", ENOSPC},
               {"EDQUOT", EDQUOT}, {"EINTR", EINTR},   {"EROFS", EROFS},       {"EACCES", EACCES},
               {"ESTALE", ESTALE}, {"ENXIO", ENXIO},   {"ENOTCONN", ENOTCONN}, {"EMFILE", EMFILE},
               {"EAGAIN", EAGAIN}, {"EFBIG", EFBIG},   {"ENODEV", ENODEV},     {"ENOLCK", ENOLCK}};

static struct {
    fault_kind kind;
    atomic_long at, calls, live;
    bool later, every;
    int error; /* 0: short */
    atomic_bool struck;
    const char *hit_path, *count_path;
    bool trace;
} fault;

void fault_arm(fault_kind kind, long n, bool later, int error) {
    fault.kind = kind;
    fault.later = later;
    fault.every = false;
    fault.error = error;
    atomic_store(&fault.calls, 0);
    atomic_store(&fault.struck, false);
    atomic_store(&fault.at, n);
}

bool fault_struck(void) {
    return atomic_load(&fault.struck);
}

long fault_live(void) {
    return atomic_load(&fault.live);
}

static void parse(const char *text) {
    char kind[16] = "", effect[16] = "", mark = 0;
    long n = 0;
    if (sscanf(text, "%15[a-z]%c%ld", kind, &mark, &n) != 3) abort();
    const char *rest = strrchr(text, ':');
    if (rest) snprintf(effect, sizeof effect, "%s", rest + 1);
    fault.kind = FAULT_KINDS;
    for (int i = 0; i < FAULT_KINDS; i++)
        if (strcmp(kind_names[i], kind) == 0) fault.kind = (fault_kind)i;
    fault.error = -1;
    for (size_t i = 0; i < sizeof effects / sizeof *effects; i++)
        if (strcmp(effects[i].name, effect) == 0) fault.error = effects[i].error;
    if (fault.kind == FAULT_KINDS || fault.error < 0) abort();
    fault.every = mark == '%';
    fault.later = strchr(text, '+') != NULL;
    atomic_store(&fault.at, n);
}

__attribute__((constructor)) static void from_environment(void) {
    const char *text = getenv("GRAFT_FAULT");
    fault.hit_path = getenv("GRAFT_FAULT_HIT");
    fault.count_path = getenv("GRAFT_FAULT_COUNT");
    fault.trace = getenv("GRAFT_FAULT_TRACE") != NULL;
    if (text) parse(text);
}

/* Writes a small file without the calls that are interposed. */
static void leave(const char *path, const char *text) {
    long fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (fd < 0) return;
    syscall(SYS_write, fd, text, strlen(text));
    syscall(SYS_close, fd);
}

__attribute__((destructor)) static void leave_count(void) {
    char text[32];
    snprintf(text, sizeof text, "%ld\n", atomic_load(&fault.calls));
    leave(fault.count_path, text);
}

static void note_hit(void) {
    if (atomic_exchange(&fault.struck, true)) return;
    leave(fault.hit_path, "struck\n");
    if (fault.trace) {
        void *calls[24];
        atomic_store(&fault.at, 0); /* describing it allocates */
        backtrace_symbols_fd(calls, backtrace(calls, 24), STDERR_FILENO);
    }
}

/* Does this call fail? Sets errno. A short one is for reads and writes to make. */
static bool fails(fault_kind kind) {
    long at = atomic_load_explicit(&fault.at, memory_order_relaxed);
    if (at <= 0 || kind != fault.kind) return false;
    long call = atomic_fetch_add(&fault.calls, 1) + 1;
    bool now = fault.every ? call % at == 0 : fault.later ? call >= at : call == at;
    if (!now) return false;
    note_hit();
    errno = fault.error;
    return true;
}

#define NEXT(name)                                                                                           \
    static __typeof__(name) *next;                                                                           \
    if (!next) next = (__typeof__(name) *)(uintptr_t)dlsym(RTLD_NEXT, #name)

/* ---- memory */

static void *given(void *block) {
    if (block) atomic_fetch_add_explicit(&fault.live, 1, memory_order_relaxed);
    return block;
}

void *malloc(size_t n) {
    NEXT(malloc);
    return fails(FAULT_ALLOC) ? NULL : given(next(n));
}

void *calloc(size_t count, size_t n) {
    NEXT(calloc);
    return fails(FAULT_ALLOC) ? NULL : given(next(count, n));
}

void *realloc(void *old, size_t n) {
    NEXT(realloc);
    if (fails(FAULT_ALLOC)) return NULL;
    void *block = next(old, n);
    if (!old) given(block);
    return block;
}

void *aligned_alloc(size_t to, size_t n) {
    NEXT(aligned_alloc);
    return fails(FAULT_ALLOC) ? NULL : given(next(to, n));
}

int posix_memalign(void **block, size_t to, size_t n) {
    NEXT(posix_memalign);
    if (fails(FAULT_ALLOC)) return ENOMEM;
    int failed = next(block, to, n);
    if (!failed) given(*block);
    return failed;
}

void free(void *block) {
    NEXT(free);
    if (block) atomic_fetch_sub_explicit(&fault.live, 1, memory_order_relaxed);
    next(block);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    NEXT(mmap);
    return fails(FAULT_MMAP) ? MAP_FAILED : next(at, n, protection, flags, fd, offset);
}

/* ---- files. With _FILE_OFFSET_BITS=64 some of these are called by their names for large files. */

#define OPEN(name)                                                                                           \
    int name(const char *path, int flags, ...) {                                                             \
        NEXT(name);                                                                                          \
        va_list more;                                                                                        \
        va_start(more, flags);                                                                               \
        mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;                                            \
        va_end(more);                                                                                        \
        return fails(FAULT_OPEN) ? -1 : next(path, flags, mode);                                             \
    }
#undef open
OPEN(open)
int open64(const char *path, int flags, ...);
OPEN(open64)

DIR *opendir(const char *path) {
    NEXT(opendir);
    return fails(FAULT_OPEN) ? NULL : next(path);
}

FILE *fopen(const char *path, const char *mode) {
    NEXT(fopen);
    return fails(FAULT_OPEN) ? NULL : next(path, mode);
}

FILE *fopen64(const char *path, const char *mode);
FILE *fopen64(const char *path, const char *mode) {
    NEXT(fopen64);
    return fails(FAULT_OPEN) ? NULL : next(path, mode);
}

/* The part of n bytes that a short call moves. */
static size_t part(size_t n) {
    return n > 1 ? 1 + n / 3 : n;
}

ssize_t read(int fd, void *to, size_t n) {
    NEXT(read);
    if (fails(FAULT_READ)) {
        if (fault.error) return -1;
        n = part(n);
    }
    return next(fd, to, n);
}

ssize_t write(int fd, const void *from, size_t n) {
    NEXT(write);
    if (fd > STDERR_FILENO && fails(FAULT_WRITE)) {
        if (fault.error) return -1;
        n = part(n);
    }
    return next(fd, from, n);
}

int fsync(int fd) {
    NEXT(fsync);
    return fails(FAULT_FSYNC) ? -1 : next(fd);
}

int symlink(const char *to, const char *path) {
    NEXT(symlink);
    return fails(FAULT_LINK) ? -1 : next(to, path);
}

int rename(const char *from, const char *to) {
    NEXT(rename);
    return fails(FAULT_RENAME) ? -1 : next(from, to);
}

/* The descriptor is gone in any case, as it is in Linux. */
int close(int fd) {
    NEXT(close);
    int result = next(fd);
    return fails(FAULT_CLOSE) ? -1 : result;
}

int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir);
    return fails(FAULT_MKDIR) ? -1 : next(path, mode);
}

#undef ftruncate
int ftruncate(int fd, off_t size) {
    NEXT(ftruncate);
    return fails(FAULT_TRUNCATE) ? -1 : next(fd, size);
}
int ftruncate64(int fd, off64_t size);
int ftruncate64(int fd, off64_t size) {
    NEXT(ftruncate64);
    return fails(FAULT_TRUNCATE) ? -1 : next(fd, size);
}

void *mmap64(void *at, size_t n, int protection, int flags, int fd, off64_t offset);
void *mmap64(void *at, size_t n, int protection, int flags, int fd, off64_t offset) {
    NEXT(mmap64);
    return fails(FAULT_MMAP) ? MAP_FAILED : next(at, n, protection, flags, fd, offset);
}

int unlink(const char *path) {
    NEXT(unlink);
    return fails(FAULT_UNLINK) ? -1 : next(path);
}

int rmdir(const char *path) {
    NEXT(rmdir);
    return fails(FAULT_UNLINK) ? -1 : next(path);
}

int flock(int fd, int how) {
    NEXT(flock);
    return fails(FAULT_LOCK) ? -1 : next(fd, how);
}

int stat64(const char *path, struct stat64 *info);
int stat64(const char *path, struct stat64 *info) {
    NEXT(stat64);
    return fails(FAULT_STAT) ? -1 : next(path, info);
}

int fstat64(int fd, struct stat64 *info);
int fstat64(int fd, struct stat64 *info) {
    NEXT(fstat64);
    return fails(FAULT_STAT) ? -1 : next(fd, info);
}

int pthread_create(pthread_t *id, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    NEXT(pthread_create);
    return fails(FAULT_THREAD) ? fault.error : next(id, attributes, start, argument);
}
