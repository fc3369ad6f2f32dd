/* base/number.h - numbers written as text, read the same whatever the locale of the host.
 */
#ifndef GR_BASE_NUMBER_H
#define GR_BASE_NUMBER_H
#include "base/memory.h"
#include <stdbool.h>
#include <stdint.h>

/* Decimal numbers; the whole text, finite, no blanks, no hexadecimal. False if it is none. */
bool gr_parse_real(const char *text, double *value);
bool gr_parse_int(const char *text, int64_t *value);
/* %.*g with a point, for files of others. */
void gr_buf_real(gr_buf *out, double value, int digits);

#endif
