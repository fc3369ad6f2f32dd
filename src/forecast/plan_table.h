/* forecast/plan_table.h - the table of docs/weights.md for one model and one selection: by layer type and by
 * tensor. May include: model, plan, graft.h. Never: memory of a run.
 */
#ifndef GR_FORECAST_PLAN_TABLE_H
#define GR_FORECAST_PLAN_TABLE_H
#include "graft.h"
#include "model/model.h"
#include "plan/tuning.h"

/* Fills plan's types, tensors_list and storage: base tensors as they are stored or, without weights, will be.
 * A type is frozen "true" or "false" when all its tensors are, else "partial". */
graft_status gr_plan_table(graft_plan *plan, const gr_model *model, const gr_tuning *tuning,
                           graft_error *err) GR_MUST_CHECK;

#endif
