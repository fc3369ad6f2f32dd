#include "chat/request.h"
#include "base/number.h"
#include "files/json_read.h"
#include "files/json_write.h"
#include <stdarg.h>
#include <stdio.h>

#define MESSAGES_MOST 4096
#define STOPS_MOST    16
#define STOP_BYTES    1024 /* each is looked for at every token */
/* Of the values of a request, beside their texts: four times what the most messages take, each of one part.
 * The tree is gone when the request has been read. */
#define VALUES_MEMORY ((size_t)16 << 20)

bool gr_refuse(gr_refusal *why, const char *param, const char *message, ...) {
    va_list args;
    *why = (gr_refusal){.status = 400, .type = "invalid_request_error"};
    snprintf(why->param, sizeof why->param, "%s", param);
    va_start(args, message);
    gr_vformat(why->message, sizeof why->message, message, args);
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
    NAME,    /* char * of gr_request, owned */
    OPTION,  /* a number, as the option has it */
    FLAG,    /* bool of gr_request */
    NEUTRAL, /* cannot be done: only null, and values that ask for nothing, are taken */
    IDLE,    /* has no effect on an answer */
    OTHER    /* read by a function of its own */
} kind;
typedef struct field {
    const char *name;
    int of;
    kind kind;
    size_t at;
    const char *says; /* OPTION: its name; NEUTRAL: what asks for nothing, a JSON list */
} field;

#define ASK(member) offsetof(gr_request, member)
static const field fields[] = {
    {"model", BOTH, NAME, ASK(model), NULL},
    {"adapter", BOTH, OTHER, 0, NULL},
    {"messages", CHAT, OTHER, 0, NULL},
    {"prompt", COMPLETION, OTHER, 0, NULL},
    {"max_tokens", BOTH, OPTION, 0, "max-tokens"},
    {"max_completion_tokens", CHAT, OPTION, 0, "max-tokens"},
    {"temperature", BOTH, OPTION, 0, "temp"},
    {"top_p", BOTH, OPTION, 0, "top-p"},
    {"top_k", BOTH, OPTION, 0, "top-k"},
    {"min_p", BOTH, OPTION, 0, "min-p"},
    {"repetition_penalty", BOTH, OPTION, 0, "repetition-penalty"},
    {"repetition_context_size", BOTH, OPTION, 0, "repetition-context-size"},
    {"seed", BOTH, OTHER, 0, NULL},
    {"stop", BOTH, OTHER, 0, NULL},
    {"stream", BOTH, FLAG, ASK(stream), NULL},
    {"stream_options", BOTH, OTHER, 0, NULL},
    {"n", BOTH, NEUTRAL, 0, "[1]"},
    {"best_of", COMPLETION, NEUTRAL, 0, "[1]"},
    {"logprobs", BOTH, NEUTRAL, 0, "[false]"}, /* a completion's 0 asks for one */
    {"top_logprobs", CHAT, NEUTRAL, 0, "[0]"},
    {"echo", COMPLETION, NEUTRAL, 0, "[false]"},
    {"suffix", COMPLETION, NEUTRAL, 0, "[\"\"]"},
    {"presence_penalty", BOTH, NEUTRAL, 0, "[0]"},
    {"frequency_penalty", BOTH, NEUTRAL, 0, "[0]"},
    {"logit_bias", BOTH, NEUTRAL, 0, "[{}]"},
    {"response_format", CHAT, NEUTRAL, 0, "[{\"type\": \"text\"}]"},
    {"tools", CHAT, NEUTRAL, 0, "[[]]"},
    {"tool_choice", CHAT, NEUTRAL, 0, "[\"none\", \"auto\"]"},
    {"functions", CHAT, NEUTRAL, 0, "[[]]"},
    {"function_call", CHAT, NEUTRAL, 0, "[\"none\", \"auto\"]"},
    {"parallel_tool_calls", CHAT, IDLE, 0, NULL},
    {"user", BOTH, IDLE, 0, NULL},
    {"metadata", CHAT, IDLE, 0, NULL},
    {"store", CHAT, NEUTRAL, 0, "[false]"},
    {"service_tier", CHAT, NEUTRAL, 0, "[\"auto\", \"default\"]"},
    {"safety_identifier", CHAT, IDLE, 0, NULL},
    {"prompt_cache_key", CHAT, IDLE, 0, NULL},
    {"prompt_cache_retention", CHAT, IDLE, 0, NULL},
    {"reasoning_effort", CHAT, NEUTRAL, 0, "[\"none\"]"},
    {"verbosity", CHAT, NEUTRAL, 0, "[\"medium\"]"},
    {"modalities", CHAT, NEUTRAL, 0, "[[\"text\"]]"},
    {"audio", CHAT, NEUTRAL, 0, "[]"},
    {"prediction", CHAT, NEUTRAL, 0, "[]"},
    {"web_search_options", CHAT, NEUTRAL, 0, "[]"},
};

static bool take_option(gr_request *a, const field *f, const json_t *value, gr_refusal *why) {
    const gr_option_row *row = gr_option_row_at((size_t)gr_option_index(f->says));
    bool whole = row->kind == GR_OPTION_INT, tokens = !strcmp(f->says, "max-tokens");
    double x = json_number_value(value), min = tokens ? 1 : row->shown.min;
    char *at = (char *)&a->o + row->offset;
    if (!json_is_number(value) || (whole && !json_is_integer(value)))
        return gr_refuse(why, f->name, "%s is %s, expected %s", f->name, gr_json_type_text(value),
                         whole ? "an integer" : "a number");
    if (!(x >= min && x <= row->shown.max))
        return gr_refuse(why, f->name, "%s is %g, expected %g to %g", f->name, x, min, row->shown.max);
    if (tokens && a->limited)
        return gr_refuse(why, f->name, "max_tokens and max_completion_tokens are the same: say one of them");
    a->limited |= tokens;
    if (whole)
        *(int64_t *)(void *)at = json_integer_value(value);
    else
        *(double *)(void *)at = x;
    return true;
}

static bool take_neutral(const field *f, const json_t *value, gr_refusal *why) {
    json_t *list = json_loads(f->says, 0, NULL);
    const json_t *one;
    size_t i;
    bool good = false;
    if (!list) return no_memory(why);
    json_array_foreach(list, i, one) {
        bool numbers = json_is_number(value) && json_is_number(one); /* 0.0 is 0 */
        good |= numbers ? json_number_value(value) == json_number_value(one) : json_equal(value, one);
    }
    json_decref(list);
    return good || gr_refuse(why, f->name, "%s is not supported here", f->name);
}

static bool take(gr_request *a, const field *f, json_t *value, gr_refusal *why) {
    char *at = (char *)a + f->at, *copy;
    switch (f->kind) {
    case NAME:
        if (!json_is_string(value))
            return gr_refuse(why, f->name, "%s is %s, expected a string", f->name, gr_json_type_text(value));
        *(char **)(void *)at = copy = gr_strdup(json_string_value(value));
        return copy || no_memory(why);
    case FLAG:
        if (!json_is_boolean(value))
            return gr_refuse(why, f->name, "%s is %s, expected true or false", f->name,
                             gr_json_type_text(value));
        *(bool *)(void *)at = json_is_true(value);
        return true;
    case OPTION: return take_option(a, f, value, why);
    case NEUTRAL: return take_neutral(f, value, why);
    default: return true;
    }
}

static const field *find(const char *name, int of) {
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].of & of && !strcmp(fields[i].name, name)) return &fields[i];
    return NULL;
}

static bool take_all(gr_request *a, json_t *root, int of, gr_refusal *why) {
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value) {
        const field *f = find(name, of), *other = f ? f : find(name, BOTH);
        if (other && json_is_null(value)) continue; /* as if it were not there */
        if (!f)
            return gr_refuse(
                why, name, other ? "%.100s is no field of this path" : "unknown request field: %.100s", name);
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

static bool take_message(gr_request *a, const json_t *message, size_t number, gr_refusal *why) {
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

static bool take_messages(gr_request *a, const json_t *root, gr_refusal *why) {
    const json_t *list = json_object_get(root, "messages"), *message;
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

static bool take_prompt(gr_request *a, const json_t *root, gr_refusal *why) {
    const json_t *prompt = json_object_get(root, "prompt");
    if (json_is_array(prompt) && json_array_size(prompt) == 1) prompt = json_array_get(prompt, 0);
    if (!json_is_string(prompt))
        return gr_refuse(why, "prompt", "prompt is %s, expected one text",
                         prompt ? gr_json_type_text(prompt) : "missing");
    a->prompt = gr_strdup(json_string_value(prompt));
    return a->prompt || no_memory(why);
}

/* One text or several, none of them empty; as the option holds them. */
static bool take_stop(gr_request *a, const json_t *root, gr_refusal *why) {
    json_t *stop = json_object_get(root, "stop"), *list, *text;
    size_t i;
    if (!stop || json_is_null(stop)) return true;
    list = json_is_array(stop) ? json_incref(stop) : json_pack("[O]", stop);
    if (!list) return no_memory(why);
    bool good = json_array_size(list) <= STOPS_MOST;
    json_array_foreach(list, i, text) good &=
        json_string_length(text) > 0 && json_string_length(text) <= STOP_BYTES;
    char *dumped = good && json_array_size(list) ? gr_json_dump(list, JSON_COMPACT) : NULL;
    bool none = good && !json_array_size(list);
    json_decref(list);
    if (!good)
        return gr_refuse(why, "stop",
                         "stop is no text and no list of up to %d, none empty or longer than %d bytes",
                         STOPS_MOST, STOP_BYTES);
    free(a->o.stop);
    a->o.stop = dumped;
    return dumped || none || no_memory(why);
}

static bool take_stream_options(gr_request *a, json_t *options, gr_refusal *why) {
    const char *name;
    json_t *value;
    if (!options || json_is_null(options)) return true;
    if (!json_is_object(options))
        return gr_refuse(why, "stream_options", "stream_options is %s, expected an object",
                         gr_json_type_text(options));
    json_object_foreach(options, name, value) {
        bool usage = !strcmp(name, "include_usage"), padding = !strcmp(name, "include_obfuscation");
        if (!usage && !padding)
            return gr_refuse(why, "stream_options", "unknown field of stream_options: %.100s", name);
        if (!json_is_boolean(value) && !json_is_null(value))
            return gr_refuse(why, "stream_options", "%s is %s, expected true or false", name,
                             gr_json_type_text(value));
        if (padding && json_is_true(value))
            return gr_refuse(why, "stream_options", "include_obfuscation is not supported here");
        if (usage) a->usage = json_is_true(value);
    }
    return a->stream || gr_refuse(why, "stream_options", "stream_options without stream");
}

static bool take_others(gr_request *a, const json_t *root, gr_refusal *why) {
    json_t *seed = json_object_get(root, "seed"), *adapter = json_object_get(root, "adapter");
    const char *name = json_string_value(adapter);
    if (seed && !json_is_null(seed)) {
        if (!json_is_integer(seed)) return gr_refuse(why, "seed", "seed is no integer");
        a->o.seed = (uint64_t)json_integer_value(seed);
        a->seeded = true;
    }
    if (adapter && !name && !json_is_null(adapter))
        return gr_refuse(why, "adapter", "adapter is neither a name nor null");
    a->base = json_is_null(adapter) || (name && !strcmp(name, "none"));
    if (name && !a->base && !(a->adapter = gr_strdup(name))) return no_memory(why);
    const json_t *top_p = json_object_get(root, "top_p");
    /* OpenAI's: the fewest tokens of that mass, one at least. Our option's 0 is mlx-lm's: no such limit. */
    if (json_is_number(top_p) && json_number_value(top_p) <= 0) a->o.top_k = 1;
    return take_stream_options(a, json_object_get(root, "stream_options"), why);
}

static bool take_root(gr_request *a, json_t *root, bool chat, gr_refusal *why) {
    if (!json_is_object(root)) return gr_refuse(why, "", "the request is no JSON object");
    return take_all(a, root, chat ? CHAT : COMPLETION, why) && take_others(a, root, why) &&
           take_stop(a, root, why) && (chat ? take_messages(a, root, why) : take_prompt(a, root, why));
}

bool gr_request_read(gr_request *a, bool chat, const char *text, size_t n, const graft_options *defaults,
                     gr_refusal *why) {
    json_error_t wrong;
    graft_error err = {0};
    *a = (gr_request){0};
    a->o = (graft_options){.temp = defaults->temp,
                           .top_p = defaults->top_p,
                           .top_k = defaults->top_k,
                           .min_p = defaults->min_p,
                           .repetition_penalty = defaults->repetition_penalty,
                           .repetition_context_size = defaults->repetition_context_size,
                           .max_tokens = defaults->max_tokens,
                           .ignore_chat_template = !chat};
    if (defaults->stop && !(a->o.stop = gr_strdup(defaults->stop))) return no_memory(why);
    if (gr_json_fits_in(text, n, SIZE_MAX, VALUES_MEMORY, &err) != GRAFT_OK)
        return gr_refuse(why, "", "the request holds too many values");
    json_t *root = gr_json_loadb(text, n, JSON_REJECT_DUPLICATES, &wrong);
    if (!root && gr_json_no_memory(&wrong)) return no_memory(why);
    if (!root) return gr_refuse(why, "", "the request is not JSON: %s", wrong.text);
    bool good = take_root(a, root, chat, why);
    json_decref(root);
    return good;
}

size_t gr_request_bytes(const gr_request *a) {
    size_t bytes = a->prompt ? strlen(a->prompt) : 0, i;
    const json_t *message;
    json_array_foreach(a->messages, i, message) bytes +=
        json_string_length(json_object_get(message, "content"));
    return bytes;
}

void gr_request_free(gr_request *a) {
    free(a->model);
    free(a->adapter);
    free(a->prompt);
    json_decref(a->messages);
    free(a->o.stop);
    *a = (gr_request){0};
}
