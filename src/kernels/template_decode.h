/* kernels/template_decode.h - stored weights to f32, vectorized. Included once per isa_*.c.
 * The values equal gr_mat_row's: multiply, then add, never fused.
 */
#ifndef GR_KERNELS_TEMPLATE_DECODE_H
#define GR_KERNELS_TEMPLATE_DECODE_H
#include "kernels/template_codes.h"

/* A stored format, as the constant of what is compiled for it: affine of so many bits, or one of the small
 * floats. */
typedef enum code_format {
    AFFINE2 = 2,
    AFFINE3 = 3,
    AFFINE4 = 4,
    AFFINE5 = 5,
    AFFINE6 = 6,
    AFFINE8 = 8,
    MICRO4 = 16 | 4,
    MICRO8 = 16 | 8
} code_format;

INLINE code_format code_format_of(const gr_mat *m) {
    return (code_format)((m->layout == GR_MX ? 16 : 0) | m->bits);
}
INLINE int code_bits(code_format format) {
    return (int)format & 15;
}
#define CODE_FORMATS(X) X(AFFINE2) X(AFFINE3) X(AFFINE4) X(AFFINE5) X(AFFINE6) X(AFFINE8) X(MICRO4) X(MICRO8)

INLINE int group_shift(const gr_mat *m) { /* groups are powers of two */
    return __builtin_ctz((unsigned)m->group);
}
INLINE const uint8_t *code_row(const gr_mat *m, int64_t row, int bits) {
    return (const uint8_t *)m->data + row * (m->cols / 8 * bits);
}

/* Vector number v of the block of 32 elements at p; scale and bias (affine alone) of its group. */
INLINE vf decode_vector(const uint8_t *p, code_format format, int v, float scale, float bias) {
    int bits = code_bits(format);
    if (format == MICRO8) return e4m3_float(p + v * VL) * scale;
    if (format == MICRO4) return e2m1_float(p, v) * scale;
#if defined(__AVX512F__) && VL == 16
    if (bits <= 4) { /* through a table of the group's values; its index is the low four bits */
        vf code = __builtin_convertvector((vi)(v_lanes() & ((1u << bits) - 1)), vf);
        return _mm512_permutexvar_ps((__m512i)codes_loose(p, bits, v), code * scale + bias);
    }
#endif
    return codes_float(p, bits, v) * scale + bias;
}

#define SCALES_MOST 32

/* The scales and biases of n groups of a row from group g on, n <= SCALES_MOST. */
INLINE void row_scales(float *scale, float *bias, const gr_mat *m, code_format format, int64_t row, int64_t g,
                       int64_t n) {
    int64_t at = row * (m->cols >> group_shift(m)) + g;
    if (format & 16) {
        micro_scales(scale, m, at, n);
    } else {
        affine_scales(scale, m->scales, m->dtype, at, n);
        affine_scales(bias, m->biases, m->dtype, at, n);
    }
}

/* out[n] = elements [row, col .. col+n), col and n multiples of 32. */
INLINE void decode_blocks(float *out, const gr_mat *m, code_format format, int64_t row, int64_t col,
                          int64_t n) {
    const int bits = code_bits(format), shift = group_shift(m);
    const uint8_t *p = code_row(m, row, bits) + col / 8 * bits;
    float scale[SCALES_MOST], bias[SCALES_MOST];
    while (n > 0) {
        int64_t g = col >> shift, take = gr_min_i64(n, ((g + SCALES_MOST) << shift) - col);
        row_scales(scale, bias, m, format, row, g, ((col + take - 1) >> shift) - g + 1);
        for (int64_t i = 0; i < take; i += 32, p += 4 * bits, out += 32) {
            int64_t at = ((col + i) >> shift) - g, next = ((col + i + 16) >> shift) - g;
            UNROLL
            for (int v = 0; v < 32 / VL; v++) {
                int64_t j = v * VL < 16 ? at : next;
                v_store(out + v * VL, decode_vector(p, format, v, scale[j], bias[j]));
            }
        }
        col += take;
        n -= take;
    }
}

/* Elements one by one: what is left of a block, or before its start. */
static void decode_scalar(float *out, const gr_mat *m, int64_t row, int64_t col, int64_t n) {
    const uint8_t *codes = code_row(m, row, m->bits);
    const int64_t shift = group_shift(m), groups = m->cols >> shift;
    for (int64_t i = 0; i < n; i++) {
        int64_t g = row * groups + ((col + i) >> shift);
        uint32_t code = stored_code(codes, col + i, m->bits);
        out[i] = m->layout == GR_MX ? stored_micro_value(code, m->bits) * stored_micro_scale(m, g)
                                    : (float)code * stored_float(m->scales, g, m->dtype) +
                                          stored_float(m->biases, g, m->dtype);
    }
}

static void decode_coded(float *out, const gr_mat *m, int64_t row, int64_t col, int64_t n) {
    int64_t head = gr_min_i64(n, -col & 31), body = (n - head) & ~(int64_t)31;
    if (head) decode_scalar(out, m, row, col, head);
    out += head, col += head;
    switch (code_format_of(m)) {
#define X(f)                                                                                                 \
    case f: decode_blocks(out, m, f, row, col, body); break;
        CODE_FORMATS(X)
#undef X
    }
    if (head + body < n) decode_scalar(out + body, m, row, col + body, n - head - body);
}

/* Vector i of a dense array. */
INLINE vf decode_element(const void *data, gr_dtype dtype, int64_t i) {
    const char *p = (const char *)data + i * (dtype == GR_F32 ? 4 : 2);
    if (dtype == GR_F32) {
        vf v;
        memcpy(&v, p, sizeof v);
        return v;
    }
    const uint16_t *half = (const uint16_t *)(const void *)p;
    return dtype == GR_BF16 ? v_from_bf16(half) : v_from_f16(half);
}

static void decode_dense(float *out, const void *data, gr_dtype dtype, int64_t n) {
    int64_t i = 0;
    if (dtype == GR_F32) {
        memcpy(out, data, (size_t)n * 4);
        return;
    }
    if (dtype == GR_BF16)
        for (; i + VL <= n; i += VL) v_store(out + i, decode_element(data, GR_BF16, i));
    else
        for (; i + VL <= n; i += VL) v_store(out + i, decode_element(data, GR_F16, i));
    for (; i < n; i++) out[i] = stored_float(data, i, dtype);
}

/* out[n] = elements [row, col .. col+n) of m, alpha applied. */
static void decode_row(float *out, const gr_mat *m, int64_t row, int64_t col, int64_t n) {
    if (m->layout == GR_DENSE)
        decode_dense(out, (const char *)m->data + (row * m->ld + col) * (m->dtype == GR_F32 ? 4 : 2),
                     m->dtype, n);
    else
        decode_coded(out, m, row, col, n);
    if (m->alpha != 1.0f)
        for (int64_t i = 0; i < n; i++) out[i] *= m->alpha;
}

#endif
