/* kernels/bf16_matvec.h - one bf16 row times a stored matrix with VDPBF16PS. Included by isa_avx512bf16.c.
 * Weights are rounded to bf16 as in a panel, so that generation computes what training does.
 */
#ifndef GR_KERNELS_BF16_MATVEC_H
#define GR_KERNELS_BF16_MATVEC_H
#include "kernels/bf16_panel.h"

INLINE void matvec_pairs_format(float *y, const gr_mat *m, row_format format, const uint16_t *x, int64_t row0,
                                int64_t nrows) {
    for (int64_t row = row0; row < row0 + nrows; row++) {
        __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        __m512i table = _mm512_setzero_si512();
        for (int64_t k = 0; k < m->cols; k += 128) {
            UNROLL
            for (int i = 0; i < 4; i++) { /* four chains; a group of codes is 32, 64 or 128 */
                int64_t col = k + 32 * i;
                int left = (int)gr_min_i64(32, m->cols - col);
                if (left <= 0) break;
                if (format == ROW_CODES4 && (col & (m->group - 1)) == 0)
                    table = codes4_table(m, row, col / m->group);
                __mmask32 mask = left >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << left) - 1;
                __m512i xv = _mm512_maskz_loadu_epi16(mask, x + col),
                        w = row32(m, format, row, col, left, table);
                sum[i] = _mm512_dpbf16_ps(sum[i], (__m512bh)xv, (__m512bh)w);
            }
        }
        y[row] = v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
}

static void matvec_pairs(float *y, const gr_mat *m, const void *x, int64_t row0, int64_t nrows) {
    switch (row_format_of(m)) {
    case ROW_BF16: matvec_pairs_format(y, m, ROW_BF16, x, row0, nrows); break;
    case ROW_F16: matvec_pairs_format(y, m, ROW_F16, x, row0, nrows); break;
    case ROW_F32: matvec_pairs_format(y, m, ROW_F32, x, row0, nrows); break;
    case ROW_CODES4: matvec_pairs_format(y, m, ROW_CODES4, x, row0, nrows); break;
    case ROW_DECODED: matvec_pairs_format(y, m, ROW_DECODED, x, row0, nrows); break;
    }
}

#endif
