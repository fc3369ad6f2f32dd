/* weights/mx_float.h - the block floats mxfp4, mxfp8 and nvfp4, which are read and never written anew.
 * What it does: names of the modes, rows of codes -> f32. May include: base. Never: files, policy.
 * A group of codes shares one scale of eight bits; value = scale * float of the code. Codes are packed as
 * affine ones are: one little-endian bit stream per row.
 */
#ifndef GR_WEIGHTS_MX_FLOAT_H
#define GR_WEIGHTS_MX_FLOAT_H
#include "base/dtype.h"
#include "base/memory.h"

/* Bits and group identify the mode. */
typedef struct gr_mx_row {
    const char *mode; /* as config.json spells it */
    int bits, group;
} gr_mx_row;

/* NULL for other names (affine among them), and for other numbers. */
const gr_mx_row *gr_mx_by_mode(const char *mode);
const gr_mx_row *gr_mx_by_format(int bits, int group);

/* rows x cols codes to f32, exactly; cols is a multiple of group, scales [rows, cols/group] bytes. */
void gr_mx_dequantize(float *w, const uint8_t *codes, const uint8_t *scales, int64_t rows, int64_t cols,
                      int bits, int group);

#endif
