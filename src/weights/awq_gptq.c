#include "weights/awq_gptq.h"
#include "weights/affine.h"

/* Where in a word AWQ keeps column 8 w + k. */
static const int awq_place[8] = {0, 4, 1, 5, 2, 6, 3, 7};

static uint32_t word_at(const uint8_t *words, int64_t i) {
    uint32_t word;
    memcpy(&word, words + 4 * i, 4);
    return word;
}

/* Field of column o in a row of words that are packed along the columns, after `add` to its word. */
static uint32_t along_columns(const gr_awq_gptq *c, const uint8_t *words, int64_t row, int64_t o,
                              uint32_t add) {
    int per = 32 / c->bits, k = (int)(o % per);
    uint32_t word = word_at(words, row * (c->out / per) + o / per) + add;
    return word >> c->bits * (c->awq ? awq_place[k] : k) & ((1u << c->bits) - 1);
}

static uint32_t code_at(const gr_awq_gptq *c, int64_t i, int64_t o) {
    int per = 32 / c->bits;
    if (c->awq) return along_columns(c, c->words, i, o, 0);
    return word_at(c->words, i / per * c->out + o) >> c->bits * (int)(i % per) & ((1u << c->bits) - 1);
}

static void group_of(const gr_awq_gptq *c, int64_t g, int64_t o, float *scale, float *bias) {
    uint16_t half;
    const uint8_t *at = c->scales + (size_t)(g * c->out + o) * gr_dtype_bytes(c->dtype);
    if (c->dtype == GR_F32) {
        memcpy(scale, at, 4);
    } else {
        memcpy(&half, at, 2);
        *scale = c->dtype == GR_F16 ? gr_f16_to_f32(half) : gr_bf16_to_f32(half);
    }
    int zero = c->zeros ? (int)along_columns(c, c->zeros, g, o, c->zero_add) : 1 << (c->bits - 1);
    *bias = -(float)zero * *scale;
}

void gr_awq_gptq_row(const gr_awq_gptq *c, int64_t o, uint8_t *codes, float *scales, float *biases) {
    memset(codes, 0, (size_t)gr_affine_row_bytes(c->in, c->bits));
    for (int64_t i = 0; i < c->in; i++) /* 4 or 8 bits: never across bytes */
        codes[i * c->bits / 8] |= (uint8_t)(code_at(c, i, o) << i * c->bits % 8);
    gr_awq_gptq_groups(c, o, scales, biases);
}

void gr_awq_gptq_groups(const gr_awq_gptq *c, int64_t o, float *scales, float *biases) {
    for (int64_t g = 0; g < c->in / c->group; g++) group_of(c, g, o, &scales[g], &biases[g]);
}

void gr_awq_gptq_values(const gr_awq_gptq *c, int64_t o, float *values) {
    for (int64_t g = 0; g < c->in / c->group; g++) {
        float scale, bias;
        group_of(c, g, o, &scale, &bias);
        for (int64_t i = g * c->group; i < (g + 1) * c->group; i++)
            values[i] = scale * (float)code_at(c, i, o) + bias;
    }
}
