/* kernels/isa.h - the list of instruction sets, best first. Each row is isa_NAME.c. */
#ifndef GR_KERNELS_ISA_H
#define GR_KERNELS_ISA_H
#include "kernels/kernels.h"

#if defined(__x86_64__)
#define GR_ISA_MAP(X) X(avx512bf16) X(avx512) X(avx2) X(portable)
#elif defined(__aarch64__)
#define GR_ISA_MAP(X) X(neonbf16) X(neon) X(portable)
#else
#define GR_ISA_MAP(X) X(portable)
#endif

/* The two functions of a gr_isa. */
#define X(name)                                                                                              \
    bool gr_##name##_available(void);                                                                        \
    void gr_##name##_init(gr_kernels *table, bool fp32);
GR_ISA_MAP(X)
#undef X

#endif
