/* kernels/template_panel.h - panels of f32 [k][64] from any stored matrix. Included once per isa_*.c. */
#ifndef GR_KERNELS_TEMPLATE_PANEL_H
#define GR_KERNELS_TEMPLATE_PANEL_H
#include "kernels/template_decode.h"

#define DECODE_K 128 /* k of one block of rows on the stack: 4 rows of it and their target stay in L1 */

/* dst[k][n0..n0+4) = rows[0..4)[k]: 4 x 4 transposes in registers; rows are DECODE_K apart. */
INLINE void panel_scatter4(float *dst, const float *rows, int kc) {
    typedef float v4 __attribute__((vector_size(16)));
    int k = 0;
    for (; k + 4 <= kc; k += 4) {
        v4 a, b, c, d;
        memcpy(&a, rows + k, 16);
        memcpy(&b, rows + DECODE_K + k, 16);
        memcpy(&c, rows + 2 * DECODE_K + k, 16);
        memcpy(&d, rows + 3 * DECODE_K + k, 16);
        v4 ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        v4 cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        v4 out[4] = {
            __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5), __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7),
            __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5), __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7)};
        for (int i = 0; i < 4; i++) memcpy(dst + (k + i) * GR_NR, &out[i], 16);
    }
    for (; k < kc; k++)
        for (int i = 0; i < 4; i++) dst[k * GR_NR + i] = rows[i * DECODE_K + k];
}

static void panel_f32(void *panel, const gr_mat *m, bool trans, int64_t n0, int ncols, int64_t k0, int kc) {
    float *dst = panel;
    if (!trans) {
        for (int k = 0; k < kc; k++, dst += GR_NR) {
            decode_row(dst, m, k0 + k, n0, ncols);
            for (int n = ncols; n < GR_NR; n++) dst[n] = 0;
        }
        return;
    }
    float rows[4 * DECODE_K] = {0};
    for (int n = 0; n < GR_NR; n += 4) {
        if (n + 4 > ncols) memset(rows, 0, sizeof rows);
        for (int k = 0; k < kc; k += DECODE_K) {
            int take = kc - k < DECODE_K ? kc - k : DECODE_K;
            for (int i = 0; i < 4 && n + i < ncols; i++)
                decode_row(rows + i * DECODE_K, m, n0 + n + i, k0 + k, take);
            panel_scatter4(dst + (int64_t)k * GR_NR + n, rows, take);
        }
    }
}

#endif
