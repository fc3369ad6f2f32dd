/* kernels/template_codes.h - packed codes to vectors of VL floats, in their order. Included once per isa_*.c.
 *
 * Affine codes come in blocks of 32 (every group is some of them): 4 * bits bytes. A vector of them is one
 * load of 16 bytes that both ends of the block allow, a shuffle that brings each code's two bytes into its
 * lane, a shift and a mask: the same for every width.
 */
#ifndef GR_KERNELS_TEMPLATE_CODES_H
#define GR_KERNELS_TEMPLATE_CODES_H
#include "kernels/stored.h"
#include "kernels/vec.h"

/* ---- affine codes of 2 to 8 bits */

#if (defined(__AVX2__) && VL >= 8) || defined(__aarch64__)

/* Byte of the block where the load for a vector begins, and what it loads. */
INLINE int codes_base(int bits, int vector) {
    int first = vector * VL * bits / 8, last = 4 * bits - 16;
    return last < 0 ? 0 : first < last ? first : last;
}
/* The lane's bit in the block minus the load's. */
INLINE vu codes_bit(int bits, int vector) {
    vu lane = v_lanes() + (uint32_t)(vector * VL);
    return lane * (uint32_t)bits - (uint32_t)(8 * codes_base(bits, vector));
}
/* Of which byte of the load each byte of the lane is made: two of the code, then none. */
INLINE vu codes_bytes(int bits, int vector) {
    vu byte = codes_bit(bits, vector) >> 3;
    return byte | ((byte + 1) & 15) << 8 | 0x80800000u;
}

typedef uint8_t codes16 __attribute__((vector_size(16)));

INLINE codes16 codes_load(const uint8_t *p, int bits, int vector) {
    codes16 v;
    if (bits >= 4) {
        memcpy(&v, p + codes_base(bits, vector), 16);
        return v;
    }
    typedef uint64_t two64 __attribute__((vector_size(16)));
    uint64_t low;
    uint32_t high = 0;
    memcpy(&low, p, 8);
    if (bits == 3) memcpy(&high, p + 8, 4);
    return (codes16)(two64){low, high};
}

INLINE vu codes_shuffle(codes16 v, vu bytes) {
#if defined(__AVX512BW__) && VL == 16
    return (vu)_mm512_shuffle_epi8(_mm512_broadcast_i32x4((__m128i)v), (__m512i)bytes);
#elif defined(__AVX2__) && VL == 8
    return (vu)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256((__m128i)v), (__m256i)bytes);
#else
    return (vu)vqtbl1q_u8((uint8x16_t)v, (uint8x16_t)bytes);
#endif
}

/* Codes vector * VL + lane of the block of 32 at p; what stands above them in a lane is left there. */
INLINE vu codes_loose(const uint8_t *p, int bits, int vector) {
    vu v = codes_shuffle(codes_load(p, bits, vector), codes_bytes(bits, vector));
    return v >> (codes_bit(bits, vector) & 7);
}
/* As floats. */
INLINE vf codes_float(const uint8_t *p, int bits, int vector) {
    if (bits == 8) return v_from_u8(p + vector * VL);
    vu code = codes_loose(p, bits, vector) & ((1u << bits) - 1);
    return __builtin_convertvector((vi)code, vf);
}

#else

/* The same without a shuffle of bytes: two vectors share the whole loads of eight codes. */
INLINE vf codes_float(const uint8_t *p, int bits, int vector) {
    if (bits == 8) return v_from_u8(p + vector * VL);
    uint64_t word = stored_eight(p + vector * VL / 8 * bits, bits) >> (vector * VL % 8 * bits);
    vf v;
    UNROLL
    for (int i = 0; i < VL; i++) v[i] = (float)(int32_t)(word >> i * bits & ((1u << bits) - 1));
    return v;
}

#endif

/* ---- E2M1 (mxfp4, nvfp4): four bits, through a table of twice their values */

static const int8_t e2m1_twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* Values vector * VL + lane of the 32 codes at p. */
INLINE vf e2m1_float(const uint8_t *p, int vector) {
    p += vector * VL / 2;
#if defined(__AVX512F__) && VL == 16
    const vf value = _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6);
    return _mm512_permutexvar_ps((__m512i)codes_loose(p - vector * VL / 2, 4, vector), value);
#elif defined(__AVX2__) && VL == 8
    const __m128i twice = _mm_loadu_si128((const __m128i *)(const void *)e2m1_twice);
    int32_t word;
    memcpy(&word, p, 4);
    __m128i v =
        _mm_cvtepu8_epi16(_mm_cvtsi32_si128(word)); /* a byte a word; its high half to the next byte */
    v = _mm_and_si128(_mm_or_si128(v, _mm_slli_epi16(v, 4)), _mm_set1_epi8(15));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_shuffle_epi8(twice, v))) * 0.5f;
#elif defined(__aarch64__)
    uint16_t half;
    memcpy(&half, p, 2);
    uint16x4_t v = vget_low_u16(vmovl_u8(vreinterpret_u8_u16(vdup_n_u16(half))));
    uint8x8_t code = vand_u8(vreinterpret_u8_u16(vorr_u16(v, vshl_n_u16(v, 4))), vdup_n_u8(15));
    int8x8_t t = vqtbl1_s8(vld1q_s8(e2m1_twice), code);
    return (vf)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(t)))) * 0.5f;
#else
    vf v;
    UNROLL
    for (int i = 0; i < VL; i++) v[i] = (float)e2m1_twice[p[i / 2] >> (i & 1) * 4 & 15];
    return v * 0.5f;
#endif
}

/* ---- E4M3 (mxfp8) */

/* 2^-8 of the values: the half floats with the same bits. A code of 127 carries into the exponent: NaN. */
INLINE vf e4m3_small(const uint8_t *p) {
    vh half = v_words(p) << 7 & 0xbf80;
    return v_from_half(half | ((half + 0x80) & 0x4000));
}
INLINE vf e4m3_float(const uint8_t *p) {
    return e4m3_small(p) * 256.0f;
}

/* ---- scales */

/* Number i, by the processor's own conversion where it has one. */
INLINE float scale_at(const char *p, int64_t i, gr_dtype dtype) {
#if defined(__F16C__)
    if (dtype == GR_F16) {
        uint16_t h;
        memcpy(&h, p + 2 * i, 2);
        return _cvtsh_ss(h);
    }
#elif defined(__aarch64__)
    if (dtype == GR_F16) {
        __fp16 h;
        memcpy(&h, p + 2 * i, 2);
        return (float)h;
    }
#endif
    return stored_float(p, i, dtype);
}

/* n scales or biases of an affine matrix, from number `at` on, as f32; n consecutive ones of all rows. */
static void affine_scales(float *out, const void *p, gr_dtype dtype, int64_t at, int64_t n) {
    const char *from = (const char *)p + at * (dtype == GR_F32 ? 4 : 2);
    int64_t i = 0;
    if (dtype == GR_F32) {
        memcpy(out, from, (size_t)n * 4);
        return;
    }
    if (dtype == GR_F16)
        for (; i + VL <= n; i += VL) v_store(out + i, v_from_f16((const uint16_t *)(const void *)from + i));
    else
        for (; i + VL <= n; i += VL) v_store(out + i, v_from_bf16((const uint16_t *)(const void *)from + i));
    for (; i < n; i++) out[i] = scale_at(from, i, dtype);
}

/* The same of a GR_MX matrix. */
static void micro_scales(float *out, const gr_mat *m, int64_t at, int64_t n) {
    int64_t i = 0;
    if (m->group == 16)
        for (; i + VL <= n; i += VL) v_store(out + i, e4m3_float((const uint8_t *)m->scales + at + i));
    for (; i < n; i++) out[i] = stored_micro_scale(m, at + i);
}

#endif
