/* weights/affine.h - MLX's affine group quantization, byte for byte.
 * What it does: f32 rows <-> codes, scales, biases. May include: base. Never: files, names, policy.
 * A group of `group` values shares scale and bias: value = scale * code + bias. A row of codes is one
 * little-endian bit stream, code i at bit i*bits. source: TRAPS (mx.quantize of mlx 0.32), tested equal to
 * it.
 */
#ifndef GR_WEIGHTS_AFFINE_H
#define GR_WEIGHTS_AFFINE_H
#include "base/dtype.h"
#include "base/memory.h"

bool gr_affine_valid(int bits, int group); /* bits in 2,3,4,5,6,8; group in 32,64,128 */
/* Bytes of one packed row of `cols` codes: cols*bits/8 (cols is a multiple of group). */
int64_t gr_affine_row_bytes(int64_t cols, int bits);

/* Quantizes rows of f32 (converted exactly from the weights' dtype): codes [rows, cols*bits/8], scales and
 * biases [rows, cols/group] of `dtype` (F32, F16, BF16: the weights' own). Equal to mx.quantize of that
 * dtype. */
void gr_affine_quantize(uint8_t *codes, void *scales, void *biases, const float *w, int64_t rows,
                        int64_t cols, int bits, int group, gr_dtype dtype);
/* The row before[cols], in these codes, scales and biases, becomes w[cols]: groups that differ in any bit are
 * quantized anew, from f32; the others keep their bytes. */
void gr_affine_requantize(uint8_t *codes, void *scales, void *biases, const float *w, const float *before,
                          int64_t cols, int bits, int group, gr_dtype dtype);
/* Values as f32: scale * code + bias in f32 arithmetic. */
void gr_affine_dequantize(float *w, const uint8_t *codes, const void *scales, const void *biases,
                          int64_t rows, int64_t cols, int bits, int group, gr_dtype dtype);
/* Code number i of a packed row. */
uint32_t gr_affine_code(const uint8_t *row, int64_t i, int bits);

#endif
