#include "weights/mx_float.h"

static const gr_mx_row modes[] = {{"mxfp4", 4, 32}, {"mxfp8", 8, 32}, {"nvfp4", 4, 16}};
#define MODES (sizeof modes / sizeof *modes)

const gr_mx_row *gr_mx_by_mode(const char *mode) {
    for (size_t i = 0; i < MODES; i++)
        if (strcmp(modes[i].mode, mode) == 0) return &modes[i];
    return NULL;
}

const gr_mx_row *gr_mx_by_format(int bits, int group) {
    for (size_t i = 0; i < MODES; i++)
        if (modes[i].bits == bits && modes[i].group == group) return &modes[i];
    return NULL;
}

void gr_mx_dequantize(float *w, const uint8_t *codes, const uint8_t *scales, int64_t rows, int64_t cols,
                      int bits, int group) {
    for (int64_t g = 0; g < rows * (cols / group); g++, w += group) {
        float scale = group == 16 ? gr_e4m3_to_f32(scales[g]) : gr_e8m0_to_f32(scales[g]);
        if (bits == 8)
            for (int i = 0; i < group; i++) w[i] = gr_e4m3_to_f32(*codes++) * scale;
        else
            for (int i = 0; i < group; i += 2, codes++) {
                w[i] = gr_e2m1_to_f32(*codes & 15) * scale;
                w[i + 1] = gr_e2m1_to_f32(*codes >> 4) * scale;
            }
    }
}
