/* kernels/peak.h - the numbers that "percent of peak" and "percent of bandwidth" are percentages of. */
#ifndef GR_KERNELS_PEAK_H
#define GR_KERNELS_PEAK_H
#include "kernels/kernels.h"

/* GFLOP/s of multiply-adds from registers alone on every thread of the pool, with the instruction that the
 * table's tile uses (bf16 or f32): the best of a few bursts, about 30 ms in all. */
double gr_peak_gflops(const gr_compute *c);

/* Bytes that gr_read_gbs needs: eight times the largest cache in common use, so that reading is from memory.
 */
#define GR_READ_BYTES ((size_t)256 << 20)

/* GB/s of reading `memory` (GR_READ_BYTES, 64-byte aligned, written before so that its pages are real) with
 * every thread of the pool: the best of four passes, about 30 ms in all. */
double gr_read_gbs(gr_pool *pool, const void *memory);

#endif
