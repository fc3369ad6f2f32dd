/* tests/disk_record.h - records the calls of this process that change files, by wrappers that the linker puts
 * before them (--wrap, see CMakeLists.txt). One recording at a time. disk_states.h makes of it what a disk
 * may hold.
 */
#ifndef DISK_RECORD_H
#define DISK_RECORD_H
#include "tests/tiny_dir.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

typedef enum disk_kind {
    DISK_NAME,
    DISK_MOVE,
    DISK_DROP,
    DISK_WRITE,
    DISK_CUT,
    DISK_SYNC,
    DISK_MARK
} disk_kind;

/* One call. Directories and files are nodes. */
typedef struct disk_op {
    disk_kind kind;
    int node;              /* named, written, cut or synced */
    int dir;               /* of the name; -1: none */
    char name[80], to[80]; /* MOVE: the new one */
    size_t at, bytes;      /* WRITE; CUT: bytes */
    char *data;
    int64_t mark;
} disk_op;

typedef struct disk_name {
    char name[80];
    int node; /* -1: removed */
} disk_name;

#define DISK_NAMES 64
typedef struct disk_node {
    bool is_dir;
    char *path;  /* of a directory */
    gr_buf text; /* of a file, durable */
    size_t size; /* of a file as the program sees it */
    disk_name names[DISK_NAMES];
    int count;
    int pending[256]; /* ops on a file or on names of a directory that no fsync covers yet */
    int npending;
} disk_node;

#define DISK_OPS   4096
#define DISK_NODES 512
#define DISK_FDS   1024
typedef struct disk_model {
    bool recording;
    const char *root;
    disk_op ops[DISK_OPS];
    int nops;
    disk_node nodes[DISK_NODES];
    int nnodes;
    int fd_node[DISK_FDS]; /* -1: not ours */
    size_t fd_at[DISK_FDS];
    bool fd_append[DISK_FDS];
} disk_model;

static disk_model *disk; /* one per process: the wrappers have no other way to it */

/* ------------------------------------------------------------------------------------------- names and nodes
 */

static inline int disk_find(const disk_node *dir, const char *name) {
    for (int i = 0; i < dir->count; i++)
        if (strcmp(dir->names[i].name, name) == 0) return dir->names[i].node;
    return -1;
}

static inline void disk_set(disk_node *dir, const char *name, int node) {
    for (int i = 0; i < dir->count; i++)
        if (strcmp(dir->names[i].name, name) == 0) {
            dir->names[i].node = node;
            return;
        }
    assert_in_range(dir->count, 0, DISK_NAMES - 1);
    snprintf(dir->names[dir->count].name, sizeof dir->names[0].name, "%.79s", name);
    dir->names[dir->count++].node = node;
}

static inline int disk_new_node(bool is_dir, const char *path) {
    assert_in_range(disk->nnodes, 0, DISK_NODES - 1);
    disk_node *n = &disk->nodes[disk->nnodes];
    memset(n, 0, sizeof *n);
    n->is_dir = is_dir;
    if (is_dir) n->path = strdup(path);
    return disk->nnodes++;
}

/* The directory of a path below the root; -1: not ours. *name points at the last part. */
static inline int disk_dir_of(const char *path, const char **name) {
    const char *slash = strrchr(path, '/');
    *name = "";
    for (int i = 0; slash && i < disk->nnodes; i++) {
        const disk_node *n = &disk->nodes[i];
        if (!n->is_dir || strlen(n->path) != (size_t)(slash - path) ||
            memcmp(n->path, path, (size_t)(slash - path)) != 0)
            continue;
        *name = slash + 1;
        return i;
    }
    return -1;
}

/* The node that the program sees under a path: names as they are now, which the recorder keeps in `seen`. */
typedef struct disk_seen {
    char *path;
    int node;
} disk_seen;
static disk_seen seen[DISK_NODES];
static int nseen;

static inline int disk_look(const char *path) {
    for (int i = 0; i < nseen; i++)
        if (seen[i].path && strcmp(seen[i].path, path) == 0) return seen[i].node;
    return -1;
}

static inline void disk_see(const char *path, int node) {
    for (int i = 0; i < nseen; i++)
        if (seen[i].path && strcmp(seen[i].path, path) == 0) {
            seen[i].node = node;
            return;
        }
    assert_in_range(nseen, 0, DISK_NODES - 1);
    seen[nseen++] = (disk_seen){strdup(path), node};
}

static inline disk_op *disk_log(disk_kind kind, int node, int dir, const char *name) {
    assert_in_range(disk->nops, 0, DISK_OPS - 1);
    disk_op *op = &disk->ops[disk->nops++];
    *op = (disk_op){.kind = kind, .node = node, .dir = dir};
    snprintf(op->name, sizeof op->name, "%s", name ? name : "");
    return op;
}

/* ---------------------------------------------------------------------------------------------- the recorder
 */

int __real_open64(const char *path, int flags, ...);
int __real_open(const char *path, int flags, ...);
int __real_close(int fd);
ssize_t __real_write(int fd, const void *data, size_t n);
int __real_fsync(int fd);
int __real_ftruncate64(int fd, off_t size);
int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_close(int fd);
ssize_t __wrap_write(int fd, const void *data, size_t n);
int __wrap_fsync(int fd);
int __wrap_ftruncate64(int fd, off_t size);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_mkdir(const char *path, mode_t mode);

static inline int opened(int fd, const char *path, int flags) {
    const char *name;
    if (fd < 0 || fd >= DISK_FDS || !disk || !disk->recording) return fd;
    int dir = disk_dir_of(path, &name), node = disk_look(path);
    for (int i = 0; node < 0 && i < disk->nnodes; i++)
        if (disk->nodes[i].is_dir && strcmp(disk->nodes[i].path, path) == 0) node = i;
    if (node < 0 && dir >= 0 && flags & O_CREAT) {
        node = disk_new_node(false, NULL);
        disk_see(path, node);
        disk_log(DISK_NAME, node, dir, name);
    }
    disk->fd_node[fd] = node;
    disk->fd_at[fd] = 0;
    disk->fd_append[fd] = (flags & O_APPEND) != 0;
    return fd;
}

#define OPEN(name)                                                                                           \
    int __wrap_##name(const char *path, int flags, ...) {                                                    \
        va_list ap;                                                                                          \
        va_start(ap, flags);                                                                                 \
        int mode = flags & O_CREAT ? va_arg(ap, int) : 0;                                                    \
        va_end(ap);                                                                                          \
        return opened(__real_##name(path, flags, mode), path, flags);                                        \
    }
OPEN(open)
OPEN(open64)

static inline int node_of(int fd) {
    return disk && disk->recording && fd >= 0 && fd < DISK_FDS ? disk->fd_node[fd] : -1;
}

int __wrap_close(int fd) {
    if (node_of(fd) >= 0) disk->fd_node[fd] = -1;
    return __real_close(fd);
}

ssize_t __wrap_write(int fd, const void *data, size_t n) {
    ssize_t done = __real_write(fd, data, n);
    int node = node_of(fd);
    if (node < 0 || done <= 0) return done;
    disk_op *op = disk_log(DISK_WRITE, node, -1, NULL);
    op->at = disk->fd_append[fd] ? disk->nodes[node].size : disk->fd_at[fd];
    op->bytes = (size_t)done;
    op->data = malloc((size_t)done);
    assert_non_null(op->data);
    memcpy(op->data, data, (size_t)done);
    disk->fd_at[fd] = op->at + op->bytes;
    if (disk->fd_at[fd] > disk->nodes[node].size) disk->nodes[node].size = disk->fd_at[fd];
    return done;
}

int __wrap_ftruncate64(int fd, off_t size) {
    int node = node_of(fd), done = __real_ftruncate64(fd, size);
    if (node < 0 || done != 0 || disk->nodes[node].size == (size_t)size) return done;
    disk_log(DISK_CUT, node, -1, NULL)->bytes = (size_t)size;
    disk->nodes[node].size = (size_t)size;
    return done;
}

int __wrap_fsync(int fd) {
    int node = node_of(fd);
    if (node >= 0) disk_log(DISK_SYNC, node, -1, NULL);
    return __real_fsync(fd);
}

int __wrap_rename(const char *from, const char *to) {
    const char *a, *b;
    int done = __real_rename(from, to);
    if (done != 0 || !disk || !disk->recording) return done;
    int node = disk_look(from), dir = disk_dir_of(from, &a);
    if (node < 0 || dir < 0 || disk_dir_of(to, &b) != dir) return done;
    disk_op *op = disk_log(DISK_MOVE, node, dir, a);
    snprintf(op->to, sizeof op->to, "%s", b);
    disk_see(from, -1);
    disk_see(to, node);
    return done;
}

int __wrap_unlink(const char *path) {
    const char *name;
    int done = __real_unlink(path);
    if (done != 0 || !disk || !disk->recording) return done;
    int node = disk_look(path), dir = disk_dir_of(path, &name);
    if (node < 0 || dir < 0) return done;
    disk_log(DISK_DROP, node, dir, name);
    disk_see(path, -1);
    return done;
}

int __wrap_mkdir(const char *path, mode_t mode) {
    const char *name;
    int done = __real_mkdir(path, mode);
    if (done != 0 || !disk || !disk->recording) return done;
    int dir = disk_dir_of(path, &name);
    if (dir >= 0) disk_log(DISK_NAME, disk_new_node(true, path), dir, name);
    return done;
}

/* What is below `path` now is durable. */
static inline void disk_scan(int node, const char *path) {
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *inner = tiny_join(path, entry->d_name);
        bool is_dir = gr_path_is_dir(inner);
        int child = disk_new_node(is_dir, inner);
        disk_set(&disk->nodes[node], entry->d_name, child);
        if (is_dir) {
            disk_scan(child, inner);
        } else {
            size_t size;
            char *bytes = tiny_read(path, entry->d_name, &size);
            gr_buf_add(&disk->nodes[child].text, bytes, size);
            disk->nodes[child].size = size;
            disk_see(inner, child);
            free(bytes);
        }
        free(inner);
    }
    if (dir) closedir(dir);
}

/* Starts recording what happens below `root`, of which only root/part is looked at. */
static inline void disk_start(const char *root, const char *part) {
    disk = calloc(1, sizeof *disk);
    assert_non_null(disk);
    disk->root = root;
    for (int i = 0; i < DISK_FDS; i++) disk->fd_node[i] = -1;
    disk_new_node(true, root);
    char *path = tiny_join(root, part);
    if (gr_path_is_dir(path)) {
        int child = disk_new_node(true, path);
        disk_set(&disk->nodes[0], part, child);
        disk_scan(child, path);
    }
    free(path);
    disk->recording = true;
}

static inline void disk_stop(void) {
    disk->recording = false;
}

static inline void disk_mark(int64_t mark) {
    if (disk && disk->recording) disk_log(DISK_MARK, -1, -1, NULL)->mark = mark;
}

/* The run has begun: unless something was marked already, mark 0. */
static inline void disk_begun(void) {
    for (int i = 0; i < disk->nops; i++)
        if (disk->ops[i].kind == DISK_MARK) return;
    disk_mark(0);
}

static inline void disk_free(void) {
    for (int i = 0; i < disk->nops; i++) free(disk->ops[i].data);
    for (int i = 0; i < disk->nnodes; i++) {
        free(disk->nodes[i].path);
        gr_buf_free(&disk->nodes[i].text);
    }
    for (int i = 0; i < nseen; i++) free(seen[i].path);
    nseen = 0;
    free(disk);
    disk = NULL;
}

#endif
