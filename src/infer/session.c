#include "infer/session.h"
#include "base/hooks.h"
#include "data/split_file.h"
#include "model/identity.h"
#include <time.h>

static void say(const graft_hooks *hooks, const char *note) {
    if (note && note[0]) gr_note(hooks, note);
}

void gr_session_note(const gr_session *s, const char *note) {
    say(s->hooks, note);
}

void gr_session_note_unread(const gr_session *s, const char *path) {
    char *unread = s->o->data ? gr_data_unread(s->o->data, path, gr_options_reading(s->o)) : NULL;
    gr_session_note(s, unread);
    free(unread);
}

static graft_status open_text(gr_session *s, const char *dir, const graft_options *o, const char *taught,
                              const graft_hooks *hooks, graft_error *err) {
    char *note = NULL;
    *s = (gr_session){.o = o, .hooks = hooks};
    GR_TRY(gr_chat_open(&s->tok, &s->chat, dir, gr_options_reading(o), (int64_t)time(NULL), err));
    graft_status st = gr_options_template(&note, s->chat, o, taught, err);
    say(hooks, note);
    free(note);
    if (st != GRAFT_OK) gr_session_close(s);
    return st;
}

graft_status gr_session_open_text(gr_session *s, const char *dir, const graft_options *o,
                                  const graft_hooks *hooks, graft_error *err) {
    return open_text(s, dir, o, o->adapter_path, hooks, err);
}

graft_status gr_session_adapter(gr_runtime *rt, const graft_options *o, const graft_hooks *hooks,
                                graft_error *err) {
    gr_adapter_base base = {
        .model = rt->model, .allow_other = o->allow_other_base, .reading = gr_options_reading(o)};
    if (!o->adapter_path) return GRAFT_OK;
    GR_TRY(gr_model_identify(rt->model, rt->pool, err));
    graft_status st =
        gr_adapter_load(&rt->tuning, &rt->owned_params, o->adapter_path, &rt->model->config, &base, err);
    say(hooks, base.note);
    rt->params = rt->owned_params;
    return st;
}

graft_status gr_session_open_taught(gr_session *s, const char *dir, const graft_options *o,
                                    const char *taught, const graft_hooks *hooks, graft_error *err) {
    gr_model *model = NULL;
    GR_TRY(open_text(s, dir, o, taught, hooks, err));
    graft_status st = gr_model_open_as(&model, dir, gr_options_reading(o), err);
    if (st == GRAFT_OK) st = gr_runtime_init(&s->rt, model, o->threads, gr_options_fp32(o), err);
    if (st == GRAFT_OK) st = gr_session_adapter(&s->rt, o, hooks, err);
    if (st != GRAFT_OK) gr_session_close(s);
    return st;
}

graft_status gr_session_open(gr_session *s, const char *dir, const graft_options *o, const graft_hooks *hooks,
                             graft_error *err) {
    return gr_session_open_taught(s, dir, o, o->adapter_path, hooks, err);
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
