/* tests/disk_model.h - what a disk may hold after the power went: the calls that change files are recorded by
 * wrappers that the linker puts before them (--wrap, see CMakeLists.txt), and every state is made that a file
 * system may leave at any of them.
 *
 * The model, weaker than the file systems that people use:
 *   - what is written to a file may be lost until its fsync: all of it, the end, the middle of the last
 * write, the beginning, or every byte of it while the file has its new length (zeros);
 *   - a name that was created, renamed or removed may be as before until its directory's fsync, each by
 * itself, in any combination; a rename happens as a whole;
 *   - fsync of a file says nothing about its name.
 */
#ifndef DISK_MODEL_H
#define DISK_MODEL_H
#include "base/digest.h"
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

/* ------------------------------------------------------------------------------------------- what may be
 * left
 */

static inline void disk_apply_data(gr_buf *text, const disk_op *op, size_t bytes, bool zeros) {
    size_t need = op->kind == DISK_CUT ? op->bytes : op->at + bytes;
    while (text->len < need) gr_buf_putc(text, 0);
    if (op->kind == DISK_CUT)
        text->len = op->bytes;
    else if (zeros)
        memset(text->data + op->at, 0, bytes);
    else
        memcpy(text->data + op->at, op->data, bytes);
}

#define DISK_VARIANTS 6
/* What a file with unsynced changes may hold: 0 none of them, 1 all, 2 the first half of them, 3 all but the
 * second half of the last write, 4 the new length without the bytes, 5 only the last. False: as an earlier.
 */
static inline bool disk_variant(gr_buf *text, const disk_node *n, int variant) {
    int m = n->npending;
    gr_buf_clear(text);
    gr_buf_add(text, n->text.data ? n->text.data : "", n->text.len);
    if (m == 0 || variant == 0) return variant == 0;
    int from = variant == 5 ? m - 1 : 0, to = variant == 2 ? m / 2 : m;
    if ((variant == 5 && m == 1) || (variant == 2 && m == 1)) return false;
    for (int i = from; i < to; i++) {
        const disk_op *op = &disk->ops[n->pending[i]];
        bool last = i == m - 1;
        disk_apply_data(text, op, variant == 3 && last ? op->bytes / 2 : op->bytes, variant == 4);
    }
    return true;
}

/* One file of a possible state. */
typedef struct disk_file {
    char path[200]; /* below root */
    int node, variants, variant;
} disk_file;

typedef struct disk_state {
    disk_name names[DISK_NODES][DISK_NAMES]; /* of directories, with a choice of the pending changes */
    int counts[DISK_NODES];
    disk_file files[64];
    int nfiles;
    char dirs[32][200];
    int ndirs;
} disk_state;

static inline void state_name(disk_state *s, int dir, const char *name, int node) {
    for (int i = 0; i < s->counts[dir]; i++)
        if (strcmp(s->names[dir][i].name, name) == 0) {
            s->names[dir][i].node = node;
            return;
        }
    assert_in_range(s->counts[dir], 0, DISK_NAMES - 1);
    disk_name *n = &s->names[dir][s->counts[dir]++];
    snprintf(n->name, sizeof n->name, "%.79s", name);
    n->node = node;
}

/* Files that a resumed run does not look at. */
static inline bool disk_ignored(const char *name) {
    return gr_ends_with(name, ".tmp") || gr_ends_with(name, ".svg") || gr_ends_with(name, ".md") ||
           strcmp(name, ".lock") == 0;
}

static inline void state_walk(disk_state *s, int dir, const char *path) {
    for (int i = 0; i < s->counts[dir]; i++) {
        const disk_name *n = &s->names[dir][i];
        char inner[200];
        if (n->node < 0 || disk_ignored(n->name)) continue;
        snprintf(inner, sizeof inner, "%.100s%s%.90s", path, path[0] ? "/" : "", n->name);
        if (disk->nodes[n->node].is_dir) {
            assert_in_range(s->ndirs, 0, 31);
            snprintf(s->dirs[s->ndirs++], sizeof s->dirs[0], "%s", inner);
            state_walk(s, n->node, inner);
            continue;
        }
        assert_in_range(s->nfiles, 0, 63);
        disk_file *f = &s->files[s->nfiles++];
        snprintf(f->path, sizeof f->path, "%s", inner);
        f->node = n->node;
        f->variants = disk->nodes[n->node].npending ? DISK_VARIANTS : 1;
        f->variant = 0;
    }
}

/* The tree with the pending changes of names whose bit is set. */
static inline void state_choose(disk_state *s, const int *changes, int nchanges, uint64_t mask) {
    s->nfiles = s->ndirs = 0;
    for (int i = 0; i < disk->nnodes; i++) {
        s->counts[i] = disk->nodes[i].is_dir ? disk->nodes[i].count : 0;
        memcpy(s->names[i], disk->nodes[i].names, (size_t)s->counts[i] * sizeof s->names[i][0]);
    }
    for (int i = 0; i < nchanges; i++) {
        const disk_op *op = &disk->ops[changes[i]];
        if (!(mask >> i & 1)) continue;
        if (op->kind != DISK_NAME) state_name(s, op->dir, op->name, -1);
        if (op->kind != DISK_DROP)
            state_name(s, op->dir, op->kind == DISK_MOVE ? op->to : op->name, op->node);
    }
    state_walk(s, 0, "");
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const disk_file *)a)->path, ((const disk_file *)b)->path);
}

/* Digest of a state; false where a variant is the same as an earlier one. */
static inline bool state_digest(uint64_t *digest, disk_state *s) {
    uint64_t h = GR_DIGEST_START;
    gr_buf text = {0};
    bool fresh = true;
    qsort(s->files, (size_t)s->nfiles, sizeof *s->files, by_path);
    for (int i = 0; i < s->nfiles && fresh; i++) {
        fresh = disk_variant(&text, &disk->nodes[s->files[i].node], s->files[i].variant);
        h = gr_digest_bytes(h, s->files[i].path, strlen(s->files[i].path) + 1);
        h = gr_digest_number(h, text.len);
        for (size_t k = 0; k + 8 <= text.len; k += 8) {
            uint64_t word;
            memcpy(&word, text.data + k, 8);
            h = gr_digest_step(h, word) ^ h >> 29;
        }
        h = gr_digest_bytes(h, text.data + text.len / 8 * 8, text.len % 8);
    }
    gr_buf_free(&text);
    *digest = h;
    return fresh;
}

static inline void state_write(const disk_state *s, const char *to) {
    gr_buf text = {0};
    mkdir(to, 0777);
    for (int i = 0; i < s->ndirs; i++) {
        char *path = tiny_join(to, s->dirs[i]);
        mkdir(path, 0777);
        free(path);
    }
    for (int i = 0; i < s->nfiles; i++) {
        char *path = tiny_join(to, s->files[i].path);
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        (void)disk_variant(&text, &disk->nodes[s->files[i].node], s->files[i].variant);
        if (text.len) assert_int_equal(fwrite(text.data, 1, text.len, f), text.len);
        fclose(f);
        free(path);
    }
    gr_buf_free(&text);
}

#define DISK_CHANGES 10  /* of names at once that every combination is tried of */
#define DISK_TREES   200 /* variants of the files of one tree */

typedef struct disk_walk {
    uint64_t *known; /* digests of states that were visited */
    int64_t *results;
    size_t count, cap;
    size_t states; /* with those that were known */
    int points;    /* calls after which the power went */
    /* Looks at a new state; what it returns is kept with it. */
    int64_t (*visit)(void *user, const disk_state *s);
    /* Looks at every state: the result of its visit, and the mark before it (-1: none). */
    void (*check)(void *user, int64_t result, int64_t mark, int point);
    void *user;
} disk_walk;

static inline void walk_state(disk_walk *w, disk_state *s, int64_t mark, int point) {
    uint64_t digest;
    if (!state_digest(&digest, s)) return;
    size_t i = 0;
    w->states++;
    while (i < w->count && w->known[i] != digest) i++;
    if (i == w->count) {
        if (w->count == w->cap) {
            w->cap = w->cap ? 2 * w->cap : 256;
            w->known = realloc(w->known, w->cap * sizeof *w->known);
            w->results = realloc(w->results, w->cap * sizeof *w->results);
            assert_true(w->known && w->results);
        }
        w->known[w->count] = digest;
        w->results[w->count++] = w->visit(w->user, s);
    }
    w->check(w->user, w->results[i], mark, point);
}

/* Every choice of what the files of a tree hold. */
static inline void walk_files(disk_walk *w, disk_state *s, int64_t mark, int point) {
    for (int trees = 0; trees < DISK_TREES; trees++) {
        int i = 0;
        walk_state(w, s, mark, point);
        for (; i < s->nfiles; i++) {
            if (++s->files[i].variant < s->files[i].variants) break;
            s->files[i].variant = 0;
        }
        if (i == s->nfiles) return;
    }
}

static inline void walk_names(disk_walk *w, disk_state *s, int64_t mark, int point) {
    int changes[64], n = 0;
    for (int i = 0; i < disk->nnodes; i++)
        for (int k = 0; disk->nodes[i].is_dir && k < disk->nodes[i].npending; k++) {
            const disk_op *op = &disk->ops[disk->nodes[i].pending[k]];
            if (op->kind == DISK_NAME && disk_ignored(op->name)) continue; /* nobody will look for it */
            assert_in_range(n, 0, DISK_CHANGES - 1);
            changes[n++] = disk->nodes[i].pending[k];
        }
    for (uint64_t mask = 0; mask < (uint64_t)1 << n; mask++) {
        state_choose(s, changes, n, mask);
        walk_files(w, s, mark, point);
    }
}

static inline void walk_apply(const disk_op *op, int index) {
    disk_node *n = op->node >= 0 ? &disk->nodes[op->node] : NULL;
    if (op->kind == DISK_MARK) return;
    if (op->kind == DISK_SYNC) {
        for (int i = 0; i < n->npending; i++) {
            const disk_op *p = &disk->ops[n->pending[i]];
            if (!n->is_dir) {
                disk_apply_data(&n->text, p, p->bytes, false);
                continue;
            }
            if (p->kind != DISK_NAME) disk_set(n, p->name, -1);
            if (p->kind != DISK_DROP) disk_set(n, p->kind == DISK_MOVE ? p->to : p->name, p->node);
        }
        n->npending = 0;
        return;
    }
    if (op->dir >= 0) n = &disk->nodes[op->dir];
    assert_in_range(n->npending, 0, 255);
    n->pending[n->npending++] = index;
}

/* Visits what the disk may hold before the first call and after each. */
static inline void disk_each(disk_walk *w) {
    int64_t mark = -1;
    disk_state *s = calloc(1, sizeof *s);
    assert_non_null(s);
    for (int i = 0; i <= disk->nops; i++) {
        if (i && disk->ops[i - 1].kind == DISK_MARK) mark = disk->ops[i - 1].mark;
        if (i) walk_apply(&disk->ops[i - 1], i - 1);
        walk_names(w, s, mark, i);
        w->points++;
    }
    free(s);
}

#endif
