/* base/digest.h - FNV-1a, for telling inputs apart. source: the FNV hash parameters, 64 bits (RFC 9923)
 * May include: base only. Never: for anything that somebody could want to forge.
 *
 *     uint64_t h = gr_digest_bytes(GR_DIGEST_START, data, n);
 */
#ifndef GR_BASE_DIGEST_H
#define GR_BASE_DIGEST_H
#include <stddef.h>
#include <stdint.h>

#define GR_DIGEST_START 0xcbf29ce484222325u

/* One step with a byte; a whole word at once mixes less and is enough for numbers of our own. */
static inline uint64_t gr_digest_step(uint64_t h, uint64_t value) {
    return (h ^ value) * 0x100000001b3u;
}
static inline uint64_t gr_digest_bytes(uint64_t h, const void *data, size_t n) {
    const uint8_t *bytes = data;
    for (size_t i = 0; i < n; i++) h = gr_digest_step(h, bytes[i]);
    return h;
}
/* Eight steps: the number's bytes, lowest first. */
static inline uint64_t gr_digest_number(uint64_t h, uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) h = gr_digest_step(h, value >> shift & 0xff);
    return h;
}

/* A large buffer from memory, about as fast as it can be read: eight lanes of words. Every step is a
 * bijection of what came before, so that no change of a single word goes unseen. Another number than
 * gr_digest_bytes. */
uint64_t gr_digest_blocks(uint64_t h, const void *data, size_t n);

#endif
