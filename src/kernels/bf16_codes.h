/* kernels/bf16_codes.h - 32 consecutive weights of a stored row as 32 bf16. Included by bf16_panel.h.
 *
 * Codes of up to 5 bits go through a table of a group's values: the code lands in the low bits of a word and
 * vpermw, which ignores the bits above, looks it up. Wider codes are converted. Either way a value is scale *
 * code + bias as gr_mat_row has it, then rounded to bf16; only codes of four bits multiply and add in one
 * rounding, which is the same but for scales of 32 bits.
 */
#ifndef GR_KERNELS_BF16_CODES_H
#define GR_KERNELS_BF16_CODES_H
#include "kernels/template_decode.h"

typedef enum row_format {
    ROW_BF16,
    ROW_F16,
    ROW_F32,
    ROW_CODES2,
    ROW_CODES3,
    ROW_CODES4,
    ROW_CODES5,
    ROW_CODES6,
    ROW_CODES8,
    ROW_MX4,
    ROW_MX8,
    ROW_NV4,
    ROW_DECODED /* anything, by decode_row */
} row_format;

static row_format row_format_of(const gr_mat *m) {
    static const row_format affine[9] = {[2] = ROW_CODES2, [3] = ROW_CODES3, [4] = ROW_CODES4,
                                         [5] = ROW_CODES5, [6] = ROW_CODES6, [8] = ROW_CODES8};
    if (m->layout == GR_DENSE && m->dtype == GR_F32) return ROW_F32;
    if (m->alpha != 1.0f) return ROW_DECODED;
    if (m->layout == GR_AFFINE) return affine[m->bits];
    if (m->layout == GR_MX) return m->bits == 8 ? ROW_MX8 : m->group == 16 ? ROW_NV4 : ROW_MX4;
    return m->dtype == GR_BF16 ? ROW_BF16 : ROW_F16;
}

INLINE bool row_is_dense(row_format f) {
    return f <= ROW_F32;
}
INLINE bool row_is_micro(row_format f) {
    return f == ROW_MX4 || f == ROW_MX8 || f == ROW_NV4;
}
INLINE int row_bits(row_format f) {
    switch (f) {
    case ROW_CODES2: return 2;
    case ROW_CODES3: return 3;
    case ROW_CODES5: return 5;
    case ROW_CODES6: return 6;
    case ROW_CODES8:
    case ROW_MX8: return 8;
    default: return 4;
    }
}
INLINE bool row_has_table(row_format f) {
    return row_bits(f) <= 5;
}

/* ------------------------------------------------------------------------------------------------ scales */

/* Scales or biases [at .. at+n) as f32, n <= 16, the rest 0. */
INLINE __m512 scales16(const void *p, gr_dtype dtype, int64_t at, int n) {
    __mmask16 mask = (__mmask16)((1u << n) - 1);
    if (dtype == GR_F32) return _mm512_maskz_loadu_ps(mask, (const char *)p + 4 * at);
    __m256i half = _mm256_maskz_loadu_epi16(mask, (const char *)p + 2 * at);
    if (dtype == GR_F16) return _mm512_cvtph_ps(half);
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
}

/* The same of a GR_MX matrix: powers of two, or with groups of 16 numbers of 8 bits. */
INLINE __m512 micro_scales16(const void *p, row_format f, int64_t at, int n) {
    __mmask16 mask = (__mmask16)((1u << n) - 1);
    __m512i code = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, (const char *)p + at));
    __m512i bits = _mm512_slli_epi32(code, 23);
    if (f != ROW_NV4) {
        __mmask16 least = _mm512_mask_cmpeq_epi32_mask(mask, code, _mm512_setzero_si512());
        return (__m512)_mm512_mask_set1_epi32(bits, least, 0x00400000);
    }
    __m512i magnitude = _mm512_and_si512(code, _mm512_set1_epi32(0x7f));
    bits = _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(code, _mm512_set1_epi32(0x80)), 24),
                           _mm512_slli_epi32(magnitude, 20));
    __mmask16 nan = _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(0x7f));
    bits = _mm512_mask_set1_epi32(bits, nan, 0x7fc00000);
    return (__m512)bits * 0x1p120f; /* as gr_e4m3_to_f32 */
}

/* n <= 16 neighbouring scales and biases of one row; what has no biases gets -0, which changes no value. */
INLINE void pair_scales(float *scale, float *bias, const gr_mat *m, row_format f, int64_t at, int n) {
    _mm512_storeu_ps(scale, row_is_micro(f) ? micro_scales16(m->scales, f, at, n)
                                            : scales16(m->scales, m->dtype, at, n));
    _mm512_storeu_ps(bias, row_is_micro(f) ? _mm512_set1_ps(-0.0f) : scales16(m->biases, m->dtype, at, n));
}

/* One scale and one bias in every element. */
INLINE __m512 scale1(const void *p, gr_dtype dtype, int64_t at) {
    int16_t half;
    if (dtype == GR_F32) return _mm512_set1_ps(stored_float(p, at, GR_F32));
    memcpy(&half, (const char *)p + 2 * at, 2);
    if (dtype == GR_F16) return _mm512_cvtph_ps(_mm256_set1_epi16(half));
    return (__m512)_mm512_set1_epi32((int)((uint32_t)(uint16_t)half << 16));
}

/* ------------------------------------------------------------------------------------------------ tables */

/* What code i < 16 means before scale and bias. */
INLINE __m512 code_values(row_format f) {
    if (f == ROW_MX4 || f == ROW_NV4)
        return _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6);
    if (f == ROW_CODES2) return _mm512_setr_ps(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
    if (f == ROW_CODES3) return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

INLINE __m512 scaled(row_format f, __m512 code, __m512 s, __m512 b) {
    if (f == ROW_CODES4) return _mm512_fmadd_ps(s, code, b);
    return code * s + b;
}

/* Sixteen values of one group below sixteen of another one. */
INLINE __m512i two_tables(row_format f, __m512 s0, __m512 b0, __m512 s1, __m512 b1) {
    const __m512 v = code_values(f);
    return (__m512i)_mm512_cvtne2ps_pbh(scaled(f, v, s1, b1), scaled(f, v, s0, b0));
}

/* 32 entries: the values of codes 0 .. 31, narrower ones again and again. */
INLINE __m512i one_table(row_format f, __m512 s, __m512 b) {
    __m512 low = scaled(f, code_values(f), s, b);
    if (f != ROW_CODES5) return _mm512_broadcast_i64x4((__m256i)_mm512_cvtneps_pbh(low));
    return (__m512i)_mm512_cvtne2ps_pbh(scaled(f, code_values(f) + 16.0f, s, b), low);
}

/* ------------------------------------------------------------------------------------------------- codes */

/* 32 codes begin at byte b * q / 2 with quadword q's four; there they begin at bit 0 or 4. */
#define CODES_AT(b, q) (4 * (b) * (q) / 8)
#define CODES_BYTE(b, q)                                                                                     \
    CODES_AT(b, q), CODES_AT(b, q) + 1, CODES_AT(b, q) + 2, CODES_AT(b, q) + 3, 0, 0, 0, 0
#define CODES_BIT(b, q)                                                                                      \
    4 * (b) * (q) % 8, 63, 4 * (b) * (q) % 8 + (b), 63, 4 * (b) * (q) % 8 + 2 * (b), 63,                     \
        4 * (b) * (q) % 8 + 3 * (b), 63
#define CODES_ROW(X, b)                                                                                      \
    { X(b, 0), X(b, 1), X(b, 2), X(b, 3), X(b, 4), X(b, 5), X(b, 6), X(b, 7) }
static const uint8_t codes_spread[7][64] __attribute__((aligned(64))) = {[2] = CODES_ROW(CODES_BYTE, 2),
                                                                         [3] = CODES_ROW(CODES_BYTE, 3),
                                                                         [4] = CODES_ROW(CODES_BYTE, 4),
                                                                         [5] = CODES_ROW(CODES_BYTE, 5),
                                                                         [6] = CODES_ROW(CODES_BYTE, 6)};
static const uint8_t codes_shift[7][64] __attribute__((aligned(64))) = {[2] = CODES_ROW(CODES_BIT, 2),
                                                                        [3] = CODES_ROW(CODES_BIT, 3),
                                                                        [4] = CODES_ROW(CODES_BIT, 4),
                                                                        [5] = CODES_ROW(CODES_BIT, 5),
                                                                        [6] = CODES_ROW(CODES_BIT, 6)};

/* 32 codes of less than 8 bits: each in the low bits of a word, anything above. */
INLINE __m512i codes_words(const char *codes, int bits) {
    __m256i packed = _mm256_maskz_loadu_epi32((__mmask8)((1u << bits) - 1), codes); /* 4 * bits bytes */
    __m512i at =
        _mm512_permutexvar_epi8(_mm512_load_si512(codes_spread[bits]), _mm512_castsi256_si512(packed));
    return _mm512_multishift_epi64_epi8(_mm512_load_si512(codes_shift[bits]), at);
}

INLINE __m512i to_pairs(__m512 low, __m512 high) {
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* 32 codes of 8 bits. */
INLINE __m512i codes8_values(const char *codes, __m512 s, __m512 b) {
    __m128i low, high;
    memcpy(&low, codes, 16);
    memcpy(&high, codes + 16, 16);
    return to_pairs(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(low)) * s + b,
                    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(high)) * s + b);
}

/* 32 numbers of 8 bits (E4M3): as f16 their exponent is 8 too small. */
INLINE __m512i mx8_values(const char *codes, __m512 s) {
    __m256i packed;
    memcpy(&packed, codes, 32);
    __m512i wide = _mm512_cvtepi8_epi16(packed); /* the sign in bits 7 .. 15 */
    __m512i half = _mm512_and_si512(_mm512_slli_epi16(wide, 7), _mm512_set1_epi16((short)0xbf80));
    __mmask32 nan =
        _mm512_cmpeq_epi16_mask(_mm512_and_si512(half, _mm512_set1_epi16(0x3f80)), _mm512_set1_epi16(0x3f80));
    half = _mm512_mask_mov_epi16(half, nan, _mm512_set1_epi16(0x7e00));
    return to_pairs(_mm512_cvtph_ps(_mm512_castsi512_si256(half)) * 256.0f * s,
                    _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1)) * 256.0f * s);
}

/* 32 codes of 6 bits. */
INLINE __m512i codes6_values(const char *codes, __m512 s, __m512 b) {
    __m512i words = _mm512_and_si512(codes_words(codes, 6), _mm512_set1_epi16(63));
    __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(words)),
            high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(words, 1));
    return to_pairs(_mm512_cvtepi32_ps(low) * s + b, _mm512_cvtepi32_ps(high) * s + b);
}

/* 32 codes of one group (of two for ROW_NV4) that begin at a byte. table: of formats that have one; s and b:
 * of the others. */
INLINE __m512i codes_values(row_format f, const char *codes, __m512i table, __m512 s, __m512 b) {
    const __m512i second = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
    if (f == ROW_CODES8) return codes8_values(codes, s, b);
    if (f == ROW_CODES6) return codes6_values(codes, s, b);
    if (f == ROW_MX8) return mx8_values(codes, s);
    __m512i words = codes_words(codes, row_bits(f));
    if (f == ROW_NV4) /* (words & 15) | second */
        words = _mm512_ternarylogic_epi32(words, _mm512_set1_epi16(15), second, 0xea);
    return _mm512_permutexvar_epi16(words, table);
}

/* The table of 32 columns from `col` on of one row (anything where the format has none), and *s, *b. */
INLINE __m512i codes_group(const gr_mat *m, row_format f, int64_t row, int64_t col, __m512 *s, __m512 *b) {
    int64_t at = (row * m->cols + col) / m->group;
    if (row_is_micro(f)) {
        __m512 both = micro_scales16(m->scales, f, at, f == ROW_NV4 ? 2 : 1);
        *s = _mm512_permutexvar_ps(_mm512_setzero_si512(), both);
        *b = _mm512_set1_ps(-0.0f);
        if (f == ROW_NV4) return two_tables(f, *s, *b, _mm512_permutexvar_ps(_mm512_set1_epi32(1), both), *b);
    } else {
        *s = scale1(m->scales, m->dtype, at);
        *b = scale1(m->biases, m->dtype, at);
    }
    return row_has_table(f) ? one_table(f, *s, *b) : _mm512_setzero_si512();
}

#endif
