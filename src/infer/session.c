#include "infer/session.h"
#include "data/places.h"
#include "model/identity.h"
#include <time.h>

void gr_session_note(const gr_session *s, const char *note) {
    if (note && s->hooks && s->hooks->event)
        s->hooks->event(s->hooks->user, &(graft_event){.kind = GRAFT_EVENT_NOTE, .text = note});
}

void gr_session_note_unread(const gr_session *s, const char *path) {
    char *unread = s->o->data ? gr_data_unread(s->o->data, path, gr_options_reading(s->o)) : NULL;
    gr_session_note(s, unread);
    free(unread);
}

graft_status gr_session_open_text(gr_session *s, const char *dir, const graft_options *o,
                                  const graft_hooks *hooks, graft_error *err) {
    char *note = NULL;
    *s = (gr_session){.o = o, .hooks = hooks};
    GR_TRY(gr_chat_open(&s->tok, &s->chat, dir, gr_options_reading(o), (int64_t)time(NULL), err));
    graft_status st = gr_options_template(&note, s->chat, o, o->adapter_path, err);
    gr_session_note(s, note);
    free(note);
    if (st != GRAFT_OK) gr_session_close(s);
    return st;
}

graft_status gr_session_open(gr_session *s, const char *dir, const graft_options *o, const graft_hooks *hooks,
                             graft_error *err) {
    gr_model *model = NULL;
    GR_TRY(gr_session_open_text(s, dir, o, hooks, err));
    graft_status st = gr_model_open_as(&model, dir, gr_options_reading(o), err);
    if (st == GRAFT_OK)
        st = gr_runtime_init(&s->rt, model, o->threads, o->compute && strcmp(o->compute, "fp32") == 0, err);
    if (st == GRAFT_OK && o->adapter_path) {
        gr_adapter_base base = {
            .model = s->rt.model, .allow_other = o->allow_other_base, .reading = gr_options_reading(o)};
        st = gr_model_identify(s->rt.model, s->rt.pool, err);
        if (st == GRAFT_OK)
            st = gr_adapter_load(&s->rt.tuning, &s->rt.owned_params, o->adapter_path, &s->rt.model->config,
                                 &base, err);
        if (base.note[0]) gr_session_note(s, base.note);
        s->rt.params = s->rt.owned_params;
    }
    if (st != GRAFT_OK) gr_session_close(s);
    return st;
}

void gr_session_close(gr_session *s) {
    gr_runtime_free(&s->rt);
    gr_chat_free(s->chat);
    gr_tokenizer_free(s->tok);
    *s = (gr_session){0};
}

graft_status gr_data_file(char **path, const graft_options *o, const char *split, graft_error *err) {
    *path = NULL;
    if (o->data) return gr_data_place(path, o->data, split, gr_options_reading(o), err);
    gr_fail(err, GRAFT_USAGE, "--data is missing");
    return gr_hint(err, "%s", gr_data_wanted);
}
