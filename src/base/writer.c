/* base/writer.c - files that are whole or not there: a temporary one beside it, fsync, rename. */
#include "base/os.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

/* EIO and ENOSPC may show as late as here. */
static int sync_fd(int fd) {
    int failed;
    do failed = fsync(fd);
    while (failed && errno == EINTR);
    return failed;
}

graft_status gr_writer_begin(gr_writer *w, const char *path, graft_error *err) {
    gr_buf temp = {0};
    *w = (gr_writer){.fd = -1};
    /* unique per process and moment; O_EXCL catches the rest */
    gr_buf_printf(&temp, "%s.%ld-%llx.tmp", path, (long)getpid(), (unsigned long long)(gr_clock() * 1e9));
    w->path = gr_strdup(path);
    w->temp = gr_buf_take(&temp);
    if (!w->path || !w->temp) {
        gr_writer_abort(w);
        return gr_no_memory(err, strlen(path));
    }
    w->fd = gr_open(w->temp, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (w->fd < 0) {
        int os_errno = errno;
        free(w->temp); /* not ours: abort must not remove it */
        w->temp = NULL;
        gr_writer_abort(w);
        return gr_fail_written(err, os_errno, "cannot create a file beside", path);
    }
    flock(w->fd, LOCK_EX | LOCK_NB); /* alive: see gr_remove_temps_of */
    return GRAFT_OK;
}

graft_status gr_writer_write(gr_writer *w, const void *data, size_t n, graft_error *err) {
    const char *bytes = data;
    while (n) {
        ssize_t done = write(w->fd, bytes, n > INT_MAX ? INT_MAX : n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return gr_fail_written(err, done < 0 ? errno : ENOSPC, "cannot write", w->path);
        bytes += done;
        n -= (size_t)done;
        w->bytes += (uint64_t)done;
    }
    return GRAFT_OK;
}

graft_status gr_fail_written(graft_error *err, int os_errno, const char *what, const char *path) {
    graft_status st = gr_fail_errno(err, os_errno, what, path);
    if (os_errno == ENOSPC || os_errno == EDQUOT)
        gr_hint(err, "make room there, or write to another disk; what was saved before is as it was");
    return st;
}

graft_status gr_dir_sync(const char *dir, graft_error *err) {
    int fd = gr_open(dir, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) /* one that may be written to but not listed, or is gone: nothing more can be done */
        return errno == EACCES || errno == ENOENT ? GRAFT_OK
                                                  : gr_fail_errno(err, errno, "cannot sync directory", dir);
    graft_status st = GRAFT_OK;
    /* file systems that cannot sync a directory say so in many ways */
    if (sync_fd(fd) != 0 && errno != EINVAL && errno != EBADF && errno != ENOTSUP && errno != ENOSYS)
        st = gr_fail_written(err, errno, "cannot sync directory", dir);
    close(fd);
    return st;
}

graft_status gr_dir_sync_of(const char *path, graft_error *err) {
    const char *slash = strrchr(path, '/');
    char *dir = slash ? gr_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : gr_strdup(".");
    if (!dir) return gr_no_memory(err, strlen(path));
    graft_status st = gr_dir_sync(dir, err);
    free(dir);
    return st;
}

graft_status gr_writer_seal(gr_writer *w, graft_error *err) {
    graft_status st = GRAFT_OK;
    if (w->fd < 0) return GRAFT_OK;
    if (sync_fd(w->fd) != 0) st = gr_fail_written(err, errno, "cannot sync", w->path);
    int closed = close(w->fd);
    w->fd = -1;
    if (st == GRAFT_OK && closed != 0 && errno != EINTR)
        st = gr_fail_written(err, errno, "cannot close", w->path);
    if (st != GRAFT_OK) gr_writer_abort(w);
    return st;
}

graft_status gr_writer_replace(gr_writer *w, graft_error *err) {
    GR_TRY(gr_writer_seal(w, err));
    if (rename(w->temp, w->path) == 0) {
        free(w->temp);
        w->temp = NULL;
        return GRAFT_OK;
    }
    graft_status st = gr_fail_written(err, errno, "cannot replace", w->path);
    gr_writer_abort(w);
    return st;
}

graft_status gr_writer_commit(gr_writer *w, graft_error *err) {
    GR_TRY(gr_writer_replace(w, err));
    graft_status st = gr_dir_sync_of(w->path, err);
    gr_writer_abort(w);
    return st;
}

void gr_writer_abort(gr_writer *w) {
    if (w->fd >= 0) close(w->fd);
    if (w->temp) unlink(w->temp);
    free(w->temp);
    free(w->path);
    *w = (gr_writer){.fd = -1};
}

graft_status gr_file_replace(const char *path, const void *data, size_t n, graft_error *err) {
    gr_writer w;
    GR_TRY(gr_writer_begin(&w, path, err));
    graft_status st = gr_writer_write(&w, data, n, err);
    if (st == GRAFT_OK) return gr_writer_commit(&w, err);
    gr_writer_abort(&w);
    return st;
}
