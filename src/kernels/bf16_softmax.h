/* kernels/bf16_softmax.h - blocks of attention scores to panels of bf16 pairs. Included by isa_avx512bf16.c.
 *
 * A weight is rounded to bf16 (2^-9), so e^x comes from a polynomial that is good for 2.7e-6 and two
 * instructions that take the exponent apart and put it back.
 */
#ifndef GR_KERNELS_BF16_SOFTMAX_H
#define GR_KERNELS_BF16_SOFTMAX_H
#include "kernels/bf16_panel.h"

#define LOG2E 0x1.715476p0f

/* 2^y: y = n + f with n = floor(y); below -150 the result is 0. */
INLINE __m512 exp2_pairs(__m512 y) {
    __m512 f = _mm512_reduce_ps(y, _MM_FROUND_TO_NEG_INF);
    __m512 p = _mm512_set1_ps(0x1.bb7cd4p-7f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.aa13f0p-5f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.ee798ap-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.62d166p-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.00002cp+0f));
    return _mm512_scalef_ps(p, y);
}

/* Lanes of columns c .. c+15 that see a key: those with lo <= column < hi. */
INLINE __mmask16 seen_pairs(int c, int lo, int hi) {
    uint32_t from = lo <= c ? 0xffffu : lo >= c + 16 ? 0 : 0xffffu << (lo - c);
    uint32_t to = hi >= c + 16 ? 0xffffu : hi <= c ? 0 : (1u << (hi - c)) - 1;
    return (__mmask16)(from & to);
}

/* Is key row i seen by all 64 queries? */
INLINE bool all_see(int i, int diag, int window) {
    return i <= diag && (!window || i + window > diag + GR_NR - 1);
}

INLINE __m512i interleave_halves(__m512i x) { /* words 0-15 and 16-31 alternating */
    const __m512i index = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                           7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(index, x);
}

INLINE void top_of_row(__m512 *top, const float *s, int i, int diag, int window, bool masked) {
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512 v = _mm512_load_ps(s + 16 * j);
        int lo = i - diag, hi = window ? lo + window : GR_NR;
        if (masked) v = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), seen_pairs(16 * j, lo, hi), v);
        top[j] = _mm512_max_ps(v, top[j]);
    }
}

INLINE __m512 weight_of(const float *s, int j, __m512 scale, __m512 base, int i, int diag, int window,
                        bool masked) {
    /* The product is rounded as the maximum was: huge scores still leave 0 at the top, not an ulp of it. */
    __m512 e = exp2_pairs((_mm512_load_ps(s + 16 * j) * scale - base) * LOG2E);
    int lo = i - diag, hi = window ? lo + window : GR_NR;
    return masked ? _mm512_maskz_mov_ps(seen_pairs(16 * j, lo, hi), e) : e;
}

/* Key rows i and i + 1 (absent if it is not below n) of all four vectors of columns; top: largest scores. */
INLINE void weigh_pair(uint32_t *panel, const float *s, __m512 scale, const __m512 *base, __m512 *total,
                       __m512 *top, int i, int n, int diag, int window, bool masked) {
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512 a = weight_of(s, j, scale, base[j], i, diag, window, masked), b = _mm512_setzero_ps();
        if (i + 1 < n) b = weight_of(s + GR_NR, j, scale, base[j], i + 1, diag, window, masked);
        total[j] += a + b;
        _mm512_store_si512(panel + 16 * j, interleave_halves((__m512i)_mm512_cvtne2ps_pbh(b, a)));
    }
    top_of_row(top, s, i, diag, window, masked);
    if (i + 1 < n) top_of_row(top, s + GR_NR, i + 1, diag, window, masked);
}

/* The panel of n key rows, its sums and the largest scores by column. */
INLINE void weigh_rows(void *panel, const float *s, int n, int diag, int window, __m512 scale,
                       const __m512 *base, __m512 *total, __m512 *top) {
    UNROLL
    for (int j = 0; j < 4; j++) total[j] = _mm512_setzero_ps(), top[j] = _mm512_set1_ps(-INFINITY);
    for (int i = 0; i < n; i += 2) {
        uint32_t *at = (uint32_t *)panel + i / 2 * GR_NR;
        if (i + 1 < n && all_see(i, diag, window) && all_see(i + 1, diag, window))
            weigh_pair(at, s + i * GR_NR, scale, base, total, top, i, i + 2, diag, window, false);
        else
            weigh_pair(at, s + i * GR_NR, scale, base, total, top, i, n, diag, window, true);
    }
}

/* max where a score passes it by more than the slack; true if one did. base: what weights are relative to. */
INLINE bool raise_pairs(float *max, float *factor, __m512 *base, const __m512 *top, __m512 scale) {
    bool moved = false;
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512 old = _mm512_loadu_ps(max + 16 * j), now = top[j] * scale;
        __mmask16 rise = _mm512_cmp_ps_mask(now, old + GR_SOFTMAX_SLACK, _CMP_GT_OQ);
        now = _mm512_mask_mov_ps(old, rise, now);
        moved |= rise != 0;
        _mm512_storeu_ps(max + 16 * j, now);
        __mmask16 none = _mm512_cmp_ps_mask(now, _mm512_set1_ps(-INFINITY), _CMP_EQ_OQ);
        base[j] = _mm512_mask_mov_ps(now, none, _mm512_setzero_ps());
        __m512 f = _mm512_mask_mov_ps(_mm512_set1_ps(1), rise, exp2_pairs((old - base[j]) * LOG2E));
        _mm512_storeu_ps(factor + 16 * j, f);
    }
    return moved;
}

/* After a query's first block its maximum seldom moves: the weights are made relative to the one so far
 * while the block's is found, and a second time if it did. */
static bool softmax_block_pairs(void *panel, const float *s, int n, int diag, int window, float scale,
                                float *max, float *sum, float *factor) {
    __m512 top[4], base[4], total[4], factors = _mm512_set1_ps(scale);
    bool begun = true;
    UNROLL
    for (int j = 0; j < 4; j++) {
        base[j] = _mm512_loadu_ps(max + 16 * j);
        begun &= !_mm512_cmp_ps_mask(base[j], _mm512_set1_ps(-INFINITY), _CMP_EQ_OQ);
        top[j] = _mm512_set1_ps(-INFINITY);
        total[j] = _mm512_setzero_ps();
    }
    if (begun)
        weigh_rows(panel, s, n, diag, window, factors, base, total, top);
    else
        for (int i = 0; i < n; i++) {
            if (all_see(i, diag, window))
                top_of_row(top, s + i * GR_NR, i, diag, window, false);
            else
                top_of_row(top, s + i * GR_NR, i, diag, window, true);
        }
    bool moved = raise_pairs(max, factor, base, top, factors);
    if (moved || !begun) weigh_rows(panel, s, n, diag, window, factors, base, total, top);
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512 before = _mm512_loadu_ps(sum + 16 * j);
        if (moved) before *= _mm512_loadu_ps(factor + 16 * j);
        _mm512_storeu_ps(sum + 16 * j, before + total[j]);
    }
    return moved;
}

/* Words of two vectors alternating: their first halves, their second halves. */
INLINE __m512i pairs_low(void) {
    return _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5,
                            36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
}
INLINE __m512i pairs_high(void) {
    return _mm512_add_epi16(pairs_low(), _mm512_set1_epi16(16));
}

/* Columns 32 h .. of key rows i and i + 1: weights, their gradients, and the latter interleaved. */
INLINE void back_pair(uint16_t *p, uint16_t *ds, uint32_t *panel, const float *s, const float *dp,
                      __m512 scale, const __m512 *base, const __m512 *delta, int i, int n, int diag,
                      int window, bool masked) {
    const __m512i low = pairs_low(), high = pairs_high();
    UNROLL
    for (int h = 0; h < 2; h++) {
        __m512i d[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        UNROLL
        for (int r = 0; r < 2; r++) {
            if (i + r >= n) break;
            const float *x = s + r * GR_NR, *g = dp + r * GR_NR;
            int j = 2 * h;
            __m512 a = weight_of(x, j, scale, base[j], i + r, diag, window, masked);
            __m512 b = weight_of(x, j + 1, scale, base[j + 1], i + r, diag, window, masked);
            _mm512_store_si512(p + r * GR_NR + 32 * h, (__m512i)_mm512_cvtne2ps_pbh(b, a));
            a *= _mm512_load_ps(g + 16 * j) - delta[j];
            b *= _mm512_load_ps(g + 16 * j + 16) - delta[j + 1];
            d[r] = (__m512i)_mm512_cvtne2ps_pbh(b, a);
            _mm512_store_si512(ds + r * GR_NR + 32 * h, d[r]);
        }
        _mm512_store_si512(panel + 32 * h, _mm512_permutex2var_epi16(d[0], low, d[1]));
        _mm512_store_si512(panel + 32 * h + 16, _mm512_permutex2var_epi16(d[0], high, d[1]));
    }
}

static void softmax_block_back_pairs(void *p, void *ds, void *panel, const float *s, const float *dp, int n,
                                     int diag, int window, float scale, const float *lse,
                                     const float *delta) {
    __m512 factors = _mm512_set1_ps(scale), base[4], d[4];
    UNROLL
    for (int j = 0; j < 4; j++) {
        base[j] = _mm512_loadu_ps(lse + 16 * j);
        d[j] = _mm512_loadu_ps(delta + 16 * j);
    }
    for (int i = 0; i < n; i += 2) {
        int at = i * GR_NR;
        uint16_t *pi = (uint16_t *)p + at, *dsi = (uint16_t *)ds + at;
        uint32_t *to = (uint32_t *)panel + at / 2;
        if (i + 1 < n && all_see(i, diag, window) && all_see(i + 1, diag, window))
            back_pair(pi, dsi, to, s + at, dp + at, factors, base, d, i, i + 2, diag, window, false);
        else
            back_pair(pi, dsi, to, s + at, dp + at, factors, base, d, i, n, diag, window, true);
    }
}

/* 16 x 16 numbers at a time. */
static void add_transposed_pairs(float *y, int64_t ldy, const float *x, int rows, int cols, float scale,
                                 bool accumulate) {
    for (int c = 0; c < cols; c += 16)
        for (int r = 0; r < rows; r += 16) {
            __mmask16 in = (__mmask16)(rows - r >= 16 ? 0xffff : (1 << (rows - r)) - 1);
            int take = cols - c < 16 ? cols - c : 16;
            __m512i v[16];
            UNROLL
            for (int i = 0; i < 16; i++)
                v[i] = in >> i & 1 ? _mm512_load_si512(x + (r + i) * GR_NR + c) : _mm512_setzero_si512();
            transpose16(v);
            UNROLL
            for (int i = 0; i < 16; i++) {
                if (i >= take) break;
                float *to = y + (c + i) * ldy + r;
                __m512 t = (__m512)v[i] * scale;
                if (accumulate) t += _mm512_maskz_loadu_ps(in, to);
                _mm512_mask_storeu_ps(to, in, t);
            }
        }
}

/* x[rows][d] as two panels at once: along d (queries become columns) and across it (queries are summed). */
static void panel_both_pairs(void *along, void *across, const void *x, int64_t ld, int rows, int64_t d) {
    if (rows < GR_NR || d % GR_NR) {
        panel_pairs_act(along, x, ld, true, 0, rows, 0, (int)d);
        for (int64_t n = 0; n < d; n += GR_NR)
            panel_pairs_act((uint32_t *)across + n / GR_NR * (GR_NR / 2) * GR_NR, x, ld, false, n,
                            (int)gr_min_i64(GR_NR, d - n), 0, rows);
        return;
    }
    const __m512i low = pairs_low(), high = pairs_high();
    for (int r = 0; r < GR_NR; r += 16)
        for (int64_t c = 0; c < d; c += 32) {
            const uint16_t *from = (const uint16_t *)x + r * ld + c;
            uint32_t *to = (uint32_t *)across + (c / GR_NR * (GR_NR / 2) + r / 2) * GR_NR + c % GR_NR;
            __m512i v[16];
            UNROLL
            for (int i = 0; i < 16; i++) v[i] = _mm512_loadu_si512(from + i * ld);
            UNROLL
            for (int i = 0; i < 8; i++) {
                _mm512_store_si512(to + i * GR_NR, _mm512_permutex2var_epi16(v[2 * i], low, v[2 * i + 1]));
                _mm512_store_si512(to + i * GR_NR + 16,
                                   _mm512_permutex2var_epi16(v[2 * i], high, v[2 * i + 1]));
            }
            transpose16(v);
            UNROLL
            for (int i = 0; i < 16; i++)
                _mm512_store_si512((uint32_t *)along + (c / 2 + i) * GR_NR + r, v[i]);
        }
}

/* Sixteen rows at a time: their sums across the vectors are a transpose and fifteen additions. */
static void dots_pairs(float *y, const void *a, const void *b, int64_t ld, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r += 16) {
        const uint16_t *x = (const uint16_t *)a + r * ld, *z = (const uint16_t *)b + r * ld;
        __m512i v[16];
        UNROLL
        for (int i = 0; i < 16; i++) {
            __m512 sum = _mm512_setzero_ps();
            for (int64_t c = 0; r + i < rows && c < n; c += 32) {
                __mmask32 in = n - c >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << (n - c)) - 1;
                sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_maskz_loadu_epi16(in, x + i * ld + c),
                                       (__m512bh)_mm512_maskz_loadu_epi16(in, z + i * ld + c));
            }
            v[i] = (__m512i)sum;
        }
        transpose16(v);
        UNROLL
        for (int w = 8; w; w /= 2) {
            UNROLL
            for (int i = 0; i < w; i++) v[i] = (__m512i)((__m512)v[i] + (__m512)v[i + w]);
        }
        _mm512_mask_storeu_ps(y + r, (__mmask16)(rows - r >= 16 ? 0xffff : (1 << (rows - r)) - 1),
                              (__m512)v[0]);
    }
}

#endif
