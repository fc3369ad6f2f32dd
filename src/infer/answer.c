#include "infer/answer.h"

bool gr_message_add(json_t *messages, const char *role, const char *content) {
    return json_array_append_new(messages, json_pack("{s:s, s:s}", "role", role, "content", content)) == 0;
}

static graft_status encode_chat(const gr_session *s, const char *prompt, gr_ids *ids, graft_error *err) {
    const graft_options *o = s->o;
    json_t *messages = json_array();
    bool good = messages && (!o->system_prompt || gr_message_add(messages, "system", o->system_prompt)) &&
                gr_message_add(messages, "user", prompt);
    graft_status st =
        good ? gr_chat_prompt(s->chat, &(gr_chat_row){.messages = messages}, ids, err) : gr_no_memory(err, 0);
    json_decref(messages);
    return st;
}

/* At least one token, all within the vocabulary. */
static graft_status check_ids(const gr_session *s, const gr_ids *ids, graft_error *err) {
    for (size_t i = 0; i < ids->count; i++) {
        if (ids->ids[i] >= 0 && ids->ids[i] < s->rt.model->config.vocab) continue;
        gr_fail(err, GRAFT_RANGE, "the tokenizer gave a token beyond the model's vocabulary");
        gr_expected(err, "below %lld", (long long)s->rt.model->config.vocab);
        return gr_found(err, "%d", ids->ids[i]);
    }
    if (ids->count) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "the prompt has no tokens");
    return gr_hint(err, "give it text: this tokenizer puts nothing before it");
}

graft_status gr_prompt_encode(const gr_session *s, const char *prompt, gr_ids *ids, graft_error *err) {
    const graft_options *o = s->o;
    if (o->system_prompt && !s->chat) {
        gr_fail(err, GRAFT_USAGE, "--system-prompt needs a chat template, and the model has none");
        return gr_hint(err, "leave it out and put its text before the prompt, or use an instruct model");
    }
    if (!s->chat || o->ignore_chat_template) {
        GR_TRY(gr_tokenizer_encode(s->tok, prompt, strlen(prompt),
                                   GR_ENCODE_ADD_SPECIAL | GR_ENCODE_PARSE_SPECIAL, ids, err));
    } else {
        GR_TRY(encode_chat(s, prompt, ids, err));
    }
    return check_ids(s, ids, err);
}

graft_status gr_messages_encode(const gr_session *s, const json_t *messages, const json_t *tools, gr_ids *ids,
                                graft_error *err) {
    if (!s->chat || s->o->ignore_chat_template) {
        gr_fail(err, GRAFT_USAGE, "messages need a chat template");
        return gr_hint(err, "%s", s->chat ? "leave --ignore-chat-template out" : "give the prompt as text");
    }
    GR_TRY(gr_chat_prompt(s->chat, &(gr_chat_row){.messages = messages, .tools = tools}, ids, err));
    return check_ids(s, ids, err);
}

#define ANSWER_MOST ((int64_t)1 << 20) /* the cache is reserved for all of them */

int64_t gr_answer_most(const graft_options *o) {
    return gr_min_i64(o->max_tokens, ANSWER_MOST);
}

void gr_answer_free(gr_answer *g) {
    gr_ids_free(&g->ids);
    gr_growing_text_free(&g->grown);
    gr_stops_free(&g->stops);
    gr_sampler_free(&g->sampler);
}

graft_status gr_answer_init(gr_answer *g, const gr_session *s, const gr_ids *prompt, bool send,
                            graft_error *err) {
    const graft_options *o = s->o;
    const gr_sampler_config config = {.temp = o->temp,
                                      .top_p = o->top_p,
                                      .min_p = o->min_p,
                                      .top_k = o->top_k,
                                      .penalty = o->repetition_penalty,
                                      .penalty_ids = o->repetition_context_size,
                                      .seed = o->seed};
    *g = (gr_answer){.prompt = prompt->count, .send = send};
    for (size_t i = 0; i < prompt->count; i++)
        if (!gr_ids_push(&g->ids, prompt->ids[i])) return gr_no_memory(err, prompt->count * sizeof(int32_t));
    GR_TRY(gr_stops_init(&g->stops, o->stop, err));
    return gr_sampler_init(&g->sampler, &config, s->rt.model->config.vocab, err);
}

/* Sends what is new of the text's first `end` bytes. */
static void stream(const gr_session *s, gr_answer *g, size_t end) {
    const graft_hooks *hooks = s->hooks;
    if (!g->send || end <= g->sent || !hooks || !hooks->event) return;
    hooks->event(hooks->user, &(graft_event){.kind = GRAFT_EVENT_TEXT,
                                             .text = g->grown.text.data + g->sent,
                                             .done = (int64_t)(end - g->sent)});
    g->sent = end;
}

/* Looks for a stop text within the first `whole` bytes, of which the first `settled` do not change any more;
 * *over when the answer ends there. */
static void look(const gr_session *s, gr_answer *g, size_t whole, size_t settled, bool *over) {
    size_t end;
    gr_buf *text = &g->grown.text;
    if (!text->data) return;
    if (gr_stops_find(&g->stops, text->data, whole, &end)) {
        text->data[text->len = end] = '\0';
        *over = true;
        g->full = false;
        settled = end;
    } else if (!*over) {
        gr_stops_again(&g->stops, settled);
        settled -= gr_stops_held(&g->stops, text->data, settled);
    }
    stream(s, g, settled);
}

graft_status gr_answer_next(gr_answer *g, const gr_session *s, float *logits, int32_t *id, bool *over,
                            graft_error *err) {
    size_t first = g->prompt;
    /* heads have rows for ids that no token has: padding, which nobody trained */
    int64_t vocab = gr_min_i64(s->rt.model->config.vocab, gr_tokenizer_vocab_size(s->tok));
    gr_sampler_penalize(&g->sampler, logits, g->ids.ids, (int64_t)g->ids.count);
    *id = gr_sample(&g->sampler, logits, vocab);
    *over = gr_tokenizer_is_stop(s->tok, *id);
    if (*over) {
        look(s, g, g->grown.text.len, g->grown.text.len, over);
        return GRAFT_OK;
    }
    if (!gr_ids_push(&g->ids, *id)) return gr_no_memory(err, g->ids.count * sizeof *id);
    GR_TRY(gr_growing_text_add(&g->grown, s->tok, g->ids.ids + first, g->ids.count - first, err));
    *over = g->full = gr_answer_tokens(g) >= gr_answer_most(s->o);
    size_t len = g->grown.text.len;
    look(s, g, *over ? len : g->grown.whole, *over ? len : g->grown.settled, over);
    return GRAFT_OK;
}

int64_t gr_answer_tokens(const gr_answer *g) {
    return (int64_t)(g->ids.count - g->prompt);
}

graft_status gr_answer_text(gr_answer *g, char **text, graft_error *err) {
    size_t len = g->grown.text.len;
    *text = gr_buf_take(&g->grown.text);
    return *text ? GRAFT_OK : gr_no_memory(err, len);
}
