#include "adapters/adapter_parts.h"

/* The recorded base: PEFT's and graft's key, mlx-lm's, or the GGUF's own. */
static graft_status read_base(gr_adapter_record *r, const json_t *root, const gr_gguf *gguf,
                              graft_error *err) {
    const char *text = json_string_value(json_object_get(root, "base_model_name_or_path"));
    size_t len;
    if (!text || !*text) text = json_string_value(json_object_get(root, "model"));
    if (text && *text)
        r->base = gr_strdup(text);
    else if (gguf && gr_gguf_string(gguf, "general.base_model.0.name", &text, &len) && len)
        r->base = gr_strndup(text, len);
    else
        return GRAFT_OK;
    return r->base ? GRAFT_OK : gr_no_memory(err, 256);
}

static void read_rest(gr_adapter_record *r, const json_t *root, const gr_adapter_words *words) {
    const json_t *own = json_object_get(root, "graft");
    const char *digest = json_string_value(json_object_get(own, "base_digest"));
    const json_t *dropout = json_object_get(json_object_get(root, "lora_parameters"), "dropout");
    if (!dropout) dropout = json_object_get(root, "lora_dropout");
    r->dropout = json_number_value(dropout);
    if (!(r->dropout >= 0 && r->dropout < 1)) r->dropout = 0;
    r->iteration = strtoll(words->iteration, NULL, 10);
    memcpy(r->base_digest, words->base_digest, sizeof r->base_digest);
    if (!r->base_digest[0] && digest && strlen(digest) < sizeof r->base_digest)
        memcpy(r->base_digest, digest, strlen(digest) + 1);
    if (json_is_object(json_object_get(own, "base_tensors")))
        r->base_tensors = json_incref(json_object_get(own, "base_tensors"));
}

graft_status gr_adapter_record_read(gr_adapter_record *r, const char *path, graft_error *err) {
    gr_adapter_spot spot = {0};
    gr_adapter_config config = {0};
    gr_adapter_in file = {0};
    *r = (gr_adapter_record){0};
    graft_status st = gr_adapter_spot_find(&spot, path, err);
    if (st == GRAFT_OK) st = gr_adapter_in_open(&file, spot.file, spot.how, err);
    if (st == GRAFT_OK) st = gr_adapter_config_open(&config, spot.dir, file.gguf != NULL, spot.how, err);
    if (st == GRAFT_OK) st = read_base(r, config.root, file.gguf, err);
    if (st == GRAFT_OK) read_rest(r, config.root, &file.words);
    if (st == GRAFT_OK) st = gr_adapter_template_kwargs(&r->template_kwargs, NULL, path, spot.how, err);
    gr_adapter_in_close(&file);
    gr_adapter_config_free(&config);
    gr_adapter_spot_free(&spot);
    return st;
}

void gr_adapter_record_free(gr_adapter_record *r) {
    free(r->base);
    free(r->template_kwargs);
    json_decref(r->base_tensors);
    *r = (gr_adapter_record){0};
}
