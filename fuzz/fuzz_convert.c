/* Any bytes as the GGUF file that is converted: refused with a reason, or a directory whose config and
 * tensors are read again. */
#include "files/safetensors.h"
#include "graft.h"
#include "model/config.h"
#include "scratch_dir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_again(const char *dir) {
    graft_error err = {0};
    gr_model_config config;
    gr_safetensors *file;
    if (gr_config_open(&config, dir, &err) != GRAFT_OK) abort(); /* what is written is what is read */
    if (gr_safetensors_open(&file, dir, &err) != GRAFT_OK) abort();
    gr_safetensors_close(file);
    gr_config_free(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    scratch_dir dir = scratch_dir_new();
    char from[64], to[64];
    graft_options o;
    graft_convert_result result = {0};
    graft_error err = {0};
    if (size < 1 || size > 1 << 16) goto done;
    snprintf(from, sizeof from, "%s/m.gguf", dir.path);
    snprintf(to, sizeof to, "%s/out", dir.path);
    scratch_file(&dir, "m.gguf", data + 1, size - 1);
    graft_options_init(&o);
    if (graft_options_set(&o, GRAFT_VERB_CONVERT, "model", from, &err) != GRAFT_OK ||
        graft_options_set(&o, GRAFT_VERB_CONVERT, "mlx-path", to, &err) != GRAFT_OK)
        abort();
    if (data[0] & 1 && graft_options_set(&o, GRAFT_VERB_CONVERT, "dequantize", NULL, &err) != GRAFT_OK)
        abort();
    if (data[0] & 2 && !(data[0] & 1) &&
        graft_options_set(&o, GRAFT_VERB_CONVERT, "quantize", NULL, &err) != GRAFT_OK)
        abort();
    if (graft_convert(&o, NULL, &result, &err) == GRAFT_OK)
        read_again(to);
    else if (err.status == GRAFT_INTERNAL || !err.what[0])
        abort();
    graft_convert_result_free(&result);
    graft_options_free(&o);
done:
    scratch_dir_free(&dir);
    return 0;
}
