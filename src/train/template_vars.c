/* --template-kwargs, or what an adapter records of them, on the way to the chat template. */
#include "adapters/adapter.h"
#include "files/json_read.h"
#include "options/options.h"

static graft_status apply(gr_chat *chat, const char *kwargs, graft_error *err) {
    json_t *variables = NULL;
    GR_TRY(gr_json_parse(&variables, kwargs, strlen(kwargs), "template-kwargs", err));
    graft_status st = gr_chat_set_variables(chat, variables, err);
    json_decref(variables);
    return st;
}

graft_status gr_options_template(char **note, gr_chat *chat, const graft_options *o, const char *adapter,
                                 graft_error *err) {
    const char *own = o->template_kwargs && o->template_kwargs[0] ? o->template_kwargs : NULL;
    char *recorded = NULL;
    bool differ = false;
    *note = NULL;
    if (own && !chat) {
        gr_fail(err, GRAFT_USAGE, "--template-kwargs are for a chat template, and the model has none");
        return gr_hint(err, "put the model family's chat_template.jinja into the model directory");
    }
    if (!chat) return GRAFT_OK;
    if (adapter) GR_TRY(gr_adapter_template_kwargs(&recorded, &differ, adapter, gr_options_reading(o), err));
    graft_status st = own || recorded ? apply(chat, own ? own : recorded, err) : GRAFT_OK;
    gr_buf text = {0};
    if (st == GRAFT_OK && own && recorded && !gr_adapter_same_kwargs(own, recorded))
        gr_buf_printf(&text, "--template-kwargs %.300s: the adapter was trained with %.300s", own, recorded);
    if (st == GRAFT_OK && differ && !own)
        gr_buf_printf(&text,
                      "the adapters were trained with different --template-kwargs: those of the first hold, "
                      "%.300s",
                      recorded ? recorded : "none");
    *note = text.len ? gr_buf_take(&text) : NULL;
    free(recorded);
    return st;
}
