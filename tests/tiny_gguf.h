/* tests/tiny_gguf.h - a model of two layers as a GGUF file, and an adapter of it, as random as it comes. */
#ifndef TINY_GGUF_H
#define TINY_GGUF_H
#include "adapters/adapter.h"
#include "base/rng.h"
#include "convert/convert.h"
#include "tests/tiny_dir.h"

/* The one that the fuzzer of conversions starts from; its first byte is not of it. */
static inline void tiny_gguf_write(const char *dir, const char *name) {
    graft_error err = {0};
    char *bytes, *path = tiny_join(dir, name);
    size_t size;
    assert_int_equal(
        gr_file_read(&bytes, &size, GRAFT_SOURCE_DIR "/fuzz/corpus/convert/llama", 1 << 20, &err), GRAFT_OK);
    assert_int_equal(gr_file_replace(path, bytes + 1, size - 1, &err), GRAFT_OK);
    free(bytes);
    free(path);
}

/* LoRA of rank 2 on the linears in types that are written (Q4_0, F16, Q4_1), into `out`; it records no digest
 * of its base. */
static inline void tiny_gguf_adapter(const char *gguf, const char *out) {
    graft_error err = {0};
    gr_model_config config;
    gr_tuning *tuning;
    gr_rng rng;
    const gr_tuning_request r = {.targets = "q_proj,o_proj,gate_proj,up_proj,down_proj",
                                 .rank = 2,
                                 .alpha = 4,
                                 .scale = NAN,
                                 .num_layers = -1};
    const gr_adapter_info info = {.base = gguf};
    if (gr_convert_gguf_config(&config, gguf, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    if (gr_tuning_select(&tuning, &config, &r, &err) != GRAFT_OK) fail_msg("%s", err.what);
    float *params = calloc((size_t)tuning->parameters, sizeof *params);
    assert_non_null(params);
    gr_rng_seed(&rng, 1, 1);
    for (int64_t i = 0; i < tuning->parameters; i++) params[i] = (float)(gr_rng_uniform(&rng) - 0.5) / 4;
    assert_int_equal(gr_adapter_save(out, &config, tuning, params, &info, &err), GRAFT_OK);
    free(params);
    gr_tuning_free(tuning);
    gr_config_free(&config);
}

#endif
