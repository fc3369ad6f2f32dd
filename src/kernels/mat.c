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
        if (mat->layout == GR_MICRO) {
            float value = stored_micro_value(stored_code(codes, col, mat->bits), mat->bits);
            out[i] = value * stored_micro_scale(mat, g) * mat->alpha;
            continue;
        }
        float scale = stored_float(mat->scales, g, mat->dtype),
              bias = stored_float(mat->biases, g, mat->dtype);
        out[i] = ((float)stored_code(codes, col, mat->bits) * scale + bias) * mat->alpha;
    }
}
