/* train/optim_table.h - optimizers: one row and one step function each, over the flat parameter vector.
 * May include: base, graft.h. Never: knows layers.
 */
#ifndef GR_TRAIN_OPTIM_TABLE_H
#define GR_TRAIN_OPTIM_TABLE_H
#include "base/pool.h"
#include "graft.h"

#define GR_OPTIM_STATES 2

/* Settings of one run. */
typedef struct gr_optim_config {
    double beta1, beta2, epsilon, weight_decay, momentum, dampening;
    bool nesterov, bias_correction;
} gr_optim_config;

/* Elements [i0, i1) of one update. `update` counts from 1. grad is the mean gradient times `clip`. */
typedef struct gr_optim_step {
    const gr_optim_config *config;
    float *params;
    const float *grad;
    float *state[GR_OPTIM_STATES];
    double rate, clip;
    int64_t update;
} gr_optim_step;

typedef struct gr_optim_row {
    const char *name;
    int states; /* f32 vectors beside the parameters */
    void (*step)(const gr_optim_step *step, int64_t i0, int64_t i1);
    const char *source;
} gr_optim_row;

/* Ended by name == NULL. */
extern const gr_optim_row gr_optim_table[];
const gr_optim_row *gr_optim_find(const char *name); /* NULL if unknown */

/* The run's settings: what the options leave open takes the optimizer's own default. */
gr_optim_config gr_optim_config_of(const graft_options *options);

/* grad[n] = (sum of the tree's slots after `rows` rows) / targets; returns its norm. Both in fixed order. */
double gr_optim_collect(gr_pool *pool, float *grad, float *const *slots, uint64_t rows, int64_t targets,
                        int64_t n);
/* One update over the pool. */
void gr_optim_apply(gr_pool *pool, const gr_optim_row *row, const gr_optim_step *step, int64_t n);

#endif
