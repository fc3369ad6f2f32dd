/* kernels/bf16_tile.h - the 6 x 64 tile on bf16 pairs with VDPBF16PS. Included by isa_avx512bf16.c. */
#ifndef GR_KERNELS_BF16_TILE_H
#define GR_KERNELS_BF16_TILE_H
#include "kernels/vec.h"

/* Pairs of A to fetch ahead: A comes from L3 while the panel streams from L2 (bench/LOG.md: 12-15 points at T
 * 2048). A prefetch never faults, so it may point behind the rows. */
#define TILE_AHEAD 64

INLINE __m512i pair_at(const uint16_t *a) {
    int32_t pair;
    memcpy(&pair, a, 4);
    return _mm512_set1_epi32(pair);
}

/* c[i] += pairs a[i][0..1] * panel row b, for every row; odd: the last element alone, its partner is 0. */
INLINE void tile_pair(__m512 (*c)[4], const uint16_t *a, int64_t lda, const uint32_t *b, int rows, int vecs,
                      bool odd) {
    __m512i bv[4];
    UNROLL
    for (int j = 0; j < vecs; j++) bv[j] = _mm512_load_si512(b + 16 * j);
    UNROLL
    for (int i = 0; i < rows; i++) {
        __m512i x = odd ? _mm512_set1_epi32(a[i * lda]) : pair_at(a + i * lda);
        UNROLL
        for (int j = 0; j < vecs; j++) c[i][j] = _mm512_dpbf16_ps(c[i][j], (__m512bh)x, (__m512bh)bv[j]);
    }
}

/* rows and vecs are constants in every call: rows * vecs accumulators, vecs vectors of the panel. */
INLINE void tile_pairs_rows(const gr_term *terms, int nterms, float *out, int64_t ldc, int rows, int vecs,
                            bool accumulate) {
    __m512 c[GR_MR][4];
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int j = 0; j < vecs; j++) {
            c[i][j] = _mm512_setzero_ps();
            _mm_prefetch((const char *)(out + i * ldc + 16 * j), _MM_HINT_T0);
        }
    }
    for (int t = 0; t < nterms; t++) {
        const uint16_t *a = terms[t].a;
        const uint32_t *b = terms[t].panel;
        const int64_t lda = terms[t].lda;
        int k = terms[t].kc;
        for (; k >= 32; k -= 32) {
            UNROLL
            for (int i = 0; i < rows; i++)
                _mm_prefetch((const char *)(a + i * lda + 2 * TILE_AHEAD), _MM_HINT_T0);
            for (int kk = 0; kk < 16; kk++, a += 2, b += GR_NR) tile_pair(c, a, lda, b, rows, vecs, false);
        }
        for (; k >= 2; k -= 2, a += 2, b += GR_NR) tile_pair(c, a, lda, b, rows, vecs, false);
        if (k) tile_pair(c, a, lda, b, rows, vecs, true);
    }
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int j = 0; j < vecs; j++) {
            float *p = out + i * ldc + 16 * j;
            __m512 sum = c[i][j];
            if (accumulate) sum = _mm512_loadu_ps(p) + sum;
            _mm512_storeu_ps(p, sum);
        }
    }
}

static void tile_pairs(const gr_term *terms, int nterms, float *c, int64_t ldc, int rows, bool accumulate) {
    switch (rows) {
    case 1: tile_pairs_rows(terms, nterms, c, ldc, 1, 4, accumulate); break;
    case 2: tile_pairs_rows(terms, nterms, c, ldc, 2, 4, accumulate); break;
    case 3: tile_pairs_rows(terms, nterms, c, ldc, 3, 4, accumulate); break;
    case 4: tile_pairs_rows(terms, nterms, c, ldc, 4, 4, accumulate); break;
    case 5: tile_pairs_rows(terms, nterms, c, ldc, 5, 4, accumulate); break;
    default: tile_pairs_rows(terms, nterms, c, ldc, GR_MR, 4, accumulate); break;
    }
}

/* Few columns: a product with 16 of them does not pay for 64. */
static void tile_pairs_narrow(const gr_term *terms, int nterms, float *c, int64_t ldc, int rows, int cols,
                              bool accumulate) {
    if (rows == GR_MR && cols <= 16)
        tile_pairs_rows(terms, nterms, c, ldc, GR_MR, 1, accumulate);
    else if (rows == GR_MR && cols <= 32)
        tile_pairs_rows(terms, nterms, c, ldc, GR_MR, 2, accumulate);
    else
        tile_pairs(terms, nterms, c, ldc, rows, accumulate);
}

static double burst_pairs(int64_t loops) {
    volatile int32_t start = 0; /* hides the values from the compiler */
    enum { CHAINS = 24 };
    __m512i a = _mm512_set1_epi32(start);
    __m512 c[CHAINS];
    UNROLL
    for (int i = 0; i < CHAINS; i++)
        c[i] = (__m512)_mm512_set1_epi32(start); /* read anew: equal chains would merge */
    for (int64_t l = 0; l < loops; l++) {
        UNROLL
        for (int i = 0; i < CHAINS; i++) c[i] = _mm512_dpbf16_ps(c[i], (__m512bh)a, (__m512bh)a);
    }
    __m512 sum = c[0];
    UNROLL
    for (int i = 1; i < CHAINS; i++) sum += c[i];
    start = (int32_t)v_sum(sum);
    return 64.0 * CHAINS * (double)loops;
}

#endif
