#include "model/locate.h"

/* First of the environment's variables that is set, with its suffix; else HOME with the last suffix.
 * malloc'ed. */
static char *from_environment(const char *const (*rows)[2], size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *value = getenv(rows[i][0]);
        if (!value || !*value) continue;
        return *rows[i][1] ? gr_path_join(value, rows[i][1]) : gr_strdup(value);
    }
    return NULL;
}

static char *hub_cache(void) {
    static const char *const rows[][2] = {{"HF_HUB_CACHE", ""},
                                          {"HF_HOME", "hub"},
                                          {"XDG_CACHE_HOME", "huggingface/hub"},
                                          {"HOME", ".cache/huggingface/hub"}};
    return from_environment(rows, sizeof rows / sizeof *rows);
}

char *gr_cache_path(const char *name) {
    static const char *const rows[][2] = {{"XDG_CACHE_HOME", "graft"}, {"HOME", ".cache/graft"}};
    char *dir = from_environment(rows, sizeof rows / sizeof *rows),
         *path = dir ? gr_path_join(dir, name) : NULL;
    free(dir);
    return path;
}

/* owner/name -> HUB/models--owner--name. malloc'ed. */
static char *repository_dir(const char *wish) {
    gr_buf name = {0};
    char *hub = hub_cache();
    gr_buf_printf(&name, "%s/models--", hub ? hub : "");
    for (const char *p = wish; *p; p++) {
        if (*p == '/')
            gr_buf_puts(&name, "--");
        else
            gr_buf_putc(&name, *p);
    }
    free(hub);
    return gr_buf_take(&name);
}

/* The snapshot that refs/main names. */
static graft_status snapshot(char **path, const char *repository, graft_error *err) {
    char *ref = gr_path_join(repository, "refs/main"), *commit = NULL;
    size_t size = 0;
    graft_status st = ref ? gr_file_read(&commit, &size, ref, 256, err) : gr_no_memory(err, 0);
    free(ref);
    if (st != GRAFT_OK) return st;
    commit[strcspn(commit, " \r\n/")] = 0;
    gr_buf dir = {0};
    gr_buf_printf(&dir, "%s/snapshots/%s", repository, commit);
    free(commit);
    *path = gr_buf_take(&dir);
    if (!*path) return gr_no_memory(err, 0);
    if (gr_path_is_dir(*path)) return GRAFT_OK;
    free(*path); /* a download that never came so far */
    *path = NULL;
    return gr_fail(err, GRAFT_NOT_FOUND, "no snapshot");
}

static bool is_repository_name(const char *wish) {
    const char *slash = strchr(wish, '/');
    return slash && slash != wish && slash[1] && !strchr(slash + 1, '/') && wish[0] != '.' && wish[0] != '~';
}

graft_status gr_model_locate(char **path, bool *gguf, const char *wish, graft_error *err) {
    *path = NULL;
    *gguf = false;
    if (!wish || !*wish) {
        gr_fail(err, GRAFT_USAGE, "--model is missing");
        return gr_hint(
            err, "--model takes a model directory, FILE.gguf, or owner/name from the Hugging Face cache");
    }
    if (gr_path_exists(wish)) {
        *gguf = !gr_path_is_dir(wish);
        if (*gguf && !gr_ends_with(wish, ".gguf")) {
            gr_fail(err, GRAFT_USAGE, "model is neither a directory nor a .gguf file");
            return gr_where(err, "%s", wish);
        }
        *path = gr_strdup(wish);
        return *path ? GRAFT_OK : gr_no_memory(err, strlen(wish));
    }
    if (is_repository_name(wish)) {
        char *repository = repository_dir(wish);
        graft_error none = {0};
        graft_status st = repository ? snapshot(path, repository, &none) : gr_no_memory(err, 0);
        free(repository);
        if (st == GRAFT_OK) return st;
    }
    gr_fail(err, GRAFT_NOT_FOUND, "no such model");
    gr_where(err, "%s", wish);
    if (is_repository_name(wish)) return gr_hint(err, "download it with: hf download %s", wish);
    return gr_hint(err,
                   "--model takes a model directory, FILE.gguf, or owner/name from the Hugging Face cache");
}
