#include "api/api.h"
#include "sweep/sweep.h"

graft_status graft_sweep(const graft_options *o, const graft_hooks *hooks, graft_sweep_result *result,
                         graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    result->best = -1;
    GR_TRY(gr_api_begin(o, GRAFT_VERB_SWEEP, err));
    if (hooks && hooks->ranks && hooks->ranks->size > 1) {
        gr_fail(err, GRAFT_UNSUPPORTED, "a sweep runs on one machine, trial by trial");
        return gr_hint(err, "leave hooks.ranks NULL, or train each setting with graft_train");
    }
    if (o->watch) {
        gr_fail(err, GRAFT_USAGE, "a sweep cannot be watched: --watch is of a training");
        return gr_hint(err, "leave watch 0; graft report compares the trials while the sweep goes on");
    }
    GR_TRY(gr_api_base_dir(&dir, o, GRAFT_VERB_TRAIN, hooks, err));
    graft_status st = gr_sweep(dir, o, hooks, result, err);
    free(dir);
    return st;
}

void graft_sweep_result_free(graft_sweep_result *result) {
    if (!result) return;
    for (size_t i = 0; i < result->ntrials; i++) {
        free(result->trials[i].name);
        free(result->trials[i].values);
        free(result->trials[i].error);
    }
    free(result->trials);
    free(result->best_path);
    memset(result, 0, sizeof *result);
    result->best = -1;
}
