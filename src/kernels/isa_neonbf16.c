/* kernels/isa_neonbf16.c - Advanced SIMD with BF16 (Neoverse V1 and N2, Apple M2, and later): products of
 * bf16 pairs by BFDOT in bf16 mode; in fp32 mode neon's table is as good as it gets. */
#if defined(__aarch64__)
#define VL           4
#define TILE_VECS    4
#define BURST_CHAINS 24
#define ACT_F32      0
#include "kernels/isa.h"
#include "kernels/kernels_template.h"
#include "kernels/neon_pairs.h"
#include "kernels/neon_softmax.h"
#if defined(__linux__)
#include <sys/auxv.h>
#endif

bool gr_neonbf16_available(void) {
#if defined(__linux__)
    return getauxval(AT_HWCAP2) >> 14 & 1; /* HWCAP2_BF16, which older headers do not name */
#else
    return false;
#endif
}

void gr_neonbf16_init(gr_kernels *table, bool fp32) {
    if (fp32) return;
    fill_bf16act(table, "neonbf16"); /* the same template, with native rounding to bf16 */
    table->pair = true;
    table->panel = panel_pairs;
    table->panel_act = panel_pairs_act;
    table->tile = tile_pairs;
    table->softmax_block = softmax_block_pairs;
    table->softmax_block_back = softmax_block_back_pairs;
    table->panel_both = panel_both_pairs;
    table->matvec = matvec_pairs;
    table->burst = burst_pairs;
}
#endif
