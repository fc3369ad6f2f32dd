/* train/pairs.h - pairs of rows through the model: one row of the batch each, whose two segments are its
 * halves, so that what a pair adds to a gradient is one leaf of the tree. What it does: log-probabilities of
 * both, and of the reference, which is the same model with everything that trains put aside, or as it was at
 * the start: no second one is held. May include: everything above train, preference_loss.h.
 */
#ifndef GR_TRAIN_PAIRS_H
#define GR_TRAIN_PAIRS_H
#include "layers/preference_loss.h"
#include "net/runtime.h"

/* Inputs of the pair whose first half is row `at`. */
int64_t gr_pair_cost(const gr_rows *rows, int64_t at);
/* Tokens of a half's answer that are predicted: a row's first never is, also where there is no prompt.
 * source: TRL 1.7, whose completion mask is shifted with the labels */
int64_t gr_pair_answer(const gr_row *row);
/* Appends it; false when it does not fit any more. */
bool gr_pair_add(gr_batch_buffer *buffer, const gr_rows *rows, int64_t at);

/* Forward passes over the batch's pairs, whose first halves are rows at[i]: first the reference's (dpo),
 * which nothing is dropped from, then the model's, whose activations stay for a backward. */
void gr_pairs_forward(gr_net *net, gr_batch *batch, const gr_rows *rows, const int64_t *at, gr_pair *pairs,
                      const gr_preference *how);
/* What each target of pair number i of the batch counts for in the gradient, into buffer->weight. */
void gr_pair_weigh(gr_batch_buffer *buffer, const gr_rows *rows, int64_t at, int64_t i,
                   const gr_pair_value *value);

/* Targets of the chosen halves of pairs [first, first + count). */
int64_t gr_pairs_chosen_targets(const gr_rows *rows, int64_t first, int64_t count);
/* What a token counts for in orpo's likelihood, which is the mean over all tokens of all chosen halves, as
 * often as there are pairs: their losses are averaged. */
static inline double gr_pairs_nll_share(int64_t pairs, int64_t chosen_targets) {
    return (double)pairs / (double)gr_max_i64(chosen_targets, 1);
}
/* Scores these pairs; batches are filled up to the bound tokens. Orpo's likelihood is the mean over all
 * tokens of all of them. each (may be NULL) is called per pair. stop is polled between batches (may be NULL).
 * GRAFT_INTERNAL: the buffer does not hold the longest pair. */
graft_status gr_pairs_score(gr_runtime *r, gr_batch_buffer *buffer, const gr_rows *rows, int64_t first,
                            int64_t count, const gr_preference *how, gr_preference_sums *sums,
                            void (*each)(void *user, int64_t pair, const gr_pair *scored,
                                         const gr_pair_value *value),
                            void *user, const volatile int *stop, graft_error *err) GR_MUST_CHECK;

#endif
