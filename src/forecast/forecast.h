/* forecast/forecast.h - what a run will cost: the guide's table, memory by part, and time from a short
 * calibration. What it does: opens the run as training would, measured with NULL bases, and fills a
 * graft_plan. May include: everything above fit.
 */
#ifndef GR_FORECAST_FORECAST_H
#define GR_FORECAST_FORECAST_H
#include "train/trainer.h"

/* dir NULL: options.shape. Owned by caller until graft_plan_free. */
graft_status gr_forecast(graft_plan *plan, const char *dir, const graft_options *o, const graft_hooks *hooks,
                         graft_error *err) GR_MUST_CHECK;

/* FLOPs that training executes per token (source: KERNELS: 2 Wl L forward and backward, recompute, attention
 * 2 q S L forward and 5 q S L backward causal, head 4 h V). `targets` is the share of tokens that carry loss.
 */
double gr_train_flops(const gr_model_config *config, const gr_tuning *tuning, int64_t sequence,
                      gr_recompute recompute, double targets);

/* The least that training of the same kind could peak at, bytes, one row at a time with recompute of whole
 * layers: the weights, parameters, gradient and two moments in f32, the input of every layer, one layer's
 * gate and up and the keys of its attention, the gradient of the residual stream in f32, 44 rows of f32
 * logits, and the program as forecast. t is settled. source: KERNELS: 303, 423, 1386 MB beside weights and
 * program for the 0.5B, 1B and 8B shapes at 2048 tokens, rank 16 on every linear */
uint64_t gr_memory_floor(const gr_trainer *t);

#endif
