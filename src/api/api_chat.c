#include "api/api.h"
#include "talk/talk.h"

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
