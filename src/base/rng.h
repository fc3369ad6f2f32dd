/* base/rng.h - random numbers that a checkpoint can hold.
 * xoshiro256** (Blackman, Vigna, 2018, public domain algorithm), seeded by splitmix64.
 */
#ifndef GR_BASE_RNG_H
#define GR_BASE_RNG_H
#include <stdint.h>

typedef struct gr_rng {
    uint64_t s[4];
} gr_rng;

/* One seed and one stream number give one sequence; streams of one seed are independent. */
void gr_rng_seed(gr_rng *rng, uint64_t seed, uint64_t stream);
uint64_t gr_rng_next(gr_rng *rng);              /* 64 random bits */
uint64_t gr_rng_below(gr_rng *rng, uint64_t n); /* uniform in [0, n), n > 0, without bias */
double gr_rng_uniform(gr_rng *rng);             /* uniform in [0, 1), 53 bits */

#endif
