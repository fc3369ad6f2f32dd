/* base/number.h - numbers written as text, read the same whatever the locale of the host.
 */
#ifndef GR_BASE_NUMBER_H
#define GR_BASE_NUMBER_H
#include "base/memory.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Decimal numbers; the whole text, finite, no blanks, no hexadecimal. False if it is none. */
bool gr_parse_real(const char *text, double *value);
bool gr_parse_int(const char *text, int64_t *value);
/* vsnprintf, snprintf and strtod as the C locale has them: a point, whatever the host's is. */
int gr_vformat(char *out, size_t size, const char *fmt, va_list args);
int gr_format(char *out, size_t size, const char *fmt, ...) GR_PRINTF(3, 4);
double gr_to_real(const char *text, char **end);                                       /* end may be NULL */
size_t gr_format_time(char *out, size_t size, const char *fmt, const struct tm *time); /* strftime */
/* The fewest digits (%g) that read back as the same double. */
void gr_real_text(char out[32], double value);
/* %.*g, for files of others. */
void gr_buf_real(gr_buf *out, double value, int digits);

#endif
