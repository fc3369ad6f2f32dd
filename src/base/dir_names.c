#include "base/dir_names.h"
#include <errno.h>

static graft_status add(gr_names *names, const char *name, const char *suffix, graft_error *err) {
    if (!gr_ends_with(name, suffix)) return GRAFT_OK;
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->name[i], name) == 0) return GRAFT_OK;
    char *own = gr_strdup(name);
    if (!own || !gr_grow((void **)&names->name, &names->room, names->count, sizeof *names->name)) {
        free(own);
        return gr_no_memory(err, strlen(name));
    }
    names->name[names->count++] = own;
    return GRAFT_OK;
}

static int by_string(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

graft_status gr_names_list(gr_names *names, const char *dir, const char *suffix, gr_reading how,
                           graft_error *err) {
    graft_status st = GRAFT_OK;
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') n--;
    for (size_t i = 0; st == GRAFT_OK && i < how.count; i++) {
        const char *path = how.files[i].path;
        bool inside = strncmp(path, dir, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
        if (inside) st = add(names, path + n + 1, suffix, err);
    }
    if (st != GRAFT_OK) return st;
    DIR *list = gr_list_open(dir);
    if (!list && !names->count) return gr_fail_errno(err, errno, "cannot list", dir);
    for (struct dirent *entry; st == GRAFT_OK && list && (entry = readdir(list));)
        st = add(names, entry->d_name, suffix, err);
    if (list) closedir(list);
    if (names->count) qsort(names->name, names->count, sizeof *names->name, by_string);
    return st;
}

void gr_names_free(gr_names *names) {
    for (size_t i = 0; i < names->count; i++) free(names->name[i]);
    free(names->name);
    *names = (gr_names){0};
}
