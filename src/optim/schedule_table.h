/* optim/schedule_table.h - the learning rate of every update. */
#ifndef GR_OPTIM_SCHEDULE_TABLE_H
#define GR_OPTIM_SCHEDULE_TABLE_H
#include "base/name_list.h"
#include "graft.h"

/* Names of --lr-schedule: each has a function in schedule_table.c. */
#define GR_SCHEDULE_MAP(X) X(constant, "constant") X(linear, "linear") X(cosine, "cosine")

/* Rate of update k (from 1) of K in all.
 *   lr_schedule   update k of a warm-up of w takes peak*k/w; after it, with p = (k-w-1)/(K-w), at most 1,
 *                 linear is peak*(1-p), cosine peak*(1+cos(pi p))/2, constant peak
 *   mlx_schedule  mlx.optimizers.schedulers at step k-1, joined with its warm-up as mlx-lm's build_schedule:
 *                 starts at warmup_init and holds the peak for two updates. learning_rate is its first
 * argument. A run resumed with the same K goes on with the same rates. errors: none (the options are
 * checked). */
double gr_schedule_rate(const graft_options *o, int64_t update, int64_t total_updates);

/* Checks the name and the number and range of mlx_schedule's arguments: GRAFT_USAGE. */
graft_status gr_schedule_check(const graft_options *o, graft_error *err);

#endif
