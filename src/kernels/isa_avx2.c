/* kernels/isa_avx2.c - AVX2 with FMA and F16C (x86-64 since 2013). */
#if defined(__x86_64__)
#include <cpuid.h>
#define VL           8
#define TILE_VECS    2 /* 6 x 2 accumulators of 16 registers */
#define BURST_CHAINS 14
#define ACT_F32      0
#include "kernels/kernels_template.h"
#undef ACT_F32
#define ACT_F32 1
#include "kernels/isa.h"
#include "kernels/kernels_template.h"

bool gr_avx2_available(void) {
    unsigned a, b, c, d; /* __builtin_cpu_supports does not know F16C in every compiler */
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
}

void gr_avx2_init(gr_kernels *table, bool fp32) {
    if (fp32)
        fill_f32act(table, "avx2");
    else
        fill_bf16act(table, "avx2");
}
#endif
