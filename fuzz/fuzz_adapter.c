/* An adapter directory from anywhere, loaded for a small base: the input up to a line "---" is
 * adapter_config.json, the rest adapters.safetensors. */
#include "adapters/adapter.h"
#include <math.h>
#include <stdio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_file(const char *dir, const char *name, const uint8_t *data, size_t size) {
    char path[96];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    if (!file || (size && fwrite(data, 1, size, file) != size) || fclose(file) != 0) abort();
}

static void remove_file(const char *dir, const char *name) {
    char path[96];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (unlink(path) != 0) abort();
}

static void load_base(gr_model_config *config) {
    static const char text[] =
        "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":12,\"num_hidden_layers\":2,"
        "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,\"vocab_size\":16,"
        "\"rms_norm_eps\":1e-5,\"max_position_embeddings\":64}";
    graft_error err = {0};
    if (gr_config_parse(config, text, sizeof text - 1, "base", &err) != GRAFT_OK) abort();
}

/* The selection and its vector agree: every matrix lies within, and they fill it. */
static void check(const gr_tuning *lora, const float *params, const gr_model_config *config) {
    int64_t out, in, total = 0, adapted = 0;
    volatile float sum = 0;
    for (int64_t l = 0; l < lora->layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            const gr_tuned *x = &lora->block[l][role];
            if (!x->rank) continue;
            gr_role_shape(role, config, &out, &in);
            if (x->rank < 1 || x->a < 0 || x->a + x->rank * in > lora->parameters) abort();
            if (x->b < 0 || x->b + x->rank * out > lora->parameters) abort();
            total += x->rank * (in + out);
            adapted++;
        }
    if (total != lora->parameters || adapted != lora->adapted || !adapted || !isfinite(lora->scale)) abort();
    for (int64_t i = 0; i < lora->parameters; i++) sum = sum + params[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char dir[] = "/tmp/graft-fuzz-XXXXXX";
    const uint8_t *cut = size ? memmem(data, size, "\n---\n", 5) : NULL;
    size_t config_len = cut ? (size_t)(cut - data) : size;
    const uint8_t *rest = cut ? cut + 5 : data + size;
    graft_error err = {0};
    gr_model_config base;
    gr_tuning *lora;
    float *params;
    if (!mkdtemp(dir)) abort();
    put_file(dir, "adapter_config.json", data, config_len);
    put_file(dir, "adapters.safetensors", rest, (size_t)(data + size - rest));
    load_base(&base);
    if (gr_adapter_load(&lora, &params, dir, &base, 0, &err) == GRAFT_OK) {
        check(lora, params, &base);
        gr_tuning_free(lora);
        free(params);
    } else if (err.status == GRAFT_OK || !err.what[0] || lora || params) {
        abort();
    }
    gr_config_free(&base);
    remove_file(dir, "adapter_config.json");
    remove_file(dir, "adapters.safetensors");
    if (rmdir(dir) != 0) abort();
    return 0;
}
