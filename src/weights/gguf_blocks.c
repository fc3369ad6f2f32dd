#include "weights/gguf_blocks.h"

/* Elements of the largest block, and its groups of 32. */
#define BLOCK_MAX  256
#define GROUPS_MAX (BLOCK_MAX / GR_GGUF_GROUP)

/* One block as affine groups: value = scale * code + bias. */
typedef struct affine_block {
    uint8_t codes[BLOCK_MAX];
    float scale[GROUPS_MAX], bias[GROUPS_MAX];
} affine_block;

static float half_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return gr_f16_to_f32(h);
}

static void block_shape(gr_gguf_type type, int64_t *elements, size_t *bytes) {
    switch (type) {
#define X(name, number, per_block, block_bytes)                                                              \
    case GR_GGUF_##name: *elements = per_block, *bytes = block_bytes; return;
        GR_GGUF_TYPE_MAP(X)
#undef X
    }
    *elements = 1;
    *bytes = 1;
}

int gr_gguf_affine_bits(gr_gguf_type type) {
    switch (type) {
    case GR_GGUF_Q4_0:
    case GR_GGUF_Q4_1:
    case GR_GGUF_Q4_K: return 4;
    case GR_GGUF_Q5_0:
    case GR_GGUF_Q5_1:
    case GR_GGUF_Q5_K: return 5;
    case GR_GGUF_Q8_0: return 8;
    default: return 0;
    }
}

/* ---- blocks of affine groups */

/* n bytes hold 2n codes: the low nibbles are the first n, the high nibbles the rest. */
static void split_nibbles(uint8_t *codes, const uint8_t *in, int n) {
    for (int j = 0; j < n; j++) {
        codes[j] = in[j] & 15;
        codes[j + n] = in[j] >> 4;
    }
}

/* Bit j of a little-endian word is bit 4 of code j. */
static void add_fifth_bits(uint8_t *codes, const uint8_t *in) {
    for (int j = 0; j < 32; j++) codes[j] |= (uint8_t)(((in[j / 8] >> (j % 8)) & 1) << 4);
}

/* Eight 6-bit scales and eight 6-bit minima in 12 bytes: the first four of each lie in the low six bits of
 * bytes 0-3 and 4-7, whose upper two bits top the nibbles of bytes 8-11 that are the last four. */
static void k_scales(const uint8_t *in, uint8_t scale[8], uint8_t min[8]) {
    for (int i = 0; i < 4; i++) {
        scale[i] = in[i] & 63;
        min[i] = in[4 + i] & 63;
        scale[4 + i] = (uint8_t)((in[8 + i] & 15) | (in[i] >> 6) << 4);
        min[4 + i] = (uint8_t)(in[8 + i] >> 4 | (in[4 + i] >> 6) << 4);
    }
}

/* Q4_K and Q5_K: d, dmin, scales, [fifth bits,] nibbles. */
static void unpack_k(affine_block *b, const uint8_t *in, bool five) {
    float d = half_at(in), dmin = half_at(in + 2);
    uint8_t scale[8], min[8];
    const uint8_t *high = in + 16, *nibbles = five ? high + 32 : high;
    k_scales(in + 4, scale, min);
    for (int g = 0; g < 8; g++) {
        b->scale[g] = d * (float)scale[g];
        b->bias[g] = -(dmin * (float)min[g]);
    }
    for (int c = 0; c < 4; c++) split_nibbles(b->codes + 64 * c, nibbles + 32 * c, 32);
    for (int e = 0; five && e < BLOCK_MAX; e++)
        b->codes[e] |= (uint8_t)(((high[e % 32] >> (e / 32)) & 1) << 4);
}

static void unpack_affine(affine_block *b, const uint8_t *in, gr_gguf_type type) {
    switch (type) {
    case GR_GGUF_Q4_0:
        b->scale[0] = half_at(in);
        b->bias[0] = -8 * b->scale[0];
        split_nibbles(b->codes, in + 2, 16);
        break;
    case GR_GGUF_Q4_1:
        b->scale[0] = half_at(in);
        b->bias[0] = half_at(in + 2);
        split_nibbles(b->codes, in + 4, 16);
        break;
    case GR_GGUF_Q5_0:
        b->scale[0] = half_at(in);
        b->bias[0] = -16 * b->scale[0];
        split_nibbles(b->codes, in + 6, 16);
        add_fifth_bits(b->codes, in + 2);
        break;
    case GR_GGUF_Q5_1:
        b->scale[0] = half_at(in);
        b->bias[0] = half_at(in + 2);
        split_nibbles(b->codes, in + 8, 16);
        add_fifth_bits(b->codes, in + 4);
        break;
    case GR_GGUF_Q8_0:
        b->scale[0] = half_at(in);
        b->bias[0] = -128 * b->scale[0];
        for (int j = 0; j < 32; j++) b->codes[j] = (uint8_t)(in[2 + j] + 128); /* int8 -128..127 -> 0..255 */
        break;
    case GR_GGUF_Q4_K: unpack_k(b, in, false); break;
    case GR_GGUF_Q5_K: unpack_k(b, in, true); break;
    default: break;
    }
}

static bool is_half(float value) {
    return gr_f16_to_f32(gr_f32_to_f16(value)) == value && value - value == 0;
}

gr_dtype gr_gguf_affine_dtype(const uint8_t *blocks, gr_gguf_type type, int64_t count) {
    affine_block b;
    int64_t elements;
    size_t bytes;
    block_shape(type, &elements, &bytes);
    for (int64_t i = 0; i < count; i += elements, blocks += bytes) {
        unpack_affine(&b, blocks, type);
        for (int g = 0; g < elements / GR_GGUF_GROUP; g++)
            if (!is_half(b.scale[g]) || !is_half(b.bias[g])) return GR_F32;
    }
    return GR_F16;
}

/* Eight codes become `bits` bytes, first code lowest. */
static void pack(uint8_t *out, const uint8_t *codes, int64_t n, int bits) {
    for (int64_t i = 0; i < n; i += 8, out += bits) {
        uint64_t word = 0;
        for (int k = 0; k < 8; k++) word |= (uint64_t)codes[i + k] << (k * bits);
        for (int byte = 0; byte < bits; byte++) out[byte] = (uint8_t)(word >> (8 * byte));
    }
}

void gr_gguf_to_affine(uint8_t *codes, void *scales, void *biases, const uint8_t *blocks, gr_gguf_type type,
                       int64_t count, gr_dtype dtype) {
    affine_block b;
    int bits = gr_gguf_affine_bits(type);
    int64_t elements, group = 0;
    size_t bytes;
    block_shape(type, &elements, &bytes);
    for (int64_t i = 0; i < count; i += elements, blocks += bytes, codes += elements * bits / 8) {
        unpack_affine(&b, blocks, type);
        pack(codes, b.codes, elements, bits);
        for (int g = 0; g < elements / GR_GGUF_GROUP; g++, group++) {
            gr_float_put(scales, group, b.scale[g], dtype);
            gr_float_put(biases, group, b.bias[g], dtype);
        }
    }
}

/* ---- blocks with groups of 16 or 256 */

/* Q2_K: 16 bytes of (scale, min) nibbles, 64 bytes of 2-bit codes, d, dmin. */
static void dequantize_q2_k(float *out, const uint8_t *in) {
    const uint8_t *codes = in + 16;
    float d = half_at(in + 80), dmin = half_at(in + 82);
    for (int e = 0; e < 256; e++) {
        int half = e / 128, shift = e % 128 / 32 * 2;
        float scale = d * (float)(in[e / 16] & 15), min = dmin * (float)(in[e / 16] >> 4);
        out[e] = scale * (float)((codes[32 * half + e % 32] >> shift) & 3) - min;
    }
}

/* Q3_K: 32 bytes of third bits (a clear bit subtracts 4), 64 bytes of 2-bit codes, 16 scales of 6 bits, d. */
static void dequantize_q3_k(float *out, const uint8_t *in) {
    const uint8_t *third = in, *codes = in + 32, *scales = in + 96;
    float d = half_at(in + 108), scale[16];
    for (int i = 0; i < 16; i++) {
        int low = i < 8 ? scales[i] & 15 : scales[i - 8] >> 4, high = (scales[8 + i % 4] >> (i / 4 * 2)) & 3;
        scale[i] = d * (float)((low | high << 4) - 32);
    }
    for (int e = 0; e < 256; e++) {
        int half = e / 128, shift = e % 128 / 32 * 2;
        int code = (codes[32 * half + e % 32] >> shift) & 3;
        if (!((third[e % 32] >> (e / 32)) & 1)) code -= 4;
        out[e] = scale[e / 16] * (float)code;
    }
}

/* Q6_K: 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 int8 scales, d. */
static void dequantize_q6_k(float *out, const uint8_t *in) {
    const uint8_t *low = in, *high = in + 128, *scales = in + 192;
    float d = half_at(in + 208);
    for (int e = 0; e < 256; e++) {
        int half = e / 128, r = e % 128;
        int nibble = (low[64 * half + r % 64] >> (r / 64 * 4)) & 15,
            pair = (high[32 * half + r % 32] >> (r / 32 * 2)) & 3;
        out[e] = d * (float)(int8_t)scales[e / 16] * (float)((nibble | pair << 4) - 32);
    }
}

/* Q8_K: d as f32, 256 int8 codes (the sums that follow only speed up dot products). */
static void dequantize_q8_k(float *out, const uint8_t *in) {
    float d;
    memcpy(&d, in, 4);
    for (int e = 0; e < 256; e++) out[e] = d * (float)(int8_t)in[4 + e];
}

void gr_gguf_dequantize(float *out, const uint8_t *blocks, gr_gguf_type type, int64_t count) {
    affine_block b;
    uint16_t half;
    int64_t elements;
    size_t bytes;
    block_shape(type, &elements, &bytes);
    for (int64_t i = 0; i < count; i += elements, blocks += bytes, out += elements) {
        switch (type) {
        case GR_GGUF_F32: memcpy(out, blocks, 4); break;
        case GR_GGUF_F16: *out = half_at(blocks); break;
        case GR_GGUF_BF16:
            memcpy(&half, blocks, 2);
            *out = gr_bf16_to_f32(half);
            break;
        case GR_GGUF_Q2_K: dequantize_q2_k(out, blocks); break;
        case GR_GGUF_Q3_K: dequantize_q3_k(out, blocks); break;
        case GR_GGUF_Q6_K: dequantize_q6_k(out, blocks); break;
        case GR_GGUF_Q8_K: dequantize_q8_k(out, blocks); break;
        default:
            unpack_affine(&b, blocks, type);
            for (int64_t e = 0; e < elements; e++)
                out[e] = b.scale[e / GR_GGUF_GROUP] * (float)b.codes[e] + b.bias[e / GR_GGUF_GROUP];
        }
    }
}
