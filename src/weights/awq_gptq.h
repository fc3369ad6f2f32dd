/* weights/awq_gptq.h - codes that lie by column: linears [in, out] as AutoAWQ and AutoGPTQ store them.
 * What it does: one output's row of codes, its scales and offsets. May include: base, affine. Never: files,
 * names.
 *
 * value[o][i] = scale[g][o] * (code[i][o] - zero[g][o]) with g = i / group, which is affine: bias = -zero *
 * scale. AWQ    words [in, out * bits / 32]: nibble k of a word is column 8 w + {0,2,4,6,1,3,5,7}[k]; zeros
 * in the same order. GPTQ   words [in * bits / 32, out]: field k of a word is input 32 / bits * w + k; zeros
 * [groups, out * bits / 32] in plain order, stored one less (`zero_add` 1) in the first version of the
 * format. source: AutoAWQ's WQLinear_GEMM, AutoGPTQ's QuantLinear; mlx-lm reads AWQ so.
 */
#ifndef GR_WEIGHTS_AWQ_GPTQ_H
#define GR_WEIGHTS_AWQ_GPTQ_H
#include "base/dtype.h"
#include "base/memory.h"

typedef struct gr_awq_gptq {
    bool awq;             /* the order of AWQ, else GPTQ's */
    int bits, group;      /* AWQ: 4; GPTQ: 4 or 8 */
    uint32_t zero_add;    /* to every word of zeros */
    int64_t in, out;      /* whole groups and whole words */
    const uint8_t *words; /* u32, little-endian, at any address; borrowed like the rest */
    const uint8_t *zeros; /* NULL: 2^(bits - 1) */
    const uint8_t *scales;
    gr_dtype dtype; /* of scales */
} gr_awq_gptq;

/* A one in every field of a word: what the first version of GPTQ's format takes off its zeros, a word at a
 * time. */
static inline uint32_t gr_awq_gptq_ones(int bits) {
    return bits == 4 ? 0x11111111u : 0x01010101u;
}

/* Output o: its codes as an affine row of in * bits / 8 bytes, and in / group scales and biases, exact in f32
 * (a zero times a scale of 16 bits is). */
void gr_awq_gptq_row(const gr_awq_gptq *columns, int64_t o, uint8_t *codes, float *scales, float *biases);
/* Its scales and biases alone. */
void gr_awq_gptq_groups(const gr_awq_gptq *columns, int64_t o, float *scales, float *biases);
/* Output o as in values. */
void gr_awq_gptq_values(const gr_awq_gptq *columns, int64_t o, float *values);

#endif
