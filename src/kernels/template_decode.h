/* kernels/template_decode.h - stored weights to f32, vectorized. Included once per isa_*.c.
 * The values equal gr_mat_row's bit for bit: multiply, then add, never fused.
 */
#ifndef GR_KERNELS_TEMPLATE_DECODE_H
#define GR_KERNELS_TEMPLATE_DECODE_H
#include "kernels/stored.h"
#include "kernels/vec.h"

/* The bits * 8 bits at p in whole loads: bytes stored one by one would stall the load that follows. */
INLINE uint64_t decode_word(const uint8_t *p, int bits) {
    uint64_t all;
    uint32_t four;
    uint16_t two;
    if (bits == 8) {
        memcpy(&all, p, 8);
        return all;
    }
    if (bits < 4) {
        memcpy(&two, p, 2);
        return bits == 3 ? two | (uint64_t)p[2] << 16 : two;
    }
    memcpy(&four, p, 4);
    if (bits == 5) return four | (uint64_t)p[4] << 32;
    if (bits == 6) memcpy(&two, p + 4, 2);
    return bits == 6 ? four | (uint64_t)two << 32 : four;
}

/* n codes of one group from code number col on: out = code * scale + bias. Eight codes are `bits` bytes. */
INLINE void decode_group(float *out, const uint8_t *row, int64_t col, int64_t n, int bits, float scale,
                         float bias) {
    typedef uint32_t u8x32 __attribute__((vector_size(32)));
    typedef float f8x32 __attribute__((vector_size(32)));
    const uint32_t b = (uint32_t)bits;
    const bool short_code = bits <= 4; /* eight codes fit one 32-bit word, else four do */
    const u8x32 shift = short_code ? (u8x32){0, b, 2 * b, 3 * b, 4 * b, 5 * b, 6 * b, 7 * b}
                                   : (u8x32){0, b, 2 * b, 3 * b, 0, b, 2 * b, 3 * b};
    int64_t i = 0;
    if ((col & 7) == 0)
        for (; i + 8 <= n; i += 8) {
            uint64_t word = decode_word(row + (col + i) / 8 * bits, bits);
            uint32_t lo = (uint32_t)word, hi = short_code ? lo : (uint32_t)(word >> 4 * bits);
            u8x32 code = ((u8x32){lo, lo, lo, lo, hi, hi, hi, hi} >> shift) & ((1u << bits) - 1);
            typedef int32_t i8x32 __attribute__((vector_size(32)));
            f8x32 v = __builtin_convertvector((i8x32)code, f8x32) * scale + bias;
            memcpy(out + i, &v, sizeof v);
        }
    for (; i < n; i++) out[i] = (float)stored_code(row, col + i, bits) * scale + bias;
}

static void decode_affine(float *out, const gr_mat *m, int64_t row, int64_t col, int64_t n) {
    const uint8_t *codes = (const uint8_t *)m->data + row * (m->cols * m->bits / 8);
    int64_t groups = m->cols / m->group;
    while (n > 0) {
        int64_t g = col / m->group, take = gr_min_i64(n, (g + 1) * m->group - col);
        float scale = stored_float(m->scales, row * groups + g, m->dtype);
        float bias = stored_float(m->biases, row * groups + g, m->dtype);
        switch (m->bits) {
        case 2: decode_group(out, codes, col, take, 2, scale, bias); break;
        case 3: decode_group(out, codes, col, take, 3, scale, bias); break;
        case 4: decode_group(out, codes, col, take, 4, scale, bias); break;
        case 5: decode_group(out, codes, col, take, 5, scale, bias); break;
        case 6: decode_group(out, codes, col, take, 6, scale, bias); break;
        default: decode_group(out, codes, col, take, 8, scale, bias); break;
        }
        out += take;
        col += take;
        n -= take;
    }
}

/* Sixteen values of a group at a time for 4 bits; 8 bits are shifted into place. */
static void decode_micro(float *out, const gr_mat *m, int64_t row, int64_t col, int64_t n) {
    const uint8_t *codes = (const uint8_t *)m->data + row * (m->cols * m->bits / 8);
    int64_t groups = m->cols / m->group;
    while (n > 0) {
        int64_t g = col / m->group, take = gr_min_i64(n, (g + 1) * m->group - col);
        float scale = stored_micro_scale(m, row * groups + g), value[16];
        if (m->bits == 4) {
            for (uint32_t c = 0; c < 16; c++) value[c] = gr_e2m1_to_f32(c) * scale;
            int64_t i = 0;
            if ((col & 1) == 0)
                for (const uint8_t *byte = codes + col / 2; i + 2 <= take; i += 2, byte++) {
                    out[i] = value[*byte & 15];
                    out[i + 1] = value[*byte >> 4];
                }
            for (; i < take; i++) out[i] = value[stored_code(codes, col + i, 4)];
        } else {
            for (int64_t i = 0; i < take; i++) out[i] = gr_e4m3_to_f32(codes[col + i]) * scale;
        }
        out += take;
        col += take;
        n -= take;
    }
}

static void decode_dense(float *out, const void *data, gr_dtype dtype, int64_t n) {
    const uint16_t *half = data;
    int64_t i = 0;
    if (dtype == GR_F32) {
        memcpy(out, data, (size_t)n * 4);
        return;
    }
    if (dtype == GR_BF16)
        for (; i + VL <= n; i += VL) v_store(out + i, v_from_bf16(half + i));
    else
        for (; i + VL <= n; i += VL) v_store(out + i, v_from_f16(half + i));
    for (; i < n; i++) out[i] = stored_float(data, i, dtype);
}

/* out[n] = elements [row, col .. col+n) of m, alpha applied. */
static void decode_row(float *out, const gr_mat *m, int64_t row, int64_t col, int64_t n) {
    if (m->layout == GR_DENSE)
        decode_dense(out, (const char *)m->data + (row * m->ld + col) * (m->dtype == GR_F32 ? 4 : 2),
                     m->dtype, n);
    else if (m->layout == GR_AFFINE)
        decode_affine(out, m, row, col, n);
    else
        decode_micro(out, m, row, col, n);
    if (m->alpha != 1.0f)
        for (int64_t i = 0; i < n; i++) out[i] *= m->alpha;
}

#endif
