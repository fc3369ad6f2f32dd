/* kernels/isa_avx512.c - AVX-512 F, BW, VL, DQ (Skylake server and later, Zen 4 and later). */
#if defined(__x86_64__)
#define VL           16
#define TILE_VECS    4 /* 6 x 4 accumulators of 32 registers */
#define BURST_CHAINS 24
#define TILE_KC      1024 /* every processor with AVX-512 has 1 MB of L2 or more: a panel of 256 KB */
#define ACT_F32      0
#include "kernels/kernels_template.h"
#undef ACT_F32
#define ACT_F32 1
#include "kernels/isa.h"
#include "kernels/kernels_template.h"

bool gr_avx512_available(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

void gr_avx512_init(gr_kernels *table, bool fp32) {
    if (fp32)
        fill_f32act(table, "avx512");
    else
        fill_bf16act(table, "avx512");
}
#endif
