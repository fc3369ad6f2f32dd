/* base/dtype.h - element types of tensors and the conversions between 16-bit floats and f32. */
#ifndef GR_BASE_DTYPE_H
#define GR_BASE_DTYPE_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* X(NAME, bytes per element, name in safetensors files) */
#define GR_DTYPE_MAP(X)                                                                                      \
    X(F32, 4, "F32")                                                                                         \
    X(F16, 2, "F16")                                                                                         \
    X(BF16, 2, "BF16")                                                                                       \
    X(F64, 8, "F64")                                                                                         \
    X(U8, 1, "U8")                                                                                           \
    X(I8, 1, "I8")                                                                                           \
    X(U16, 2, "U16")                                                                                         \
    X(I16, 2, "I16")                                                                                         \
    X(U32, 4, "U32")                                                                                         \
    X(I32, 4, "I32") X(U64, 8, "U64") X(I64, 8, "I64") X(BOOL, 1, "BOOL") X(F8_E4M3, 1, "F8_E4M3")           \
        X(F8_E5M2, 1, "F8_E5M2")

typedef enum gr_dtype {
#define X(name, bytes, text) GR_##name,
    GR_DTYPE_MAP(X)
#undef X
        GR_DTYPE_COUNT
} gr_dtype;

size_t gr_dtype_bytes(gr_dtype dtype);
const char *gr_dtype_name(gr_dtype dtype); /* as safetensors spells it */
int gr_dtype_from_name(const char *name);  /* -1 if unknown */

static inline float gr_bf16_to_f32(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* Rounds to nearest, ties to even; NaN stays NaN. */
static inline uint16_t gr_f32_to_bf16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

/* Exact in both directions where exact is possible; rounds to nearest even. */
static inline float gr_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, magnitude = h & 0x7fffu, bits;
    float f;
    if (magnitude >= 0x7c00u) { /* infinity and NaN */
        bits = sign | 0x7f800000u | (magnitude & 0x3ffu) << 13;
        memcpy(&f, &bits, 4);
        return f;
    }
    bits = magnitude << 13;
    memcpy(&f, &bits, 4);
    f *= 0x1p112f; /* moves the exponent's bias and normalizes subnormals in one exact product */
    memcpy(&bits, &f, 4);
    bits |= sign;
    memcpy(&f, &bits, 4);
    return f;
}
uint16_t gr_f32_to_f16(float f);

/* The small floats of mxfp4, mxfp8 and nvfp4, all exact. source: OCP Microscaling Formats (MX) v1.0, 5.3 */
static inline float gr_e2m1_to_f32(uint32_t code) { /* four bits */
    static const float magnitude[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    return code & 8 ? -magnitude[code & 7] : magnitude[code & 7];
}
static inline float gr_e4m3_to_f32(uint32_t code) { /* eight bits; 127 and 255 are NaN */
    uint32_t bits = (code & 0x80u) << 24 | (code & 0x7fu) << 20;
    if ((code & 0x7fu) == 0x7fu) bits = 0x7fc00000u;
    float f;
    memcpy(&f, &bits, 4);
    return f * 0x1p120f; /* moves the exponent's bias and normalizes subnormals */
}
/* A power of two, 2^(code - 127); 255, which the format calls NaN, is infinite as in MLX. */
static inline float gr_e8m0_to_f32(uint32_t code) {
    uint32_t bits = code ? code << 23 : 0x00400000u;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* F32, F16 or BF16: what weights are stored in. */
static inline int gr_dtype_is_float(gr_dtype dtype) {
    return dtype == GR_F32 || dtype == GR_F16 || dtype == GR_BF16;
}
/* Element i of an array of such a type, which may be unaligned; put rounds to nearest even. */
float gr_float_at(const void *array, int64_t i, gr_dtype dtype);
void gr_float_put(void *array, int64_t i, float value, gr_dtype dtype);

#endif
