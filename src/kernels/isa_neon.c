/* kernels/isa_neon.c - Advanced SIMD, part of every 64-bit ARM. */
#if defined(__aarch64__)
#define VL           4
#define TILE_VECS    4 /* 6 x 4 accumulators of 32 registers */
#define BURST_CHAINS 24
#define ACT_F32      0
#include "kernels/kernels_template.h"
#undef ACT_F32
#define ACT_F32 1
#include "kernels/isa.h"
#include "kernels/kernels_template.h"

bool gr_neon_available(void) {
    return true;
}

void gr_neon_init(gr_kernels *table, bool fp32) {
    if (fp32)
        fill_f32act(table, "neon");
    else
        fill_bf16act(table, "neon");
}
#endif
