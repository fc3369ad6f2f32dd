#include "api/api.h"
#include "infer/session.h"

graft_status graft_eval(const graft_options *o, const graft_hooks *hooks, graft_eval_result *result,
                        graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(gr_api_begin(o, GRAFT_VERB_EVAL, err));
    GR_TRY(gr_api_model_dir(&dir, o, true, hooks, err));
    graft_status st = gr_evaluate(dir, o, o->adapter_path, hooks, result, err);
    free(dir);
    return st;
}

graft_status graft_generate(const graft_options *o, const graft_hooks *hooks, graft_generation *result,
                            graft_generation *base, graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    if (base) memset(base, 0, sizeof *base);
    GR_TRY(gr_api_begin(o, GRAFT_VERB_GENERATE, err));
    GR_TRY(gr_api_model_dir(&dir, o, true, hooks, err));
    graft_status st = gr_generate(dir, o, hooks, result, base, err);
    free(dir);
    return st;
}

graft_status graft_generate_batch(const graft_options *o, const graft_hooks *hooks,
                                  void (*answer)(void *user, uint64_t line, const graft_generation *answer),
                                  void *user, graft_generation *total, graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    memset(total, 0, sizeof *total);
    GR_TRY(gr_api_begin(o, GRAFT_VERB_GENERATE, err));
    GR_TRY(gr_api_model_dir(&dir, o, true, hooks, err));
    graft_status st = gr_generate_batch(dir, o, o->adapter_path, hooks, answer, user, total, err);
    free(dir);
    return st;
}

graft_status graft_tokenize(const graft_options *o, const graft_hooks *hooks,
                            void (*row)(void *user, const graft_row *row), void *user, graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    GR_TRY(gr_api_begin(o, GRAFT_VERB_TOKENIZE, err));
    GR_TRY(gr_api_model_dir(&dir, o, false, hooks, err));
    graft_status st = gr_show_rows(dir, o, hooks, row, user, err);
    free(dir);
    return st;
}
