/* kernels/bf16_panel.h - panels of bf16 pairs [k/2][64][2] for VDPBF16PS. Included by isa_avx512bf16.c.
 *
 * Both directions read 32 consecutive elements of a stored row as 32 bf16. For y = x W^T, 16 such rows make a
 * 16 x 16 transpose of pairs; for dx = dy W two neighbouring rows are interleaved. Four-bit codes, which most
 * models have, are put in place before they are looked up (bf16_panel4.h): that saves most of the shuffles.
 */
#ifndef GR_KERNELS_BF16_PANEL_H
#define GR_KERNELS_BF16_PANEL_H
#include "kernels/bf16_panel4.h"

/* Elements [row, col .. col+n) of m, at most 32, as bf16, the rest 0: dense formats, and any by decoding. */
INLINE __m512i row32(const gr_mat *m, row_format format, int64_t row, int64_t col, int n) {
    const char *data = m->data;
    if (n <= 0) return _mm512_setzero_si512();
    __mmask32 mask = n >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << n) - 1;
    if (format == ROW_BF16) return _mm512_maskz_loadu_epi16(mask, data + (row * m->ld + col) * 2);
    if (format == ROW_F16) {
        __m512i half = _mm512_maskz_loadu_epi16(mask, data + (row * m->ld + col) * 2);
        return to_pairs(_mm512_cvtph_ps(_mm512_castsi512_si256(half)),
                        _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1)));
    }
    float decoded[32] = {0};
    const char *at = data + (row * m->ld + col) * 4;
    float alpha = m->alpha;
    if (format == ROW_DECODED) {
        decode_row(decoded, m, row, col, n < 32 ? n : 32);
        at = (const char *)decoded;
        alpha = 1.0f;
        mask = ~(__mmask32)0;
    }
    __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, at);
    __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), at + 64);
    return to_pairs(low * alpha, high * alpha);
}

/* 16 x 16 dwords. */
INLINE void transpose16(__m512i r[16]) {
    __m512i t[16];
    UNROLL
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

INLINE void store_pairs(uint32_t *d, const __m512i r[16], int pairs) {
    if (pairs == 16) {
        UNROLL
        for (int i = 0; i < 16; i++) _mm512_store_si512(d + i * GR_NR, r[i]);
    } else {
        for (int i = 0; i < pairs; i++) _mm512_store_si512(d + i * GR_NR, r[i]);
    }
}

/* Forward, dense formats: 16 columns of the panel at a time, 16 pairs of k at a time. Absent rows give 0. */
INLINE void panel_dense_trans(uint32_t *dst, const gr_mat *m, row_format f, int64_t n0, int ncols, int64_t k0,
                              int kc) {
    const int64_t row_bytes = m->ld * (f == ROW_F32 ? 4 : 2);
    for (int v = 0; v < GR_NR; v += 16) {
        int present = ncols - v;
        for (int k = 0; k < kc; k += 32) {
            __m512i r[16];
            int left = kc - k;
            UNROLL
            for (int i = 0; i < 16; i++) {
                int64_t row = i < present ? n0 + v + i : n0;
                const int64_t at = row * row_bytes + (k0 + k) * (f == ROW_F32 ? 4 : 2) + PANEL_AHEAD;
                if (f != ROW_DECODED) /* into L2: rows of 4 KB would push each other out of L1 */
                    _mm_prefetch((const char *)m->data + at, _MM_HINT_T1);
                if (f == ROW_F32) _mm_prefetch((const char *)m->data + at + 64, _MM_HINT_T1);
                r[i] = row32(m, f, row, k0 + k, i < present ? left : 0);
            }
            transpose16(r);
            store_pairs(dst + (int64_t)(k / 2) * GR_NR + v, r, left >= 32 ? 16 : (left + 1) / 2);
        }
    }
}

/* Forward, codes: k0 and kc are multiples of 32. Scales are converted 16 groups at a time. */
INLINE void panel_codes_trans(uint32_t *dst, const gr_mat *m, row_format f, int64_t n0, int ncols, int64_t k0,
                              int kc) {
    const int bits = row_bits(f);
    for (int v = 0; v < GR_NR; v += 16) {
        code_rows rows;
        __m512i table[16];
        code_rows_at(&rows, m, n0, v, ncols, k0);
        for (int k = 0; k < kc; k += 32) {
            __m512i r[16];
            bool fresh = code_rows_group(&rows, m, f, k);
            const int g = rows.group;
            if (fresh && row_has_table(f)) {
                UNROLL
                for (int i = 0; i < 16; i++) {
                    const float *s = &rows.scale[i][g], *b = &rows.bias[i][g];
                    __m512 s0 = _mm512_set1_ps(s[0]), b0 = _mm512_set1_ps(b[0]);
                    table[i] = f == ROW_NV4
                                   ? two_tables(f, s0, b0, _mm512_set1_ps(s[1]), _mm512_set1_ps(b[1]))
                                   : one_table(f, s0, b0);
                }
            }
            const int at = k / 8 * bits;
            if ((at ^ (at - 4 * bits)) & ~63) code_rows_ahead(&rows, m, at, kc / 8 * bits); /* a new line */
            UNROLL
            for (int i = 0; i < 16; i++) {
                const char *codes = rows.codes[i] + at;
                r[i] = codes_values(f, codes, table[i], _mm512_set1_ps(rows.scale[i][g]),
                                    _mm512_set1_ps(rows.bias[i][g]));
            }
            if (f == ROW_MX8) /* a code may be NaN, and 0 * NaN is none */
                for (int i = rows.present; i < 16; i++) r[i] = _mm512_setzero_si512();
            transpose16(r);
            store_pairs(dst + (int64_t)(k / 2) * GR_NR + v, r, 16);
        }
    }
}

/* Backward: rows k and k+1 of the stored matrix interleaved, 32 columns at a time. Codes: n0 and ncols are
 * multiples of 32. */
INLINE void panel_pairs_rows(uint32_t *dst, const gr_mat *m, row_format f, int64_t n0, int ncols, int64_t k0,
                             int kc) {
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7,
                                         38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    const bool codes = !row_is_dense(f) && f != ROW_DECODED;
    const int64_t row_bytes = codes ? m->cols * row_bits(f) / 8 : m->ld * (f == ROW_F32 ? 4 : 2);
    const int64_t col_bits = codes ? row_bits(f) : f == ROW_F32 ? 32 : 16;
    const int64_t groups = codes ? m->cols / m->group : 0, width = row_is_micro(f)      ? 1
                                                                   : m->dtype == GR_F32 ? 4
                                                                                        : 2;
    for (int k = 0; k < kc; k += 2, dst += GR_NR) {
        const char *at = (const char *)m->data + (k0 + k) * row_bytes + n0 * col_bits / 8;
        if (f != ROW_DECODED)
            for (int64_t line = 0; line < GR_NR * col_bits / 8; line += 64) {
                _mm_prefetch(at + ROWS_AHEAD * row_bytes + line, _MM_HINT_T1);
                _mm_prefetch(at + (ROWS_AHEAD + 1) * row_bytes + line, _MM_HINT_T1);
            }
        if (codes) {
            int64_t scale = (k0 + k + ROWS_AHEAD) * groups + n0 / m->group;
            _mm_prefetch((const char *)m->scales + scale * width, _MM_HINT_T1);
            _mm_prefetch((const char *)m->scales + (scale + groups) * width, _MM_HINT_T1);
            if (!row_is_micro(f)) {
                _mm_prefetch((const char *)m->biases + scale * width, _MM_HINT_T1);
                _mm_prefetch((const char *)m->biases + (scale + groups) * width, _MM_HINT_T1);
            }
        }
        __m512i table[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        __m512 s[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, b[2] = {s[0], s[0]};
        UNROLL
        for (int h = 0; h < 2; h++) {
            int left = ncols - 32 * h;
            bool fresh =
                h == 0 || ((n0 + 32) & (m->group - 1)) == 0; /* else the group of the columns before */
            __m512i r[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
            for (int i = 0; i < 2; i++) {
                if (k + i >= kc || left <= 0) continue;
                if (codes) {
                    if (fresh) table[i] = codes_group(m, f, k0 + k + i, n0 + 32 * h, &s[i], &b[i]);
                    r[i] = codes_values(f, at + i * row_bytes + 4 * h * col_bits, table[i], s[i], b[i]);
                } else {
                    r[i] = row32(m, f, k0 + k + i, n0 + 32 * h, left);
                }
            }
            _mm512_store_si512(dst + 32 * h, _mm512_permutex2var_epi16(r[0], low, r[1]));
            _mm512_store_si512(dst + 32 * h + 16, _mm512_permutex2var_epi16(r[0], high, r[1]));
        }
    }
}

/* One format, known while compiling. */
INLINE void panel_pairs_format(void *dst, const gr_mat *m, row_format f, bool trans, int64_t n0, int ncols,
                               int64_t k0, int kc) {
    const bool four = f == ROW_CODES4 || f == ROW_MX4;
    if (!trans && four)
        panel4_rows(dst, m, f, n0, ncols, k0, kc);
    else if (!trans)
        panel_pairs_rows(dst, m, f, n0, ncols, k0, kc);
    else if (four)
        panel4_trans(dst, m, f, n0, ncols, k0, kc);
    else if (row_is_dense(f) || f == ROW_DECODED)
        panel_dense_trans(dst, m, f, n0, ncols, k0, kc);
    else
        panel_codes_trans(dst, m, f, n0, ncols, k0, kc);
}

static void panel_pairs(void *dst, const gr_mat *m, bool trans, int64_t n0, int ncols, int64_t k0, int kc) {
    row_format f = row_format_of(m);
    /* Codes are read in whole blocks of 32. */
    if (!row_is_dense(f) && ((trans ? k0 | kc : n0 | ncols) & 31)) f = ROW_DECODED;
#define CASE(format)                                                                                         \
    case format: panel_pairs_format(dst, m, format, trans, n0, ncols, k0, kc); break
    switch (f) {
        CASE(ROW_BF16);
        CASE(ROW_F16);
        CASE(ROW_F32);
        CASE(ROW_CODES2);
        CASE(ROW_CODES3);
        CASE(ROW_CODES4);
        CASE(ROW_CODES5);
        CASE(ROW_CODES6);
        CASE(ROW_CODES8);
        CASE(ROW_MX4);
        CASE(ROW_MX8);
        CASE(ROW_NV4);
        CASE(ROW_DECODED);
    }
#undef CASE
}

static void panel_pairs_act(void *dst, const void *act, int64_t ld, bool trans, int64_t n0, int ncols,
                            int64_t k0, int kc) {
    gr_mat m = {.layout = GR_DENSE, .dtype = GR_BF16, .ld = ld, .data = act, .alpha = 1.0f};
    panel_pairs(dst, &m, trans, n0, ncols, k0, kc);
}

#endif
