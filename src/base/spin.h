/* base/spin.h - looking at a counter again and again before the time slice is given away. */
#ifndef GR_BASE_SPIN_H
#define GR_BASE_SPIN_H

/* About 20 us on today's processors: longer than the gaps inside a training step, shorter than a time slice.
 */
#define GR_SPINS 4000

static inline void gr_cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
