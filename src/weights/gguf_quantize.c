/* Values to GGUF's blocks. source: ggml's quantize_row_*_ref, bit for bit */
#include "weights/gguf_blocks.h"
#include <math.h>

bool gr_gguf_can_quantize(gr_gguf_type type) {
    switch (type) {
    case GR_GGUF_F32:
    case GR_GGUF_F16:
    case GR_GGUF_BF16:
    case GR_GGUF_Q8_0:
    case GR_GGUF_Q4_0:
    case GR_GGUF_Q4_1: return true;
    default: return false;
    }
}

static void put_half(uint8_t *out, float value) {
    uint16_t half = gr_f32_to_f16(value);
    memcpy(out, &half, sizeof half);
}

static void nibbles(uint8_t *out, const float *w, float from, float inverse, float round) {
    for (int i = 0; i < 16; i++) {
        uint8_t two[2];
        for (int k = 0; k < 2; k++) {
            int code = (int)((w[16 * k + i] - from) * inverse + round);
            two[k] = (uint8_t)(code < 15 ? code : 15);
        }
        out[i] = (uint8_t)(two[0] | two[1] << 4);
    }
}

/* The value furthest from zero gets code 0, which stands for -8. */
static void quantize_q4_0(uint8_t *out, const float *w) {
    float most = 0, signed_most = 0;
    for (int i = 0; i < 32; i++)
        if (fabsf(w[i]) > most) most = fabsf(w[i]), signed_most = w[i];
    float d = signed_most / -8;
    put_half(out, d);
    nibbles(out + 2, w, 0, d != 0 ? 1 / d : 0, 8.5f);
}

static void quantize_q4_1(uint8_t *out, const float *w) {
    float min = w[0], max = w[0];
    for (int i = 1; i < 32; i++) {
        min = w[i] < min ? w[i] : min;
        max = w[i] > max ? w[i] : max;
    }
    float d = (max - min) / 15;
    put_half(out, d);
    put_half(out + 2, min);
    nibbles(out + 4, w, min, d != 0 ? 1 / d : 0, 0.5f);
}

static void quantize_q8_0(uint8_t *out, const float *w) {
    float most = 0;
    for (int i = 0; i < 32; i++) most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
    float d = most / 127, inverse = d != 0 ? 1 / d : 0;
    put_half(out, d);
    for (int i = 0; i < 32; i++) out[2 + i] = (uint8_t)(int8_t)roundf(w[i] * inverse);
}

void gr_gguf_quantize_block(uint8_t *out, const float *w, gr_gguf_type type) {
    uint16_t half;
    switch (type) {
    case GR_GGUF_F32: memcpy(out, w, 4); break;
    case GR_GGUF_F16: put_half(out, *w); break;
    case GR_GGUF_BF16:
        half = gr_f32_to_bf16(*w);
        memcpy(out, &half, sizeof half);
        break;
    case GR_GGUF_Q4_0: quantize_q4_0(out, w); break;
    case GR_GGUF_Q4_1: quantize_q4_1(out, w); break;
    default: quantize_q8_0(out, w); break;
    }
}
