/* kernels/bf16_matvec.h - one bf16 row times a stored matrix with VDPBF16PS. Included by isa_avx512bf16.c.
 * Weights are rounded to bf16 as in a panel, so that generation computes what training does.
 *
 * The rows of a task lie one after another in memory, so fetching ahead runs on into the next row.
 */
#ifndef GR_KERNELS_BF16_MATVEC_H
#define GR_KERNELS_BF16_MATVEC_H
#include "kernels/bf16_panel.h"
#include "kernels/bf16_vec_codes.h"

#define SHORT 256 /* columns up to which adding up a row's sum costs as much as multiplying it */

INLINE float sum_chains(const __m512 sum[4]) {
    return _mm512_reduce_add_ps((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* n <= 16 scales and biases, and those of rows to come on their way. */
INLINE void vec_scales(float *scale, float *bias, const gr_mat *m, row_format f, int64_t at, int n) {
    const int64_t width = row_is_micro(f) ? 1 : m->dtype == GR_F32 ? 4 : 2;
    _mm_prefetch((const char *)m->scales + at * width + VEC_AHEAD_SB, _MM_HINT_T0);
    if (!row_is_micro(f)) _mm_prefetch((const char *)m->biases + at * width + VEC_AHEAD_SB, _MM_HINT_T0);
    pair_scales(scale, bias, m, f, at, n);
}

/* Element i: the sum of v[i]. */
INLINE __m512 sum_each(__m512 v[16]) {
    const __m512i order = _mm512_setr_epi32(0, 2, 8, 10, 4, 6, 12, 14, 1, 3, 9, 11, 5, 7, 13, 15);
    UNROLL
    for (int i = 0; i < 8; i++)
        v[i] = _mm512_unpacklo_ps(v[i], v[i + 8]) + _mm512_unpackhi_ps(v[i], v[i + 8]);
    UNROLL
    for (int i = 0; i < 4; i++)
        v[i] = _mm512_shuffle_f32x4(v[i], v[i + 4], 0x88) + _mm512_shuffle_f32x4(v[i], v[i + 4], 0xdd);
    UNROLL
    for (int i = 0; i < 2; i++)
        v[i] = _mm512_shuffle_f32x4(v[i], v[i + 2], 0x88) + _mm512_shuffle_f32x4(v[i], v[i + 2], 0xdd);
    __m512 low = _mm512_shuffle_ps(v[0], v[1], 0x44), high = _mm512_shuffle_ps(v[0], v[1], 0xee);
    return _mm512_permutexvar_ps(order, low + high);
}

/* Short rows of bf16, as the keys of a head: sixteen sums at once. */
INLINE void matvec_short(float *y, const gr_mat *m, const uint16_t *x, int64_t row0, int64_t nrows) {
    const uint16_t *w = (const uint16_t *)m->data + row0 * m->ld;
    for (int64_t r = 0; r < nrows; r += 16) {
        __m512 sum[16];
        int n = (int)gr_min_i64(16, nrows - r);
        for (int i = 0; i < 16; i++) sum[i] = _mm512_setzero_ps();
        for (int64_t k = 0; k < m->cols; k += 32) {
            __m512i xk = x_pairs(x + k, m->cols - k);
            __mmask32 mask = m->cols - k >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << (m->cols - k)) - 1;
            for (int i = 0; i < n; i++)
                sum[i] = dot_pairs(sum[i], xk, _mm512_maskz_loadu_epi16(mask, w + (r + i) * m->ld + k));
        }
        _mm512_mask_storeu_ps(y + row0 + r, (__mmask16)((1u << n) - 1), sum_each(sum));
    }
}

/* Dense formats, and any other by decoding. */
INLINE void matvec_dense(float *y, const gr_mat *m, row_format f, const uint16_t *x, int64_t row0,
                         int64_t nrows) {
    const int64_t width = f == ROW_F32 ? 4 : 2;
    for (int64_t row = row0; row < row0 + nrows; row++) {
        __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        const char *at = (const char *)m->data + row * m->ld * width;
        int64_t k = 0;
        for (; k + 128 <= m->cols; k += 128) {
            if (f != ROW_DECODED)
                for (int64_t line = 0; line < 128 * width; line += 64)
                    _mm_prefetch(at + k * width + VEC_AHEAD + line, _MM_HINT_T0);
            UNROLL
            for (int i = 0; i < 4; i++) /* four chains */
                sum[i] =
                    dot_pairs(sum[i], _mm512_loadu_si512(x + k + 32 * i), row32(m, f, row, k + 32 * i, 32));
        }
        for (int i = 0; k < m->cols; k += 32, i++) {
            int64_t left = gr_min_i64(32, m->cols - k);
            sum[i] = dot_pairs(sum[i], x_pairs(x + k, left), row32(m, f, row, k, (int)left));
        }
        y[row] = sum_chains(sum);
    }
}

/* Codes of any width: scales are converted 16 groups at a time, blocks of 32 codes sum in turns. */
INLINE void matvec_codes(float *y, const gr_mat *m, row_format f, const uint16_t *x, int64_t row0,
                         int64_t nrows) {
    const int bits = row_bits(f), step = f == ROW_NV4 ? 2 : 1; /* groups of a table */
    const int blocks = f == ROW_NV4 ? 1 : m->group / 32;
    const int64_t groups = m->cols / m->group;
    for (int64_t row = row0; row < row0 + nrows; row++) {
        __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        const char *codes = (const char *)m->data + row * (m->cols * bits / 8);
        const uint16_t *xk = x;
        for (int64_t g0 = 0; g0 < groups; g0 += 16) {
            float scale[16] __attribute__((aligned(64))), bias[16] __attribute__((aligned(64)));
            int n = (int)gr_min_i64(16, groups - g0);
            vec_scales(scale, bias, m, f, row * groups + g0, n);
            for (int g = 0; g < n; g += step) {
                __m512 s = _mm512_set1_ps(scale[g]), b = _mm512_set1_ps(bias[g]);
                __m512i table = _mm512_setzero_si512();
                if (f == ROW_NV4)
                    table = two_tables(f, s, b, _mm512_set1_ps(scale[g + 1]), _mm512_set1_ps(bias[g + 1]));
                else if (row_has_table(f))
                    table = one_table(f, s, b);
                for (int i = 0; i < blocks; i++, codes += 4 * bits, xk += 32) {
                    _mm_prefetch(codes + VEC_AHEAD, _MM_HINT_T0);
                    const char *block = codes;
                    char half[16] = {0}; /* one group of 16 is left: nothing may lie behind it */
                    if (f == ROW_NV4 && g + 1 == n) block = memcpy(half, codes, 8);
                    sum[3] = dot_pairs(sum[0], _mm512_loadu_si512(xk), codes_values(f, block, table, s, b));
                    sum[0] = sum[1]; /* the chains move on: renamed, not moved */
                    sum[1] = sum[2];
                    sum[2] = sum[3];
                }
            }
        }
        sum[3] = _mm512_setzero_ps();
        y[row] = sum_chains(sum);
    }
}

static void matvec_pairs(float *y, const gr_mat *m, const void *x, int64_t row0, int64_t nrows) {
    switch (row_format_of(m)) {
    case ROW_BF16:
        if (m->cols <= SHORT)
            matvec_short(y, m, x, row0, nrows);
        else
            matvec_dense(y, m, ROW_BF16, x, row0, nrows);
        break;
    case ROW_F16: matvec_dense(y, m, ROW_F16, x, row0, nrows); break;
    case ROW_F32: matvec_dense(y, m, ROW_F32, x, row0, nrows); break;
    case ROW_CODES2: matvec_table(y, m, ROW_CODES2, x, row0, nrows); break;
    case ROW_CODES3: matvec_codes(y, m, ROW_CODES3, x, row0, nrows); break;
    case ROW_CODES5: matvec_codes(y, m, ROW_CODES5, x, row0, nrows); break;
    case ROW_CODES6: matvec_codes(y, m, ROW_CODES6, x, row0, nrows); break;
    case ROW_CODES8: matvec_table(y, m, ROW_CODES8, x, row0, nrows); break;
    case ROW_MX8: matvec_codes(y, m, ROW_MX8, x, row0, nrows); break;
    case ROW_NV4: matvec_codes(y, m, ROW_NV4, x, row0, nrows); break;
    case ROW_CODES4: matvec_table(y, m, ROW_CODES4, x, row0, nrows); break;
    case ROW_MX4: matvec_table(y, m, ROW_MX4, x, row0, nrows); break;
    case ROW_DECODED: matvec_dense(y, m, ROW_DECODED, x, row0, nrows); break;
    }
}

#endif
