/* data/split.h - a validation set made from the rows of training. May include: base, data. Never: depends on
 * the order of the rows, on their tokens or on the model, so that more rows, another model or another length
 * move few or none.
 */
#ifndef GR_DATA_SPLIT_H
#define GR_DATA_SPLIT_H
#include "data/rows.h"

/* Moves rows of `train` into *valid, in the order of the file: round(share * rows), at least one, or with
 * share >= 1 that many. They are those with the smallest hash of seed and of the row as it stands in the
 * file; rows of the same tokens and mask stay together, as do the halves of a pair, so that the number may be
 * smaller, or larger where the first such group is. GRAFT_RANGE: no row would be left to train on;
 * GRAFT_CORRUPT: one side has no target. */
graft_status gr_rows_split(gr_rows **valid, gr_rows *train, double share, uint64_t seed,
                           graft_error *err) GR_MUST_CHECK;

#endif
