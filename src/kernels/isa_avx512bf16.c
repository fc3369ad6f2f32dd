/* kernels/isa_avx512bf16.c - AVX-512 with BF16 and VBMI (Cooper Lake's successors, Zen 4 and later). */
#if defined(__x86_64__)
#include "kernels/isa.h"

bool gr_avx512bf16_available(void) {
    return gr_avx512_available() && __builtin_cpu_supports("avx512bf16") &&
           __builtin_cpu_supports("avx512vbmi");
}

void gr_avx512bf16_init(gr_kernels *table, bool fp32) {
    (void)table;
    (void)fp32;
}
#endif
