/* fit/forecast.h - what a run will cost: the guide's table, memory by part, and time from a short
 * calibration. What it does: opens the run as training would, measured with NULL bases, and fills a
 * graft_plan. May include: everything above fit.
 */
#ifndef GR_FIT_FORECAST_H
#define GR_FIT_FORECAST_H
#include "train/trainer.h"

/* dir NULL: options.shape. Owned by caller until graft_plan_free. */
graft_status gr_forecast(graft_plan *plan, const char *dir, const graft_options *o, const graft_hooks *hooks,
                         graft_error *err) GR_MUST_CHECK;

/* FLOPs that training executes per token (source: KERNELS: 2 Wl L forward and backward, recompute, attention
 * 2 q S L forward and 5 q S L backward causal, head 4 h V). `targets` is the share of tokens that carry loss.
 */
double gr_train_flops(const gr_model_config *config, const gr_tuning *tuning, int64_t sequence,
                      gr_recompute recompute, double targets);

#endif
