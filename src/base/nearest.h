/* base/nearest.h - what somebody who mistyped a name may have meant. */
#ifndef GR_BASE_NEAREST_H
#define GR_BASE_NEAREST_H
#include <stdbool.h>
#include <stddef.h>

/* Equal but for the case of letters, and '_' for '-'. */
bool gr_same_name(const char *a, const char *b);
/* The nearest of `names` (count of them, NULLs skipped) to a mistyped one by edit distance, '-' and '_'
 * alike; NULL if none is near. */
const char *gr_nearest_name(const char *name, const char *const *names, size_t count);
/* Letters to insert, delete, replace or swap to come from a to b, at most `limit` + 1. */
int gr_edit_distance(const char *a, const char *b, int limit);

#endif
