#include "report/info.h"
#include "base/digest.h"
#include "base/os.h"
#include "files/gguf.h"
#include "files/json_read.h"
#include "files/json_write.h"
#include "files/safetensors.h"
#include <stdio.h>

/* *good becomes false where there was no memory for something; NULL then or less than all. */
static json_t *shape_json(bool *good, const int64_t *shape, int ndim) {
    json_t *list = json_array();
    for (int d = 0; d < ndim; d++) gr_json_append(good, list, json_integer(shape[d]));
    return list;
}

/* FNV-1a of a tensor's bytes, so that two files can be compared tensor by tensor. */
static json_t *digest_json(const uint8_t *data, size_t bytes) {
    char text[24];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)gr_digest_bytes(GR_DIGEST_START, data, bytes));
    return json_string(text);
}

static void add_tensor(bool *good, json_t *list, const char *name, const char *dtype, json_t *shape,
                       const uint8_t *data, size_t bytes) {
    gr_json_append(good, list,
                   json_pack("{s:s, s:s, s:o, s:I, s:o}", "name", name, "dtype", dtype, "shape", shape,
                             "bytes", (json_int_t)bytes, "digest", digest_json(data, bytes)));
}

static graft_status safetensors_info(json_t *root, const char *path, graft_error *err) {
    gr_safetensors *file = NULL;
    GR_TRY(gr_safetensors_open(&file, path, err));
    json_t *tensors = json_array(), *metadata = json_object();
    bool good = true;
    for (size_t i = 0; i < gr_safetensors_count(file); i++) {
        const gr_tensor *t = gr_safetensors_at(file, i);
        add_tensor(&good, tensors, t->name, gr_dtype_name(t->dtype), shape_json(&good, t->shape, t->ndim),
                   t->data, t->bytes);
    }
    good = gr_safetensors_metadata_all(metadata, file) && good;
    gr_json_put(&good, root, "metadata", metadata);
    gr_json_put(&good, root, "tensors", tensors);
    gr_safetensors_close(file);
    return good ? GRAFT_OK : gr_no_memory(err, 0);
}

static graft_status gguf_info(json_t *root, const char *path, graft_error *err) {
    gr_gguf *file = NULL;
    GR_TRY(gr_gguf_open(&file, path, err));
    json_t *tensors = json_array(), *metadata = json_object();
    bool good = true;
    const char *key;
    for (size_t i = 0; (key = gr_gguf_key(file, i)); i++) {
        gr_buf text = {0};
        gr_gguf_value_text(file, i, &text);
        good = good && !text.failed;
        json_t *value = json_stringn(text.data ? text.data : "", text.len);
        gr_json_put(&good, metadata, key, value ? value : json_string("(not UTF-8)"));
        gr_buf_free(&text);
    }
    for (size_t i = 0; i < gr_gguf_count(file); i++) {
        const gr_gguf_tensor *t = gr_gguf_at(file, i);
        add_tensor(&good, tensors, t->name, gr_gguf_type_name(t->type), shape_json(&good, t->shape, t->ndim),
                   t->data, t->bytes);
    }
    gr_json_put(&good, root, "metadata", metadata);
    gr_json_put(&good, root, "tensors", tensors);
    gr_gguf_close(file);
    return good ? GRAFT_OK : gr_no_memory(err, 0);
}

/* A JSON file of the directory under its own key, if it is there. */
static graft_status add_json(json_t *root, const char *dir, const char *name, graft_error *err) {
    json_t *value = NULL;
    char *path = gr_path_join(dir, name);
    if (!path) return gr_no_memory(err, 0);
    graft_status st = GRAFT_OK;
    if (gr_path_exists(path)) st = gr_json_load(&value, path, GR_CONFIG_LIMIT, err);
    if (st == GRAFT_OK) st = gr_json_shallow(value, path, err);
    if (st != GRAFT_OK)
        json_decref(value);
    else if (value && json_object_set_new(root, name, value) != 0)
        st = gr_no_memory(err, 0);
    free(path);
    return st;
}

static graft_status directory_info(json_t *root, const char *path, graft_error *err) {
    static const char *const names[] = {"config.json", "generation_config.json", "adapter_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) GR_TRY(add_json(root, path, names[i], err));
    return safetensors_info(root, path, err);
}

graft_status gr_info_json(char **json, const char *path, graft_error *err) {
    *json = NULL;
    bool dir = gr_path_is_dir(path), gguf = !dir && gr_ends_with(path, ".gguf");
    json_t *root = json_pack("{s:s, s:s}", "path", path, "kind",
                             dir    ? "directory"
                             : gguf ? "gguf"
                                    : "safetensors");
    if (!root && !gr_json_utf8(path)) return gr_fail(err, GRAFT_USAGE, "path is not valid UTF-8");
    if (!root) return gr_no_memory(err, 0);
    graft_status st = dir    ? directory_info(root, path, err)
                      : gguf ? gguf_info(root, path, err)
                             : safetensors_info(root, path, err);
    if (st == GRAFT_OK && !(*json = gr_json_dump(root, JSON_INDENT(2)))) st = gr_no_memory(err, 0);
    json_decref(root);
    return st;
}
