/* kernels/neon_pairs.h - panels of bf16 pairs [k/2][64][2], the 6 x 64 tile and one row's products with
 * BFDOT. Included by isa_neonbf16.c.
 *
 * BFDOT adds two products to a sum. Where the processor lacks FEAT_EBF16 both additions round to odd and
 * subnormals are zero: an error below one unit in the last place instead of half of one.
 */
#ifndef GR_KERNELS_NEON_PAIRS_H
#define GR_KERNELS_NEON_PAIRS_H
#include "kernels/template_decode.h"

#define PAIRS_K 128 /* columns of a row decoded at a time, on the stack */

INLINE float32x4_t bfdot(float32x4_t sum, uint32x4_t a, uint32x4_t b) {
    return vbfdotq_f32(sum, vreinterpretq_bf16_u32(a), vreinterpretq_bf16_u32(b));
}

/* out[n] = elements [row, col .. col+n) of m as bf16, then zeros up to `size`. */
static void pairs_row(uint16_t *out, const gr_mat *m, int64_t row, int64_t col, int n, int size) {
    float decoded[PAIRS_K];
    if (m->layout == GR_DENSE && m->dtype == GR_BF16 && m->alpha == 1.0f) {
        memcpy(out, (const char *)m->data + (row * m->ld + col) * 2, (size_t)n * 2);
    } else if (n > 0) {
        decode_row(decoded, m, row, col, n);
        to_act_bf16act(out, decoded, n);
    }
    memset(out + n, 0, (size_t)(size - n) * 2);
}

/* Four columns of the panel at a time: 4 x 4 transposes of pairs. */
static void panel_pairs_trans(uint32_t *dst, const gr_mat *m, int64_t n0, int ncols, int64_t k0, int kc) {
    uint16_t rows[4][PAIRS_K] __attribute__((aligned(16)));
    for (int n = 0; n < GR_NR; n += 4)
        for (int k = 0; k < kc; k += PAIRS_K) {
            int take = kc - k < PAIRS_K ? kc - k : PAIRS_K, pairs = (take + 1) / 2;
            for (int i = 0; i < 4; i++)
                pairs_row(rows[i], m, n0 + n + i, k0 + k, n + i < ncols ? take : 0, PAIRS_K);
            for (int p = 0; p < pairs; p += 4) {
                vf r[4];
                UNROLL
                for (int i = 0; i < 4; i++) memcpy(&r[i], rows[i] + 2 * p, 16);
                v_transpose(r);
                for (int i = 0; i < 4 && p + i < pairs; i++)
                    memcpy(dst + (int64_t)(k / 2 + p + i) * GR_NR + n, &r[i], 16);
            }
        }
}

/* Rows k and k + 1 of the stored matrix interleaved. */
static void panel_pairs_rows(uint32_t *dst, const gr_mat *m, int64_t n0, int ncols, int64_t k0, int kc) {
    uint16_t rows[2][GR_NR] __attribute__((aligned(16)));
    for (int k = 0; k < kc; k += 2, dst += GR_NR) {
        pairs_row(rows[0], m, k0 + k, n0, ncols, GR_NR);
        pairs_row(rows[1], m, k0 + k + 1, n0, k + 1 < kc ? ncols : 0, GR_NR);
        for (int n = 0; n < GR_NR; n += 8) {
            uint16x8x2_t pair = vzipq_u16(vld1q_u16(rows[0] + n), vld1q_u16(rows[1] + n));
            vst1q_u32(dst + n, vreinterpretq_u32_u16(pair.val[0]));
            vst1q_u32(dst + n + 4, vreinterpretq_u32_u16(pair.val[1]));
        }
    }
}

static void panel_pairs(void *dst, const gr_mat *m, bool trans, int64_t n0, int ncols, int64_t k0, int kc) {
    if (trans)
        panel_pairs_trans(dst, m, n0, ncols, k0, kc);
    else
        panel_pairs_rows(dst, m, n0, ncols, k0, kc);
}

static void panel_pairs_act(void *dst, const void *act, int64_t ld, bool trans, int64_t n0, int ncols,
                            int64_t k0, int kc) {
    gr_mat m = {.layout = GR_DENSE, .dtype = GR_BF16, .ld = ld, .data = act, .alpha = 1.0f};
    panel_pairs(dst, &m, trans, n0, ncols, k0, kc);
}

/* ---- the tile */

/* A pair of A in every lane; odd: its last element, whose partner is 0. */
INLINE uint32x4_t pair_at(const uint16_t *a, bool odd) {
    uint32_t pair;
    if (odd) return vdupq_n_u32(*a);
    memcpy(&pair, a, 4);
    return vdupq_n_u32(pair);
}

/* 16 columns of the tile: rows * 4 sums, 4 vectors of the panel and a pair of A fill the registers. */
INLINE void tile_pairs_16(const gr_term *terms, int nterms, float *out, int64_t ldc, int rows, int n,
                          bool accumulate) {
    float32x4_t c[GR_MR][4];
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int j = 0; j < 4; j++) c[i][j] = vdupq_n_f32(0);
    }
    for (int t = 0; t < nterms; t++) {
        const uint16_t *a = terms[t].a;
        const uint32_t *b = (const uint32_t *)terms[t].panel + n;
        for (int k = terms[t].kc; k > 0; k -= 2, a += 2, b += GR_NR) {
            uint32x4_t bv[4];
            UNROLL
            for (int j = 0; j < 4; j++) bv[j] = vld1q_u32(b + 4 * j);
            UNROLL
            for (int i = 0; i < rows; i++) {
                uint32x4_t x = pair_at(a + i * terms[t].lda, k == 1);
                UNROLL
                for (int j = 0; j < 4; j++) c[i][j] = bfdot(c[i][j], x, bv[j]);
            }
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int j = 0; j < 4; j++) {
            float *p = out + i * ldc + n + 4 * j;
            vst1q_f32(p, accumulate ? vaddq_f32(vld1q_f32(p), c[i][j]) : c[i][j]);
        }
    }
}

INLINE void tile_pairs_rows(const gr_term *terms, int nterms, float *c, int64_t ldc, int rows,
                            bool accumulate) {
    for (int n = 0; n < GR_NR; n += 16) tile_pairs_16(terms, nterms, c, ldc, rows, n, accumulate);
}

static void tile_pairs(const gr_term *terms, int nterms, float *c, int64_t ldc, int rows, bool accumulate) {
    switch (rows) {
    case 1: tile_pairs_rows(terms, nterms, c, ldc, 1, accumulate); break;
    case 2: tile_pairs_rows(terms, nterms, c, ldc, 2, accumulate); break;
    case 3: tile_pairs_rows(terms, nterms, c, ldc, 3, accumulate); break;
    case 4: tile_pairs_rows(terms, nterms, c, ldc, 4, accumulate); break;
    case 5: tile_pairs_rows(terms, nterms, c, ldc, 5, accumulate); break;
    default: tile_pairs_rows(terms, nterms, c, ldc, GR_MR, accumulate); break;
    }
}

/* ---- one row: weights rounded to bf16 as in a panel, so that generation computes what training does */

static void matvec_pairs(float *y, const gr_mat *m, const void *x, int64_t row0, int64_t nrows) {
    uint16_t w[PAIRS_K] __attribute__((aligned(16))), xs[PAIRS_K] __attribute__((aligned(16)));
    for (int64_t r = row0; r < row0 + nrows; r++) {
        float32x4_t sum[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
        for (int64_t k = 0; k < m->cols; k += PAIRS_K) {
            int take = (int)gr_min_i64(PAIRS_K, m->cols - k);
            const uint16_t *from = (const uint16_t *)x + k;
            if (take < PAIRS_K) {
                memset(xs, 0, sizeof xs);
                memcpy(xs, from, (size_t)take * 2);
                from = xs;
            }
            pairs_row(w, m, r, k, take, PAIRS_K);
            UNROLL
            for (int i = 0; i < PAIRS_K / 8; i++)
                sum[i & 3] = bfdot(sum[i & 3], vreinterpretq_u32_u16(vld1q_u16(w + 8 * i)),
                                   vreinterpretq_u32_u16(vld1q_u16(from + 8 * i)));
        }
        y[r] = v_sum((vf)vaddq_f32(vaddq_f32(sum[0], sum[1]), vaddq_f32(sum[2], sum[3])));
    }
}

static double burst_pairs(int64_t loops) {
    volatile uint32_t start = 0; /* hides the values from the compiler */
    enum { CHAINS = 24 };
    uint32x4_t a = vdupq_n_u32(start);
    float32x4_t c[CHAINS];
    UNROLL
    for (int i = 0; i < CHAINS; i++)
        c[i] = vreinterpretq_f32_u32(vdupq_n_u32(start)); /* read anew: equal chains would merge */
    for (int64_t l = 0; l < loops; l++) {
        UNROLL
        for (int i = 0; i < CHAINS; i++) c[i] = bfdot(c[i], a, a);
    }
    float32x4_t sum = c[0];
    UNROLL
    for (int i = 1; i < CHAINS; i++) sum = vaddq_f32(sum, c[i]);
    start = (uint32_t)v_sum((vf)sum);
    return 16.0 * CHAINS * (double)loops;
}

#endif
