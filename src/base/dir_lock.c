#include "base/os.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* NAME.PID-HEX.tmp, as gr_writer_begin names its files. */
static bool is_temp(const char *name) {
    size_t n = strlen(name);
    if (n < 5 || strcmp(name + n - 4, ".tmp") != 0) return false;
    const char *p = name + n - 4, *end = p;
    while (p > name && strchr("0123456789abcdef", p[-1])) p--;
    if (p == end || p == name || *--p != '-') return false;
    end = p;
    while (p > name && p[-1] >= '0' && p[-1] <= '9') p--;
    return p < end && p - name > 1 && p[-1] == '.';
}

void gr_remove_temps(const char *dir) {
    DIR *list = gr_list_open(dir);
    struct dirent *entry;
    while (list && (entry = readdir(list))) {
        char *path = is_temp(entry->d_name) ? gr_path_join(dir, entry->d_name) : NULL;
        if (path) unlink(path);
        free(path);
    }
    if (list) closedir(list);
}

#define YOUNG_SECONDS 60 /* between making a file and locking it nobody may take it for a left one */

/* A writer that lives holds the lock on its file. */
static void remove_left(const char *path) {
    struct stat info;
    int fd = gr_open(path, O_RDWR, 0);
    if (fd < 0) return;
    bool left = flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &info) == 0 &&
                time(NULL) - info.st_mtime > YOUNG_SECONDS;
    if (left) unlink(path);
    close(fd);
}

void gr_remove_temps_of(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t n = strlen(name);
    char *dir = slash ? gr_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : gr_strdup(".");
    DIR *list = dir ? gr_list_open(dir) : NULL;
    struct dirent *entry;
    while (list && (entry = readdir(list))) {
        if (strncmp(entry->d_name, name, n) != 0 || entry->d_name[n] != '.' || !is_temp(entry->d_name))
            continue;
        char *left = gr_path_join(dir, entry->d_name);
        if (left) remove_left(left);
        free(left);
    }
    if (list) closedir(list);
    free(dir);
}

/* GRAFT_IO without words, in *busy: somebody has it. */
static graft_status take(gr_dir_lock *lock, const char *path, bool *busy, graft_error *err) {
    *lock = (gr_dir_lock){0};
    *busy = false;
    int fd = gr_open(path, O_RDWR | O_CREAT, 0666);
    if (fd < 0) return gr_fail_errno(err, errno, "cannot open", path);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *lock = (gr_dir_lock){.fd = fd, .held = true};
        return GRAFT_OK;
    }
    *busy = errno == EWOULDBLOCK;
    lock->absent = !*busy;
    close(fd);
    return *busy ? GRAFT_IO : GRAFT_OK;
}

graft_status gr_file_lock_take(gr_dir_lock *lock, const char *file, const char *hint, graft_error *err) {
    bool busy;
    graft_status st = take(lock, file, &busy, err);
    if (!busy) return st;
    gr_fail(err, GRAFT_IO, "another program is at it");
    gr_where(err, "%s", file);
    return gr_hint(err, "%s", hint);
}

graft_status gr_dir_lock_take(gr_dir_lock *lock, const char *dir, const char *hint, graft_error *err) {
    bool busy;
    char *path = gr_path_join(dir, ".lock");
    if (!path) return gr_no_memory(err, strlen(dir));
    graft_status st = take(lock, path, &busy, err);
    free(path);
    if (!busy) return st;
    gr_fail(err, GRAFT_IO, "another run is using this directory");
    gr_where(err, "%s", dir);
    return gr_hint(err, "%s", hint);
}

void gr_dir_lock_release(gr_dir_lock *lock) {
    if (lock->held) close(lock->fd);
    *lock = (gr_dir_lock){0};
}
