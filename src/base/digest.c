#include "base/digest.h"
#include <string.h>

enum { LANES = 8, BLOCK = 8 * LANES };

/* A bijection of the lane for every word, so that no single change goes unseen; the turn brings high bits
 * down, where the next product spreads them. */
static inline uint64_t step(uint64_t lane, uint64_t word) {
    lane ^= word;
    return (lane << 29 | lane >> 35) * 0x9e3779b97f4a7c15u;
}

static inline void take_block(uint64_t lane[LANES], const uint8_t *p) {
#pragma GCC unroll 8 /* lanes in registers */
    for (int i = 0; i < LANES; i++) {
        uint64_t word;
        memcpy(&word, p + 8 * i, sizeof word);
        lane[i] = step(lane[i], word);
    }
}

uint64_t gr_digest_blocks(uint64_t h, const void *data, size_t n) {
    const uint8_t *p = data;
    uint8_t rest[BLOCK] = {0};
    uint64_t lane[LANES];
    size_t left = n;
    for (int i = 0; i < LANES; i++) lane[i] = h + (uint64_t)i * 0x100000001b3u;
    for (; left >= BLOCK; p += BLOCK, left -= BLOCK) take_block(lane, p);
    if (left) {
        memcpy(rest, p, left);
        take_block(lane, rest);
    }
    h = step(h, n);
    for (int i = 0; i < LANES; i++) h = step(h ^ h >> 32, lane[i]);
    return h ^ h >> 32;
}
