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

/* Eight codes, bits * 8 bits at p, in whole loads: bytes stored one by one would stall the load that follows.
 */
static inline uint64_t stored_eight(const uint8_t *p, int bits) {
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

/* Scale number i of a GR_MX matrix, and what a code of it means. */
static inline float stored_micro_scale(const gr_mat *m, int64_t i) {
    uint8_t code = ((const uint8_t *)m->scales)[i];
    return m->group == 16 ? gr_e4m3_to_f32(code) : gr_e8m0_to_f32(code);
}
static inline float stored_micro_value(uint32_t code, int bits) {
    return bits == 4 ? gr_e2m1_to_f32(code) : gr_e4m3_to_f32(code);
}

#endif
