/* kernels/isa_portable.c - plain vector extensions, whatever the target's baseline makes of them. */
#define VL           4
#define TILE_VECS    2 /* 6 x 2 accumulators of 16 registers */
#define BURST_CHAINS 14
#define ACT_F32      0
#include "kernels/kernels_template.h"
#undef ACT_F32
#define ACT_F32 1
#include "kernels/isa.h"
#include "kernels/kernels_template.h"

bool gr_portable_available(void) {
    return true;
}

void gr_portable_init(gr_kernels *table, bool fp32) {
    if (fp32)
        fill_f32act(table, "portable");
    else
        fill_bf16act(table, "portable");
}
