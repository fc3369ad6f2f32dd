/* Where the files of an adapter are. */
#include "adapters/adapter_parts.h"
#include "base/dir_names.h"

/* The one file of that kind in a directory, as other programs name theirs; *file stays NULL if there are none
 * or several. */
static graft_status only_one(char **file, const char *dir, const char *suffix, gr_reading how,
                             graft_error *err) {
    gr_names names = {0};
    graft_error none = {0};
    graft_status st = gr_names_list(&names, dir, suffix, how, &none);
    if (st == GRAFT_OK && names.count == 1) *file = gr_path_join(dir, names.name[0]);
    bool failed = st == GRAFT_NO_MEMORY || (names.count == 1 && !*file);
    gr_names_free(&names);
    return failed ? gr_no_memory(err, strlen(dir)) : GRAFT_OK;
}

graft_status gr_adapter_spot_find(gr_adapter_spot *spot, const char *path, graft_error *err) {
    const char *slash = strrchr(path, '/');
    char **file = &spot->file, **dir = &spot->dir;
    if (!gr_path_exists_as(path, spot->how)) {
        gr_fail(err, GRAFT_NOT_FOUND, "no such adapter");
        gr_where(err, "%s", path);
        return gr_expected(err, "a directory that train wrote, or one adapter file in such a directory");
    }
    if (!gr_path_is_dir_as(path, spot->how)) {
        *file = gr_strdup(path);
        *dir = slash ? gr_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : gr_strdup(".");
        return *file && *dir ? GRAFT_OK : gr_no_memory(err, strlen(path));
    }
    *dir = gr_strdup(path);
    for (const gr_adapter_format *f = gr_adapter_format_table; f->name && !*file; f++) {
        *file = gr_path_join(path, f->file);
        if (*file && gr_path_exists_as(*file, spot->how))
            return *dir ? GRAFT_OK : gr_no_memory(err, strlen(path));
        free(*file);
        *file = NULL;
    }
    if (*dir) GR_TRY(only_one(file, path, ".gguf", spot->how, err));
    if (*dir && !*file) GR_TRY(only_one(file, path, ".safetensors", spot->how, err));
    if (*file) return GRAFT_OK;
    gr_fail(err, GRAFT_NOT_FOUND, "no adapter in this directory");
    gr_where(err, "%s", path);
    return gr_expected(err, "adapters.safetensors, adapter_model.safetensors or adapter.gguf");
}

graft_status gr_adapter_spot_exact(gr_adapter_spot *p, const gr_adapter_config *c, bool whole_dir,
                                   graft_error *err) {
    if (!whole_dir || !c->padded) return GRAFT_OK;
    for (const gr_adapter_format *f = gr_adapter_format_table; f->name; f++) {
        char *path = f->one_rank ? NULL : gr_path_join(p->dir, f->file);
        if (f->one_rank) continue;
        if (!path) return gr_no_memory(err, strlen(p->dir));
        if (gr_path_exists_as(path, p->how)) {
            free(p->file);
            p->file = path;
            return GRAFT_OK;
        }
        free(path);
    }
    return GRAFT_OK;
}

void gr_adapter_spot_free(gr_adapter_spot *spot) {
    free(spot->file);
    free(spot->dir);
    *spot = (gr_adapter_spot){0};
}
