/* base/sha.h - SHA-1 and SHA-256, by which files from elsewhere are told from altered ones. source: FIPS
 * 180-4 May include: base only. SHA-1 only where a name in the world is one (git's).
 *
 *     gr_sha sha;
 *     gr_sha_begin(&sha, GR_SHA256);
 *     gr_sha_add(&sha, data, n);
 *     gr_sha_hex(&sha, text);
 */
#ifndef GR_BASE_SHA_H
#define GR_BASE_SHA_H
#include <stddef.h>
#include <stdint.h>

typedef enum gr_sha_kind { GR_SHA1, GR_SHA256 } gr_sha_kind;
typedef struct gr_sha {
    gr_sha_kind kind;
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
} gr_sha;

void gr_sha_begin(gr_sha *sha, gr_sha_kind kind);
void gr_sha_add(gr_sha *sha, const void *data, size_t n);
/* Ends it: 40 or 64 lower-case digits and a NUL. */
void gr_sha_hex(gr_sha *sha, char text[65]);

#endif
