#include "api/api.h"
#include "chat/talk.h"

graft_status graft_chat_open(graft_chat **chat, const graft_options *o, const graft_hooks *hooks,
                             graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    *chat = NULL;
    GR_TRY(gr_api_begin(o, GRAFT_VERB_CHAT, err));
    GR_TRY(gr_api_model_dir(&dir, o, true, hooks, err));
    graft_status st = gr_dialogue_open(chat, dir, o, hooks, err);
    free(dir);
    return st;
}

#define GRACE 5.0 /* seconds; graft_chat.h and docs/serve.md say so */

graft_status graft_serve(const graft_options *o, const graft_hooks *hooks,
                         void (*ready)(void *user, int port), void *user, graft_serve_result *result,
                         graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    graft_serve_result unused;
    if (!result) result = &unused;
    memset(result, 0, sizeof *result);
    GR_TRY(gr_api_begin(o, GRAFT_VERB_SERVE, err));
    GR_TRY(gr_api_model_dir(&dir, o, true, hooks, err));
    graft_status st = gr_service_run(dir, o, hooks, ready, user, GRACE, result, err);
    free(dir);
    return st;
}
