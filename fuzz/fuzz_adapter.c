/* An adapter directory from anywhere, loaded for a small base: the input up to a line "---" is
 * adapter_config.json, the rest adapters.safetensors, or adapter.gguf if it begins as such a file. */
#include "adapters/adapter.h"
#include <math.h>
#include <stdio.h>
#include <unistd.h>

static uint32_t digests[64 * GR_ROLES]; /* of a base that no file records */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_file(const char *dir, const char *name, const uint8_t *data, size_t size) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    if (!file || (size && fwrite(data, 1, size, file) != size) || fclose(file) != 0) abort();
}

static void remove_file(const char *dir, const char *name) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (unlink(path) != 0) abort();
}

static void load_base(gr_model_config *config) {
    static const char text[] =
        "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":12,\"num_hidden_layers\":2,"
        "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,\"vocab_size\":16,"
        "\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true,\"attention_bias\":true,\"max_position_"
        "embeddings\":64}";
    graft_error err = {0};
    if (gr_config_parse(config, text, sizeof text - 1, "base", &err) != GRAFT_OK) abort();
}

/* The list and the vector agree: every tensor lies behind the one before it, and they fill it. */
static void check(const gr_tuning *tuning, const float *params) {
    int64_t total = 0;
    volatile float sum = 0;
    for (size_t i = 0; i < tuning->param_count; i++) {
        const gr_param *p = &tuning->params[i];
        if (p->at != total || p->rows < 1 || p->cols < 0 || p->layer >= tuning->layers) abort();
        if (!isfinite(gr_tuning_of(tuning, p->role, p->layer)->scale)) abort();
        total += gr_param_count(p);
    }
    if (total != tuning->parameters || !isfinite(tuning->scale)) abort();
    for (int64_t i = 0; i < tuning->parameters; i++) sum = sum + params[i];
}

/* What was read can be written. */
static void save_again(const char *dir, const gr_model_config *base, const gr_tuning *tuning,
                       const float *params) {
    graft_error err = {0};
    gr_adapter_info info = {.base = "base", .formats = GR_ADAPTER_USUAL | GR_ADAPTER_GGUF};
    const char *files[GR_ADAPTER_FORMATS + 1];
    char inner[64];
    snprintf(inner, sizeof inner, "%s/again", dir);
    if (gr_adapter_save(inner, base, tuning, params, &info, &err) != GRAFT_OK) abort();
    gr_adapter_files(files, base, tuning, info.formats);
    for (int i = 0; files[i]; i++) remove_file(inner, files[i]);
    remove_file(inner, "adapter_config.json");
    if (rmdir(inner) != 0) abort();
}

static uint32_t digests[64 * GR_ROLES]; /* of a base that no file records */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* in memory where the system has such a place: what is saved is synced */
    char shm[] = "/dev/shm/graft-fuzz-XXXXXX", tmp[] = "/tmp/graft-fuzz-XXXXXX";
    char *dir = access("/dev/shm", W_OK) == 0 ? shm : tmp;
    const uint8_t *cut = size ? memmem(data, size, "\n---\n", 5) : NULL;
    size_t config_len = cut ? (size_t)(cut - data) : size;
    const uint8_t *rest = cut ? cut + 5 : data + size;
    graft_error err = {0};
    gr_model_config base;
    gr_tuning *tuning;
    float *params;
    if (!mkdtemp(dir)) abort();
    if (config_len) put_file(dir, "adapter_config.json", data, config_len);
    size_t rest_len = (size_t)(data + size - rest);
    bool gguf = rest_len >= 4 && memcmp(rest, "GGUF", 4) == 0;
    const char *name = gguf ? "adapter.gguf" : "adapters.safetensors";
    put_file(dir, name, rest, rest_len);
    load_base(&base);
    gr_model model = {.config = base, .digest = 1, .part_digests = digests};
    gr_adapter_base on = {.model = &model, .allow_other = true};
    if (gr_adapter_load(&tuning, &params, dir, &base, &on, &err) == GRAFT_OK) {
        check(tuning, params);
        save_again(dir, &base, tuning, params);
        gr_tuning_free(tuning);
        free(params);
    } else if (err.status == GRAFT_OK || !err.what[0] || tuning || params) {
        abort();
    }
    gr_config_free(&base);
    if (config_len) remove_file(dir, "adapter_config.json");
    remove_file(dir, name);
    if (rmdir(dir) != 0) abort();
    return 0;
}
