/* A model directory's tokenizer: which files it has, and what one says that another leaves out. */
#include "files/json_read.h"
#include "files/json_write.h"
#include "text/chat_templates.h"
#include "text/spm_model.h"
#include "text/token_parts.h"
#include <stdio.h>

#define MAX_CONFIG_BYTES ((size_t)64 << 20) /* 100,000 added tokens take some 20 MB */

/* A file of the directory; *text is NULL when there is none. */
static graft_status read_optional(const char *dir, const char *name, size_t limit, char **text, size_t *len,
                                  gr_reading how, graft_error *err) {
    *text = NULL;
    *len = 0;
    char *path = gr_path_join(dir, name);
    if (!path) return gr_no_memory(err, strlen(dir));
    graft_status st =
        gr_path_exists_as(path, how) ? gr_file_read_as(text, len, path, limit, how, err) : GRAFT_OK;
    free(path);
    return st;
}

static graft_status read_stops(gr_tokenizer *tok, const char *dir, const char *name, gr_reading how,
                               graft_error *err) {
    json_t *config = NULL;
    char *path = gr_path_join(dir, name);
    if (!path) return gr_no_memory(err, strlen(dir));
    graft_status st =
        gr_path_exists_as(path, how) ? gr_json_load_as(&config, path, MAX_CONFIG_BYTES, how, err) : GRAFT_OK;
    if (!st && config) st = gr_tokenizer_add_stops(tok, config, err);
    json_decref(config);
    free(path);
    return st;
}

/* The map's value of a key beats the config's, but lists of more special tokens become one list. */
static bool merge_special(json_t *config, const char *key, json_t *value) {
    json_t *had = json_object_get(config, key);
    if (!json_is_array(had) || !json_is_array(value)) return json_object_set(config, key, value) == 0;
    return json_array_extend(had, value) == 0;
}

/* tokenizer_config.json and what older tokenizers keep in special_tokens_map.json, which means nothing beside
 * added_tokens_decoder; *config is NULL when there is neither. */
static graft_status read_config(const char *dir, char **config, size_t *len, gr_reading how,
                                graft_error *err) {
    char *map = NULL, *merged = NULL;
    const char *key;
    size_t map_len;
    json_t *a = NULL, *b = NULL, *value;
    graft_status st;
    GR_TRY(read_optional(dir, "tokenizer_config.json", MAX_CONFIG_BYTES, config, len, how, err));
    GR_TRY(read_optional(dir, "special_tokens_map.json", MAX_CONFIG_BYTES, &map, &map_len, how, err));
    if (!map) return GRAFT_OK;
    if (!*config) {
        *config = map, *len = map_len;
        return GRAFT_OK;
    }
    GR_GOTO(gr_json_parse(&a, *config, *len, "tokenizer_config.json", err));
    if (json_object_get(a, "added_tokens_decoder")) goto done;
    GR_GOTO(gr_json_parse(&b, map, map_len, "special_tokens_map.json", err));
    if (!json_is_object(a) || !json_is_object(b)) goto done;
    bool good = true;
    json_object_foreach(b, key, value) good = good && merge_special(a, key, value);
    if (good) merged = gr_json_dump(a, JSON_COMPACT);
    if (!merged) GR_GOTO(gr_no_memory(err, *len));
    free(*config);
    *config = merged, *len = strlen(merged);
done:
    free(map);
    json_decref(a);
    json_decref(b);
    return st;
}

/* Is this one of the special tokens that the config names? */
static bool is_named(json_t *config, const char *token) {
    json_t *value;
    const char *key;
    json_object_foreach(config, key, value) {
        const char *content = json_string_value(gr_token_spelling(value));
        if (content && gr_ends_with(key, "_token") && !strcmp(content, token)) return true;
    }
    return false;
}

/* added_tokens.json {token: id}, which tokenizers had before added_tokens_decoder. */
static graft_status merge_added(const char *dir, char **config, size_t *len, gr_reading how,
                                graft_error *err) {
    char *text = NULL, *merged = NULL;
    size_t n;
    json_t *ids = NULL, *settings = NULL, *id, *table;
    const char *token;
    graft_status st;
    GR_TRY(read_optional(dir, "added_tokens.json", MAX_CONFIG_BYTES, &text, &n, how, err));
    if (!text) return GRAFT_OK;
    GR_GOTO(gr_json_parse(&ids, text, n, "added_tokens.json", err));
    if (*config)
        GR_GOTO(gr_json_parse(&settings, *config, *len, "tokenizer_config.json", err));
    else if (!(settings = json_object()))
        GR_GOTO(gr_no_memory(err, 0));
    if (json_object_get(settings, "added_tokens_decoder")) goto done;
    if (json_object_set_new(settings, "added_tokens_decoder", table = json_object()))
        GR_GOTO(gr_no_memory(err, 0));
    json_object_foreach(ids, token, id) {
        char key[32];
        bool special = is_named(settings, token);
        snprintf(key, sizeof key, "%lld", (long long)json_integer_value(id));
        if (json_object_set_new(
                table, key,
                json_pack("{s:s,s:b,s:b}", "content", token, "special", special, "normalized", !special)))
            GR_GOTO(gr_no_memory(err, 0));
    }
    merged = gr_json_dump(settings, JSON_COMPACT);
    if (!merged) GR_GOTO(gr_no_memory(err, 0));
    free(*config);
    *config = merged, *len = strlen(merged);
done:
    if (st) gr_where(err, "%s/added_tokens.json", dir);
    json_decref(ids);
    json_decref(settings);
    free(text);
    return st;
}

/* A tokenizer.model, rewritten as tokenizer.json. */
static graft_status read_spm(const char *path, char **json, size_t *len, const char *config,
                             size_t config_len, gr_reading how, graft_error *err) {
    char *data;
    size_t n;
    gr_buf text = {0};
    GR_TRY(gr_file_read_as(&data, &n, path, GR_JSON_LIMIT, how, err));
    graft_status st = gr_spm_to_json(&text, data, n, config, config_len, err);
    if (st) gr_where(err, "%s", path);
    free(data);
    *len = text.len;
    *json = st ? NULL : gr_buf_take(&text);
    gr_buf_free(&text);
    return st || *json ? st : gr_no_memory(err, *len);
}

/* The directory's tokenizer.json, or what its tokenizer.model becomes; *path is the file it came from. */
static graft_status read_parts(const char *dir, char **path, char **json, size_t *len, char **config,
                               size_t *config_len, gr_reading how, graft_error *err) {
    char *model = gr_path_join(dir, "tokenizer.model");
    *path = gr_path_join(dir, "tokenizer.json");
    if (!model || !*path) {
        free(model);
        return gr_no_memory(err, strlen(dir));
    }
    bool spm = !gr_path_exists_as(*path, how) && gr_path_exists_as(model, how);
    graft_status st = spm ? merge_added(dir, config, config_len, how, err) : GRAFT_OK;
    if (spm) {
        free(*path);
        *path = model;
        return st ? st : read_spm(model, json, len, *config, *config_len, how, err);
    }
    free(model);
    st = gr_file_read_as(json, len, *path, GR_JSON_LIMIT, how, err);
    if (st == GRAFT_NOT_FOUND)
        gr_hint(
            err,
            "graft reads tokenizer.json, or SentencePiece's tokenizer.model; save the tokenizer again with "
            "transformers to get one");
    return st;
}

/* Is the model in the directory a Llama? */
static graft_status is_llama(const char *dir, bool *llama, gr_reading how, graft_error *err) {
    json_t *config = NULL;
    char *path = gr_path_join(dir, "config.json");
    if (!path) return gr_no_memory(err, strlen(dir));
    graft_status st =
        gr_path_exists_as(path, how) ? gr_json_load_as(&config, path, MAX_CONFIG_BYTES, how, err) : GRAFT_OK;
    const char *type = json_string_value(json_object_get(config, "model_type"));
    *llama = type && !strcmp(type, "llama");
    json_decref(config);
    free(path);
    return st;
}

/* Templates in files beat those of tokenizer_config.json, all of them. */
static graft_status read_templates(gr_tokenizer *tok, const char *dir, gr_reading how, graft_error *err) {
    json_t *value;
    GR_TRY(gr_chat_templates_of_dir(&value, dir, how, err));
    if (!value) return GRAFT_OK;
    return json_object_set_new(tok->config, "chat_template", value) == 0 ? GRAFT_OK : gr_no_memory(err, 64);
}

static graft_status open_dir(gr_tokenizer **tok, const char *dir, char **json, char **config, gr_reading how,
                             graft_error *err) {
    size_t len, config_len = 0;
    char *path = NULL;
    graft_status st = read_config(dir, config, &config_len, how, err);
    if (!st) st = read_parts(dir, &path, json, &len, config, &config_len, how, err);
    bool llama = false;
    if (!st) st = is_llama(dir, &llama, how, err);
    if (!st)
        st =
            gr_tokenizer_build(tok, &(gr_tokenizer_texts){*json, *config, len, config_len, path, llama}, err);
    free(path);
    GR_TRY(st);
    GR_TRY(read_stops(*tok, dir, "generation_config.json", how, err));
    GR_TRY(read_stops(*tok, dir, "config.json", how, err));
    if ((*tok)->eos < 0 && (*tok)->nstops) (*tok)->eos = (*tok)->stops[0];
    return read_templates(*tok, dir, how, err);
}

graft_status gr_tokenizer_open_as(gr_tokenizer **tok, const char *dir, gr_reading how, graft_error *err) {
    char *json = NULL, *config = NULL;
    *tok = NULL;
    graft_status st = open_dir(tok, dir, &json, &config, how, err);
    free(json);
    free(config);
    if (st) {
        gr_tokenizer_free(*tok);
        *tok = NULL;
    }
    return st;
}
