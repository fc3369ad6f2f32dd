/* forecast/forecast.h - what a run will cost: the table of docs/weights.md, memory by part, and time from a
 * short calibration. What it does: opens the run as training would, measured with NULL bases, and fills a
 * graft_plan. May include: everything above fit.
 */
#ifndef GR_FORECAST_FORECAST_H
#define GR_FORECAST_FORECAST_H
#include "train/trainer.h"

/* dir NULL: options.shape. Owned by caller until graft_plan_free. */
graft_status gr_forecast(graft_plan *plan, const char *dir, const graft_options *o, const graft_hooks *hooks,
                         graft_error *err) GR_MUST_CHECK;

/* FLOPs that training executes per token. A weight multiplies and adds once forward and once for the gradient
 * of its input: 2 Wl L each. Causal attention has two products of q S, of which a half is masked, so 2 q S L
 * forward; backward five: 5 q S L. Head: 4 h V for `targets`, the share of tokens that carry loss. To that
 * what trains, and what recompute computes again. */
double gr_train_flops(const gr_model_config *config, const gr_tuning *tuning, int64_t sequence,
                      gr_recompute recompute, double targets);

/* The least that training of the same kind could peak at, bytes, one row at a time with recompute of whole
 * layers: the weights, parameters, gradient and two moments in f32, the input of every layer, one layer's
 * gate and up and the keys of its attention, the gradient of the residual stream in f32, 44 rows of f32
 * logits, and the program as forecast. t is settled. For the 0.5B, 1B and 8B shapes at 2048 tokens, rank 16
 * on every linear, these terms are 303, 423 and 1386 MB beside weights and program. */
uint64_t gr_memory_floor(const gr_trainer *t);

#endif
