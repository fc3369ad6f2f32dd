#include "hub/hub_list.h"
#include "files/json_read.h"
#include <fnmatch.h>

#define MAX_FILES 20000

bool gr_hub_is_digest(const char *text) {
    size_t n = strspn(text, "0123456789abcdef");
    return !text[n] && (n == 40 || n == 64);
}

/* Plain names between slashes, so that nothing is written elsewhere. */
static bool is_relative(const char *name) {
    if (!*name || strlen(name) > 1000) return false;
    for (const char *p = name; *p; p++)
        if ((uint8_t)*p < ' ' || *p == 0x7f || *p == '\\') return false;
    for (const char *p = name; p;) {
        const char *slash = strchr(p, '/');
        size_t n = slash ? (size_t)(slash - p) : strlen(p);
        if (!n || n > 255 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) return false;
        p = slash ? slash + 1 : NULL;
    }
    return true;
}

static graft_status bad_listing(const char *what, const char *found, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "the hub's list of files %s", what);
    return found ? gr_found(err, "%.100s", found) : err ? err->status : GRAFT_CORRUPT;
}

static graft_status read_digest(gr_hub_file *file, const json_t *text, size_t digits, graft_error *err) {
    const char *digest = json_string_value(text);
    if (!digest) return GRAFT_OK;
    if (!gr_hub_is_digest(digest) || strlen(digest) != digits)
        return bad_listing("has a digest that is none", digest, err);
    memcpy(file->digest, digest, digits + 1);
    return GRAFT_OK;
}

static graft_status read_size(gr_hub_file *file, const json_t *size, graft_error *err) {
    if (!json_is_integer(size)) return GRAFT_OK;
    if (json_integer_value(size) < 0 || json_integer_value(size) > (json_int_t)1 << 48)
        return bad_listing("has an impossible size", file->name, err);
    file->size = (uint64_t)json_integer_value(size);
    return GRAFT_OK;
}

static graft_status read_file(gr_hub_list *list, const json_t *row, graft_error *err) {
    const char *name = json_string_value(json_object_get(row, "rfilename"));
    const json_t *lfs = json_object_get(row, "lfs");
    if (!name) return bad_listing("has a file without a name", NULL, err);
    if (!is_relative(name)) return bad_listing("has a name that is no file's", name, err);
    if (list->count == MAX_FILES) return bad_listing("has more than 20000 files", NULL, err);
    if (!gr_grow((void **)&list->files, &list->cap, list->count, sizeof *list->files))
        return gr_no_memory(err, sizeof *list->files);
    gr_hub_file *file = &list->files[list->count];
    *file = (gr_hub_file){.name = gr_strdup(name), .size = GR_HUB_UNKNOWN};
    if (!file->name) return gr_no_memory(err, strlen(name));
    list->count++;
    if (json_is_object(lfs)) { /* its blobId is that of the pointer */
        GR_TRY(read_size(file, json_object_get(lfs, "size"), err));
        return read_digest(file, json_object_get(lfs, "sha256"), 64, err);
    }
    GR_TRY(read_size(file, json_object_get(row, "size"), err));
    return read_digest(file, json_object_get(row, "blobId"), 40, err);
}

graft_status gr_hub_list_read(gr_hub_list *list, const char *json, size_t len, graft_error *err) {
    json_t *root = NULL;
    const json_t *row;
    size_t i;
    *list = (gr_hub_list){0};
    GR_TRY(gr_json_parse(&root, json, len, "the hub's list of files", err));
    const char *sha = json_string_value(json_object_get(root, "sha"));
    const json_t *rows = json_object_get(root, "siblings");
    graft_status st = GRAFT_OK;
    if (!sha || strlen(sha) != 40 || !gr_hub_is_digest(sha))
        st = bad_listing("names no commit", sha, err);
    else if (!json_is_array(rows))
        st = bad_listing("has no files", NULL, err);
    else
        memcpy(list->commit, sha, 41);
    if (!st) json_array_foreach(rows, i, row) if ((st = read_file(list, row, err))) break;
    json_decref(root);
    return st;
}

void gr_hub_list_free(gr_hub_list *list) {
    for (size_t i = 0; i < list->count; i++) free(list->files[i].name);
    free(list->files);
    memset(list, 0, sizeof *list);
}

static graft_status none_match(const gr_hub_list *list, const char *pattern, graft_error *err) {
    gr_buf names = {0};
    for (size_t i = 0; i < list->count && names.len < 200; i++)
        gr_buf_printf(&names, "%s%s", i ? ", " : "", list->files[i].name);
    gr_fail(err, GRAFT_NOT_FOUND, "the repository has no file that fits");
    gr_expected(err, "%s", pattern);
    gr_found(err, "%s", names.data ? names.data : "no files");
    gr_buf_free(&names);
    return gr_hint(err, "choose with --include, e.g. --include '*.gguf'");
}

/* Moves the chosen files to the front. */
static size_t keep(gr_hub_list *list, size_t kept, const char *pattern, bool anywhere) {
    for (size_t i = kept; i < list->count; i++) {
        if ((!anywhere && strchr(list->files[i].name, '/')) || fnmatch(pattern, list->files[i].name, 0))
            continue;
        gr_hub_file swap = list->files[kept];
        list->files[kept++] = list->files[i];
        list->files[i] = swap;
    }
    return kept;
}

graft_status gr_hub_list_choose(gr_hub_list *list, const char *patterns, graft_error *err) {
    /* Configuration and tokenizer; then weights, by the name that programs look for or by any. */
    static const char *const always[] = {"*.json", "*.jinja", "*.txt", "tokenizer.model"};
    static const char templates[] = "additional_chat_templates/*.jinja"; /* the only folder that counts */
    size_t kept = 0;
    if (patterns) {
        char *copy = gr_strdup(patterns), *rest = NULL;
        if (!copy) return gr_no_memory(err, strlen(patterns));
        graft_status st = GRAFT_OK;
        for (char *p = strtok_r(copy, ",", &rest); p && !st; p = strtok_r(NULL, ",", &rest)) {
            size_t before = kept;
            kept = keep(list, kept, p, true);
            if (kept == before && keep(list, 0, p, true) == 0) st = none_match(list, p, err);
        }
        free(copy);
        GR_TRY(st);
    } else {
        size_t weights = keep(list, 0, "model*.safetensors", false);
        if (!weights) weights = keep(list, 0, "*.safetensors", false);
        if (!weights) return none_match(list, "*.safetensors", err);
        kept = weights;
        for (size_t i = 0; i < sizeof always / sizeof *always; i++) kept = keep(list, kept, always[i], false);
        kept = keep(list, kept, templates, true);
    }
    if (!kept) return none_match(list, patterns, err);
    for (size_t i = kept; i < list->count; i++) free(list->files[i].name);
    list->count = kept;
    return GRAFT_OK;
}
