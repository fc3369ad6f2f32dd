/* tests/disk_states.h - what a disk may hold after the power went: every state that a file system may leave
 * at any call of a recording.
 *
 * The model, weaker than the file systems that people use:
 *   - what is written to a file may be lost until its fsync: all of it, the end, the middle of the last
 *     write, the beginning, or every byte of it while the file has its new length (zeros);
 *   - a name that was created, renamed or removed may be as before until its directory's fsync, each by
 *     itself, in any combination; a rename happens as a whole;
 *   - fsync of a file says nothing about its name.
 */
#ifndef DISK_STATES_H
#define DISK_STATES_H
#include "base/digest.h"
#include "tests/disk_record.h"

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
