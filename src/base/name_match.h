/* base/name_match.h - which dotted names a user's pattern means: a suffix, or a regular expression of the
 * whole name. May include: base. Never: knows what the names are of.
 */
#ifndef GR_BASE_NAME_MATCH_H
#define GR_BASE_NAME_MATCH_H
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Does name end in the len letters at suffix, as a whole number of its parts between dots? Never for len 0.
 */
bool gr_name_ends(const char *name, const char *suffix, size_t len);

typedef struct gr_regex gr_regex;
/* A regular expression (PCRE2, UTF-8) that must match whole names. GRAFT_USAGE: "regular expression of <of>",
 * with what is wrong with it. Owned by caller until gr_regex_free (NULL is fine). */
graft_status gr_regex_new(gr_regex **regex, const char *pattern, size_t len, const char *of,
                          graft_error *err) GR_MUST_CHECK;
/* One thread at a time. A pattern that takes more steps than any name is worth matches nothing from then on,
 * and gr_regex_endless says so: who matched asks it before believing the answers. */
bool gr_regex_matches(gr_regex *regex, const char *name);
/* The same of many patterns together: a match of more than a few steps takes one from *dear, and at 0 such a
 * pattern is endless. */
bool gr_regex_matches_within(gr_regex *regex, const char *name, int64_t *dear);
bool gr_regex_endless(const gr_regex *regex); /* NULL: no */
/* The same for memory that ran out while it matched: GRAFT_NO_MEMORY is what became of it. */
bool gr_regex_starved(const gr_regex *regex);
void gr_regex_free(gr_regex *regex);

#endif
