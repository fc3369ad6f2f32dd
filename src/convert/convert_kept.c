/* Conversions that are kept in the cache, one per source and wish, so that each is made once. */
#include "base/digest.h"
#include "base/os.h"
#include "convert/conversion.h"
#include "files/json_read.h"
#include "model/locate.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Raised whenever gr_convert writes something else for the same source. */
#define CONVERTER_VERSION 3

#define HEAD_BYTES ((size_t)1 << 20) /* metadata, the tokenizer's among it */
#define TAIL_BYTES ((size_t)1 << 16) /* weights */

#ifdef __APPLE__
#define MTIME st_mtimespec
#else
#define MTIME st_mtim
#endif

static graft_status read_at(char *to, size_t n, off_t at, int fd, const char *path, graft_error *err) {
    for (size_t have = 0; have < n;) {
        ssize_t done = pread(fd, to + have, n - have, at + (off_t)have);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return gr_fail_errno(err, errno, "cannot read", path);
        if (done == 0) {
            gr_fail(err, GRAFT_CORRUPT, "the file shrank while it was read");
            return gr_where(err, "%s", path);
        }
        have += (size_t)done;
    }
    return GRAFT_OK;
}

/* h with samples of the file's bytes. */
static graft_status add_samples(uint64_t *h, const char *path, size_t size, graft_error *err) {
    size_t head = size < HEAD_BYTES ? size : HEAD_BYTES, tail = size < TAIL_BYTES ? size : TAIL_BYTES;
    char *bytes = size ? malloc(HEAD_BYTES) : NULL;
    if (!size) return GRAFT_OK;
    if (!bytes) return gr_no_memory(err, HEAD_BYTES);
    int fd = gr_open(path, O_RDONLY, 0);
    graft_status st = fd < 0 ? gr_fail_errno(err, errno, "cannot open", path) : GRAFT_OK;
    if (st == GRAFT_OK) st = read_at(bytes, head, 0, fd, path, err);
    if (st == GRAFT_OK) *h = gr_digest_bytes(*h, bytes, head);
    if (st == GRAFT_OK) st = read_at(bytes, tail, (off_t)(size - tail), fd, path, err);
    if (st == GRAFT_OK) *h = gr_digest_bytes(*h, bytes, tail);
    if (fd >= 0) close(fd);
    free(bytes);
    return st;
}

/* 0 for a directory. */
static graft_status file_key(uint64_t *key, const char *path, graft_error *err) {
    struct stat info;
    *key = 0;
    if (stat(path, &info) != 0) return gr_fail_errno(err, errno, "cannot open", path);
    if (S_ISDIR(info.st_mode)) return GRAFT_OK;
    const uint64_t numbers[] = {
        CONVERTER_VERSION,           (uint64_t)info.st_dev,        (uint64_t)info.st_ino,
        (uint64_t)info.MTIME.tv_sec, (uint64_t)info.MTIME.tv_nsec, (uint64_t)info.st_size};
    uint64_t h = GR_DIGEST_START;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) h = gr_digest_number(h, numbers[i]);
    GR_TRY(add_samples(&h, path, (size_t)info.st_size, err));
    *key = h;
    return GRAFT_OK;
}

/* What a conversion reads from a directory. */
static bool is_source(const char *name) {
    static const char *const suffixes[] = {".safetensors", ".json", ".jinja", ".txt", ".model"};
    for (size_t i = 0; name[0] != '.' && i < sizeof suffixes / sizeof *suffixes; i++)
        if (gr_ends_with(name, suffixes[i])) return true;
    return false;
}

/* Each file's key with its name; the sum does not depend on the order of the listing. */
static graft_status dir_key(uint64_t *key, const char *path, graft_error *err) {
    graft_status st = GRAFT_OK;
    DIR *list = gr_list_open(path);
    if (!list) return gr_fail_errno(err, errno, "cannot list", path);
    *key = 0;
    for (struct dirent *e; st == GRAFT_OK && (e = readdir(list));) {
        uint64_t one = 0;
        if (!is_source(e->d_name)) continue;
        char *file = gr_path_join(path, e->d_name);
        if (!file)
            st = gr_no_memory(err, strlen(path));
        else
            st = file_key(&one, file, err);
        free(file);
        *key += gr_digest_bytes(gr_digest_number(GR_DIGEST_START, one), e->d_name, strlen(e->d_name));
    }
    closedir(list);
    return st;
}

/* A model's directory has one folder that a conversion reads: named chat templates. */
static graft_status model_key(uint64_t *key, const char *path, graft_error *err) {
    uint64_t own = 0, named = 0;
    char *folder = gr_path_join(path, "additional_chat_templates");
    graft_status st = folder ? dir_key(&own, path, err) : gr_no_memory(err, strlen(path));
    if (st == GRAFT_OK && gr_path_is_dir(folder)) st = dir_key(&named, folder, err);
    *key = named ? own + gr_digest_number(GR_DIGEST_START, named) : own; /* as before for models without */
    free(folder);
    return st;
}

graft_status gr_convert_key(uint64_t *key, const char *path, graft_error *err) {
    return gr_path_is_dir(path) ? model_key(key, path, err) : file_key(key, path, err);
}

static uint64_t add_text(uint64_t h, const char *text) {
    return gr_digest_step(gr_digest_bytes(h, text ? text : "", text ? strlen(text) : 0), text ? 1 : 2);
}

/* The wishes that change what is written. */
static uint64_t wish_key(const gr_convert_options *o) {
    const uint64_t numbers[] = {o->quantize, (uint64_t)o->q_bits, (uint64_t)o->q_group_size, o->q_embeddings,
                                o->dequantize};
    uint64_t h = GR_DIGEST_START;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) h = gr_digest_number(h, numbers[i]);
    if (o->edit_count) h = gr_digest_number(h, o->edits_key);
    return add_text(add_text(add_text(h, o->q_mode), o->quant_predicate), o->dtype);
}

/* Of a directory whose files the host holds: of their bytes. False: none is there. */
static bool held_key(uint64_t *key, const char *dir, gr_reading how) {
    size_t n = strlen(dir);
    bool any = false;
    while (n > 1 && dir[n - 1] == '/') n--;
    *key = 0;
    for (size_t i = 0; i < how.count; i++) {
        const graft_file *f = &how.files[i];
        if (strncmp(f->path, dir, n) != 0 || f->path[n] != '/') continue;
        *key +=
            gr_digest_bytes(gr_digest_blocks(GR_DIGEST_START, f->data, f->bytes), f->path, strlen(f->path));
        any = true;
    }
    return any;
}

graft_status gr_conversion_key(uint64_t *key, const gr_convert_options *o, graft_error *err) {
    if (!held_key(key, o->model, o->reading)) GR_TRY(gr_convert_key(key, o->model, err));
    *key = gr_digest_number(*key, wish_key(o));
    return GRAFT_OK;
}

/* The last part of a path without slashes at its end: *len characters from the result on. */
static const char *last_part(const char *path, int *len) {
    size_t n = strlen(path), start;
    while (n > 1 && path[n - 1] == '/') n--;
    for (start = n; start && path[start - 1] != '/';) start--;
    *len = (int)(n - start > 150 ? 150 : n - start);
    return path + start;
}

static graft_status kept_dir(char **dir, const gr_convert_options *o, graft_error *err) {
    char name[300];
    uint64_t key;
    int len;
    const char *model = last_part(o->model, &len);
    GR_TRY(gr_conversion_key(&key, o, err));
    snprintf(name, sizeof name, "converted/%.*s-%016llx", len, model, (unsigned long long)key);
    *dir = gr_cache_path(name);
    if (*dir) return GRAFT_OK;
    return gr_fail(err, GRAFT_IO,
                   "no place to keep the converted model: neither XDG_CACHE_HOME nor HOME is set");
}

static graft_status make_kept(const gr_convert_options *wish, char *out, gr_convert_say *say,
                              graft_error *err) {
    char text[700];
    gr_convert_result result = {0};
    gr_convert_options options = *wish;
    options.out = out;
    snprintf(text, sizeof text, "%s %.300s once, kept in %.300s",
             wish->quantize ? "quantizing" : "converting", wish->model, out);
    if (say) say(wish->context, text);
    GR_TRY(gr_convert(&options, &result, err));
    for (size_t i = 0; say && i < result.note_count; i++) say(wish->context, result.notes[i]);
    gr_convert_result_free(&result);
    return GRAFT_OK;
}

graft_status gr_convert_find_kept(char **dir, const gr_convert_options *wish, graft_error *err) {
    char *out = NULL;
    *dir = NULL;
    GR_TRY(kept_dir(&out, wish, err));
    char *config = gr_path_join(out, "config.json");
    graft_status st = config ? GRAFT_OK : gr_no_memory(err, strlen(out));
    if (config && gr_path_exists(config))
        *dir = out;
    else
        free(out);
    free(config);
    return st;
}

graft_status gr_convert_kept(char **dir, const gr_convert_options *wish, gr_convert_say *say,
                             graft_error *err) {
    GR_TRY(gr_convert_find_kept(dir, wish, err));
    if (*dir) return GRAFT_OK;
    char *out = NULL;
    GR_TRY(kept_dir(&out, wish, err));
    graft_status st = make_kept(wish, out, say, err);
    if (st == GRAFT_OK)
        *dir = out;
    else
        free(out);
    return st;
}

graft_status gr_convert_kept_or_own(char **dir, const gr_convert_options *wish, graft_error *err) {
    GR_TRY(gr_convert_find_kept(dir, wish, err));
    if (!*dir) *dir = gr_strdup(wish->model);
    return *dir ? GRAFT_OK : gr_no_memory(err, strlen(wish->model));
}

void gr_convert_forget(const char *dir) {
    struct dirent *e;
    DIR *list = gr_list_open(dir);
    if (!list) return;
    while ((e = readdir(list))) unlinkat(dirfd(list), e->d_name, 0); /* not . and .. */
    closedir(list);
    rmdir(dir);
}

bool gr_convert_is_awq_gptq(const char *dir, gr_reading how) {
    graft_error none = {0};
    json_t *config = NULL;
    char *path = gr_path_join(dir, "config.json");
    bool found = false;
    if (path && !gr_json_load_as(&config, path, GR_CONFIG_LIMIT, how, &none) &&
        !json_object_get(config, "quantization")) {
        const char *method = json_string_value(
            json_object_get(json_object_get(config, "quantization_config"), "quant_method"));
        found = gr_is_awq_gptq(method);
    }
    json_decref(config);
    free(path);
    return found;
}
