/* What a chat template was given while the adapter was trained: an adapter is asked as it was taught. */
#include "adapters/adapter_parts.h"
#include "files/json_write.h"

static graft_status read_key(char **kwargs, const char *path, gr_reading how, graft_error *err) {
    gr_json_scope root = {NULL, path, ""}, graft, own;
    char at[128], in[128];
    json_t *config = NULL;
    GR_TRY(gr_json_load_as(&config, path, GR_CONFIG_LIMIT, how, err));
    root.object = config;
    own.object = NULL;
    graft_status st = gr_json_object(&root, "graft", &graft, at, err);
    if (st == GRAFT_OK && graft.object) st = gr_json_object(&graft, "template_kwargs", &own, in, err);
    if (st == GRAFT_OK && own.object) {
        *kwargs = gr_json_dump(own.object, JSON_COMPACT);
        if (!*kwargs) st = gr_no_memory(err, 64);
    }
    json_decref(config);
    return st;
}

static graft_status read_one(char **kwargs, const char *path, gr_reading how, graft_error *err) {
    const char *slash = strrchr(path, '/');
    size_t n = slash && !gr_path_is_dir_as(path, how) ? (size_t)(slash - path) + 1 : strlen(path);
    *kwargs = NULL;
    char *dir = slash || gr_path_is_dir_as(path, how) ? gr_strndup(path, n) : gr_strdup(".");
    char *config = dir ? gr_path_join(dir, "adapter_config.json") : NULL;
    graft_status st = config ? GRAFT_OK : gr_no_memory(err, n);
    if (st == GRAFT_OK && gr_path_exists_as(config, how)) st = read_key(kwargs, config, how, err);
    free(config);
    free(dir);
    return st;
}

bool gr_adapter_same_kwargs(const char *a, const char *b) {
    json_t *x = a ? json_loads(a, 0, NULL) : NULL, *y = b ? json_loads(b, 0, NULL) : NULL;
    bool equal = x && y ? json_equal(x, y) : !a && !b;
    json_decref(x);
    json_decref(y);
    return equal;
}

graft_status gr_adapter_template_kwargs(char **kwargs, bool *differ, const char *path, gr_reading how,
                                        graft_error *err) {
    gr_adapter_share *shares;
    size_t count;
    *kwargs = NULL;
    if (differ) *differ = false;
    GR_TRY(gr_adapter_shares_read(&shares, &count, path, how, err));
    graft_status st = read_one(kwargs, shares[0].path, how, err);
    for (size_t i = 1; differ && st == GRAFT_OK && i < count; i++) {
        char *other;
        st = read_one(&other, shares[i].path, how, err);
        *differ = *differ || (st == GRAFT_OK && !gr_adapter_same_kwargs(*kwargs, other));
        free(other);
    }
    gr_adapter_shares_free(shares, count);
    if (st == GRAFT_OK) return st;
    free(*kwargs);
    *kwargs = NULL;
    return st;
}
