#include "talk/ask.h"
#include "files/json_read.h"
#include "files/json_write.h"
#include <stdarg.h>
#include <stdio.h>

#define MESSAGES_MOST 4096
#define STOPS_MOST    16

bool gr_refuse(gr_refusal *why, const char *param, const char *message, ...) {
    va_list args;
    *why = (gr_refusal){.status = 400, .type = "invalid_request_error"};
    snprintf(why->param, sizeof why->param, "%s", param);
    va_start(args, message);
    vsnprintf(why->message, sizeof why->message, message, args);
    va_end(args);
    return false;
}

static bool no_memory(gr_refusal *why) {
    gr_refuse(why, "", "out of memory");
    why->status = 503, why->type = "server_error";
    return false;
}

/* ------------------------------------------------------------------ fields by the table */

enum { CHAT = 1, COMPLETION = 2, BOTH = 3 };
typedef enum kind {
    TEXT,    /* const char * of gr_ask */
    REAL,    /* double of the options */
    INT,     /* int64_t of the options */
    FLAG,    /* bool of gr_ask */
    NEUTRAL, /* cannot be done: only a value that asks for nothing is taken */
    IDLE,    /* has no effect on an answer */
    OTHER    /* read by a function of its own */
} kind;
typedef struct field {
    const char *name;
    int of;
    kind kind;
    size_t at;
    double min, max; /* of a number; NEUTRAL: the number that asks for nothing */
} field;

#define ASK(member) offsetof(gr_ask, member)
#define OPT(member) offsetof(gr_ask, o.member)
static const field fields[] = {
    {"model", BOTH, TEXT, ASK(model), 0, 0},
    {"adapter", BOTH, OTHER, 0, 0, 0},
    {"messages", CHAT, OTHER, 0, 0, 0},
    {"prompt", COMPLETION, OTHER, 0, 0, 0},
    {"max_tokens", BOTH, INT, OPT(max_tokens), 1, 0x1p30},
    {"max_completion_tokens", CHAT, INT, OPT(max_tokens), 1, 0x1p30},
    {"temperature", BOTH, REAL, OPT(temp), 0, 1e6},
    {"top_p", BOTH, REAL, OPT(top_p), 0, 1},
    {"top_k", BOTH, INT, OPT(top_k), 0, 0x1p30},
    {"min_p", BOTH, REAL, OPT(min_p), 0, 1},
    {"repetition_penalty", BOTH, REAL, OPT(repetition_penalty), 0, 1e6},
    {"repetition_context_size", BOTH, INT, OPT(repetition_context_size), 0, 0x1p30},
    {"seed", BOTH, OTHER, 0, 0, 0},
    {"stop", BOTH, OTHER, 0, 0, 0},
    {"stream", BOTH, FLAG, ASK(stream), 0, 0},
    {"stream_options", BOTH, OTHER, 0, 0, 0},
    {"n", BOTH, NEUTRAL, 0, 1, 0},
    {"best_of", COMPLETION, NEUTRAL, 0, 1, 0},
    {"logprobs", BOTH, NEUTRAL, 0, -1, 0}, /* a completion's 0 asks for one */
    {"top_logprobs", CHAT, NEUTRAL, 0, 0, 0},
    {"echo", COMPLETION, NEUTRAL, 0, 0, 0},
    {"suffix", COMPLETION, NEUTRAL, 0, 0, 0},
    {"presence_penalty", BOTH, NEUTRAL, 0, 0, 0},
    {"frequency_penalty", BOTH, NEUTRAL, 0, 0, 0},
    {"logit_bias", BOTH, NEUTRAL, 0, 0, 0},
    {"response_format", CHAT, NEUTRAL, 0, 0, 0},
    {"tools", CHAT, NEUTRAL, 0, 0, 0},
    {"tool_choice", CHAT, NEUTRAL, 0, 0, 0},
    {"functions", CHAT, NEUTRAL, 0, 0, 0},
    {"function_call", CHAT, NEUTRAL, 0, 0, 0},
    {"parallel_tool_calls", CHAT, IDLE, 0, 0, 0},
    {"user", BOTH, IDLE, 0, 0, 0},
    {"metadata", CHAT, IDLE, 0, 0, 0},
    {"store", CHAT, NEUTRAL, 0, 0, 0},
    {"service_tier", CHAT, NEUTRAL, 0, 0, 0},
    {"safety_identifier", CHAT, IDLE, 0, 0, 0},
    {"prompt_cache_key", CHAT, IDLE, 0, 0, 0},
};

static bool number(const json_t *value, const field *f, double *out, gr_refusal *why) {
    *out = json_number_value(value);
    if (!json_is_number(value) || (f->kind == INT && !json_is_integer(value)))
        return gr_refuse(why, f->name, "%s is %s, expected %s", f->name, gr_json_type_text(value),
                         f->kind == INT ? "an integer" : "a number");
    if (*out >= f->min && *out <= f->max) return true;
    return gr_refuse(why, f->name, "%s is %g, expected %g to %g", f->name, *out, f->min, f->max);
}

/* Does the value ask for nothing? "none", "auto" and so on are how the interface spells it. */
static bool asks_nothing(const json_t *value, double number) {
    static const char *const words[] = {"", "none", "auto", "default", "text"};
    const json_t *type = json_object_get(value, "type");
    if (json_is_object(value) && json_object_size(value) == 1 && type) value = type;
    if (json_is_number(value)) return json_number_value(value) == number;
    if (json_is_string(value))
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (!strcmp(json_string_value(value), words[i])) return true;
    return json_is_null(value) || json_is_false(value) ||
           (json_is_object(value) && !json_object_size(value)) ||
           (json_is_array(value) && !json_array_size(value));
}

static bool take(gr_ask *a, const field *f, json_t *value, gr_refusal *why) {
    char *at = (char *)a + f->at;
    double x;
    switch (f->kind) {
    case TEXT:
        if (!json_is_string(value))
            return gr_refuse(why, f->name, "%s is %s, expected a string", f->name, gr_json_type_text(value));
        *(const char **)(void *)at = json_string_value(value);
        return true;
    case FLAG:
        if (!json_is_boolean(value))
            return gr_refuse(why, f->name, "%s is %s, expected true or false", f->name,
                             gr_json_type_text(value));
        *(bool *)(void *)at = json_is_true(value);
        return true;
    case REAL:
        if (!number(value, f, &x, why)) return false;
        *(double *)(void *)at = x;
        return true;
    case INT:
        if (!number(value, f, &x, why)) return false;
        *(int64_t *)(void *)at = json_integer_value(value);
        if (f->at == OPT(max_tokens)) a->limited = true;
        return true;
    case NEUTRAL:
        if (asks_nothing(value, f->min)) return true;
        return gr_refuse(why, f->name, "%s is not supported here", f->name);
    default: return true;
    }
}

static const field *find(const char *name, int of) {
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].of & of && !strcmp(fields[i].name, name)) return &fields[i];
    return NULL;
}

static bool take_all(gr_ask *a, int of, gr_refusal *why) {
    const char *name;
    json_t *value;
    json_object_foreach(a->root, name, value) {
        const field *f = find(name, of);
        if (!f) return gr_refuse(why, "", "unknown request field: %.100s", name);
        if (json_is_null(value) && f->kind != NEUTRAL) continue; /* as if it were not there */
        if (!take(a, f, value, why)) return false;
    }
    return true;
}

/* ------------------------------------------------------------------ fields of their own */

/* A text, or a list of parts that are texts: put together. New reference; NULL after a failure. */
static json_t *content_of(const json_t *content, size_t number, gr_refusal *why) {
    gr_buf text = {0};
    const json_t *part;
    size_t i;
    bool list = json_is_array(content);
    if (content && !json_is_null(content) && !json_is_string(content) && !list) {
        gr_refuse(why, "messages", "the content of message %zu is neither text nor a list of parts", number);
        return NULL;
    }
    gr_buf_puts(&text, list || !json_is_string(content) ? "" : json_string_value(content));
    json_array_foreach(content, i, part) {
        const char *type = json_string_value(json_object_get(part, "type")),
                   *piece = json_string_value(json_object_get(part, "text"));
        if (!type || strcmp(type, "text") != 0 || !piece) {
            gr_buf_free(&text);
            gr_refuse(why, "messages", "message %zu has a part that is no text: %.40s", number,
                      type ? type : "without a type");
            return NULL;
        }
        gr_buf_puts(&text, piece);
    }
    json_t *all = text.failed ? NULL : json_string(text.data);
    gr_buf_free(&text);
    if (!all) no_memory(why);
    return all;
}

static bool take_message(gr_ask *a, const json_t *message, size_t number, gr_refusal *why) {
    static const char *const roles[] = {"system", "user", "assistant", "developer"};
    const char *role = json_string_value(json_object_get(message, "role")), *known = NULL, *key;
    json_t *value;
    for (size_t i = 0; role && i < sizeof roles / sizeof *roles; i++)
        if (!strcmp(role, roles[i])) known = i == 3 ? "system" : roles[i]; /* its newer name */
    if (!known)
        return gr_refuse(why, "messages",
                         "the role of message %zu is %.40s, expected system, user or assistant", number,
                         role ? role : "missing");
    json_object_foreach((json_t *)(uintptr_t)message, key, value) {
        bool good = !strcmp(key, "role") || !strcmp(key, "content") || !strcmp(key, "name") ||
                    json_is_null(value) || (json_is_array(value) && !json_array_size(value));
        if (!good)
            return gr_refuse(why, "messages", "message %zu has %.60s, which is not supported", number, key);
    }
    json_t *content = content_of(json_object_get(message, "content"), number, why);
    if (!content) return false;
    json_t *plain = json_pack("{s:s, s:o}", "role", known, "content", content);
    return json_array_append_new(a->messages, plain) == 0 || no_memory(why);
}

static bool take_messages(gr_ask *a, gr_refusal *why) {
    const json_t *list = json_object_get(a->root, "messages"), *message;
    size_t i;
    if (!json_is_array(list) || !json_array_size(list))
        return gr_refuse(why, "messages", "messages is missing, or no list of messages");
    if (json_array_size(list) > MESSAGES_MOST)
        return gr_refuse(why, "messages", "%zu messages, at most %d", json_array_size(list), MESSAGES_MOST);
    a->messages = json_array();
    if (!a->messages) return no_memory(why);
    json_array_foreach(list, i, message) if (!take_message(a, message, i, why)) return false;
    return true;
}

static bool take_prompt(gr_ask *a, gr_refusal *why) {
    const json_t *prompt = json_object_get(a->root, "prompt");
    if (json_is_array(prompt) && json_array_size(prompt) == 1) prompt = json_array_get(prompt, 0);
    a->prompt = json_string_value(prompt);
    if (a->prompt) return true;
    return gr_refuse(why, "prompt", "prompt is %s, expected one text",
                     prompt ? gr_json_type_text(prompt) : "missing");
}

/* One text or several, none of them empty; as the option holds them. */
static bool take_stop(gr_ask *a, gr_refusal *why) {
    json_t *stop = json_object_get(a->root, "stop"), *list, *text;
    size_t i;
    if (!stop || json_is_null(stop)) return true;
    list = json_is_array(stop) ? json_incref(stop) : json_pack("[O]", stop);
    if (!list) return no_memory(why);
    bool good = json_array_size(list) <= STOPS_MOST;
    json_array_foreach(list, i, text) good &= json_string_length(text) > 0;
    char *dumped = good && json_array_size(list) ? gr_json_dump(list, JSON_COMPACT) : NULL;
    bool none = good && !json_array_size(list);
    json_decref(list);
    if (!good)
        return gr_refuse(why, "stop", "stop is no text and no list of up to %d, none empty", STOPS_MOST);
    free(a->o.stop);
    a->o.stop = dumped;
    return dumped || none || no_memory(why);
}

static bool take_others(gr_ask *a, gr_refusal *why) {
    json_t *seed = json_object_get(a->root, "seed"), *adapter = json_object_get(a->root, "adapter");
    json_t *options = json_object_get(a->root, "stream_options");
    if (seed && !json_is_null(seed)) {
        if (!json_is_integer(seed)) return gr_refuse(why, "seed", "seed is no integer");
        a->o.seed = (uint64_t)json_integer_value(seed);
        a->seeded = true;
    }
    a->adapter = json_string_value(adapter);
    if (adapter && !a->adapter && !json_is_null(adapter))
        return gr_refuse(why, "adapter", "adapter is neither a name nor null");
    a->base = json_is_null(adapter) || (a->adapter && !strcmp(a->adapter, "none"));
    if (a->base) a->adapter = NULL;
    if (!options || json_is_null(options)) return true;
    const json_t *usage = json_object_get(options, "include_usage");
    if (!json_is_object(options) || json_object_size(options) != (usage != NULL) ||
        (usage && !json_is_boolean(usage)))
        return gr_refuse(why, "stream_options", "stream_options holds include_usage, true or false, alone");
    if (!a->stream) return gr_refuse(why, "stream_options", "stream_options without stream");
    a->usage = json_is_true(usage);
    return true;
}

bool gr_ask_read(gr_ask *a, bool chat, const char *text, size_t n, const graft_options *defaults,
                 gr_refusal *why) {
    json_error_t wrong;
    graft_error err = {0};
    *a = (gr_ask){0};
    a->o = (graft_options){.temp = defaults->temp,
                           .top_p = defaults->top_p,
                           .top_k = defaults->top_k,
                           .min_p = defaults->min_p,
                           .repetition_penalty = defaults->repetition_penalty,
                           .repetition_context_size = defaults->repetition_context_size,
                           .max_tokens = defaults->max_tokens,
                           .ignore_chat_template = !chat};
    if (defaults->stop && !(a->o.stop = gr_strdup(defaults->stop))) return no_memory(why);
    if (gr_json_fits(text, n, GR_CONFIG_LIMIT, &err) != GRAFT_OK)
        return gr_refuse(why, "", "the request holds too many values");
    a->root = gr_json_loadb(text, n, JSON_REJECT_DUPLICATES, &wrong);
    if (!a->root && gr_json_no_memory(&wrong)) return no_memory(why);
    if (!a->root) return gr_refuse(why, "", "the request is not JSON: %s", wrong.text);
    if (!json_is_object(a->root)) return gr_refuse(why, "", "the request is no JSON object");
    return take_all(a, chat ? CHAT : COMPLETION, why) && take_others(a, why) && take_stop(a, why) &&
           (chat ? take_messages(a, why) : take_prompt(a, why));
}

void gr_ask_free(gr_ask *a) {
    json_decref(a->root);
    json_decref(a->messages);
    free(a->o.stop);
    *a = (gr_ask){0};
}
