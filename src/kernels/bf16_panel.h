/* kernels/bf16_panel.h - panels of bf16 pairs [k/2][64][2] for VDPBF16PS. Included by isa_avx512bf16.c.
 *
 * Both directions read 32 consecutive elements of a stored row as 32 bf16 (row32). For y = x W^T, 16 such
 * rows make a 16 x 16 transpose of pairs; for dx = dy W two neighbouring rows are interleaved. A stored
 * format is a case of row32 and nothing else.
 */
#ifndef GR_KERNELS_BF16_PANEL_H
#define GR_KERNELS_BF16_PANEL_H
#include "kernels/template_decode.h"

typedef enum row_format { ROW_BF16, ROW_F16, ROW_F32, ROW_CODES4, ROW_DECODED } row_format;

static row_format row_format_of(const gr_mat *m) {
    if (m->layout == GR_AFFINE) return m->bits == 4 && m->alpha == 1.0f ? ROW_CODES4 : ROW_DECODED;
    if (m->layout == GR_MICRO) return ROW_DECODED;
    if (m->dtype == GR_F32) return ROW_F32;
    if (m->alpha != 1.0f) return ROW_DECODED;
    return m->dtype == GR_BF16 ? ROW_BF16 : ROW_F16;
}

/* The 16 values of a group's 4-bit codes as bf16, twice: a table for vpermw. */
INLINE __m512i codes4_table(const gr_mat *m, int64_t row, int64_t group) {
    const __m512 index = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const char *scales = m->scales, *biases = m->biases;
    int64_t at = row * (m->cols / m->group) + group;
    __m512 s, b;
    if (m->dtype == GR_F32) {
        s = _mm512_set1_ps(stored_float(scales, at, GR_F32));
        b = _mm512_set1_ps(stored_float(biases, at, GR_F32));
    } else {
        int16_t hs, hb;
        memcpy(&hs, scales + 2 * at, 2);
        memcpy(&hb, biases + 2 * at, 2);
        if (m->dtype == GR_F16) {
            s = _mm512_cvtph_ps(_mm256_set1_epi16(hs));
            b = _mm512_cvtph_ps(_mm256_set1_epi16(hb));
        } else {
            s = (__m512)_mm512_set1_epi32((int)((uint32_t)(uint16_t)hs << 16));
            b = (__m512)_mm512_set1_epi32((int)((uint32_t)(uint16_t)hb << 16));
        }
    }
    return _mm512_broadcast_i64x4((__m256i)_mm512_cvtneps_pbh(_mm512_fmadd_ps(s, index, b)));
}

/* 32 codes of 4 bits (16 bytes) through the table: code i moves to the low bits of word i; vpermw ignores the
 * rest. */
INLINE __m512i codes4_values(const void *codes, __m512i table) {
    const __m512i spread = _mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1);
    const __m512i shift = _mm512_set_epi16(60, 56, 52, 48, 44, 40, 36, 32, 28, 24, 20, 16, 12, 8, 4, 0, 60,
                                           56, 52, 48, 44, 40, 36, 32, 28, 24, 20, 16, 12, 8, 4, 0);
    __m128i packed;
    memcpy(&packed, codes, 16);
    __m512i words = _mm512_permutexvar_epi64(spread, _mm512_castsi128_si512(packed));
    return _mm512_permutexvar_epi16(_mm512_multishift_epi64_epi8(shift, words), table);
}

INLINE __m512i to_pairs(__m512 low, __m512 high) {
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* Elements [row, col .. col+n) of m, at most 32, as bf16, the rest 0. ROW_CODES4: n >= 32 (cols is a multiple
 * of it) and `table` belongs to the group. */
INLINE __m512i row32(const gr_mat *m, row_format format, int64_t row, int64_t col, int n, __m512i table) {
    const char *data = m->data;
    if (n <= 0) return _mm512_setzero_si512();
    if (format == ROW_CODES4) return codes4_values(data + (row * m->cols + col) / 2, table);
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

/* Forward: 16 columns of the panel at a time, 16 pairs of k at a time. Absent rows read the last one and give
 * 0. */
INLINE void panel_pairs_trans(uint32_t *dst, const gr_mat *m, row_format format, int64_t n0, int ncols,
                              int64_t k0, int kc) {
    for (int v = 0; v < GR_NR; v += 16) {
        __m512i table[16], r[16];
        int present = ncols - v;
        for (int k = 0; k < kc; k += 32) {
            int left = kc - k, pairs = left >= 32 ? 16 : (left + 1) / 2;
            if (format == ROW_CODES4 && (k == 0 || (k0 + k) % m->group == 0)) {
                UNROLL
                for (int i = 0; i < 16; i++)
                    table[i] = i < present ? codes4_table(m, n0 + v + i, (k0 + k) / m->group)
                                           : _mm512_setzero_si512();
            }
            UNROLL
            for (int i = 0; i < 16; i++) {
                int64_t row = i < present ? n0 + v + i : n0;
                r[i] = row32(m, format, row, k0 + k, i < present ? left : 0, table[i]);
            }
            transpose16(r);
            uint32_t *d = dst + (int64_t)(k / 2) * GR_NR + v;
            if (pairs == 16) {
                UNROLL
                for (int i = 0; i < 16; i++) _mm512_store_si512(d + i * GR_NR, r[i]);
            } else {
                for (int i = 0; i < pairs; i++) _mm512_store_si512(d + i * GR_NR, r[i]);
            }
        }
    }
}

/* Backward: rows k and k+1 of the stored matrix interleaved, 32 columns at a time. */
INLINE void panel_pairs_rows(uint32_t *dst, const gr_mat *m, row_format format, int64_t n0, int ncols,
                             int64_t k0, int kc) {
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7,
                                         38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    const __m512i zero = _mm512_setzero_si512();
    for (int k = 0; k < kc; k += 2, dst += GR_NR) {
        __m512i ta = zero, tb = zero;
        for (int h = 0; h < 2; h++) {
            int left = ncols - 32 * h;
            int64_t col = n0 + 32 * h;
            if (format == ROW_CODES4 && left > 0 && (h == 0 || m->group == 32)) {
                ta = codes4_table(m, k0 + k, col / m->group);
                if (k + 1 < kc) tb = codes4_table(m, k0 + k + 1, col / m->group);
            }
            __m512i a = row32(m, format, k0 + k, col, left, ta);
            __m512i b = k + 1 < kc ? row32(m, format, k0 + k + 1, col, left, tb) : zero;
            _mm512_store_si512(dst + 32 * h, _mm512_permutex2var_epi16(a, low, b));
            _mm512_store_si512(dst + 32 * h + 16, _mm512_permutex2var_epi16(a, high, b));
        }
    }
}

INLINE void panel_pairs_format(void *dst, const gr_mat *m, row_format format, bool trans, int64_t n0,
                               int ncols, int64_t k0, int kc) {
    if (trans)
        panel_pairs_trans(dst, m, format, n0, ncols, k0, kc);
    else
        panel_pairs_rows(dst, m, format, n0, ncols, k0, kc);
}

static void panel_pairs(void *dst, const gr_mat *m, bool trans, int64_t n0, int ncols, int64_t k0, int kc) {
    row_format format = row_format_of(m);
    /* The table of codes covers whole blocks of 32 columns of one group. */
    if (format == ROW_CODES4 && ((trans ? k0 | kc : n0 | ncols) & 31)) format = ROW_DECODED;
    switch (format) {
    case ROW_BF16: panel_pairs_format(dst, m, ROW_BF16, trans, n0, ncols, k0, kc); break;
    case ROW_F16: panel_pairs_format(dst, m, ROW_F16, trans, n0, ncols, k0, kc); break;
    case ROW_F32: panel_pairs_format(dst, m, ROW_F32, trans, n0, ncols, k0, kc); break;
    case ROW_CODES4: panel_pairs_format(dst, m, ROW_CODES4, trans, n0, ncols, k0, kc); break;
    case ROW_DECODED: panel_pairs_format(dst, m, ROW_DECODED, trans, n0, ncols, k0, kc); break;
    }
}

static void panel_pairs_act(void *dst, const void *act, int64_t ld, bool trans, int64_t n0, int ncols,
                            int64_t k0, int kc) {
    gr_mat m = {.layout = GR_DENSE, .dtype = GR_BF16, .ld = ld, .data = act, .alpha = 1.0f};
    panel_pairs(dst, &m, trans, n0, ncols, k0, kc);
}

#endif
