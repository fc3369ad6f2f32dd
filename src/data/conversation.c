#include "data/conversation.h"
#include "files/json_read.h"

/* The names of keys in force. */
typedef struct keys {
    const char *prompt, *completion, *chat, *text, *tools;
    bool check; /* of messages */
} keys;

static const char *name_or(const char *name, const char *fallback) {
    return name && name[0] ? name : fallback;
}

static keys keys_of(const gr_rows_config *c) {
    return (keys){.prompt = name_or(c->prompt_feature, "prompt"),
                  .completion = name_or(c->completion_feature, "completion"),
                  .chat = name_or(c->chat_feature, "messages"),
                  .text = name_or(c->text_feature, "text"),
                  .tools = name_or(c->tools_feature, "tools")};
}

graft_status gr_row_wrong_type(const char *key, const char *expected, const json_t *value, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "\"%s\" has the wrong type", key);
    gr_expected(err, "%s", expected);
    return gr_found(err, "%s", gr_json_type_text(value));
}

json_t *gr_row_member(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

graft_status gr_row_tools(json_t **tools, const json_t *row, const char *key, graft_error *err) {
    json_t *value = gr_row_member(row, key);
    const char *text = json_string_value(value);
    *tools = NULL;
    if (!value || (text && strcmp(text, "null") == 0)) return GRAFT_OK;
    if (text)
        GR_TRY(gr_json_parse(tools, text, json_string_length(value), key, err));
    else
        *tools = json_incref(value);
    if (json_is_array(*tools)) return GRAFT_OK;
    graft_status st = gr_row_wrong_type(key, "an array", *tools, err);
    json_decref(*tools);
    *tools = NULL;
    return st;
}

graft_status gr_row_variables(const json_t **variables, const json_t *row, graft_error *err) {
    static const char key[] = "chat_template_kwargs", *const not_here[] = {"chat_template",
                                                                           "continue_final_message"};
    *variables = gr_row_member(row, key);
    if (!*variables) return GRAFT_OK;
    if (!json_is_object(*variables)) return gr_row_wrong_type(key, "an object", *variables, err);
    for (size_t i = 0; i < sizeof not_here / sizeof *not_here; i++) {
        if (!json_object_get(*variables, not_here[i])) continue;
        gr_fail(err, GRAFT_UNSUPPORTED, "\"%s\" of a row cannot say \"%s\"", key, not_here[i]);
        return gr_hint(err, "it holds variables of the model's template");
    }
    return GRAFT_OK;
}

/* Adds {"role": role, "content": content}; content is borrowed. */
static bool say(json_t *messages, const char *role, json_t *content) {
    return json_array_append_new(messages, json_pack("{s:s, s:O}", "role", role, "content", content)) == 0;
}

static graft_status said(bool good, graft_error *err) {
    return good ? GRAFT_OK : gr_no_memory(err, 256);
}

/* ---- messages */

/* ShareGPT's names of roles, and what they are called elsewhere. */
static const char *role_of(const char *from) {
    static const char *const names[][2] = {
        {"human", "user"},      {"user", "user"},         {"gpt", "assistant"},   {"assistant", "assistant"},
        {"model", "assistant"}, {"chatgpt", "assistant"}, {"bing", "assistant"},  {"bard", "assistant"},
        {"system", "system"},   {"tool", "tool"},         {"observation", "tool"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i][0], from) == 0) return names[i][1];
    return NULL;
}

/* {"from": .., "value": ..} with its other keys as {"role": .., "content": ..}. */
static graft_status add_shared(json_t *messages, json_t *message, graft_error *err) {
    json_t *from = gr_row_member(message, "from"), *value = gr_row_member(message, "value");
    if (!json_is_string(from)) return gr_row_wrong_type("from", "a string", from, err);
    const char *role = role_of(json_string_value(from));
    if (!role) {
        gr_fail(err, GRAFT_UNSUPPORTED, "an unknown speaker in \"from\"");
        gr_expected(err, "human, gpt, system or tool");
        return gr_found(err, "%.100s", json_string_value(from));
    }
    if (!json_is_string(value)) return gr_row_wrong_type("value", "a string", value, err);
    json_t *made = json_pack("{s:s, s:O}", "role", role, "content", value), *other;
    const char *key;
    bool good = made != NULL;
    json_object_foreach(message, key, other) {
        bool ours =
            !strcmp(key, "from") || !strcmp(key, "value") || !strcmp(key, "role") || !strcmp(key, "content");
        if (good && !ours) /* exports that unify schemas have role and content too: null */
            good = json_object_set(made, key, other) == 0;
    }
    return said(json_array_append_new(messages, made) == 0 && good, err);
}

/* A message needs a role and something to say; what else it may hold is the template's affair. */
static graft_status check_message(const json_t *message, graft_error *err) {
    const json_t *role = json_object_get(message, "role");
    if (!role) return gr_fail(err, GRAFT_CORRUPT, "a message has no \"role\"");
    if (!json_is_string(role)) return gr_row_wrong_type("role", "a string", role, err);
    const json_t *content = gr_row_member(message, "content");
    if (content && !json_is_string(content) && !json_is_array(content))
        return gr_row_wrong_type("content", "a string", content, err);
    if (content) return GRAFT_OK;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)message, key, value) {
        /* an assistant that only calls tools or only thinks has no content */
        if (strcmp(key, "role") != 0 && !json_is_null(value) && !gr_chat_is_flag(key)) return GRAFT_OK;
    }
    gr_fail(err, GRAFT_CORRUPT, "a message has no content");
    return gr_found(err, "role %s, content %s", json_string_value(role),
                    json_object_get(message, "content") ? "null" : "missing");
}

graft_status gr_conversation_add(json_t *messages, const json_t *list, const char *key, bool check,
                                 graft_error *err) {
    size_t i;
    json_t *message;
    if (!json_is_array(list)) return gr_row_wrong_type(key, "an array of messages", list, err);
    if (check && json_array_size(list) == 0) return gr_fail(err, GRAFT_CORRUPT, "\"%s\" is empty", key);
    json_array_foreach((json_t *)list, i, message) {
        if (!json_is_object(message))
            return gr_row_wrong_type("messages[]", "an object with role and content", message, err);
        if (!gr_row_member(message, "role") && gr_row_member(message, "from")) {
            GR_TRY(add_shared(messages, message, err));
        } else {
            if (check) GR_TRY(check_message(message, err));
            GR_TRY(said(json_array_append(messages, message) == 0, err));
        }
    }
    return GRAFT_OK;
}

/* The text of a row's "system" before all else. */
static graft_status add_system(gr_conversation *c, const json_t *row, graft_error *err) {
    json_t *system = gr_row_member(row, "system");
    c->unread_system = false;
    if (!system) return GRAFT_OK;
    if (!json_is_string(system)) return gr_row_wrong_type("system", "a string", system, err);
    return json_string_length(system) ? said(say(c->messages, "system", system), err) : GRAFT_OK;
}

/* ---- prompts */

static graft_status add_completion(gr_conversation *c, json_t *prompt, json_t *completion, const keys *k,
                                   graft_error *err) {
    json_t *messages = c->messages;
    if (json_is_array(prompt) && json_is_array(completion)) {
        GR_TRY(gr_conversation_add(messages, prompt, k->prompt, k->check, err));
        c->asked = json_array_size(messages);
        return gr_conversation_add(messages, completion, k->completion, k->check, err);
    }
    if (!json_is_string(prompt)) return gr_row_wrong_type(k->prompt, "a string", prompt, err);
    if (!json_is_string(completion)) return gr_row_wrong_type(k->completion, "a string", completion, err);
    return said(say(messages, "user", prompt) && say(messages, "assistant", completion), err);
}

/* Alpaca's instruction and input as one text. */
static json_t *asked(const json_t *instruction, const json_t *input) {
    if (!input || json_string_length(input) == 0) return json_incref((json_t *)instruction);
    gr_buf text = {0};
    gr_buf_add(&text, json_string_value(instruction), json_string_length(instruction));
    gr_buf_puts(&text, "\n\n");
    gr_buf_add(&text, json_string_value(input), json_string_length(input));
    json_t *made = text.failed ? NULL : json_stringn(text.data, text.len);
    gr_buf_free(&text);
    return made;
}

static graft_status add_history(json_t *messages, const json_t *history, graft_error *err) {
    size_t i;
    json_t *turn;
    if (!json_is_array(history)) return gr_row_wrong_type("history", "an array of pairs", history, err);
    json_array_foreach((json_t *)history, i, turn) {
        json_t *user = json_array_get(turn, 0), *assistant = json_array_get(turn, 1);
        if (json_array_size(turn) != 2 || !json_is_string(user) || !json_is_string(assistant))
            return gr_row_wrong_type("history[]", "an array of two strings", turn, err);
        GR_TRY(said(say(messages, "user", user) && say(messages, "assistant", assistant), err));
    }
    return GRAFT_OK;
}

static graft_status add_alpaca(gr_conversation *c, const json_t *row, graft_error *err) {
    json_t *messages = c->messages;
    json_t *instruction = gr_row_member(row, "instruction"), *input = gr_row_member(row, "input"),
           *output = gr_row_member(row, "output");
    const json_t *history = gr_row_member(row, "history");
    if (!json_is_string(instruction)) return gr_row_wrong_type("instruction", "a string", instruction, err);
    if (input && !json_is_string(input)) return gr_row_wrong_type("input", "a string", input, err);
    if (!json_is_string(output)) return gr_row_wrong_type("output", "a string", output, err);
    GR_TRY(add_system(c, row, err));
    if (history) GR_TRY(add_history(messages, history, err));
    json_t *question = asked(instruction, input);
    bool good = question && say(messages, "user", question) && say(messages, "assistant", output);
    json_decref(question);
    return said(good, err);
}

/* ---- rows */

/* Keys that often hold a prompt and its answer. */
static graft_status hint_keys(const json_t *row, graft_error *err) {
    static const char *const pairs[][2] = {{"question", "answer"}, {"instruction", "response"},
                                           {"prompt", "response"}, {"query", "response"},
                                           {"input", "output"},    {"problem", "solution"}};
    if (json_object_get(row, "chosen") && json_object_get(row, "rejected"))
        return gr_hint(
            err,
            "--loss dpo or --loss orpo reads pairs; --completion-feature chosen takes the better half alone");
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (gr_row_member(row, pairs[i][0]) && gr_row_member(row, pairs[i][1]))
            return gr_hint(err, "--prompt-feature %s --completion-feature %s may be what you mean",
                           pairs[i][0], pairs[i][1]);
    return gr_hint(err, "name other keys with --text-feature, --prompt-feature, --completion-feature or "
                        "--chat-feature");
}

void gr_row_found_keys(const json_t *row, graft_error *err) {
    gr_buf found = {0};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)row, key, value) {
        gr_buf_printf(&found, "%s\"%.40s\"%s", found.len ? ", " : "", key,
                      json_is_null(value) ? ": null" : "");
        if (found.len > 120) break;
    }
    gr_found(err, "%s", found.len && !found.failed ? found.data : "an empty object");
    gr_buf_free(&found);
}

static graft_status no_format(const json_t *row, const keys *k, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "no known key with a value");
    gr_expected(err,
                "\"%s\"; \"%s\" and \"%s\"; \"%s\"; \"conversations\"; or \"instruction\" and \"output\"",
                k->text, k->prompt, k->completion, k->chat);
    gr_row_found_keys(row, err);
    return hint_keys(row, err);
}

static graft_status read_row(gr_conversation *c, const json_t *row, const keys *k, graft_error *err) {
    json_t *prompt = gr_row_member(row, k->prompt), *completion = gr_row_member(row, k->completion);
    const json_t *chat = gr_row_member(row, k->chat), *shared = gr_row_member(row, "conversations");
    const json_t *system = gr_row_member(row, "system");
    c->unread_system = json_is_string(system) && json_string_length(system); /* until it is read */
    if (prompt && completion) return add_completion(c, prompt, completion, k, err);
    if (chat) {
        const json_t *first = json_array_get(chat, 0);
        if (gr_row_member(first, "from") && !gr_row_member(first, "role")) GR_TRY(add_system(c, row, err));
        return gr_conversation_add(c->messages, chat, k->chat, k->check, err);
    }
    c->text = gr_row_member(row, k->text);
    if (c->text)
        return json_is_string(c->text) ? GRAFT_OK : gr_row_wrong_type(k->text, "a string", c->text, err);
    if (shared) {
        GR_TRY(add_system(c, row, err));
        return gr_conversation_add(c->messages, shared, "conversations", k->check, err);
    }
    if (gr_row_member(row, "instruction") && gr_row_member(row, "output")) return add_alpaca(c, row, err);
    return no_format(row, k, err);
}

graft_status gr_conversation_of(gr_conversation *c, const json_t *row, const gr_rows_config *config,
                                bool check, graft_error *err) {
    keys k = keys_of(config);
    k.check = check;
    *c = (gr_conversation){.messages = json_array(), .text_key = k.text};
    if (!c->messages) return gr_no_memory(err, 64);
    graft_status st = read_row(c, row, &k, err);
    if (st == GRAFT_OK && !c->text) st = gr_row_tools(&c->tools, row, k.tools, err);
    if (st == GRAFT_OK && !c->text) st = gr_row_variables(&c->variables, row, err);
    if (st != GRAFT_OK || c->text) {
        json_decref(c->messages);
        json_decref(c->tools);
        c->messages = c->tools = NULL;
    }
    return st;
}

void gr_conversation_free(gr_conversation *c) {
    json_decref(c->messages);
    json_decref(c->tools);
    *c = (gr_conversation){0};
}
