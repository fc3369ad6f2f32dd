/* kernels/bf16_matvec.h - one bf16 row times a stored matrix with VDPBF16PS. Included by isa_avx512bf16.c.
 * Weights are rounded to bf16 as in a panel, so that generation computes what training does.
 *
 * The rows of a task lie one after another in memory, so fetching ahead runs on into the next row.
 */
#ifndef GR_KERNELS_BF16_MATVEC_H
#define GR_KERNELS_BF16_MATVEC_H
#include "kernels/bf16_panel.h"

#define VEC_AHEAD    2048 /* bytes to fetch ahead */
#define VEC_AHEAD_SB 512  /* of scales and biases */

INLINE float sum_chains(const __m512 sum[4]) {
    return _mm512_reduce_add_ps((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

INLINE __m512 dot_pairs(__m512 sum, __m512i x, __m512i w) {
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

/* Up to 32 elements of x, the rest 0. */
INLINE __m512i x_pairs(const uint16_t *x, int64_t n) {
    return _mm512_maskz_loadu_epi16(n >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << n) - 1, x);
}

/* n <= 16 scales and biases, and those of rows to come on their way. */
INLINE void vec_scales(float *scale, float *bias, const gr_mat *m, row_format f, int64_t at, int n) {
    const int64_t width = row_is_micro(f) ? 1 : m->dtype == GR_F32 ? 4 : 2;
    _mm_prefetch((const char *)m->scales + at * width + VEC_AHEAD_SB, _MM_HINT_T0);
    if (!row_is_micro(f)) _mm_prefetch((const char *)m->biases + at * width + VEC_AHEAD_SB, _MM_HINT_T0);
    pair_scales(scale, bias, m, f, at, n);
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
                    sum[3] = dot_pairs(sum[0], _mm512_loadu_si512(xk), codes_values(f, codes, table, s, b));
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

/* ------------------------------------------------------------------------------------- codes of four bits */

#define VEC4_K 8192 /* columns at a time: x in the order of the codes, on the stack */

/* 128 codes are eight quadwords of 16; step j takes codes 4 j .. 4 j + 3 of each. y[j] is x in that order. */
INLINE void vec4_order(uint16_t *y, const uint16_t *x, int64_t n) {
    const __m512i pick = _mm512_setr_epi64(0, 4, 8, 12, 0, 4, 8, 12);
    __m512i v[4];
    UNROLL
    for (int i = 0; i < 4; i++) v[i] = n > 32 * i ? x_pairs(x + 32 * i, n - 32 * i) : _mm512_setzero_si512();
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512i at = _mm512_add_epi64(pick, _mm512_set1_epi64(j));
        __m512i low = _mm512_permutex2var_epi64(v[0], at, v[1]),
                high = _mm512_permutex2var_epi64(v[2], at, v[3]);
        _mm512_store_si512(y + 32 * j, _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1));
    }
}

/* sum[j] += x * the values of 128 codes; scale and bias of their `groups` groups. */
INLINE void vec4_block(__m512 sum[4], __m512i codes, const uint16_t *x, row_format f, const float *scale,
                       const float *bias, int groups) {
    const __m512i two = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
    const __m512i four =
        _mm512_set_epi32(0x300030, 0x300030, 0x300030, 0x300030, 0x200020, 0x200020, 0x200020, 0x200020,
                         0x100010, 0x100010, 0x100010, 0x100010, 0, 0, 0, 0);
#define PAIR(i)                                                                                              \
    two_tables(f, _mm512_set1_ps(scale[i]), _mm512_set1_ps(bias[i]), _mm512_set1_ps(scale[(i) + 1]),         \
               _mm512_set1_ps(bias[(i) + 1]))
    __m512i low = groups == 1 ? one_table(f, _mm512_set1_ps(scale[0]), _mm512_set1_ps(bias[0])) : PAIR(0);
    __m512i high = groups == 4 ? PAIR(2) : low;
#undef PAIR
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512i shift = _mm512_set1_epi64((long long)(0x000c000800040000 + 0x0010001000100010 * j));
        __m512i at = _mm512_multishift_epi64_epi8(shift, codes);
        if (groups > 1)
            at = _mm512_ternarylogic_epi32(at, _mm512_set1_epi16(15), groups == 2 ? two : four, 0xea);
        __m512i w =
            groups == 4 ? _mm512_permutex2var_epi16(low, at, high) : _mm512_permutexvar_epi16(at, low);
        sum[j] = dot_pairs(sum[j], _mm512_load_si512(x + 32 * j), w);
    }
}

/* One row, columns k0 .. k0 + kc; x in the order of the codes. */
INLINE float vec4_row(const gr_mat *m, row_format f, const uint16_t *x, int64_t row, int64_t k0, int64_t kc,
                      int groups) {
    const char *codes = (const char *)m->data + (row * m->cols + k0) / 2;
    const int64_t all = m->cols / m->group, first = k0 / m->group;
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t k = 0; k < kc;) {
        float scale[16] __attribute__((aligned(64))), bias[16] __attribute__((aligned(64)));
        int64_t g = first + k / m->group;
        vec_scales(scale, bias, m, f, row * all + g, (int)gr_min_i64(16, all - g));
        for (int i = 0; i < 16 && k < kc; i += groups, k += 128) {
            int64_t left = kc - k;
            __m512i c = left >= 128
                            ? _mm512_loadu_si512(codes + k / 2)
                            : _mm512_maskz_loadu_epi32((__mmask16)((1u << left / 8) - 1), codes + k / 2);
            _mm_prefetch(codes + k / 2 + VEC_AHEAD, _MM_HINT_T0);
            vec4_block(sum, c, x + k, f, scale + i, bias + i, groups);
        }
    }
    return sum_chains(sum);
}

INLINE void vec4_groups(float *y, const gr_mat *m, row_format f, const uint16_t *x, int64_t row0,
                        int64_t nrows, int groups) {
    uint16_t ordered[VEC4_K] __attribute__((aligned(64)));
    for (int64_t k0 = 0; k0 < m->cols; k0 += VEC4_K) {
        int64_t kc = gr_min_i64(VEC4_K, m->cols - k0);
        for (int64_t k = 0; k < kc; k += 128) vec4_order(ordered + k, x + k0 + k, gr_min_i64(128, kc - k));
        for (int64_t row = row0; row < row0 + nrows; row++) {
            float sum = vec4_row(m, f, ordered, row, k0, kc, groups);
            y[row] = k0 ? y[row] + sum : sum;
        }
    }
}

static void matvec_four(float *y, const gr_mat *m, const uint16_t *x, int64_t row0, int64_t nrows) {
    if (m->layout == GR_MICRO)
        vec4_groups(y, m, ROW_MX4, x, row0, nrows, 4);
    else if (m->group == 32)
        vec4_groups(y, m, ROW_CODES4, x, row0, nrows, 4);
    else if (m->group == 64)
        vec4_groups(y, m, ROW_CODES4, x, row0, nrows, 2);
    else
        vec4_groups(y, m, ROW_CODES4, x, row0, nrows, 1);
}

static void matvec_pairs(float *y, const gr_mat *m, const void *x, int64_t row0, int64_t nrows) {
    switch (row_format_of(m)) {
    case ROW_BF16: matvec_dense(y, m, ROW_BF16, x, row0, nrows); break;
    case ROW_F16: matvec_dense(y, m, ROW_F16, x, row0, nrows); break;
    case ROW_F32: matvec_dense(y, m, ROW_F32, x, row0, nrows); break;
    case ROW_CODES2: matvec_codes(y, m, ROW_CODES2, x, row0, nrows); break;
    case ROW_CODES3: matvec_codes(y, m, ROW_CODES3, x, row0, nrows); break;
    case ROW_CODES5: matvec_codes(y, m, ROW_CODES5, x, row0, nrows); break;
    case ROW_CODES6: matvec_codes(y, m, ROW_CODES6, x, row0, nrows); break;
    case ROW_CODES8: matvec_codes(y, m, ROW_CODES8, x, row0, nrows); break;
    case ROW_MX8: matvec_codes(y, m, ROW_MX8, x, row0, nrows); break;
    case ROW_NV4: matvec_codes(y, m, ROW_NV4, x, row0, nrows); break;
    case ROW_CODES4:
    case ROW_MX4: matvec_four(y, m, x, row0, nrows); break;
    case ROW_DECODED: matvec_dense(y, m, ROW_DECODED, x, row0, nrows); break;
    }
}

#endif
