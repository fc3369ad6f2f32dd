#include "text/chat_templates.h"
#include "base/dir_names.h"
#include "files/json_read.h"
#include <sys/stat.h>

#define FOLDER             "additional_chat_templates"
#define SUFFIX             ".jinja"
#define MAX_TEMPLATE_BYTES ((size_t)16 << 20)
#define MAX_NAMED          1000 /* names in a GGUF file; Command R has three */

static graft_status add(json_t *list, const char *name, size_t name_len, const char *text, size_t len,
                        graft_error *err) {
    if (memchr(text, 0, len)) return gr_fail(err, GRAFT_CORRUPT, "the chat template contains a zero byte");
    if (!gr_json_utf8n(text, len) || !gr_json_utf8n(name, name_len))
        return gr_fail(err, GRAFT_CORRUPT, "the chat template is not UTF-8");
    json_t *source = json_stringn(text, len), *label = json_stringn(name, name_len);
    if (source && label) {
        json_t *row = json_pack("{s:o, s:o}", "name", label, "template", source);
        return json_array_append_new(list, row) == 0 ? GRAFT_OK : gr_no_memory(err, len);
    }
    json_decref(source);
    json_decref(label);
    return gr_no_memory(err, len);
}

/* NULL for an empty list, the string itself for a default alone. */
static json_t *value_of(json_t *list) {
    const json_t *row = json_array_get(list, 0);
    json_t *value = list;
    const char *name = json_string_value(json_object_get(row, "name"));
    if (json_array_size(list) == 0)
        value = NULL;
    else if (json_array_size(list) == 1 && strcmp(name, "default") == 0)
        value = json_object_get(row, "template");
    json_incref(value);
    json_decref(list);
    return value;
}

/* ---- directories */

static graft_status add_file(json_t *list, const char *dir, const char *file, const char *name, size_t len,
                             gr_reading how, graft_error *err) {
    char *path = gr_path_join(dir, file), *text = NULL;
    size_t size;
    graft_status st = path ? GRAFT_OK : gr_no_memory(err, strlen(dir));
    if (path && gr_path_exists_as(path, how)) {
        st = gr_file_read_as(&text, &size, path, MAX_TEMPLATE_BYTES, how, err);
        if (st == GRAFT_OK) st = add(list, name, len, text, size, err);
        if (st != GRAFT_OK) gr_where(err, "%s", path);
    }
    free(text);
    free(path);
    return st;
}

/* As in most models. One that cannot be read is not taken for that: another template would be used. */
static bool no_folder(const char *folder, gr_reading how) {
    struct stat info;
    return !gr_path_exists_as(folder, how) || (stat(folder, &info) == 0 && !S_ISDIR(info.st_mode));
}

static graft_status add_folder(json_t *list, const char *folder, gr_reading how, graft_error *err) {
    gr_names names = {0};
    graft_status st = gr_names_list(&names, folder, SUFFIX, how, err);
    if (st != GRAFT_OK && st != GRAFT_NO_MEMORY && no_folder(folder, how)) {
        gr_error_clear(err);
        st = GRAFT_OK;
    }
    for (size_t i = 0; st == GRAFT_OK && i < names.count; i++)
        st = add_file(list, folder, names.name[i], names.name[i], strlen(names.name[i]) - strlen(SUFFIX), how,
                      err);
    gr_names_free(&names);
    return st;
}

graft_status gr_chat_templates_of_dir(json_t **value, const char *dir, gr_reading how, graft_error *err) {
    json_t *list = json_array();
    char *folder = gr_path_join(dir, FOLDER);
    graft_status st = list && folder ? GRAFT_OK : gr_no_memory(err, strlen(dir));
    *value = NULL;
    if (st == GRAFT_OK)
        st = add_file(list, dir, "chat_template.jinja", "default", strlen("default"), how, err);
    if (st == GRAFT_OK) st = add_folder(list, folder, how, err);
    free(folder);
    if (st == GRAFT_OK)
        *value = value_of(list);
    else
        json_decref(list);
    return st;
}

/* ---- GGUF */

static graft_status add_key(json_t *list, const gr_gguf *file, const char *key, const char *name, size_t len,
                            graft_error *err) {
    const char *text;
    size_t size;
    if (!gr_gguf_string(file, key, &text, &size)) return GRAFT_OK;
    graft_status st = add(list, name, len, text, size, err);
    return st == GRAFT_OK ? st : gr_where(err, "metadata key %s", key);
}

static graft_status add_name(json_t *list, const gr_gguf *file, const char *name, size_t len,
                             graft_error *err) {
    gr_buf key = {0};
    gr_buf_puts(&key, "tokenizer.chat_template.");
    gr_buf_add(&key, name, len);
    graft_status st = key.failed ? gr_no_memory(err, len) : add_key(list, file, key.data, name, len, err);
    gr_buf_free(&key);
    return st;
}

/* The one for tools counts listed or not, as it does for llama.cpp. */
static graft_status add_named(json_t *list, const gr_gguf *file, graft_error *err) {
    static const char names[] = "tokenizer.chat_templates", tools[] = "tool_use";
    const char *name;
    size_t count = 0, len;
    bool listed = false;
    if (gr_gguf_array(file, names, &count) && count > MAX_NAMED)
        return gr_fail(err, GRAFT_RANGE, "metadata key %s has %zu names, more than %d", names, count,
                       MAX_NAMED);
    for (size_t i = 0; i < count; i++) {
        if (!gr_gguf_array_string(file, names, i, &name, &len)) continue;
        listed |= len == strlen(tools) && memcmp(name, tools, len) == 0;
        GR_TRY(add_name(list, file, name, len, err));
    }
    return listed ? GRAFT_OK : add_name(list, file, tools, strlen(tools), err);
}

graft_status gr_chat_templates_of_gguf(json_t **value, const gr_gguf *file, graft_error *err) {
    json_t *list = json_array();
    *value = NULL;
    if (!list) return gr_no_memory(err, 64);
    graft_status st = add_key(list, file, "tokenizer.chat_template", "default", strlen("default"), err);
    if (st == GRAFT_OK) st = add_named(list, file, err);
    if (st == GRAFT_OK)
        *value = value_of(list);
    else
        json_decref(list);
    return st;
}

/* ---- */

const char *gr_chat_template_named(const json_t *value, const char *name) {
    if (!name) name = "default";
    if (json_is_string(value)) return strcmp(name, "default") ? NULL : json_string_value(value);
    for (size_t i = json_array_size(value); i-- > 0;) { /* of equal names the last */
        const json_t *row = json_array_get(value, i);
        const char *label = json_string_value(json_object_get(row, "name"));
        if (label && !strcmp(label, name)) return json_string_value(json_object_get(row, "template"));
    }
    return NULL;
}
