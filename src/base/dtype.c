#include "base/dtype.h"

size_t gr_dtype_bytes(gr_dtype dtype) {
    switch (dtype) {
#define X(name, bytes, text)                                                                                 \
    case GR_##name: return bytes;
        GR_DTYPE_MAP(X)
#undef X
    case GR_DTYPE_COUNT: break;
    }
    return 0;
}

const char *gr_dtype_name(gr_dtype dtype) {
    switch (dtype) {
#define X(name, bytes, text)                                                                                 \
    case GR_##name: return text;
        GR_DTYPE_MAP(X)
#undef X
    case GR_DTYPE_COUNT: break;
    }
    return "?";
}

int gr_dtype_from_name(const char *name) {
    for (int d = 0; d < GR_DTYPE_COUNT; d++)
        if (strcmp(name, gr_dtype_name((gr_dtype)d)) == 0) return d;
    return -1;
}

uint16_t gr_f32_to_f16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);  /* NaN */
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to 65520 or more: infinity */
    if (magnitude < 0x38800000u) {                                   /* subnormal: round at 2^-24 */
        float tiny;
        memcpy(&tiny, &magnitude, 4);
        tiny += 0.5f; /* the sum's last bit is 2^-24 and the FPU rounds to nearest even */
        memcpy(&bits, &tiny, 4);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1);
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

float gr_float_at(const void *array, int64_t i, gr_dtype dtype) {
    float value;
    uint16_t half;
    if (dtype == GR_F32) {
        memcpy(&value, (const char *)array + 4 * i, 4);
        return value;
    }
    memcpy(&half, (const char *)array + 2 * i, 2);
    return dtype == GR_F16 ? gr_f16_to_f32(half) : gr_bf16_to_f32(half);
}

void gr_float_put(void *array, int64_t i, float value, gr_dtype dtype) {
    if (dtype == GR_F32) {
        memcpy((char *)array + 4 * i, &value, 4);
        return;
    }
    uint16_t half = dtype == GR_F16 ? gr_f32_to_f16(value) : gr_f32_to_bf16(value);
    memcpy((char *)array + 2 * i, &half, 2);
}
