/* kernels/vec.h - vectors of VL floats for the kernel templates; included once by each isa_*.c after it
 * defines VL.
 *
 * GCC/clang vector extensions carry the arithmetic; the few operations that have an instruction but no
 * operator are chosen here per instruction set. Everything is forced inline, so a file keeps its instructions
 * to itself. A multiply-add is one only where v_fma says so (the build sets -ffp-contract=off): the same
 * element gets the same bits in every loop, tail or body.
 */
#ifndef GR_KERNELS_VEC_H
#define GR_KERNELS_VEC_H
#include "base/dtype.h"
#include <math.h>
#include <stdbool.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef uint16_t vh __attribute__((vector_size(VL * 2)));

/* ---- memory: memcpy of a constant size is one unaligned move */

INLINE vf v_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void v_store(float *p, vf v) {
    memcpy(p, &v, sizeof v);
}
/* The first n <= VL elements; the rest of the vector is 0. */
INLINE vf v_load_n(const float *p, int64_t n) {
    if (n >= VL) return v_load(p);
    float t[VL] = {0};
    memcpy(t, p, (size_t)n * 4);
    return v_load(t);
}
INLINE void v_store_n(float *p, vf v, int64_t n) {
    if (n >= VL)
        v_store(p, v);
    else
        memcpy(p, &v, (size_t)n * 4);
}

/* ---- arithmetic */

INLINE vf v_set1(float x) {
    return x - (vf){0}; /* not x + 0: that would turn -0 into 0 */
}
INLINE vf v_select(vi mask, vf a, vf b) {
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
}
INLINE vf v_fma(vf a, vf b, vf c) {
#if defined(__AVX512F__) && VL == 16
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__) && VL == 8
    return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__) && VL == 4
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}
INLINE vf v_max(vf a, vf b) {
#if defined(__AVX512F__) && VL == 16
    return _mm512_max_ps(a, b);
#else
    return v_select(a > b, a, b);
#endif
}
/* Lanes with lo <= base + lane < hi keep v, the others get `other`. */
INLINE vf v_between(vf v, int base, int lo, int hi, float other) {
    vi lane;
    UNROLL
    for (int i = 0; i < VL; i++) lane[i] = i;
    lane += base;
    return v_select((lane >= lo) & (lane < hi), v, v_set1(other));
}
/* Sum and maximum of the lanes, always in the same order. */
INLINE float v_sum(vf v) {
#if VL == 16
    typedef float f8 __attribute__((vector_size(32)));
    f8 w = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
           __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
#else
    vf w = v;
#endif
    typedef float f4 __attribute__((vector_size(16)));
#if VL >= 8
    f4 q = __builtin_shufflevector(w, w, 0, 1, 2, 3) + __builtin_shufflevector(w, w, 4, 5, 6, 7);
#else
    f4 q = w;
#endif
    return (q[0] + q[2]) + (q[1] + q[3]);
}
INLINE float v_top(vf v) {
    float m = v[0];
    UNROLL
    for (int i = 1; i < VL; i++) m = v[i] > m ? v[i] : m;
    return m;
}

/* ---- integers */

INLINE vu v_lanes(void) {
    vu lane;
    UNROLL
    for (uint32_t i = 0; i < VL; i++) lane[i] = i;
    return lane;
}
/* VL bytes; the compilers' own conversions go through 16 bits. */
INLINE vu v_bytes(const uint8_t *p) {
#if defined(__AVX512F__) && VL == 16
    return (vu)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
#elif defined(__AVX2__) && VL == 8
    return (vu)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
#else
    typedef uint8_t bytes __attribute__((vector_size(VL)));
    bytes b;
    memcpy(&b, p, sizeof b);
    return __builtin_convertvector(b, vu);
#endif
}
INLINE vf v_from_u8(const uint8_t *p) {
    return __builtin_convertvector((vi)v_bytes(p), vf);
}
/* VL signed bytes as words. */
INLINE vh v_words(const uint8_t *p) {
#if defined(__AVX2__) && VL == 16
    return (vh)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
#elif defined(__AVX2__) && VL == 8
    return (vh)_mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)p));
#else
    typedef int8_t bytes __attribute__((vector_size(VL)));
    typedef int16_t words __attribute__((vector_size(VL * 2)));
    bytes b;
    memcpy(&b, p, sizeof b);
    return (vh) __builtin_convertvector(b, words);
#endif
}

/* ---- 16-bit floats */

INLINE vf v_from_bf16(const uint16_t *p) {
    vh h;
    memcpy(&h, p, sizeof h);
    return (vf)(__builtin_convertvector(h, vu) << 16);
}
INLINE vf v_from_half(vh h) {
#if defined(__AVX512F__) && VL == 16
    return _mm512_cvtph_ps((__m256i)h);
#elif defined(__F16C__) && VL == 8
    return _mm256_cvtph_ps((__m128i)h);
#elif defined(__aarch64__) && VL == 4
    return (vf)vcvt_f32_f16((float16x4_t)h);
#else
    vu bits = __builtin_convertvector(h, vu), magnitude = bits & 0x7fffu, sign = (bits & 0x8000u) << 16;
    vf finite = (vf)(magnitude << 13) * 0x1p112f; /* see gr_f16_to_f32 */
    vf special = (vf)(0x7f800000u | (magnitude & 0x3ffu) << 13);
    return (vf)((vu)v_select((vi)(magnitude >= 0x7c00u), special, finite) | sign);
#endif
}
INLINE vf v_from_f16(const uint16_t *p) {
    vh h;
    memcpy(&h, p, sizeof h);
    return v_from_half(h);
}
/* Rounds to nearest even; with AVX512-BF16 subnormals become zero. */
INLINE void v_to_bf16(uint16_t *p, vf v) {
#if defined(__AVX512BF16__) && VL == 16
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(v));
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC) && VL == 4
    vst1_u16(p, vreinterpret_u16_bf16(vcvt_bf16_f32((float32x4_t)v)));
#else
    vu bits = (vu)v, rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, quiet = (bits >> 16) | 0x40u;
    vi is_nan = (vi)((bits & 0x7fffffffu) > 0x7f800000u);
    vh h = __builtin_convertvector((vu)v_select(is_nan, (vf)quiet, (vf)rounded), vh);
    memcpy(p, &h, sizeof h);
#endif
}

/* ---- transposes */

#define SHUFFLE __builtin_shufflevector

/* r[i][j] becomes r[j][i]. */
INLINE void v_transpose(vf *r) {
    vf t[VL];
#if VL == 4
    t[0] = SHUFFLE(r[0], r[1], 0, 4, 1, 5), t[1] = SHUFFLE(r[0], r[1], 2, 6, 3, 7);
    t[2] = SHUFFLE(r[2], r[3], 0, 4, 1, 5), t[3] = SHUFFLE(r[2], r[3], 2, 6, 3, 7);
    r[0] = SHUFFLE(t[0], t[2], 0, 1, 4, 5), r[1] = SHUFFLE(t[0], t[2], 2, 3, 6, 7);
    r[2] = SHUFFLE(t[1], t[3], 0, 1, 4, 5), r[3] = SHUFFLE(t[1], t[3], 2, 3, 6, 7);
#elif VL == 8
    UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    UNROLL
    for (int i = 0; i < 8; i++) { /* of the four rows from q on; columns c and c + 4 */
        int q = i & 4, c = i & 3;
        r[i] = c & 1 ? SHUFFLE(t[q + c / 2], t[q + c / 2 + 2], 2, 3, 10, 11, 6, 7, 14, 15)
                     : SHUFFLE(t[q + c / 2], t[q + c / 2 + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = SHUFFLE(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        t[i + 4] = SHUFFLE(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    UNROLL
    for (int i = 0; i < 8; i++) r[i] = t[i];
#else
    UNROLL
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 16; i++) { /* of the four rows from q on; columns c, c + 4, c + 8 and c + 12 */
        int q = i & 12, c = i & 3;
        __m512d a = (__m512d)t[q + c / 2], b = (__m512d)t[q + c / 2 + 2];
        r[i] = (vf)(c & 1 ? _mm512_unpackhi_pd(a, b) : _mm512_unpacklo_pd(a, b));
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        UNROLL
        for (int q = 0; q < 16; q += 8) {
            t[q + i] = _mm512_shuffle_f32x4(r[q + i], r[q + i + 4], 0x88);
            t[q + i + 4] = _mm512_shuffle_f32x4(r[q + i], r[q + i + 4], 0xdd);
        }
    }
    UNROLL
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
#endif
}

/* ---- functions */

/* e^x within 1.5 units in the last place: 2^n * e^r with |r| <= ln 2 / 2 and a minimax polynomial of degree 6
 * (its error is 3e-9). Below -104 the result is 0, above 88.73 infinity; NaN stays NaN. */
INLINE vf v_exp(vf x) {
    const vf magic = v_set1(0x1.8p23f); /* adding it rounds to an integer, which is then in the low bits */
    x = v_select(x < -104.0f, v_set1(-104.0f), x);
    x = v_select(x > 89.0f, v_set1(89.0f), x);
    vf t = v_fma(x, v_set1(0x1.715476p0f), magic);
    vf n = t - magic;
    vf r = v_fma(n, v_set1(-0x1.62e400p-1f), x); /* ln 2 in two parts; n times the first one is exact */
    r = v_fma(n, v_set1(-0x1.7f7d1cp-20f), r);
    vf p = v_set1(0x1.6a2256p-10f);
    p = v_fma(p, r, v_set1(0x1.123b02p-7f));
    p = v_fma(p, r, v_set1(0x1.5558f8p-5f));
    p = v_fma(p, r, v_set1(0x1.555490p-3f));
    p = v_fma(p, r, v_set1(0x1.fffffcp-2f));
    p = v_fma(p * r, r, r) + 1.0f;
    vi e = (vi)t - (vi)magic, half = e >> 1; /* two factors: 2^128 and 2^-150 are not floats */
    return p * (vf)((half + 127) << 23) * (vf)((e - half + 127) << 23);
}
/* tanh within 2e-7; near 0 by its series, where the quotient would cancel. */
INLINE vf v_tanh(vf x) {
    vf s = x * x, series = v_set1(62.0f / 2835);
    series = v_fma(series, s, v_set1(-17.0f / 315));
    series = v_fma(series, s, v_set1(2.0f / 15));
    series = v_fma(series, s, v_set1(-1.0f / 3));
    series = v_fma(series * s, x, x);
    return v_select((x < 0.25f) & (x > -0.25f), series, 1.0f - 2.0f / (v_exp(x + x) + 1.0f));
}
/* log(x) within 3e-7 of max(1, |log x|); of less than 2^-126 as of that, 0 and below too. x = 2^n m with m
 * near 1, log m = 2 atanh((m - 1) / (m + 1)). */
INLINE vf v_log(vf x) {
    x = v_select(x > 0x1p-126f, x, v_set1(0x1p-126f));
    vi bits = (vi)x, n = (bits - 0x3f3504f3) >> 23; /* sqrt(1/2) <= m < sqrt(2) */
    vf m = (vf)(bits - n * 0x800000), z = (m - 1.0f) / (m + 1.0f), s = z * z;
    vf p = v_set1(2.0f / 9);
    p = v_fma(p, s, v_set1(2.0f / 7));
    p = v_fma(p, s, v_set1(2.0f / 5));
    p = v_fma(p, s, v_set1(2.0f / 3));
    p = v_fma(p * s, z, z + z);
    return v_fma(__builtin_convertvector(n, vf), v_set1(0x1.62e430p-1f), p);
}
/* The same bits for one number. */
INLINE float v_exp1(float x) {
    return v_exp(v_set1(x))[0];
}

#endif
