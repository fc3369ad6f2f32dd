/* kernels/stored.h - one number of a stored matrix, whatever its type and alignment. */
#ifndef GR_KERNELS_STORED_H
#define GR_KERNELS_STORED_H
#include "kernels/kernels.h"

/* Element number i of an array of F32, BF16 or F16. */
static inline float stored_float(const void *p, int64_t i, gr_dtype dtype) {
    const char *at = (const char *)p + i * (dtype == GR_F32 ? 4 : 2);
    if (dtype == GR_F32) {
        float f;
        memcpy(&f, at, 4);
        return f;
    }
    uint16_t h;
    memcpy(&h, at, 2);
    return dtype == GR_BF16 ? gr_bf16_to_f32(h) : gr_f16_to_f32(h);
}

/* Code number i of a packed row; reads only the bytes it lies in. */
static inline uint32_t stored_code(const uint8_t *row, int64_t i, int bits) {
    int64_t at = i * bits;
    uint32_t low = (uint32_t)(at & 7), v = row[at >> 3] >> low;
    if ((int)low + bits > 8) v |= (uint32_t)row[(at >> 3) + 1] << (8 - low);
    return v & ((1u << bits) - 1);
}

/* Scale number i of a GR_MICRO matrix, and what a code of it means. */
static inline float stored_micro_scale(const gr_mat *m, int64_t i) {
    uint8_t code = ((const uint8_t *)m->scales)[i];
    return m->group == 16 ? gr_e4m3_to_f32(code) : gr_e8m0_to_f32(code);
}
static inline float stored_micro_value(uint32_t code, int bits) {
    return bits == 4 ? gr_e2m1_to_f32(code) : gr_e4m3_to_f32(code);
}

#endif
