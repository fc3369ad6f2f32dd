/* kernels/isa_avx512bf16.c - AVX-512 with BF16 and VBMI (Sapphire Rapids, Zen 4 and later): products of bf16
 * pairs in bf16 mode; in fp32 mode avx512's table is as good as it gets. */
#if defined(__x86_64__)
#define VL           16
#define TILE_VECS    4
#define BURST_CHAINS 24
#define ACT_F32      0
#include "kernels/bf16_matvec.h"
#include "kernels/bf16_panel.h"
#include "kernels/bf16_softmax.h"
#include "kernels/bf16_tile.h"
#include "kernels/bf16_transpose.h"
#include "kernels/isa.h"
#include "kernels/kernels_template.h"

#define PAIRS_KC 2048 /* a panel of 256 KB: it shares L2 (1 MB) with a task's f32 tile and the rows of A */

bool gr_avx512bf16_available(void) {
    return gr_avx512_available() && __builtin_cpu_supports("avx512bf16") &&
           __builtin_cpu_supports("avx512vbmi");
}

void gr_avx512bf16_init(gr_kernels *table, bool fp32) {
    if (fp32) return;
    fill_bf16act(table, "avx512bf16"); /* the same template, with native rounding to bf16 */
    table->pair = true;
    table->exact_codes = true;
    table->kc = PAIRS_KC;
    table->panel = panel_pairs;
    table->panel_act = panel_pairs_act;
    table->tile = tile_pairs;
    table->tile_narrow = tile_pairs_narrow;
    table->transpose = transpose_pairs;
    table->softmax_block = softmax_block_pairs;
    table->softmax_block_back = softmax_block_back_pairs;
    table->add_transposed = add_transposed_pairs;
    table->panel_both = panel_both_pairs;
    table->dots = dots_pairs;
    table->matvec = matvec_pairs;
    table->burst = burst_pairs;
}
#endif
