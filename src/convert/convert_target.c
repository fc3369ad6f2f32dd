/* Where a conversion is written until it is whole, and how it then becomes the output directory. A new
 * directory is made beside its place and renamed; in one that exists already, a hidden one inside it is
 * filled and its files move out of it, config.json last. Whatever fails or is killed before, no half of a
 * model is ever at the output's place, and what was there stays. */
#include "base/os.h"
#include "convert/conversion.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Tells a later run that the directory is ours, and of which source and wishes its model was made. */
#define MARKER      ".graft-convert"
#define MARKER_TEXT "written by graft convert"

/* What a conversion writes, config.json first: without it a directory is no model. */
static bool is_ours(const char *name) {
    static const char suffix[] = ".safetensors";
    static const char *const names[] = {"config.json",
                                        "model.safetensors.index.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "generation_config.json",
                                        "chat_template.jinja",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "tokenizer.model",
                                        "chat_template.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    size_t len = strlen(name);
    return len > sizeof suffix && strncmp(name, "model", 5) == 0 &&
           strcmp(name + len - (sizeof suffix - 1), suffix) == 0;
}

static graft_status remove_file(const char *dir, const char *name, graft_error *err) {
    char *path = gr_path_join(dir, name);
    if (!path) return gr_no_memory(err, strlen(name));
    graft_status st =
        unlink(path) == 0 || errno == ENOENT ? GRAFT_OK : gr_fail_errno(err, errno, "cannot remove", path);
    free(path);
    return st;
}

static graft_status move_file(const char *from_dir, const char *to_dir, const char *name, graft_error *err) {
    char *from = gr_path_join(from_dir, name), *to = gr_path_join(to_dir, name);
    graft_status st = GRAFT_OK;
    if (!from || !to)
        st = gr_no_memory(err, strlen(name));
    else if (rename(from, to) != 0)
        st = gr_fail_written(err, errno, "cannot write", to);
    free(from);
    free(to);
    return st;
}

/* Calls visit for each entry but "." and ".."; counts them in *count (may be NULL). */
static graft_status each_entry(const char *dir, int *count,
                               graft_status (*visit)(const char *dir, const char *name, const char *other,
                                                     graft_error *err),
                               const char *other, graft_error *err) {
    DIR *d = gr_list_open(dir);
    graft_status st = GRAFT_OK;
    if (!d) return gr_fail_errno(err, errno, "cannot list", dir);
    for (struct dirent *e; st == GRAFT_OK && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (count) ++*count;
        if (visit) st = visit(dir, e->d_name, other, err);
    }
    closedir(d);
    return st;
}

static graft_status remove_any(const char *dir, const char *name, const char *other, graft_error *err) {
    (void)other;
    return remove_file(dir, name, err);
}

/* What the conversion in `other` has no file for. */
static graft_status remove_stale(const char *dir, const char *name, const char *other, graft_error *err) {
    if (!is_ours(name)) return GRAFT_OK;
    char *fresh = gr_path_join(other, name);
    if (!fresh) return gr_no_memory(err, strlen(name));
    bool stale = !gr_path_exists(fresh);
    free(fresh);
    return stale ? remove_file(dir, name, err) : GRAFT_OK;
}

/* All but the config, which makes the rest a model. */
static graft_status move_any(const char *dir, const char *name, const char *other, graft_error *err) {
    return strcmp(name, "config.json") == 0 ? GRAFT_OK : move_file(dir, other, name, err);
}

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static graft_status write_marker(const char *dir, const char *text, graft_error *err) {
    char *marker = gr_path_join(dir, MARKER);
    graft_status st =
        marker ? gr_file_replace(marker, text, strlen(text), err) : gr_no_memory(err, strlen(dir));
    free(marker);
    return st;
}

typedef enum content { FOREIGN, UNFINISHED, THE_SAME, ANOTHER } content;

static graft_status marker_says(content *says, const char *path, const char *marker, graft_error *err) {
    char *text;
    size_t len;
    GR_TRY(gr_file_read(&text, &len, path, 4096, err));
    *says = len == strlen(marker) && memcmp(text, marker, len) == 0 ? THE_SAME : ANOTHER;
    free(text);
    return GRAFT_OK;
}

/* Whose the directory is, and whether its model is what this conversion will write. */
static graft_status look_at(content *found, const char *out, const char *marker, graft_error *err) {
    char *path = gr_path_join(out, MARKER), *config = gr_path_join(out, "config.json");
    graft_status st = path && config ? GRAFT_OK : gr_no_memory(err, strlen(out));
    int count = 0;
    *found = FOREIGN;
    if (st == GRAFT_OK && gr_path_is_dir(out)) {
        st = each_entry(out, &count, NULL, NULL, err);
        bool ours = gr_path_exists(path);
        if (st == GRAFT_OK && ours && gr_path_exists(config))
            st = marker_says(found, path, marker, err);
        else if (ours || !count)
            *found = UNFINISHED;
    }
    free(path);
    free(config);
    return st;
}

/* An output that exists must be a directory that is empty or ours, and of the same source and wishes. */
static graft_status check_existing(gr_conversion *c, graft_error *err) {
    const char *out = c->options->out;
    content found;
    GR_TRY(look_at(&found, out, c->marker, err));
    if (found == UNFINISHED) return write_marker(out, MARKER_TEXT "\n", err);
    if (found == THE_SAME)
        return gr_note(c->result, err, "%s held this conversion already: it is made again", out);
    gr_fail(err, GRAFT_USAGE, "%s",
            found == FOREIGN
                ? "the output directory exists and is not from an earlier conversion"
                : "the output directory holds a conversion of another model or with other options");
    gr_where(err, "%s", out);
    return gr_hint(err, "choose a new directory with --mlx-path, or remove this one");
}

/* The name of a directory that nobody else makes: unique per process and moment. malloc'ed. */
static char *working_name(const char *out, bool inside) {
    gr_buf name = {0};
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') n--;
    gr_buf_add(&name, out, n);
    gr_buf_printf(&name, "%s.%ld-%llx.tmp", inside ? "/" MARKER : "", (long)getpid(),
                  (unsigned long long)(gr_clock() * 1e9));
    return gr_buf_take(&name);
}

/* ---- what conversions that were killed left */

#define YOUNG_SECONDS 60 /* between making a directory and locking it nobody may take it for a left one */

/* A lock on the directory's marker says that its conversion is alive. -1: not to be had. */
static int lock_marker(const char *dir) {
    char *marker = gr_path_join(dir, MARKER);
    int fd = marker ? open(marker, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        fd = -1;
    }
    free(marker);
    return fd;
}

/* Is it START.PID-HEX.tmp, as working_name makes it? */
static bool is_working_name(const char *name, const char *start) {
    size_t n = strlen(start), digits, hex;
    if (strncmp(name, start, n) != 0 || name[n] != '.') return false;
    name += n + 1;
    digits = strspn(name, "0123456789");
    if (!digits || name[digits] != '-') return false;
    name += digits + 1;
    hex = strspn(name, "0123456789abcdef");
    return hex && strcmp(name + hex, ".tmp") == 0;
}

/* each_entry's visitor: `start` is how names of working directories for this output begin. Whatever cannot be
 * removed stays. */
static graft_status remove_left(const char *parent, const char *name, const char *start, graft_error *err) {
    struct stat info;
    graft_error ignored = {0};
    if (!is_working_name(name, start)) return GRAFT_OK;
    char *dir = gr_path_join(parent, name);
    if (!dir) return gr_no_memory(err, strlen(name));
    int fd = lock_marker(dir);
    bool old = fd >= 0 && fstat(fd, &info) == 0 && time(NULL) - info.st_mtime > YOUNG_SECONDS;
    if (old && each_entry(dir, NULL, remove_any, NULL, &ignored) == GRAFT_OK) rmdir(dir);
    if (fd >= 0) close(fd);
    free(dir);
    return GRAFT_OK;
}

/* Removes working directories of earlier conversions to the same output, as far as nobody fills them. */
static graft_status sweep(const char *out, bool inside, graft_error *err) {
    graft_error ignored = {0};
    graft_status st = GRAFT_OK;
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') n--;
    char *dir = gr_strndup(out, n), *slash = dir ? strrchr(dir, '/') : NULL;
    if (!dir) return gr_no_memory(err, n);
    if (inside) {
        st = each_entry(dir, NULL, remove_left, MARKER, &ignored);
    } else if (slash) {
        *slash = 0;
        st = each_entry(slash == dir ? "/" : dir, NULL, remove_left, slash + 1, &ignored);
    } else {
        st = each_entry(".", NULL, remove_left, dir, &ignored);
    }
    free(dir);
    return st == GRAFT_NO_MEMORY ? gr_no_memory(err, n) : GRAFT_OK;
}

/* The directory that a path's last part is in. malloc'ed. */
static char *parent_of(const char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    while (n && path[n - 1] != '/') n--;
    while (n > 1 && path[n - 1] == '/') n--;
    return n ? gr_strndup(path, n) : gr_strdup(".");
}

/* mkdir -p of all but the last part, which must be new. */
static graft_status make_new(const char *path, graft_error *err) {
    char *parent = parent_of(path);
    graft_status st = parent ? gr_make_dirs(parent, err) : gr_no_memory(err, strlen(path));
    free(parent);
    if (st == GRAFT_OK && mkdir(path, 0777) != 0)
        st = gr_fail_written(err, errno, "cannot create directory", path);
    return st;
}

graft_status gr_conversion_prepare_out(gr_conversion *c, graft_error *err) {
    const char *out = c->options->out;
    if (same_file(out, c->options->model)) {
        gr_fail(err, GRAFT_USAGE, "the output directory is the source");
        return gr_where(err, "%s", out);
    }
    struct stat info;
    c->replaces = stat(out, &info) == 0;
    if (!c->replaces && errno != ENOENT && errno != ENOTDIR)
        return gr_fail_errno(err, errno, "cannot look at", out);
    uint64_t key;
    GR_TRY(gr_conversion_key(&key, c->options, err));
    snprintf(c->marker, sizeof c->marker, MARKER_TEXT " %016llx\n", (unsigned long long)key);
    if (c->replaces) GR_TRY(check_existing(c, err));
    char *name = working_name(out, c->replaces);
    if (!name) return gr_no_memory(err, strlen(out));
    graft_status st = make_new(name, err);
    if (st != GRAFT_OK) {
        free(name);
        return st;
    }
    c->out = name; /* from here on discard removes it */
    c->made = gr_list_open(name);
    if (!c->made) return gr_fail_errno(err, errno, "cannot list", name);
    GR_TRY(write_marker(name, c->marker, err));
    c->lock = lock_marker(name);
    return sweep(out, c->replaces, err);
}

static void let_go(gr_conversion *c) {
    if (c->made) closedir(c->made);
    free(c->out);
    c->made = NULL;
    c->out = NULL;
}

/* The files of the working directory take the place of an earlier conversion's. That one was of the same
 * source and wishes, so that its bytes are the same and a model stands there all the time; or it has no
 * config.json, and gets it when the rest is on the disk. */
static graft_status move_in(const gr_conversion *c, graft_error *err) {
    const char *out = c->options->out;
    GR_TRY(each_entry(out, NULL, remove_stale, c->out, err));
    GR_TRY(each_entry(c->out, NULL, move_any, out, err));
    GR_TRY(gr_dir_sync(out, err));
    GR_TRY(move_file(c->out, out, "config.json", err));
    GR_TRY(gr_dir_sync(out, err));
    if (rmdir(c->out) != 0) return gr_fail_errno(err, errno, "cannot remove", c->out);
    return GRAFT_OK;
}

/* Somebody else finished the same conversion first: theirs stays. */
static bool there_by_now(const char *out) {
    char *config = gr_path_join(out, "config.json"), *marker = gr_path_join(out, MARKER);
    bool there = config && marker && gr_path_exists(config) && gr_path_exists(marker);
    free(config);
    free(marker);
    return there;
}

graft_status gr_conversion_publish(gr_conversion *c, graft_error *err) {
    const char *out = c->options->out;
    if (c->replaces) {
        GR_TRY(move_in(c, err));
    } else if (rename(c->out, out) != 0) {
        int os_errno = errno;
        if (!there_by_now(out)) return gr_fail_written(err, os_errno, "cannot create directory", out);
        gr_conversion_discard(c);
    }
    let_go(c);
    char *parent = c->replaces ? NULL : parent_of(out);
    graft_status st = c->replaces ? GRAFT_OK : parent ? gr_dir_sync(parent, err) : gr_no_memory(err, 0);
    free(parent);
    return st;
}

void gr_conversion_discard(gr_conversion *c) {
    struct dirent *e;
    if (!c->out) return;
    if (c->made) rewinddir(c->made);
    while (c->made && (e = readdir(c->made))) unlinkat(dirfd(c->made), e->d_name, 0); /* not . and .. */
    rmdir(c->out);
    let_go(c);
}
