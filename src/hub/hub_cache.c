#include "hub/hub_cache.h"
#include "files/json_read.h"
#include <errno.h>
#include <sys/stat.h>

static bool copy_part(char *out, size_t room, const char *text, size_t n, const char *extra) {
    if (!n || n >= room || text[0] == '.' || text[0] == '/' || text[n - 1] == '/') return false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                     c == '_' || c == '-' || strchr(extra, c);
        if (!plain || (c == '.' && i + 1 < n && text[i + 1] == '.')) return false;
    }
    memcpy(out, text, n);
    out[n] = 0;
    return true;
}

bool gr_hub_name_read(gr_hub_name *name, const char *wish) {
    const char *slash = strchr(wish, '/'), *at = strchr(wish, '@');
    size_t n = at ? (size_t)(at - wish) : strlen(wish);
    *name = (gr_hub_name){.revision = "main", .given = at != NULL};
    if (!slash || slash == wish || (size_t)(slash - wish) + 1 >= n ||
        memchr(slash + 1, '/', n - (size_t)(slash + 1 - wish)))
        return false;
    if (slash[1] == '.' || !copy_part(name->name, sizeof name->name, wish, n, "/")) return false;
    return !at || copy_part(name->revision, sizeof name->revision, at + 1, strlen(at + 1), "/");
}

char *gr_hub_cache_dir(void) {
    static const char *const rows[][2] = {{"HF_HUB_CACHE", ""},
                                          {"HUGGINGFACE_HUB_CACHE", ""}, /* its older name */
                                          {"HF_HOME", "hub"},
                                          {"XDG_CACHE_HOME", "huggingface/hub"},
                                          {"HOME", ".cache/huggingface/hub"}};
    return gr_env_path(rows, sizeof rows / sizeof *rows);
}

char *gr_hub_repository(const gr_hub_name *name) {
    gr_buf path = {0};
    char *hub = gr_hub_cache_dir();
    if (!hub) return NULL;
    const char *slash = strchr(name->name, '/');
    gr_buf_printf(&path, "%s/models--%.*s--%s", hub, (int)(slash - name->name), name->name, slash + 1);
    free(hub);
    return gr_buf_take(&path);
}

/* The directory of the commit that the revision stands for, or is. */
static graft_status snapshot_dir(char **path, const char *repository, const gr_hub_name *name) {
    char *ref = NULL, *commit = NULL;
    size_t size = 0;
    gr_buf buf = {0};
    gr_buf_printf(&buf, "%s/refs/%s", repository, name->revision);
    ref = gr_buf_take(&buf);
    graft_error none = {0};
    graft_status st = ref ? gr_file_read(&commit, &size, ref, 256, &none) : GRAFT_NO_MEMORY;
    free(ref);
    if (st == GRAFT_NO_MEMORY) return st;
    if (commit) commit[strcspn(commit, " \r\n/")] = 0;
    gr_buf_printf(&buf, "%s/snapshots/%s", repository, commit && *commit ? commit : name->revision);
    free(commit);
    *path = gr_buf_take(&buf);
    if (!*path) return GRAFT_NO_MEMORY;
    if (gr_path_is_dir(*path)) return GRAFT_OK;
    free(*path); /* a download that never came so far */
    *path = NULL;
    return GRAFT_NOT_FOUND;
}

static graft_status incomplete(const gr_hub_name *name, const char *dir, const char *file, const char *found,
                               graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "the model in the cache is not complete");
    gr_where(err, "%s/%s", dir, file);
    gr_found(err, "%s", found);
    return gr_hint(err, "fetch the rest with: graft download %s%s%s", name->name, name->given ? "@" : "",
                   name->given ? name->revision : "");
}

/* What graft reads of a model. Somebody may have removed the blobs of the rest to save room. */
static bool is_read(const char *file) {
    static const char *const ends[] = {".json", ".jinja", ".txt", ".safetensors", ".model"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (gr_ends_with(file, ends[i])) return true;
    return false;
}

static graft_status check_links(const gr_hub_name *name, const char *dir, graft_error *err) {
    DIR *list = gr_list_open(dir);
    graft_status st = GRAFT_OK;
    struct stat info;
    if (!list) return gr_fail_errno(err, errno, "cannot open", dir);
    for (struct dirent *entry; !st && (entry = readdir(list));) {
        char *path = gr_path_join(dir, entry->d_name);
        if (!path)
            st = gr_no_memory(err, strlen(dir));
        else if (is_read(entry->d_name) && stat(path, &info) && errno == ENOENT && !lstat(path, &info))
            st = incomplete(name, dir, entry->d_name, "a link to a blob that is not there", err);
        free(path);
    }
    closedir(list);
    return st;
}

/* Weights in parts: all of them, or none where only the configuration was fetched. */
static graft_status check_parts(const gr_hub_name *name, const char *dir, graft_error *err) {
    char *path = gr_path_join(dir, "model.safetensors.index.json"), *missing = NULL;
    json_t *index = NULL, *file;
    const char *tensor;
    bool some = false;
    graft_status st = !path                  ? gr_no_memory(err, strlen(dir))
                      : gr_path_exists(path) ? gr_json_load(&index, path, GR_JSON_LIMIT, err)
                                             : GRAFT_OK;
    free(path);
    json_t *map = json_object_get(index, "weight_map");
    json_object_foreach(map, tensor, file) {
        const char *part = json_string_value(file);
        if (st || !part || !gr_plain_file_name(part)) continue; /* who opens it refuses it */
        if (missing && !strcmp(missing, part)) continue;
        if (!(path = gr_path_join(dir, part)))
            st = gr_no_memory(err, strlen(dir));
        else if (gr_path_exists(path))
            some = true;
        else if (!missing && !(missing = gr_strdup(part)))
            st = gr_no_memory(err, strlen(part));
        free(path);
    }
    if (!st && some && missing)
        st = incomplete(name, dir, missing, "no such file, which the index names", err);
    free(missing);
    json_decref(index);
    return st;
}

graft_status gr_hub_find(char **path, const gr_hub_name *name, graft_error *err) {
    char *repository = gr_hub_repository(name);
    *path = NULL;
    if (!repository) return GRAFT_NOT_FOUND;
    graft_status st = snapshot_dir(path, repository, name);
    free(repository);
    if (st == GRAFT_NO_MEMORY) return gr_no_memory(err, 0);
    GR_TRY(st);
    st = check_links(name, *path, err);
    if (!st) st = check_parts(name, *path, err);
    if (!st) return GRAFT_OK;
    free(*path);
    *path = NULL;
    return st;
}
