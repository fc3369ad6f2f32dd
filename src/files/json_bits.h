/* files/json_bits.h - whole words in JSON, which has no integers of 64 bits and no doubles bit by bit:
 * hexadecimal digits. May include: base, files. */
#ifndef GR_FILES_JSON_BITS_H
#define GR_FILES_JSON_BITS_H
#include "files/json_read.h"

/* 16 hexadecimal digits, or NULL. GRAFT_CORRUPT for anything else. */
json_t *gr_json_hex(uint64_t value);
graft_status gr_json_read_hex(const gr_json_scope *root, const char *key, uint64_t *value,
                              graft_error *err) GR_MUST_CHECK;

#define GR_WORDS_MOST 32 /* doubles of one text */
/* The bits of n doubles, one after another: what is read is what was written, NaNs too. */
json_t *gr_json_bits(const double *x, size_t n);
graft_status gr_json_read_bits(const gr_json_scope *root, const char *key, double *x, size_t n,
                               graft_error *err) GR_MUST_CHECK;

#endif
