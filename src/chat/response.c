#include "chat/service.h"
#include "files/json_write.h"
#include <utf8proc.h>

static const char json_mime[] = "application/json";

/* Takes the document over; one that could not be built is a 503, and false. */
static bool reply(gr_exchange *x, int status, json_t *document) {
    static const char none[] = "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\"}}";
    char *text = document ? gr_json_dump(document, JSON_COMPACT) : NULL;
    json_decref(document);
    if (text)
        gr_serve_reply(x, status, json_mime, text, strlen(text));
    else
        gr_serve_reply(x, 503, json_mime, none, sizeof none - 1);
    bool built = text != NULL;
    free(text);
    return built;
}

char *gr_response_utf8(const char *text, size_t n) {
    gr_buf clean = {0};
    gr_buf_puts(&clean, "");
    for (size_t at = 0; at < n;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t len =
            utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(n - at), &code);
        if (len > 0 && code)
            gr_buf_add(&clean, text + at, (size_t)len);
        else
            gr_buf_puts(&clean, "\xef\xbf\xbd");
        at += len > 0 ? (size_t)len : 1;
    }
    return gr_buf_take(&clean);
}

/* Bytes as a JSON string; many readers refuse NUL, which it could hold. */
static json_t *text_of(const char *text, size_t n) {
    json_t *whole = n && memchr(text, 0, n) ? NULL : json_stringn(text, n);
    if (whole) return whole;
    char *clean = gr_response_utf8(text, n);
    whole = clean ? json_string(clean) : NULL;
    free(clean);
    return whole;
}

void gr_response_refusal(gr_exchange *x, const gr_refusal *why) {
    /* a name may be cut in a character */
    json_t *message = text_of(why->message, strlen(why->message)),
           *param = why->param[0] ? text_of(why->param, strlen(why->param)) : json_null();
    (void)reply(x, why->status,
                json_pack("{s:{s:o, s:s, s:o, s:s?}}", "error", "message", message, "type", why->type,
                          "param", param, "code", why->code));
}

static bool is_chat(const gr_job *job) {
    return job->ask.messages != NULL;
}

/* What every document of an answer begins with; choices may be NULL for an empty list. Takes it over. */
static json_t *envelope(const gr_service *s, const gr_job *job, bool piece, json_t *choice) {
    const char *object = !is_chat(job) ? "text_completion"
                         : piece       ? "chat.completion.chunk"
                                       : "chat.completion";
    json_t *choices = choice ? json_pack("[o]", choice) : json_array();
    json_t *all = json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", job->id, "object", object, "created",
                            (json_int_t)job->created, "model", gr_service_voice_name(s, job->voice),
                            "choices", choices);
    bool good = all != NULL;
    if (piece && job->ask.usage) gr_json_put(&good, all, "usage", json_null()); /* the last one has it */
    if (!good) json_decref(all), all = NULL;
    return all;
}

static json_t *usage_of(const gr_job *job) {
    json_int_t prompt = (json_int_t)job->prompt.count, tokens = (json_int_t)gr_answer_tokens(&job->growth);
    return json_pack("{s:I, s:I, s:I}", "prompt_tokens", prompt, "completion_tokens", tokens, "total_tokens",
                     prompt + tokens);
}

static bool send_event(gr_job *job, json_t *document) {
    char *text = document ? gr_json_dump(document, JSON_COMPACT) : NULL;
    gr_buf event = {0};
    json_decref(document);
    if (text) gr_buf_printf(&event, "data: %s\n\n", text);
    bool sent = text && !event.failed && gr_serve_send(job->x, event.data, event.len);
    gr_buf_free(&event);
    free(text);
    return sent;
}

bool gr_response_begin(const gr_service *s, gr_job *job) {
    job->streams = true;
    gr_serve_begin(job->x, 200, "text/event-stream");
    if (!is_chat(job)) return true;
    return send_event(job, envelope(s, job, true,
                                    json_pack("{s:i, s:{s:s, s:s}, s:n, s:n}", "index", 0, "delta", "role",
                                              "assistant", "content", "", "logprobs", "finish_reason")));
}

bool gr_response_piece(const gr_service *s, gr_job *job, const char *text, size_t n) {
    json_t *piece = text_of(text, n);
    json_t *choice = is_chat(job) ? json_pack("{s:i, s:{s:o}, s:n, s:n}", "index", 0, "delta", "content",
                                              piece, "logprobs", "finish_reason")
                                  : json_pack("{s:i, s:o, s:n, s:n}", "index", 0, "text", piece, "logprobs",
                                              "finish_reason");
    return send_event(job, envelope(s, job, true, choice));
}

static bool end_stream(const gr_service *s, gr_job *job, const char *finish) {
    static const char done[] = "data: [DONE]\n\n";
    json_t *choice =
        is_chat(job)
            ? json_pack("{s:i, s:{}, s:n, s:s}", "index", 0, "delta", "logprobs", "finish_reason", finish)
            : json_pack("{s:i, s:s, s:n, s:s}", "index", 0, "text", "", "logprobs", "finish_reason", finish);
    bool sent = send_event(job, envelope(s, job, true, choice));
    if (sent && job->ask.usage) {
        json_t *last = envelope(s, job, true, NULL), *usage = usage_of(job);
        bool good = last && usage;
        gr_json_put(&good, last, "usage", usage);
        if (!good) json_decref(last), last = NULL;
        sent = send_event(job, last);
    }
    sent = sent && gr_serve_send(job->x, done, sizeof done - 1);
    if (sent) gr_serve_end(job->x); /* else it is cut where it is dropped: an end would look whole */
    return sent;
}

bool gr_response_end(const gr_service *s, gr_job *job, const char *finish) {
    const gr_buf *text = &job->growth.grown.text;
    if (job->streams) return end_stream(s, job, finish);
    json_t *content = text_of(text->data, text->len);
    json_t *choice = is_chat(job) ? json_pack("{s:i, s:{s:s, s:o, s:n}, s:n, s:s}", "index", 0, "message",
                                              "role", "assistant", "content", content, "refusal", "logprobs",
                                              "finish_reason", finish)
                                  : json_pack("{s:i, s:o, s:n, s:s}", "index", 0, "text", content, "logprobs",
                                              "finish_reason", finish);
    json_t *whole = envelope(s, job, false, choice), *usage = usage_of(job);
    bool good = whole && usage;
    gr_json_put(&good, whole, "usage", usage);
    if (!good) json_decref(whole), whole = NULL;
    return reply(job->x, 200, whole);
}

void gr_response_broken(gr_job *job) {
    static const char event[] =
        "data: {\"error\":{\"message\":\"the answer failed\",\"type\":\"server_error\"}}\n\n";
    if (gr_serve_send(job->x, event, sizeof event - 1)) gr_serve_end(job->x);
}

static json_t *model_of(const gr_service *s, const char *name) {
    return json_pack("{s:s, s:s, s:I, s:s}", "id", name, "object", "model", "created", (json_int_t)s->started,
                     "owned_by", "graft");
}

void gr_response_models(const gr_service *s, gr_exchange *x, const char *only) {
    json_t *list = json_array();
    bool good = list != NULL, found = false;
    for (size_t i = 0; i < s->talk.count; i++) {
        const char *name = gr_service_voice_name(s, s->talk.voices[i]);
        bool twice = i && s->talk.voices[i] == s->usual; /* under the base's name */
        if (twice || (only && strcmp(only, name) != 0)) continue;
        if (only && !found) (void)reply(x, 200, model_of(s, name));
        found = true;
        gr_json_append(&good, list, model_of(s, name));
    }
    if (!good) json_decref(list), list = NULL;
    if (!only) {
        (void)reply(x, 200, list ? json_pack("{s:s, s:o}", "object", "list", "data", list) : NULL);
        return;
    }
    json_decref(list);
    gr_refusal why;
    gr_refuse(&why, "model", "no such model: %.200s", only);
    why.status = 404, why.code = "model_not_found";
    if (!found) gr_response_refusal(x, &why);
}
