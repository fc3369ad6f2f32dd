#include "train/checkpoint_files.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define ASIDE ".damaged" /* the end of a name that counts as no checkpoint */

char *gr_checkpoint_dir(const gr_trainer *t) {
    return gr_path_join(t->dir, "checkpoints");
}

static void name_of(char *name, size_t size, int64_t iteration) {
    snprintf(name, size, "checkpoint-%08lld.safetensors", (long long)iteration);
}

/* Number in "checkpoint-00000100.safetensors" with `end` behind it, -1 for other names. */
static int64_t number_of(const char *name, const char *end) {
    static const char prefix[] = "checkpoint-";
    char again[80];
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    long long n = strtoll(name + sizeof prefix - 1, NULL, 10);
    name_of(again, sizeof again, n); /* more than eight digits are fine, any other spelling is not ours */
    size_t len = strlen(again);
    return n >= 0 && strncmp(name, again, len) == 0 && strcmp(name + len, end) == 0 ? n : -1;
}

char *gr_checkpoint_path(const gr_trainer *t, int64_t iteration) {
    char name[64];
    char *dir = gr_checkpoint_dir(t), *path = NULL;
    name_of(name, sizeof name, iteration);
    if (dir) path = gr_path_join(dir, name);
    free(dir);
    return path;
}

/* The newest file below the limit whose name ends so; -1: there is none, or no directory. */
static graft_status find(int64_t *best, const gr_trainer *t, int64_t limit, const char *end,
                         graft_error *err) {
    struct dirent *entry;
    char *path = gr_checkpoint_dir(t);
    *best = -1;
    if (!path) return gr_no_memory(err, 0);
    DIR *dir = gr_list_open(path);
    int failed = dir || errno == ENOENT ? 0 : errno;
    while (dir && (errno = 0, entry = readdir(dir))) {
        int64_t n = number_of(entry->d_name, end);
        if (n < limit && n > *best) *best = n;
    }
    if (dir) {
        failed = errno;
        closedir(dir);
    }
    graft_status st = failed ? gr_fail_errno(err, failed, "cannot look for checkpoints", path) : GRAFT_OK;
    free(path);
    return st == GRAFT_NOT_FOUND ? GRAFT_IO : st;
}

graft_status gr_checkpoint_find(int64_t *newest, const gr_trainer *t, int64_t limit, graft_error *err) {
    return find(newest, t, limit, "", err);
}

int64_t gr_checkpoint_newest(const gr_trainer *t, int64_t limit) {
    int64_t best;
    return find(&best, t, limit, "", NULL) == GRAFT_OK ? best : -1;
}

/* path + ".damaged"; malloc'ed. */
static char *aside_of(const char *path) {
    gr_buf name = {0};
    gr_buf_printf(&name, "%s" ASIDE, path);
    return gr_buf_take(&name);
}

void gr_checkpoint_rotate(const gr_trainer *t, int64_t iteration, int64_t keep) {
    int64_t old = iteration;
    for (int64_t i = 1; i < keep && old >= 0; i++) old = gr_checkpoint_newest(t, old);
    while (old >= 0 && (old = gr_checkpoint_newest(t, old)) >= 0) {
        char *path = gr_checkpoint_path(t, old);
        if (path) unlink(path);
        free(path);
    }
}

void gr_checkpoint_set_aside(const gr_trainer *t, int64_t iteration) {
    for (int64_t n = INT64_MAX; (n = gr_checkpoint_newest(t, n)) > iteration;) {
        char *path = gr_checkpoint_path(t, n), *aside = path ? aside_of(path) : NULL;
        if (aside && rename(path, aside) != 0) unlink(path);
        free(aside);
        free(path);
    }
}

/* Removes all files whose name ends so. */
static graft_status clear(const gr_trainer *t, const char *end, graft_error *err) {
    int64_t n;
    GR_TRY(find(&n, t, INT64_MAX, end, err));
    while (n >= 0) {
        char *path = gr_checkpoint_path(t, n), *aside = path && end[0] ? aside_of(path) : NULL;
        const char *file = end[0] ? aside : path;
        graft_status st = file ? GRAFT_OK : gr_no_memory(err, 0);
        if (file && unlink(file) != 0)
            st = gr_fail_errno(err, errno, "cannot remove an old checkpoint", file);
        free(aside);
        free(path);
        GR_TRY(st);
        GR_TRY(find(&n, t, n, end, err));
    }
    return GRAFT_OK;
}

graft_status gr_checkpoint_clear(const gr_trainer *t, graft_error *err) {
    char *dir = gr_checkpoint_dir(t);
    if (!dir) return gr_no_memory(err, 0);
    graft_status st = clear(t, "", err);
    if (st == GRAFT_OK) st = clear(t, ASIDE, err);
    if (st == GRAFT_OK) st = gr_dir_sync(dir, err); /* one that came back would be newer than this run's */
    free(dir);
    return st;
}
