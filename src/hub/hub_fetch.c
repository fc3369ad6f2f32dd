#include "hub/hub_fetch.h"
#include "hub/hub_blob.h"
#include "hub/hub_cache.h"
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef struct job {
    const gr_hub_wish *wish;
    gr_hub_name name;
    gr_hub_link link;
    char *repository, *blobs, *snapshot, *locks;
    gr_hub_list list;
    gr_dir_lock lock;
    uint64_t total, before; /* bytes of all files; of those that are done */
    uint64_t fetched;
} job;

static char *file_url(const job *j, const gr_hub_file *file) {
    gr_buf url = {0};
    gr_buf_printf(&url, "%s/%s/resolve/%s/", j->link.endpoint, j->name.name, j->list.commit);
    gr_hub_put_escaped(&url, file->name, "/");
    return gr_buf_take(&url);
}

static graft_status read_list(job *j, graft_error *err) {
    gr_buf url = {0}, text = {0};
    gr_http_answer a;
    gr_buf_printf(&url, "%s/api/models/%s/revision/", j->link.endpoint, j->name.name);
    gr_hub_put_escaped(&url, j->name.revision, "");
    gr_buf_puts(&url, "?blobs=true");
    graft_status st = url.failed ? gr_no_memory(err, url.len)
                                 : gr_hub_ask(&j->link, url.data, j->wish->name, &text, &a, err);
    if (!st) st = gr_hub_list_read(&j->list, text.data ? text.data : "", text.len, err);
    if (!st) st = gr_hub_list_choose(&j->list, j->wish->include, err);
    if (st) gr_where(err, "%s", j->wish->name);
    gr_buf_free(&url);
    gr_buf_free(&text);
    return st;
}

/* What the list left out, the file's own headers have. */
static graft_status complete_list(job *j, graft_error *err) {
    for (size_t i = 0; i < j->list.count; i++) {
        gr_hub_file *file = &j->list.files[i];
        gr_http_answer a;
        if (file->digest[0] && file->size != GR_HUB_UNKNOWN) continue;
        char *url = file_url(j, file);
        graft_status st = url ? gr_hub_ask(&j->link, url, file->name, NULL, &a, err) : gr_no_memory(err, 0);
        free(url);
        GR_TRY(st);
        if (!file->digest[0] && gr_hub_is_digest(a.etag)) memcpy(file->digest, a.etag, strlen(a.etag) + 1);
        if (file->size == GR_HUB_UNKNOWN) file->size = a.linked != UINT64_MAX ? a.linked : a.length;
        if (file->digest[0] && file->size <= (uint64_t)1 << 50) continue;
        gr_fail(err, GRAFT_UNSUPPORTED, "the hub announces no size or no digest to check the file with");
        return gr_where(err, "%s", file->name);
    }
    return GRAFT_OK;
}

/* ---- into the cache */
static graft_status make_places(job *j, graft_error *err) {
    char *hub = gr_hub_cache_dir();
    gr_buf snapshot = {0}, locks = {0};
    j->repository = gr_hub_repository(&j->name);
    if (!hub || !j->repository) {
        free(hub);
        gr_fail(err, GRAFT_USAGE, "there is no place for the cache");
        return gr_hint(err, "set HF_HUB_CACHE to a directory");
    }
    j->blobs = gr_path_join(j->repository, "blobs");
    gr_buf_printf(&snapshot, "%s/snapshots/%s", j->repository, j->list.commit);
    j->snapshot = gr_buf_take(&snapshot);
    gr_buf_printf(&locks, "%s/.locks/%s", hub, strrchr(j->repository, '/') + 1);
    j->locks = gr_buf_take(&locks);
    free(hub);
    if (!j->blobs || !j->snapshot || !j->locks) return gr_no_memory(err, 0);
    GR_TRY(gr_make_dirs(j->blobs, err));
    GR_TRY(gr_make_dirs(j->snapshot, err));
    GR_TRY(gr_make_dirs(j->locks, err));
    GR_TRY(gr_dir_lock_take(&j->lock, j->locks, "it downloads the same model: wait for it", err));
    if (j->lock.absent && j->link.limits.note)
        j->link.limits.note(j->link.limits.context,
                            "the cache's file system has no locks: no other download of this model may run");
    return GRAFT_OK;
}

static char *blob_path(const job *j, const gr_hub_file *file, const char *suffix) {
    gr_buf path = {0};
    gr_buf_printf(&path, "%s/%s%s", j->blobs, file->digest, suffix);
    return gr_buf_take(&path);
}

/* Bytes of a file of the blobs' directory; GR_HUB_UNKNOWN: it is not there. */
static uint64_t blob_size(const job *j, const gr_hub_file *file, const char *suffix) {
    struct stat info;
    char *path = blob_path(j, file, suffix);
    bool there = path && !stat(path, &info) && S_ISREG(info.st_mode);
    free(path);
    return there ? (uint64_t)info.st_size : GR_HUB_UNKNOWN;
}

static int by_digest(const void *a, const void *b) {
    const gr_hub_file *const *x = a, *const *y = b;
    return strcmp((*x)->digest, (*y)->digest);
}

/* What is still to be fetched: files of the same bytes are one blob. */
static graft_status bytes_missing(uint64_t *need, const job *j, graft_error *err) {
    const gr_hub_file **sorted = gr_calloc(j->list.count, sizeof *sorted);
    *need = 0;
    if (!sorted) return gr_no_memory(err, j->list.count * sizeof *sorted);
    for (size_t i = 0; i < j->list.count; i++) sorted[i] = &j->list.files[i];
    qsort(sorted, j->list.count, sizeof *sorted, by_digest);
    for (size_t i = 0; i < j->list.count; i++) {
        const gr_hub_file *file = sorted[i];
        if (i && file->digest[0] && by_digest(&sorted[i - 1], &sorted[i]) == 0) continue;
        uint64_t part = blob_size(j, file, ".incomplete");
        if (blob_size(j, file, "") != file->size) *need += file->size - (part <= file->size ? part : 0);
    }
    free(sorted);
    return GRAFT_OK;
}

static graft_status check_space(job *j, graft_error *err) {
    struct statvfs disk;
    uint64_t need;
    for (size_t i = 0; i < j->list.count; i++) j->total += j->list.files[i].size; /* capped: hub_list.c */
    GR_TRY(bytes_missing(&need, j, err));
    if (statvfs(j->blobs, &disk)) return GRAFT_OK;
    uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (need <= room) return GRAFT_OK;
    gr_fail(err, GRAFT_IO, "not enough room on the disk");
    gr_where(err, "%s", j->blobs);
    gr_expected(err, "%llu MB for what is missing", (unsigned long long)(need / 1000000 + 1));
    gr_found(err, "%llu MB", (unsigned long long)(room / 1000000));
    return gr_hint(err, "make room, set HF_HUB_CACHE to a larger disk, or choose files with --include");
}

static void on_blob(void *context, uint64_t have) {
    const job *j = context;
    if (j->wish->progress) j->wish->progress(j->wish->context, j->before + have, j->total);
}

/* One request for what is missing; *again: another may help. */
static graft_status fetch_rest(job *j, gr_hub_blob *blob, const char *url, gr_http_answer *a,
                               graft_error *err) {
    gr_http_wish w = {.url = url, .from = blob->have, .body = gr_hub_blob_take, .context = blob};
    blob->started = false;
    GR_TRY(gr_http_get(j->link.http, &w, a, err));
    if (a->status == 416) { /* it has fewer bytes than came before */
        a->again = true;
        GR_TRY(gr_hub_blob_restart(blob, err));
        return gr_fail(err, GRAFT_IO, "the hub has no such part of the file");
    }
    GR_TRY(gr_hub_check_answer(&j->link, a, blob->file->name, err));
    if (blob->have == blob->file->size) return GRAFT_OK;
    if (!blob->started && !blob->have && !blob->file->size) return GRAFT_OK; /* an empty file */
    gr_fail(err, GRAFT_CORRUPT, "the file ended early");
    gr_where(err, "%s", blob->file->name);
    gr_expected(err, "%llu bytes", (unsigned long long)blob->file->size);
    return gr_found(err, "%llu", (unsigned long long)blob->have);
}

static graft_status fetch_blob(job *j, gr_hub_blob *blob, graft_error *err) {
    char *url = file_url(j, blob->file);
    graft_status st = url ? GRAFT_OK : gr_no_memory(err, 0);
    for (int tried = 1; !st && blob->have < blob->file->size; tried++) {
        graft_error why = {0};
        gr_http_answer a;
        uint64_t had = blob->have;
        if (!fetch_rest(j, blob, url, &a, &why)) break;
        if (blob->have > had) tried = 1; /* it goes on, if slowly */
        st = gr_hub_before_next(&j->link, tried, &a, &why, err);
    }
    free(url);
    return st;
}

/* snapshots/COMMIT/FILE -> blobs/DIGEST */
static graft_status link_file(const job *j, const gr_hub_file *file, graft_error *err) {
    gr_buf target = {0}, temp = {0};
    char *path = gr_path_join(j->snapshot, file->name), *slash = path ? strrchr(path, '/') : NULL;
    gr_buf_puts(&target, "../../");
    for (const char *p = file->name; *p; p++)
        if (*p == '/') gr_buf_puts(&target, "../");
    gr_buf_printf(&target, "blobs/%s", file->digest);
    gr_buf_printf(&temp, "%s.%ld.tmp", path ? path : "", (long)getpid());
    graft_status st = path && !target.failed && !temp.failed ? GRAFT_OK : gr_no_memory(err, 0);
    if (!st) {
        *slash = 0;
        st = gr_make_dirs(path, err);
        *slash = '/';
    }
    if (!st) unlink(temp.data);
    if (!st && (symlink(target.data, temp.data) || rename(temp.data, path)))
        st = gr_fail_written(err, errno, "cannot make the link", path);
    if (st && temp.data) unlink(temp.data);
    free(path);
    gr_buf_free(&target);
    gr_buf_free(&temp);
    return st;
}

static graft_status fetch_missing(job *j, const gr_hub_file *file, graft_error *err) {
    gr_hub_blob blob = {.stop = j->wish->limits.stop, .progress = on_blob, .context = j};
    graft_status st = gr_hub_blob_open(&blob, file, j->blobs, err);
    bool went_on = blob.have > 0;
    if (!st) st = fetch_blob(j, &blob, err);
    graft_error why = {0};
    if (!st && (st = gr_hub_blob_finish(&blob, &why)) == GRAFT_CORRUPT && went_on) {
        /* What an earlier call left may be what is wrong. */
        j->fetched += blob.fetched;
        gr_hub_blob_close(&blob);
        st = gr_hub_blob_open(&blob, file, j->blobs, err);
        if (!st) st = fetch_blob(j, &blob, err);
        if (!st) st = gr_hub_blob_finish(&blob, err);
    } else if (st && why.status && err) {
        *err = why;
    }
    j->fetched += blob.fetched;
    gr_hub_blob_close(&blob);
    return st;
}

/* huggingface_hub's lock on a blob, whose part has the same name as ours. source: huggingface_hub 2.4
 * file_download.py */
static graft_status lock_blob(gr_dir_lock *lock, const job *j, const gr_hub_file *file, graft_error *err) {
    gr_buf path = {0};
    gr_buf_printf(&path, "%s/%s.lock", j->locks, file->digest);
    if (path.failed) return gr_no_memory(err, path.len);
    graft_status st =
        gr_file_lock_take(lock, path.data, "another program downloads the same file: wait for it", err);
    gr_buf_free(&path);
    return st;
}

static graft_status fetch_file(job *j, const gr_hub_file *file, graft_error *err) {
    if (blob_size(j, file, "") != file->size) {
        gr_dir_lock lock;
        GR_TRY(lock_blob(&lock, j, file, err));
        bool missing = blob_size(j, file, "") != file->size; /* no other program has fetched it meanwhile */
        graft_status st = missing ? fetch_missing(j, file, err) : GRAFT_OK;
        gr_dir_lock_release(&lock);
        GR_TRY(st);
    }
    j->before += file->size;
    on_blob(j, 0);
    return link_file(j, file, err);
}

/* The revision now stands for the commit; a commit stands for itself. */
static graft_status write_ref(const job *j, graft_error *err) {
    gr_buf path = {0};
    if (!strcmp(j->name.revision, j->list.commit)) return GRAFT_OK;
    gr_buf_printf(&path, "%s/refs/%s", j->repository, j->name.revision);
    if (path.failed) return gr_no_memory(err, path.len);
    char *slash = strrchr(path.data, '/');
    *slash = 0;
    graft_status st = gr_make_dirs(path.data, err);
    *slash = '/';
    if (!st) st = gr_file_replace(path.data, j->list.commit, 40, err);
    gr_buf_free(&path);
    return st;
}

static graft_status run(job *j, graft_error *err) {
    GR_TRY(gr_hub_link_open(&j->link, j->name.name, &j->wish->limits, err));
    GR_TRY(read_list(j, err));
    GR_TRY(complete_list(j, err));
    GR_TRY(make_places(j, err));
    GR_TRY(check_space(j, err));
    for (size_t i = 0; i < j->list.count; i++) GR_TRY(fetch_file(j, &j->list.files[i], err));
    GR_TRY(gr_dir_sync(j->blobs, err));
    GR_TRY(gr_dir_sync(j->snapshot, err));
    return write_ref(j, err);
}

graft_status gr_hub_fetch(const gr_hub_wish *wish, gr_hub_got *got, graft_error *err) {
    job j = {.wish = wish};
    graft_error local = {0};
    if (!err) err = &local;
    *got = (gr_hub_got){0};
    if (!gr_hub_name_read(&j.name, wish->name)) {
        gr_fail(err, GRAFT_USAGE, "not the name of a model");
        gr_expected(err, "owner/name or owner/name@revision");
        return gr_found(err, "%.200s", wish->name);
    }
    graft_status st = run(&j, err);
    if (st == GRAFT_INTERRUPTED) gr_hint(err, "the same line goes on from here");
    if (!st) {
        got->path = j.snapshot;
        j.snapshot = NULL;
        memcpy(got->commit, j.list.commit, sizeof got->commit);
        got->files = j.list.count, got->bytes = j.total;
    }
    got->fetched = j.fetched;
    gr_hub_link_close(&j.link);
    gr_hub_list_free(&j.list);
    gr_dir_lock_release(&j.lock);
    free(j.repository);
    free(j.blobs);
    free(j.snapshot);
    free(j.locks);
    return st;
}

void gr_hub_got_free(gr_hub_got *got) {
    free(got->path);
    memset(got, 0, sizeof *got);
}
