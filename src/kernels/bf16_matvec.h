/* kernels/bf16_matvec.h - one bf16 row times a stored matrix with VDPBF16PS. Included by isa_avx512bf16.c.
 * Weights are rounded to bf16 as in a panel, so that generation computes what training does.
 */
#ifndef GR_KERNELS_BF16_MATVEC_H
#define GR_KERNELS_BF16_MATVEC_H
#include "kernels/bf16_panel.h"

/* Any format but 4-bit codes. */
INLINE void matvec_pairs_format(float *y, const gr_mat *m, row_format format, const uint16_t *x, int64_t row0,
                                int64_t nrows) {
    for (int64_t row = row0; row < row0 + nrows; row++) {
        __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int64_t k = 0; k < m->cols; k += 128) {
            UNROLL
            for (int i = 0; i < 4; i++) { /* four chains */
                int64_t col = k + 32 * i;
                int left = (int)gr_min_i64(32, m->cols - col);
                if (left <= 0) break;
                __mmask32 mask = left >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << left) - 1;
                __m512i xv = _mm512_maskz_loadu_epi16(mask, x + col);
                __m512i w = row32(m, format, row, col, left, _mm512_setzero_si512());
                sum[i] = _mm512_dpbf16_ps(sum[i], (__m512bh)xv, (__m512bh)w);
            }
        }
        y[row] = v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
}

/* Scales or biases [at .. at+n) as f32, n <= 16, the rest 0. */
INLINE __m512 scales16(const void *p, gr_dtype dtype, int64_t at, int n) {
    __mmask16 mask = (__mmask16)((1u << n) - 1);
    if (dtype == GR_F32) return _mm512_maskz_loadu_ps(mask, (const char *)p + 4 * at);
    __m256i half = _mm256_maskz_loadu_epi16(mask, (const char *)p + 2 * at);
    if (dtype == GR_F16) return _mm512_cvtph_ps(half);
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
}

/* One group of 32 * blocks codes: sum[i] += x * weights, chain by chain. */
INLINE void matvec_group(__m512 *sum, const char *codes, const uint16_t *x, float scale, float bias,
                         int blocks) {
    const __m512 index = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512 values = _mm512_fmadd_ps(_mm512_set1_ps(scale), index, _mm512_set1_ps(bias));
    __m512i table = _mm512_broadcast_i64x4((__m256i)_mm512_cvtneps_pbh(values));
    UNROLL
    for (int i = 0; i < blocks; i++) {
        __m512i w = codes4_values(codes + 16 * i, table), xv = _mm512_loadu_si512(x + 32 * i);
        sum[i & 1] = _mm512_dpbf16_ps(sum[i & 1], (__m512bh)xv, (__m512bh)w);
    }
}

/* 4-bit rows, the case of generation: scales are converted 16 groups at a time, even and odd groups sum
 * apart. */
INLINE void matvec_codes4(float *y, const gr_mat *m, const uint16_t *x, int64_t row0, int64_t nrows,
                          int blocks) {
    const int64_t groups = m->cols / (32 * blocks);
    for (int64_t row = row0; row < row0 + nrows; row++) {
        __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        const char *codes = (const char *)m->data + row * (m->cols / 2);
        for (int64_t g0 = 0; g0 < groups; g0 += 16) {
            float scale[16] __attribute__((aligned(64))), bias[16] __attribute__((aligned(64)));
            int n = (int)gr_min_i64(16, groups - g0);
            _mm512_store_ps(scale, scales16(m->scales, m->dtype, row * groups + g0, n));
            _mm512_store_ps(bias, scales16(m->biases, m->dtype, row * groups + g0, n));
            const char *c = codes + g0 * 16 * blocks;
            const uint16_t *xg = x + g0 * 32 * blocks;
            int g = 0;
            for (; g + 2 <= n; g += 2) {
                matvec_group(sum, c + g * 16 * blocks, xg + g * 32 * blocks, scale[g], bias[g], blocks);
                matvec_group(sum + 2, c + (g + 1) * 16 * blocks, xg + (g + 1) * 32 * blocks, scale[g + 1],
                             bias[g + 1], blocks);
            }
            if (g < n)
                matvec_group(sum, c + g * 16 * blocks, xg + g * 32 * blocks, scale[g], bias[g], blocks);
        }
        y[row] = v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
}

static void matvec_pairs(float *y, const gr_mat *m, const void *x, int64_t row0, int64_t nrows) {
    switch (row_format_of(m)) {
    case ROW_BF16: matvec_pairs_format(y, m, ROW_BF16, x, row0, nrows); break;
    case ROW_F16: matvec_pairs_format(y, m, ROW_F16, x, row0, nrows); break;
    case ROW_F32: matvec_pairs_format(y, m, ROW_F32, x, row0, nrows); break;
    case ROW_CODES4:
        if (m->group == 32) matvec_codes4(y, m, x, row0, nrows, 1);
        if (m->group == 64) matvec_codes4(y, m, x, row0, nrows, 2);
        if (m->group == 128) matvec_codes4(y, m, x, row0, nrows, 4);
        break;
    case ROW_DECODED: matvec_pairs_format(y, m, ROW_DECODED, x, row0, nrows); break;
    }
}

#endif
