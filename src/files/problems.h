/* files/problems.h - collects every mismatch of a file, then fails once with all of them. */
#ifndef GR_FILES_PROBLEMS_H
#define GR_FILES_PROBLEMS_H
#include "base/memory.h"

typedef struct gr_problems {
    graft_status status; /* of the first problem */
    size_t count;
    char text[192]; /* the first problem alone */
    gr_buf list;    /* the first few, separated by "; " */
} gr_problems;

/* Adds one. */
void gr_problems_add(gr_problems *problems, graft_status status, const char *fmt, ...) GR_PRINTF(3, 4);
/* Records them all in err with `where`, frees the list. GRAFT_OK when there was none. */
graft_status gr_problems_end(gr_problems *problems, const char *where, graft_error *err) GR_MUST_CHECK;

#endif
