/* data/findings.h - what is wrong with the rows of a file, grouped by kind and named by line.
 * A user repairs a file faster from one complete list than from one error per run.
 */
#ifndef GR_DATA_FINDINGS_H
#define GR_DATA_FINDINGS_H
#include "base/memory.h"

#define GR_FINDING_LINES 10 /* lines that are named; the rest is counted */
#define GR_FINDING_KINDS 12 /* kinds that are told apart; later ones join the last */

/* Rows by their lines: the first ones named, all counted. */
typedef struct gr_lines {
    int64_t count;
    uint64_t lines[GR_FINDING_LINES];
} gr_lines;
void gr_lines_add(gr_lines *lines, uint64_t line);
/* Appends "line 3" or "lines 3, 7, 9 and 12 more"; count >= 1. */
void gr_lines_text(const gr_lines *lines, gr_buf *out);

typedef struct gr_finding {
    graft_error first; /* the first row of this kind: its text, details and hint */
    gr_lines rows;
} gr_finding;

typedef struct gr_findings {
    gr_finding kinds[GR_FINDING_KINDS];
    size_t nkinds;
    int64_t count; /* rows over all kinds */
} gr_findings;

/* Records that the row at `line` failed with *row_error; rows with the same text (`what`) form a kind. */
void gr_findings_add(gr_findings *findings, uint64_t line, const graft_error *row_error);
/* Appends "lines 3, 7 and 2 more: not valid JSON (details of the first)"; kinds separated by "; ". */
void gr_findings_text(const gr_findings *findings, gr_buf *out);
/* One error for all: status and hint of the first kind, place `path`. GRAFT_OK when there is none. `rows` is
 * how many rows were looked at. */
graft_status gr_findings_fail(const gr_findings *findings, const char *path, int64_t rows,
                              graft_error *err) GR_MUST_CHECK;

#endif
