/* weights/gguf_blocks.h - GGUF's quantized blocks: to MLX's affine groups code for code, or to f32.
 * What it does: bytes of blocks -> codes, scales, biases | f32. May include: base, files (types only). Never:
 * names.
 */
#ifndef GR_WEIGHTS_GGUF_BLOCKS_H
#define GR_WEIGHTS_GGUF_BLOCKS_H
#include "files/gguf.h"

#define GR_GGUF_GROUP 32 /* codes that share scale and bias in every type that maps */

/* Bits per code when blocks of this type are affine groups of 32 already: Q4_0, Q4_1, Q4_K 4; Q5_0, Q5_1,
 * Q5_K 5; Q8_0 8. 0 for the others (floats, and Q2_K, Q3_K, Q6_K, Q8_K, whose groups are of 16 or 256). */
int gr_gguf_affine_bits(gr_gguf_type type);

/* The type of scales and biases that loses nothing: F16 where scale and bias of every block are f16 numbers,
 * else F32 (Q4_K and Q5_K, whose scales are products; Q4_0, Q5_0, Q8_0 whose bias -8d, -16d, -128d is beyond
 * f16). count elements (a multiple of the block). */
gr_dtype gr_gguf_affine_dtype(const uint8_t *blocks, gr_gguf_type type, int64_t count);

/* Repacks `count` elements (whole rows; a multiple of the block) of a type with gr_gguf_affine_bits != 0:
 * codes [count*bits/8] as MLX packs them; scales, biases [count/32] of `dtype` (F32, F16 or BF16; rounded if
 * need be). blocks may be unaligned; nothing may overlap. */
void gr_gguf_to_affine(uint8_t *codes, void *scales, void *biases, const uint8_t *blocks, gr_gguf_type type,
                       int64_t count, gr_dtype dtype);

/* Any type to f32: the same numbers as the gguf package computes. count is a multiple of the block. */
void gr_gguf_dequantize(float *out, const uint8_t *blocks, gr_gguf_type type, int64_t count);

/* Types that gr_gguf_quantize_block writes: F32, F16, BF16, Q8_0, Q4_0, Q4_1. */
bool gr_gguf_can_quantize(gr_gguf_type type);
/* One block of such a type (one element, or 32) from finite values, the bytes that ggml makes. */
void gr_gguf_quantize_block(uint8_t *out, const float *w, gr_gguf_type type);

#endif
