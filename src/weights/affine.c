#include "weights/affine.h"
#include <math.h>

bool gr_affine_valid(int bits, int group) {
    bool good_bits = (bits >= 2 && bits <= 6) || bits == 8;
    return good_bits && (group == 32 || group == 64 || group == 128);
}

int64_t gr_affine_row_bytes(int64_t cols, int bits) {
    return cols / 8 * bits; /* eight codes are `bits` bytes; cols is a multiple of 32 */
}

/* Eight codes become `bits` bytes, first code lowest. */
static inline void pack8(uint8_t *out, const uint8_t *codes, int bits) {
    uint64_t word = 0;
    for (int k = 0; k < 8; k++) word |= (uint64_t)codes[k] << (k * bits);
    for (int b = 0; b < bits; b++) out[b] = (uint8_t)(word >> (8 * b));
}

static inline void unpack8(uint8_t *codes, const uint8_t *in, int bits) {
    uint64_t word = 0;
    for (int b = 0; b < bits; b++) word |= (uint64_t)in[b] << (8 * b);
    for (int k = 0; k < 8; k++) codes[k] = (uint8_t)((word >> (k * bits)) & ((1u << bits) - 1));
}

/* Smallest and largest of a group; eight lanes so that a compiler can use vectors. */
static void group_range(const float *w, int group, float *min, float *max) {
    float lo[8], hi[8];
    for (int k = 0; k < 8; k++) lo[k] = hi[k] = w[k];
    for (int i = 8; i < group; i += 8) {
        for (int k = 0; k < 8; k++) lo[k] = w[i + k] < lo[k] ? w[i + k] : lo[k];
        for (int k = 0; k < 8; k++) hi[k] = w[i + k] > hi[k] ? w[i + k] : hi[k];
    }
    *min = lo[0];
    *max = hi[0];
    for (int k = 1; k < 8; k++) {
        *min = lo[k] < *min ? lo[k] : *min;
        *max = hi[k] > *max ? hi[k] : *max;
    }
}

/* MLX's choice of scale and bias: zero is always representable, and the edge further from it is met exactly.
 */
static void group_parameters(float min, float max, float levels, float *scale, float *bias) {
    float s = (max - min) / levels, edge;
    if (!(s > 1e-7f)) s = 1e-7f;
    if (fabsf(min) > fabsf(max)) {
        edge = min;
    } else {
        edge = max;
        s = -s;
    }
    float q0 = rintf(edge / s);
    *bias = 0;
    if (q0 != 0) {
        s = edge / q0;
        *bias = edge;
    }
    *scale = s;
}

/* Codes of one group. Clamping before rounding gives the same code as after it, and makes the rounding by a
 * large constant (whose unit in the last place is 1) safe and fast. NaN becomes code 0. */
static void group_codes(uint8_t *codes, const float *w, int group, float levels, float scale, float bias) {
    for (int i = 0; i < group; i++) {
        float x = (w[i] - bias) / scale;
        x = x > 0 ? x : 0;
        x = x < levels ? x : levels;
        x += 0x1.8p23f;
        uint32_t word;
        memcpy(&word, &x, 4);
        codes[i] = (uint8_t)word;
    }
}

void gr_affine_quantize(uint8_t *codes, void *scales, void *biases, const float *w, int64_t rows,
                        int64_t cols, int bits, int group, gr_dtype dtype) {
    float levels = (float)((1 << bits) - 1);
    uint8_t group_code[128];
    int64_t groups = rows * (cols / group);
    for (int64_t g = 0; g < groups; g++, w += group) {
        float min, max, scale, bias;
        group_range(w, group, &min, &max);
        group_parameters(min, max, levels, &scale, &bias);
        group_codes(group_code, w, group, levels, scale, bias);
        gr_float_put(scales, g, scale, dtype);
        gr_float_put(biases, g, bias, dtype);
        for (int i = 0; i < group; i += 8, codes += bits) pack8(codes, group_code + i, bits);
    }
}

void gr_affine_requantize(uint8_t *codes, void *scales, void *biases, const float *w, const float *before,
                          int64_t cols, int bits, int group, gr_dtype dtype) {
    const size_t element = gr_dtype_bytes(dtype);
    for (int64_t g = 0; g < cols / group; g++) {
        const float *own = w + g * group;
        if (memcmp(own, before + g * group, (size_t)group * sizeof *own) == 0) continue;
        gr_affine_quantize(codes + g * group * bits / 8, (char *)scales + (size_t)g * element,
                           (char *)biases + (size_t)g * element, own, 1, group, bits, group, dtype);
    }
}

void gr_affine_dequantize(float *w, const uint8_t *codes, const void *scales, const void *biases,
                          int64_t rows, int64_t cols, int bits, int group, gr_dtype dtype) {
    int64_t groups = rows * (cols / group);
    for (int64_t g = 0; g < groups; g++) {
        float scale = gr_float_at(scales, g, dtype), bias = gr_float_at(biases, g, dtype);
        for (int i = 0; i < group; i += 8, codes += bits, w += 8) {
            uint8_t eight[8];
            unpack8(eight, codes, bits);
            for (int k = 0; k < 8; k++) w[k] = scale * (float)eight[k] + bias;
        }
    }
}

uint32_t gr_affine_code(const uint8_t *row, int64_t i, int bits) {
    int64_t at = i * bits;
    uint32_t word = row[at / 8];
    if (at % 8 + bits > 8) word |= (uint32_t)row[at / 8 + 1] << 8; /* only then does the row have that byte */
    return word >> (at % 8) & ((1u << bits) - 1);
}
