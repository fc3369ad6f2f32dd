/* Any types and shapes as the tensors of a quantized module: refused, or a matrix that lies within them.
 * Input: 40 bytes, a type and a shape for weight, scales and biases and the matrix's sizes; then a config's
 * quantization.
 */
#include "model/model.h"
#include "model/stored_codes.h"
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Eleven bytes: type, dimensions, two sizes; also large ones. */
static gr_tensor tensor_of(const uint8_t *at) {
    static const uint8_t bytes[1];
    gr_tensor t = {.dtype = (gr_dtype)(at[0] % GR_DTYPE_COUNT), .ndim = at[1] % 4, .data = bytes};
    for (int d = 0; d < 2; d++) {
        uint32_t n;
        memcpy(&n, at + 2 + 4 * d, 4);
        t.shape[d] = n & 0x80000000u ? (int64_t)n << 28 : n & 0xffff;
    }
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char llama[] =
        "{\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":1,\"intermediate_size\":96,"
        "\"num_attention_heads\":4,\"vocab_size\":8,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":8,"
        "\"quantization\":";
    graft_error err = {0};
    gr_model_config config;
    if (size < 40) return 0;
    gr_buf text = {0};
    gr_buf_puts(&text, llama);
    gr_buf_add(&text, data + 40, size - 40);
    gr_buf_puts(&text, "}");
    graft_status st =
        text.failed ? GRAFT_NO_MEMORY : gr_config_parse(&config, text.data, text.len, "fuzz", &err);
    gr_buf_free(&text);
    if (st != GRAFT_OK) return 0;
    gr_tensor weight = tensor_of(data), scales = tensor_of(data + 11), biases = tensor_of(data + 22);
    gr_stored_codes_tensors tensors = {&weight, &scales, data[33] & 1 ? &biases : NULL,
                                       data[33] & 2 ? &biases : NULL};
    gr_mat mat = {.rows = data[34] | data[35] << 8, .cols = data[36] | data[37] << 8, .alpha = 1}, plan = mat;
    if (!gr_stored_codes_bind(&mat, &config, "m", &tensors)) {
        uint64_t have = (uint64_t)(weight.shape[0] * weight.shape[1]) * 4 +
                        (uint64_t)(scales.shape[0] * scales.shape[1]) * gr_dtype_bytes(scales.dtype) *
                            (biases.data && tensors.biases ? 2 : 1);
        if (mat.layout == GR_DENSE || gr_mat_bytes(&mat) != have) abort();
    }
    plan.layout = GR_DENSE, plan.dtype = GR_BF16;
    if (!gr_stored_codes_plan(&plan, &config, GR_UP_PROJ, "m") && plan.layout != GR_DENSE &&
        plan.cols % plan.group)
        abort();
    gr_config_free(&config);
    return 0;
}
