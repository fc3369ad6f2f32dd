#include "model/locate.h"
#include "hub/hub_cache.h"

char *gr_cache_path(const char *name) {
    static const char *const rows[][2] = {{"XDG_CACHE_HOME", "graft"}, {"HOME", ".cache/graft"}};
    char *dir = gr_env_path(rows, sizeof rows / sizeof *rows), *path = dir ? gr_path_join(dir, name) : NULL;
    free(dir);
    return path;
}

static graft_status several_gguf(const char *dir, const char *first, const char *second, graft_error *err) {
    gr_fail(err, GRAFT_USAGE, "the model in the cache is several GGUF files");
    gr_where(err, "%s", dir);
    gr_found(err, "%s, %s ..", first, second);
    return gr_hint(err, "give the path of one of them");
}

/* A snapshot without config.json that holds one GGUF file is that file. */
static graft_status only_gguf(char **path, bool *gguf, graft_error *err) {
    char *config = gr_path_join(*path, "config.json"), *name = NULL;
    graft_status st = config ? GRAFT_OK : gr_no_memory(err, strlen(*path));
    DIR *list = config && !gr_path_exists(config) ? gr_list_open(*path) : NULL;
    for (struct dirent *entry; !st && list && (entry = readdir(list));) {
        if (!gr_ends_with(entry->d_name, ".gguf")) continue;
        if (name)
            st = several_gguf(*path, name, entry->d_name, err);
        else if (!(name = gr_strdup(entry->d_name)))
            st = gr_no_memory(err, strlen(entry->d_name));
    }
    if (list) closedir(list);
    if (!st && name) {
        char *file = gr_path_join(*path, name);
        if (!file) st = gr_no_memory(err, strlen(name));
        free(*path);
        *path = file;
        *gguf = file != NULL;
    }
    free(name);
    free(config);
    return st;
}

static graft_status in_cache(char **path, bool *gguf, const gr_hub_name *name, const char *wish,
                             graft_error *err) {
    graft_status st = gr_hub_find(path, name, err);
    if (!st && (st = only_gguf(path, gguf, err))) {
        free(*path);
        *path = NULL;
    }
    if (st != GRAFT_NOT_FOUND) return st;
    gr_fail(err, GRAFT_NOT_FOUND, "no such model");
    gr_where(err, "%s", wish);
    return gr_hint(err, "download it with: graft download %s", wish);
}

graft_status gr_model_locate_as(char **path, bool *gguf, const char *wish, gr_reading how, graft_error *err) {
    *path = NULL;
    *gguf = false;
    if (!wish || !*wish) {
        gr_fail(err, GRAFT_USAGE, "--model is missing");
        return gr_hint(
            err, "--model takes a model directory, FILE.gguf, or owner/name from the Hugging Face cache");
    }
    if (gr_path_exists_as(wish, how)) {
        *gguf = !gr_path_is_dir_as(wish, how);
        if (*gguf && !gr_ends_with(wish, ".gguf")) {
            gr_fail(err, GRAFT_USAGE, "model is neither a directory nor a .gguf file");
            return gr_where(err, "%s", wish);
        }
        *path = gr_strdup(wish);
        return *path ? GRAFT_OK : gr_no_memory(err, strlen(wish));
    }
    gr_hub_name name;
    if (wish[0] != '~' && gr_hub_name_read(&name, wish)) return in_cache(path, gguf, &name, wish, err);
    gr_fail(err, GRAFT_NOT_FOUND, "no such model");
    gr_where(err, "%s", wish);
    return gr_hint(err,
                   "--model takes a model directory, FILE.gguf, or owner/name from the Hugging Face cache");
}
