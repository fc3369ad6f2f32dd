/* kernels/peak.h - the number that "percent of peak" is a percentage of. */
#ifndef GR_KERNELS_PEAK_H
#define GR_KERNELS_PEAK_H
#include "kernels/kernels.h"

/* GFLOP/s of multiply-adds from registers alone on every thread of the pool, with the instruction that the
 * table's tile uses (bf16 or f32): the best of a few bursts, about 30 ms in all. */
double gr_peak_gflops(const gr_compute *c);

#endif
