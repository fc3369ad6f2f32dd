/* data/duplicates.h - rows that stand in a data set twice, or in two data sets: a row repeated is learned
 * twice, and a row of validation that training has measures memory, not learning. May include: base, data.
 * Never: drops a row.
 */
#ifndef GR_DATA_DUPLICATES_H
#define GR_DATA_DUPLICATES_H
#include "data/findings.h"
#include "data/rows.h"

typedef struct gr_duplicates {
    gr_lines rows; /* those with the tokens and the mask of a row of the other set */
    uint64_t of;   /* line of the row that the first of them repeats */
} gr_duplicates;

/* Digest of a row's tokens and mask; of a pair, both halves': `at` is its first. */
uint64_t gr_row_twin(const gr_rows *rows, int64_t at);

/* Rows (pairs) of `rows` that are in `in` too; where the two are the same set, those that repeat an earlier
 * one. For a moment it takes up to 16 bytes for every row of `in`. */
graft_status gr_duplicates_find(gr_duplicates *twins, const gr_rows *rows, const gr_rows *in,
                                graft_error *err) GR_MUST_CHECK;
/* "2 rows repeat an earlier one (lines 5, 9; line 5 is line 2 again)", or with the name of another set "2
 * rows are in train.jsonl too (..)"; malloc'ed. NULL: there are none, or no memory to look for them. */
char *gr_duplicates_note(const gr_rows *rows, const gr_rows *in, const char *name);

#endif
