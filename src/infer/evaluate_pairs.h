/* infer/evaluate_pairs.h - what a model makes of preferences. May include: data, train, infer/session.h. */
#ifndef GR_INFER_EVALUATE_PAIRS_H
#define GR_INFER_EVALUATE_PAIRS_H
#include "infer/session.h"

/* Scores every pair of rows into *r, whose row_losses are one per pair with options.per_row. GRAFT_RANGE
 * names pairs whose loss is not a number. */
graft_status gr_evaluate_pairs(gr_session *s, const gr_rows *rows, graft_eval_result *r,
                               graft_error *err) GR_MUST_CHECK;

#endif
