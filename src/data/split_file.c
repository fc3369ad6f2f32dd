#include "data/split_file.h"
#include "base/os.h"
#include <stdio.h>
#include <sys/stat.h>

const char gr_data_wanted[] =
    "--data takes a directory with train.jsonl (or .json, .csv, .tsv) and, if you like, valid and "
    "test beside it, or one such file";

/* Is it surely there? Where the system cannot say, opening it will tell why. */
static bool is_there(const char *path, gr_reading how) {
    struct stat info;
    return how.count ? gr_path_exists_as(path, how) : stat(path, &info) == 0;
}

static const char *const endings[] = {"jsonl", "json", "csv", "tsv"};
#define ENDINGS (sizeof endings / sizeof *endings)

char *gr_data_unread(const char *data, const char *path, gr_reading how) {
    gr_buf note = {0};
    size_t stem = strlen(path) - strlen(endings[0]), name = stem;
    if (!gr_path_is_dir_as(data, how) || !gr_ends_with(path, ".jsonl")) return NULL;
    while (name && path[name - 1] != '/') name--;
    for (size_t i = 1; i < ENDINGS; i++) {
        gr_buf other = {0};
        gr_buf_printf(&other, "%.*s%s", (int)stem, path, endings[i]);
        if (other.data && is_there(other.data, how))
            gr_buf_printf(&note, "%s%s", note.len ? ", " : "", other.data + name);
        gr_buf_free(&other);
    }
    if (note.len) gr_buf_printf(&note, ": not read, for %s is there", path + name);
    return note.len ? gr_buf_take(&note) : NULL;
}

graft_status gr_data_place(char **path, const char *data, const char *split, gr_reading how,
                           graft_error *err) {
    char name[64];
    *path = NULL;
    if (!gr_path_is_dir_as(data, how)) {
        *path = gr_strdup(data);
        return *path ? GRAFT_OK : gr_no_memory(err, strlen(data));
    }
    for (size_t i = 0; i < ENDINGS && !(i == 1 && *path); i++) {
        snprintf(name, sizeof name, "%s.%s", split, endings[i]);
        char *candidate = gr_path_join(data, name);
        if (!candidate) {
            free(*path);
            *path = NULL;
            return gr_no_memory(err, strlen(data));
        }
        bool there = is_there(candidate, how);
        if (there && *path) {
            gr_fail(err, GRAFT_USAGE, "two files for one split: %s beside another", name);
            gr_where(err, "%s", *path);
            gr_hint(err, "keep one of them, or name it with --data");
            free(candidate);
            free(*path);
            *path = NULL;
            return GRAFT_USAGE;
        }
        if (there)
            *path = candidate;
        else
            free(candidate);
    }
    if (*path) return GRAFT_OK;
    snprintf(name, sizeof name, "%s.%s", split, endings[0]);
    *path = gr_path_join(data, name);
    return *path ? GRAFT_OK : gr_no_memory(err, strlen(data));
}
