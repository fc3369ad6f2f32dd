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
