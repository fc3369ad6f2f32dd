/* kernels/bf16_vec_codes.h - one bf16 row times codes of 2, 4 or 8 bits with VDPBF16PS. Included by
 * bf16_matvec.h.
 *
 * y = sum over groups of scale * (x . codes) + bias * sum(x): codes are exact in bf16, so a group is summed
 * before its scale is applied, and weights are not rounded as they are in a panel. 64 bytes of codes are 32
 * words; vpermw looks up the low five bits of each, whatever lies above, and a shift brings the next code of
 * every word there. x is laid out once to match: its elements of step j side by side.
 */
#ifndef GR_KERNELS_BF16_VEC_CODES_H
#define GR_KERNELS_BF16_VEC_CODES_H
#include "kernels/bf16_codes.h"

#define VEC_AHEAD    2048 /* bytes to fetch ahead */
#define VEC_AHEAD_SB 512  /* of scales and biases */
#define CODES_K      8192 /* columns at a time: x in the order of the codes, on the stack */

typedef struct ordered_row {
    uint16_t x[CODES_K] __attribute__((aligned(64))); /* in blocks of 64 bytes of codes, by step */
    float sum[CODES_K / 32 + 16];                     /* of x over each group */
} ordered_row;

/* Weights of 64 bytes, registers of x for them, steps of five bits' lookup. */
#define CODES_BLOCK(bits) (512 / (bits))
#define CODES_ORDER(bits) (16 / (bits))
#define CODES_STEPS(bits) ((bits) == 8 ? 4 : CODES_ORDER(bits))

INLINE __m512 dot_pairs(__m512 sum, __m512i x, __m512i w) {
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

/* Up to 32 elements of x, the rest 0. */
INLINE __m512i x_pairs(const uint16_t *x, int64_t n) {
    return _mm512_maskz_loadu_epi16(n >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << n) - 1, x);
}

/* Even and odd words of two registers. */
INLINE void unzip(__m512i *even, __m512i *odd, __m512i a, __m512i b) {
    const __m512i pick = (__m512i)(__v32hi){0,  2,  4,  6,  8,  10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
                                            32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62};
    *even = _mm512_permutex2var_epi16(a, pick, b);
    *odd = _mm512_permutex2var_epi16(a, _mm512_add_epi16(pick, _mm512_set1_epi16(1)), b);
}

/* v[n] registers of x, n a power of two: v[j] becomes words j, j + n, j + 2 n ... of them all. Taking the
 * even ones before the odd ones moves the lowest bit of every place to the top; after log2(n) times that is
 * j. */
INLINE void order_words(__m512i v[8], int n) {
    __m512i to[8];
    UNROLL
    for (int level = 1; level < n; level *= 2) {
        UNROLL
        for (int i = 0; i < n / 2; i++) unzip(&to[i], &to[n / 2 + i], v[2 * i], v[2 * i + 1]);
        UNROLL
        for (int i = 0; i < n; i++) v[i] = to[i];
    }
}

/* Adds the sums of x, one block in order, to those of its groups; k is the block's first column. */
INLINE void add_sums(float *sum, const __m512i v[8], int n, int64_t k, int group) {
    const __m512i one = _mm512_set1_epi16(0x3f80);
    __m512 part = _mm512_setzero_ps(); /* of 2 n columns in every element */
    float lane[16] __attribute__((aligned(64)));
    UNROLL
    for (int j = 0; j < n; j++) part = dot_pairs(part, v[j], one);
    _mm512_store_ps(lane, part);
    const int each = (int)gr_min_i64(16, group / (2 * n));
    for (int i = 0; i < 16; i += each) {
        float all = 0;
        for (int j = 0; j < each; j++) all += lane[i + j];
        sum[(k + 2 * n * i) / group] += all;
    }
}

INLINE void order_x(ordered_row *r, const uint16_t *x, int64_t n, int bits, int group) {
    const int regs = CODES_ORDER(bits);
    memset(r->sum, 0, sizeof r->sum[0] * (size_t)(n / group + 16));
    for (int64_t k = 0; k < n; k += CODES_BLOCK(bits)) {
        __m512i v[8];
        UNROLL
        for (int i = 0; i < regs; i++) {
            int64_t left = n - k - 32 * i;
            v[i] = left > 0 ? x_pairs(x + k + 32 * i, left) : _mm512_setzero_si512();
        }
        order_words(v, regs);
        UNROLL
        for (int i = 0; i < regs; i++) _mm512_store_si512(r->x + k + 32 * i, v[i]);
        add_sums(r->sum, v, regs, k, group);
    }
}

/* What the low five bits of a word are looked up as, times `by`: a code and whatever lies above it. */
INLINE __m512i code_table(row_format f, float by) {
    __m512 v = code_values(f) * by;
    return (__m512i)_mm512_cvtne2ps_pbh(v, v);
}

/* Sums over 64 bytes of codes; element i: of the columns whose codes the bytes 4 i .. 4 i + 3 hold. */
INLINE __m512 dot_words(__m512i codes, const uint16_t *x, int bits, __m512i table, __m512i high) {
    __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    UNROLL
    for (int j = 0; j < 8; j++) {
        if (j == CODES_STEPS(bits)) break;
        __m512i at = _mm512_srli_epi16(codes, (unsigned)(j * (bits == 8 ? 4 : bits)));
        __m512i w = _mm512_permutexvar_epi16(at, bits == 8 && j % 2 ? high : table);
        sum[j % 2] = dot_pairs(sum[j % 2], _mm512_load_si512(x + 32 * (bits == 8 ? j / 2 : j)), w);
    }
    return sum[0] + sum[1];
}

/* One row, columns k0 .. k0 + kc, a multiple of the group's. */
INLINE float codes_row(const gr_mat *m, row_format f, const ordered_row *r, int64_t row, int64_t k0,
                       int64_t kc) {
    const int bits = row_bits(f), block = CODES_BLOCK(bits),
              width = row_is_micro(f)      ? 1
                      : m->dtype == GR_F32 ? 4
                                           : 2;
    const char *codes = (const char *)m->data + (row * m->cols + k0) * bits / 8;
    const int64_t first = (row * m->cols + k0) / m->group, groups = kc / m->group;
    const __m128i shift = _mm_cvtsi32_si128(__builtin_ctz((unsigned)m->group));
    const __m512i lanes =
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                           _mm512_set1_epi32(block / 16));
    const __m512i table = code_table(f == ROW_CODES8 ? ROW_CODES4 : f, 1), high = code_table(ROW_CODES4, 16);
    __m512 sum = _mm512_setzero_ps(), biased = _mm512_setzero_ps();
    int64_t k = 0;
    for (int64_t g = 0; g < groups; g += 16) { /* sixteen groups' scales at a time: a multiple of a block */
        int n = (int)gr_min_i64(16, groups - g);
        _mm_prefetch((const char *)m->scales + (first + g) * width + VEC_AHEAD_SB, _MM_HINT_T0);
        __m512 scale = row_is_micro(f) ? micro_scales16(m->scales, f, first + g, n)
                                       : scales16(m->scales, m->dtype, first + g, n);
        if (!row_is_micro(f)) {
            _mm_prefetch((const char *)m->biases + (first + g) * width + VEC_AHEAD_SB, _MM_HINT_T0);
            biased = _mm512_fmadd_ps(scales16(m->biases, m->dtype, first + g, n), _mm512_loadu_ps(r->sum + g),
                                     biased);
        }
        __m512i at = lanes; /* columns behind the first of these groups */
        for (int64_t end = gr_min_i64(kc, (g + 16) * m->group); k < end; k += block, codes += 64) {
            __m512i c = kc - k >= block
                            ? _mm512_loadu_si512(codes)
                            : _mm512_maskz_loadu_epi32((__mmask16)((1u << (kc - k) * bits / 32) - 1), codes);
            _mm_prefetch(codes + VEC_AHEAD, _MM_HINT_T0);
            __m512 each = _mm512_permutexvar_ps(_mm512_srl_epi32(at, shift), scale);
            sum = _mm512_fmadd_ps(dot_words(c, r->x + k, bits, table, high), each, sum);
            at = _mm512_add_epi32(at, _mm512_set1_epi32(block));
        }
    }
    return _mm512_reduce_add_ps(sum + biased);
}

INLINE void matvec_table(float *y, const gr_mat *m, row_format f, const uint16_t *x, int64_t row0,
                         int64_t nrows) {
    ordered_row r;
    for (int64_t k0 = 0; k0 < m->cols; k0 += CODES_K) {
        int64_t kc = gr_min_i64(CODES_K, m->cols - k0);
        order_x(&r, x + k0, kc, row_bits(f), m->group);
        for (int64_t row = row0; row < row0 + nrows; row++) {
            float sum = codes_row(m, f, &r, row, k0, kc);
            y[row] = k0 ? y[row] + sum : sum;
        }
    }
}

#endif
