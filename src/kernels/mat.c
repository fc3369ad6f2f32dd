/* kernels/mat.c - the scalar reference of every stored layout. */
#include "kernels/stored.h"

void gr_mat_row(float *out, const gr_mat *mat, int64_t row, int64_t col0, int64_t n) {
    int64_t groups = mat->layout == GR_DENSE ? 0 : mat->cols / mat->group;
    for (int64_t i = 0; i < n; i++) {
        int64_t col = col0 + i;
        if (mat->layout == GR_DENSE) {
            out[i] = stored_float(mat->data, row * mat->ld + col, mat->dtype) * mat->alpha;
            continue;
        }
        const uint8_t *codes = (const uint8_t *)mat->data + row * (mat->cols * mat->bits / 8);
        int64_t g = row * groups + col / mat->group;
        if (mat->layout == GR_MX) {
            float value = stored_micro_value(stored_code(codes, col, mat->bits), mat->bits);
            out[i] = value * stored_micro_scale(mat, g) * mat->alpha;
            continue;
        }
        float scale = stored_float(mat->scales, g, mat->dtype),
              bias = stored_float(mat->biases, g, mat->dtype);
        out[i] = ((float)stored_code(codes, col, mat->bits) * scale + bias) * mat->alpha;
    }
}

/* Bytes of a row: codes or elements, scales, biases. */
static void row_bytes(const gr_mat *mat, int64_t bytes[3]) {
    bytes[0] =
        mat->layout == GR_DENSE ? mat->cols * (int64_t)gr_dtype_bytes(mat->dtype) : mat->cols * mat->bits / 8;
    bytes[1] = bytes[2] = 0;
    if (mat->layout != GR_DENSE) bytes[1] = mat->cols / mat->group * (int64_t)gr_dtype_bytes(mat->dtype);
    if (mat->layout == GR_AFFINE) bytes[2] = bytes[1];
}

gr_mat gr_stack_mat(const gr_stack *s, int64_t i) {
    gr_mat m = s->all;
    m.rows /= s->count;
    if (s->at) {
        m.data = s->at[i];
        return m;
    }
    if (!m.data) return m; /* a plan */
    int64_t first = i * m.rows, bytes[3];
    row_bytes(&m, bytes);
    m.data = (const char *)m.data + first * bytes[0];
    if (m.scales) m.scales = (const char *)m.scales + first * bytes[1];
    if (m.biases) m.biases = (const char *)m.biases + first * bytes[2];
    return m;
}

int64_t gr_mat_row_bytes(const gr_mat *mat) {
    int64_t bytes[3];
    row_bytes(mat, bytes);
    return bytes[0] + bytes[1] + bytes[2];
}

void gr_mat_prefetch(const gr_mat *mat, int64_t row, int64_t n) {
    const char *const parts[3] = {mat->data, mat->scales, mat->biases};
    int64_t bytes[3];
    row_bytes(mat, bytes);
    n = gr_min_i64(n, mat->rows - row);
    for (int i = 0; i < 3; i++) {
        int64_t stride =
            i == 0 && mat->layout == GR_DENSE ? mat->ld * (int64_t)gr_dtype_bytes(mat->dtype) : bytes[i];
        for (int64_t at = 0; at < n * stride; at += 64)
            __builtin_prefetch(parts[i] + row * stride + at, 0, 2);
    }
}
