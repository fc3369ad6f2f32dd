/* kernels/bf16_transpose.h - transposes of bf16 matrices (attention's backward). Included by
 * isa_avx512bf16.c. */
#ifndef GR_KERNELS_BF16_TRANSPOSE_H
#define GR_KERNELS_BF16_TRANSPOSE_H
#include "kernels/bf16_panel.h"

/* 32 x 32 elements as two 16 x 16 transposes of pairs (rows 0-15 and 16-31); then the first of each pair
 * makes one row of the result and the second the next. rows, cols <= 32 elements are there. */
INLINE void transpose32(uint16_t *y, int64_t ldy, const uint16_t *x, int64_t ldx, int rows, int cols) {
    const __m512i even = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30,
                                          28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_add_epi16(even, _mm512_set1_epi16(1));
    const __mmask32 in = cols >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << cols) - 1;
    const __mmask32 out = rows >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << rows) - 1;
    __m512i a[16], b[16];
    UNROLL
    for (int i = 0; i < 16; i++) {
        a[i] = _mm512_maskz_loadu_epi16(i < rows ? in : 0, x + (i < rows ? i : 0) * ldx);
        b[i] = _mm512_maskz_loadu_epi16(i + 16 < rows ? in : 0, x + (i + 16 < rows ? i + 16 : 0) * ldx);
    }
    transpose16(a);
    transpose16(b);
    UNROLL
    for (int i = 0; i < 16; i++) {
        if (2 * i < cols)
            _mm512_mask_storeu_epi16(y + 2 * i * ldy, out, _mm512_permutex2var_epi16(a[i], even, b[i]));
        if (2 * i + 1 < cols)
            _mm512_mask_storeu_epi16(y + (2 * i + 1) * ldy, out, _mm512_permutex2var_epi16(a[i], odd, b[i]));
    }
}

static void transpose_pairs(void *y, int64_t ldy, const void *x, int64_t ldx, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r += 32)
        for (int64_t c = 0; c < cols; c += 32) {
            uint16_t *to = (uint16_t *)y + c * ldy + r;
            const uint16_t *from = (const uint16_t *)x + r * ldx + c;
            if (rows - r >= 32 && cols - c >= 32) /* without masks */
                transpose32(to, ldy, from, ldx, 32, 32);
            else
                transpose32(to, ldy, from, ldx, (int)gr_min_i64(32, rows - r), (int)gr_min_i64(32, cols - c));
        }
}

#endif
