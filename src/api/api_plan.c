#include "api/api.h"
#include "forecast/forecast.h"

const char *const *graft_shapes(void) {
    return gr_shape_names();
}

graft_status graft_plan_make(const graft_options *o, const graft_hooks *hooks, graft_plan *plan,
                             graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    memset(plan, 0, sizeof *plan);
    GR_TRY(gr_api_begin(o, GRAFT_VERB_PLAN, err));
    GR_TRY(gr_api_dir_or_shape(&dir, o, GRAFT_VERB_PLAN, hooks, err));
    graft_status st = gr_forecast(plan, dir, o, hooks, err);
    free(dir);
    return st;
}
