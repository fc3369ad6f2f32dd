/* kernels/template_dot.h - rows of a stored matrix times one row of f32, as generation needs it. Included
 * once per isa_*.c.
 *
 * Nothing is decoded: sum((scale * code + bias) * x) is scale * sum(code * x) + bias * sum(x), and the sums
 * of x are the same for every row. A 4-bit pair is one byte, e + 16 o: its products with xe and xo are byte *
 * xo / 16 + e * (xe - xo / 16), so x is brought into that form first and a vector of codes costs three
 * instructions.
 */
#ifndef GR_KERNELS_TEMPLATE_DOT_H
#define GR_KERNELS_TEMPLATE_DOT_H
#include "kernels/template_decode.h"

#define DOT_K     4096 /* columns of one pass: their x is 16 KB of f32, half of a small L1 */
#define DOT_CHUNK 512  /* scales converted at a time: those of several short rows together */

/* What a pass knows of its columns [k0, k0+n) before it sees a row. */
typedef struct dot_pass {
    const gr_mat *m;
    int64_t k0, n, g0, groups;
    float *x;                                                /* [n], in the order of the codes */
    float sum[DOT_K / 32 + VL] __attribute__((aligned(64))); /* of x by group, then zeros */
    float scale[DOT_CHUNK + VL] __attribute__((aligned(64))),
        bias[DOT_CHUNK + VL] __attribute__((aligned(64)));
} dot_pass;

INLINE vf dot_even(vf a, vf b) {
#if VL == 16
    const vi at = (vi)v_lanes() * 2;
    return _mm512_permutex2var_ps(a, (__m512i)at, b);
#elif VL == 8
    return SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
#else
    return SHUFFLE(a, b, 0, 2, 4, 6);
#endif
}
INLINE vf dot_odd(vf a, vf b) {
#if VL == 16
    const vi at = (vi)v_lanes() * 2 + 1;
    return _mm512_permutex2var_ps(a, (__m512i)at, b);
#elif VL == 8
    return SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    return SHUFFLE(a, b, 1, 3, 5, 7);
#endif
}

/* 32 numbers x to what e is multiplied with (16 of them), then the byte. */
INLINE void dot_order4(float *x) {
    vf v[32 / VL];
    UNROLL
    for (int i = 0; i < 32 / VL; i++) v[i] = v_load(x + i * VL);
    UNROLL
    for (int i = 0; i < 16 / VL; i++) {
        vf odd = dot_odd(v[2 * i], v[2 * i + 1]) * 0.0625f;
        v_store(x + i * VL, dot_even(v[2 * i], v[2 * i + 1]) - odd);
        v_store(x + 16 + i * VL, odd);
    }
}

static void dot_prepare(dot_pass *p) {
    const gr_mat *m = p->m;
    if (m->layout != GR_AFFINE) return;
    for (int64_t g = 0; g < p->groups; g++) {
        const float *x = p->x + g * m->group;
        vf sum = {0};
        for (int i = 0; i < m->group; i += VL) sum += v_load(x + i);
        p->sum[g] = v_sum(sum);
    }
    for (int i = 0; i < VL; i++) p->sum[p->groups + i] = 0;
    if (m->bits == 4)
        for (int64_t i = 0; i < p->n; i += 32) dot_order4(p->x + i);
}

INLINE vf dot_codes(const uint8_t *p, code_format format, int v) {
    if (format == MICRO8) return e4m3_small(p + v * VL);
    if (format == MICRO4) return e2m1_float(p, v);
    return codes_float(p, code_bits(format), v);
}

/* One group: codes at `p`, `blocks` of 32. */
INLINE vf dot_group(const uint8_t *p, const float *x, code_format format, int blocks) {
    const int bits = code_bits(format);
    vf even = {0}, odd = {0};
    UNROLL
    for (int b = 0; b < blocks; b++, p += 4 * bits, x += 32) {
        UNROLL
        for (int v = 0; v < 16 / VL; v++) {
            vf a, c;
            if (format == AFFINE4) {
                vu byte = v_bytes(p + v * VL);
                a = __builtin_convertvector((vi)(byte & 15), vf);
                c = __builtin_convertvector((vi)byte, vf);
            } else {
                a = dot_codes(p, format, v);
                c = dot_codes(p, format, v + 16 / VL);
            }
            even = v_fma(a, v_load(x + v * VL), even);
            odd = v_fma(c, v_load(x + 16 + v * VL), odd);
        }
    }
    return format == MICRO8 ? (even + odd) * 256.0f : even + odd;
}

/* mxfp4's sibling with a scale for 16: both halves of a block. */
INLINE vf dot_halves(const uint8_t *p, const float *x, const float *scale) {
    vf sum = {0};
    UNROLL
    for (int v = 0; v < 32 / VL; v++)
        sum = v_fma(e2m1_float(p, v) * v_set1(scale[v * VL / 16]), v_load(x + v * VL), sum);
    return sum;
}

/* One row of the pass; scale, bias: of its groups, readable for VL beyond. blocks: 32s of a group, 0 for
 * halves. */
INLINE float dot_row(const dot_pass *p, const uint8_t *codes, const float *scale, const float *bias,
                     code_format format, int blocks) {
    const int bits = code_bits(format);
    vf sum[2] = {{0}, {0}};
    float rest = 0;
    if (!blocks) {
        int64_t g = 0;
        for (; g + 2 <= p->groups; g += 2, codes += 4 * bits)
            sum[g >> 1 & 1] += dot_halves(codes, p->x + g * 16, scale + g);
        if (g < p->groups) { /* half a block: too short for whole loads */
            for (int i = 0; i < 16; i++)
                rest += stored_micro_value(stored_code(codes, i, 4), 4) * p->x[g * 16 + i];
            rest *= scale[g];
        }
    } else {
        const float *x = p->x;
        int64_t g = 0;
        for (; g + 2 <= p->groups; g += 2, codes += 8 * bits * blocks, x += 64 * blocks) {
            sum[0] = v_fma(v_set1(scale[g]), dot_group(codes, x, format, blocks), sum[0]);
            sum[1] = v_fma(v_set1(scale[g + 1]),
                           dot_group(codes + 4 * bits * blocks, x + 32 * blocks, format, blocks), sum[1]);
        }
        if (g < p->groups) sum[0] = v_fma(v_set1(scale[g]), dot_group(codes, x, format, blocks), sum[0]);
    }
    if (!(format & 16))
        for (int64_t g = 0; g < p->groups; g += VL) {
            vf b = v_between(v_load(bias + g), 0, 0, (int)gr_min_i64(VL, p->groups - g), 0);
            sum[1] = v_fma(b, v_load(p->sum + g), sum[1]);
        }
    return v_sum(sum[0] + sum[1]) + rest;
}

/* y[r] = or += the rows' products with the pass's x. */
INLINE void dot_rows(float *y, dot_pass *p, code_format format, int blocks, int64_t row0, int64_t nrows) {
    const gr_mat *m = p->m;
    const int64_t all = m->cols >> group_shift(m);
    const int64_t together = all == p->groups ? gr_max_i64(1, DOT_CHUNK / all) : 1;
    for (int64_t r = row0; r < row0 + nrows; r += together) {
        int64_t rows = gr_min_i64(together, row0 + nrows - r), n = rows > 1 ? rows * all : p->groups;
        if (format & 16) {
            micro_scales(p->scale, m, r * all + p->g0, n);
        } else {
            affine_scales(p->scale, m->scales, m->dtype, r * all + p->g0, n);
            affine_scales(p->bias, m->biases, m->dtype, r * all + p->g0, n);
        }
        for (int64_t i = 0; i < rows; i++) {
            const uint8_t *codes = code_row(m, r + i, code_bits(format)) + p->k0 / 8 * code_bits(format);
            float sum = dot_row(p, codes, p->scale + i * all, p->bias + i * all, format, blocks) * m->alpha;
            y[r + i] = p->k0 ? y[r + i] + sum : sum;
        }
    }
}

static void dot_coded(float *y, dot_pass *p, int64_t row0, int64_t nrows) {
    const gr_mat *m = p->m;
    p->g0 = p->k0 / m->group;
    p->groups = p->n / m->group;
    dot_prepare(p);
    switch (code_format_of(m)) {
#define X(f)                                                                                                 \
    case f:                                                                                                  \
        if (m->group == 32) dot_rows(y, p, f, 1, row0, nrows);                                               \
        if (m->group == 64) dot_rows(y, p, f, 2, row0, nrows);                                               \
        if (m->group == 128) dot_rows(y, p, f, 4, row0, nrows);                                              \
        if (f == MICRO4 && m->group == 16) dot_rows(y, p, f, 0, row0, nrows);                                \
        break;
        CODE_FORMATS(X)
#undef X
    }
}

INLINE float dot_dense(const void *data, gr_dtype dtype, const float *x, int64_t n) {
    vf sum[4] = {{0}, {0}, {0}, {0}};
    int64_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL) {
        UNROLL
        for (int j = 0; j < 4; j++)
            sum[j] = v_fma(decode_element(data, dtype, i + j * VL), v_load(x + i + j * VL), sum[j]);
    }
    for (; i + VL <= n; i += VL) sum[0] = v_fma(decode_element(data, dtype, i), v_load(x + i), sum[0]);
    float total = v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (; i < n; i++) total += stored_float(data, i, dtype) * x[i];
    return total;
}

static void dot_numbers(float *y, const dot_pass *p, int64_t row0, int64_t nrows) {
    const gr_mat *m = p->m;
    for (int64_t r = row0; r < row0 + nrows; r++) {
        const char *row = (const char *)m->data + (r * m->ld + p->k0) * (m->dtype == GR_F32 ? 4 : 2);
        float sum = m->dtype == GR_F32    ? dot_dense(row, GR_F32, p->x, p->n)
                    : m->dtype == GR_BF16 ? dot_dense(row, GR_BF16, p->x, p->n)
                                          : dot_dense(row, GR_F16, p->x, p->n);
        sum *= m->alpha;
        y[r] = p->k0 ? y[r] + sum : sum;
    }
}

#endif
