#include "hub/hub_blob.h"
#include "base/hooks.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* git names a blob by the digest of a header and the bytes. source: git's Documentation, gitformat-loose */
static void begin_digest(gr_hub_blob *b) {
    char header[40];
    bool git = strlen(b->file->digest) == 40;
    gr_sha_begin(&b->sha, git ? GR_SHA1 : GR_SHA256);
    int n = snprintf(header, sizeof header, "blob %llu", (unsigned long long)b->file->size);
    if (git) gr_sha_add(&b->sha, header, (size_t)n + 1); /* with its zero byte */
}

static graft_status read_part(gr_hub_blob *b, uint64_t size, graft_error *err) {
    enum { ROOM = 1 << 20 };
    char *room = gr_calloc(1, ROOM);
    graft_status st = room ? GRAFT_OK : gr_no_memory(err, ROOM);
    while (!st && b->have < size) {
        ssize_t n = read(b->fd, room, ROOM);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            st = n ? gr_fail_errno(err, errno, "cannot read", b->part) : GRAFT_OK;
            break;
        }
        gr_sha_add(&b->sha, room, (size_t)n);
        b->have += (uint64_t)n;
        if (b->progress) b->progress(b->context, b->have);
        if (gr_raised(b->stop)) st = gr_fail(err, GRAFT_INTERRUPTED, "interrupted");
    }
    free(room);
    return st;
}

graft_status gr_hub_blob_restart(gr_hub_blob *b, graft_error *err) {
    begin_digest(b);
    b->have = 0;
    if (ftruncate(b->fd, 0) || lseek(b->fd, 0, SEEK_SET))
        return gr_fail_written(err, errno, "cannot write", b->part);
    return GRAFT_OK;
}

graft_status gr_hub_blob_open(gr_hub_blob *b, const gr_hub_file *file, const char *dir, graft_error *err) {
    struct stat info;
    gr_buf part = {0};
    b->file = file;
    b->fd = -1;
    b->have = b->fetched = 0;
    b->path = gr_path_join(dir, file->digest);
    gr_buf_printf(&part, "%s/%s.incomplete", dir, file->digest);
    b->part = gr_buf_take(&part);
    if (!b->path || !b->part) return gr_no_memory(err, strlen(dir));
    b->fd = gr_open(b->part, O_RDWR | O_CREAT, 0644);
    if (b->fd < 0) return gr_fail_written(err, errno, "cannot write", b->part);
    if (fstat(b->fd, &info) || !S_ISREG(info.st_mode)) {
        gr_fail(err, GRAFT_IO, "not a regular file");
        return gr_where(err, "%s", b->part);
    }
    begin_digest(b);
    if ((uint64_t)info.st_size > file->size) return gr_hub_blob_restart(b, err);
    return read_part(b, (uint64_t)info.st_size, err);
}

static graft_status append(gr_hub_blob *b, const char *bytes, size_t n, graft_error *err) {
    while (n) {
        ssize_t done = write(b->fd, bytes, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return gr_fail_written(err, errno, "cannot write", b->part);
        gr_sha_add(&b->sha, bytes, (size_t)done);
        bytes += done, n -= (size_t)done;
        b->have += (uint64_t)done;
    }
    return GRAFT_OK;
}

graft_status gr_hub_blob_take(void *context, const gr_http_answer *answer, const void *bytes, size_t n,
                              graft_error *err) {
    gr_hub_blob *b = context;
    if (!b->started && answer->status == 200 && b->have) GR_TRY(gr_hub_blob_restart(b, err));
    if (!b->started && answer->status == 206 && answer->from != b->have) {
        gr_fail(err, GRAFT_CORRUPT, "the server sent another part than was asked for");
        gr_expected(err, "from byte %llu on", (unsigned long long)b->have);
        return gr_found(err, "from byte %llu on", (unsigned long long)answer->from);
    }
    b->started = true;
    if (n > b->file->size - b->have) {
        gr_fail(err, GRAFT_CORRUPT, "the server sends more than it announced");
        gr_where(err, "%s", b->file->name);
        return gr_expected(err, "%llu bytes", (unsigned long long)b->file->size);
    }
    b->fetched += n;
    GR_TRY(append(b, bytes, n, err));
    if (b->progress) b->progress(b->context, b->have);
    return GRAFT_OK;
}

graft_status gr_hub_blob_finish(gr_hub_blob *b, graft_error *err) {
    char found[65];
    gr_sha_hex(&b->sha, found);
    if (strcmp(found, b->file->digest) != 0) {
        unlink(b->part);
        gr_fail(err, GRAFT_CORRUPT, "what arrived is not what the hub announced");
        gr_where(err, "%s", b->file->name);
        gr_expected(err, "digest %s", b->file->digest);
        gr_found(err, "%s", found);
        return gr_hint(err,
                       "it was removed; try again, and if it happens again, mistrust the way to the hub");
    }
    if (fsync(b->fd)) return gr_fail_written(err, errno, "cannot write", b->part);
    if (rename(b->part, b->path)) return gr_fail_errno(err, errno, "cannot rename", b->part);
    return GRAFT_OK;
}

void gr_hub_blob_close(gr_hub_blob *b) {
    if (b->fd >= 0) {
        fsync(b->fd);
        close(b->fd);
    }
    free(b->path);
    free(b->part);
    b->path = b->part = NULL;
    b->fd = -1;
}
