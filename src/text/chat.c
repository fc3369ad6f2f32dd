/* Messages to text and tokens through a model's template. */
#include "text/chat_parts.h"

static graft_status parse_named(gr_jinja **tmpl, const gr_tokenizer *tok, const char *name,
                                graft_error *err) {
    const char *source = gr_tokenizer_chat_template(tok, name);
    if (!source) return GRAFT_OK;
    return gr_jinja_parse(tmpl, source, strlen(source), err);
}

/* What templates call special tokens: transformers' special_tokens_map. */
static graft_status collect_names(gr_chat *chat, graft_error *err) {
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    chat->names = json_object();
    if (!chat->names) return gr_no_memory(err, 64);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *spelling = gr_tokenizer_special(chat->tok, names[i]);
        if (spelling && json_object_set_new(chat->names, names[i], json_string(spelling)) != 0)
            return gr_no_memory(err, 64);
    }
    return GRAFT_OK;
}

static graft_status fill(gr_chat *chat, graft_error *err) {
    GR_TRY(parse_named(&chat->main, chat->tok, NULL, err));
    GR_TRY(parse_named(&chat->tools, chat->tok, "tool_use", err));
    if (!chat->main) {
        gr_fail(err, GRAFT_NOT_FOUND, "the tokenizer has no chat template");
        return gr_hint(err,
                       "train on text rows, or put the model family's chat_template.jinja into the model "
                       "directory");
    }
    return collect_names(chat, err);
}

graft_status gr_chat_new(gr_chat **chat, const gr_tokenizer *tok, int64_t now, graft_error *err) {
    *chat = NULL;
    gr_chat *made = gr_calloc(1, sizeof *made);
    if (!made) return gr_no_memory(err, sizeof *made);
    made->tok = tok;
    made->now = now;
    graft_status st = fill(made, err);
    if (st == GRAFT_OK)
        *chat = made;
    else
        gr_chat_free(made);
    return st;
}

graft_status gr_chat_open(gr_tokenizer **tok, gr_chat **chat, const char *dir, gr_reading how, int64_t now,
                          graft_error *err) {
    graft_error own = {0};
    *tok = NULL;
    *chat = NULL;
    GR_TRY(gr_tokenizer_open_as(tok, dir, how, err));
    graft_status st = gr_chat_new(chat, *tok, now, &own);
    if (st == GRAFT_OK || st == GRAFT_NOT_FOUND) return GRAFT_OK;
    gr_tokenizer_free(*tok);
    *tok = NULL;
    *err = own;
    return st;
}

void gr_chat_free(gr_chat *chat) {
    if (!chat) return;
    gr_jinja_free(chat->main);
    gr_jinja_free(chat->tools);
    json_decref(chat->names);
    json_decref(chat->variables);
    free(chat);
}

/* documents are given to templates as they are: a list of objects. */
static graft_status check_documents(const json_t *documents, graft_error *err) {
    bool fits = !documents || json_is_null(documents) || json_is_array(documents);
    for (size_t i = 0; i < json_array_size(documents); i++)
        fits &= json_is_object(json_array_get(documents, i));
    if (fits) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "template variable \"documents\" has the wrong type");
    return gr_expected(err, "a list of objects with title and text");
}

/* What is no variable of a template, but filled in or something else altogether. */
static graft_status check_variables(const json_t *variables, graft_error *err) {
    static const char *const ours[] = {"messages", "tools", "add_generation_prompt"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (!json_object_get(variables, ours[i])) continue;
        gr_fail(err, GRAFT_USAGE, "template variable \"%s\" is not the user's to set", ours[i]);
        return gr_hint(err, "it comes from the rows and from what is done with them");
    }
    return check_documents(json_object_get(variables, "documents"), err);
}

graft_status gr_chat_set_variables(gr_chat *chat, const json_t *variables, graft_error *err) {
    GR_TRY(check_variables(variables, err));
    json_t *copy = variables ? json_deep_copy(variables) : NULL;
    if (variables && !copy) return gr_no_memory(err, 64);
    json_decref(chat->variables);
    chat->variables = copy;
    return GRAFT_OK;
}

/* Copies the members that are not null. */
static bool add_members(json_t *to, const json_t *message) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)message, key, value) {
        if (!json_is_null(value) && !gr_chat_is_flag(key) && json_object_set(to, key, value) != 0)
            return false;
    }
    return true;
}

/* transformers fills reasoning_content from its older names, and thinking, in front, from any of them. */
static json_t *clean_message(const json_t *message) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    json_t *clean = json_object(), *found = NULL;
    for (size_t i = 0; i < 3 && (!found || json_is_null(found)); i++)
        found = json_object_get(message, names[i]);
    if (json_is_null(found)) found = NULL;
    bool ok = clean && (!found || json_object_set(clean, "thinking", found) == 0);
    ok = ok && add_members(clean, message);
    ok = ok && (!found || json_object_set(clean, names[0], found) == 0);
    if (ok) return clean;
    json_decref(clean);
    return NULL;
}

graft_status gr_chat_clean(const json_t *messages, json_t **clean, graft_error *err) {
    size_t i;
    json_t *message;
    *clean = NULL;
    if (!json_is_array(messages)) return gr_fail(err, GRAFT_CORRUPT, "messages are not a list");
    json_array_foreach(messages, i, message) if (!json_is_object(message)) return gr_fail(
        err, GRAFT_CORRUPT, "message %zu is not an object with role and content", i + 1);
    json_t *list = json_array();
    bool ok = list != NULL;
    json_array_foreach(messages, i, message) ok =
        ok && json_array_append_new(list, clean_message(message)) == 0;
    if (!ok) {
        json_decref(list);
        return gr_no_memory(err, json_array_size(messages));
    }
    *clean = list;
    return GRAFT_OK;
}

static json_t *first_messages(const json_t *clean, size_t count) {
    json_t *part = json_array();
    for (size_t i = 0; part && i < count; i++)
        if (json_array_append(part, json_array_get(clean, i)) != 0) {
            json_decref(part);
            return NULL;
        }
    return part;
}

static const gr_jinja *template_for(const gr_chat *chat, const json_t *tools) {
    return tools && !json_is_null(tools) && chat->tools ? chat->tools : chat->main;
}

bool gr_chat_marks_generation(const gr_chat *chat, const json_t *tools) {
    return gr_jinja_has_generation(template_for(chat, tools));
}

graft_status gr_chat_render_part(const gr_chat *chat, const gr_chat_row *row, const json_t *clean,
                                 size_t count, bool prompt, gr_jinja_result *out, graft_error *err) {
    const json_t *tools = row->tools;
    bool with_tools = tools && !json_is_null(tools);
    *out = (gr_jinja_result){0};
    GR_TRY(check_variables(row->variables, err));
    json_t *vars = json_copy(chat->names);
    bool ok = vars && json_object_set_new(vars, "messages", first_messages(clean, count)) == 0;
    ok = ok && json_object_set(vars, "tools", with_tools ? (json_t *)tools : json_null()) == 0;
    ok = ok && json_object_set_new(vars, "documents", json_null()) == 0;
    if (ok && chat->variables) ok = json_object_update(vars, chat->variables) == 0;
    if (ok && row->variables) ok = json_object_update(vars, (json_t *)row->variables) == 0;
    ok = ok && json_object_set_new(vars, "add_generation_prompt", json_boolean(prompt)) == 0;
    graft_status st = GRAFT_OK;
    if (ok)
        st = gr_jinja_render(template_for(chat, tools), vars, chat->now, out, err);
    else
        st = gr_no_memory(err, 64);
    json_decref(vars);
    return st;
}

graft_status gr_chat_render(const gr_chat *chat, const gr_chat_row *row, bool add_generation_prompt,
                            gr_jinja_result *out, graft_error *err) {
    json_t *clean;
    *out = (gr_jinja_result){0};
    GR_TRY(gr_chat_clean(row->messages, &clean, err));
    graft_status st =
        gr_chat_render_part(chat, row, clean, json_array_size(clean), add_generation_prompt, out, err);
    json_decref(clean);
    return st;
}

/* Special tokens that messages spell out themselves: all of their bytes are data. One that the template
 * completes
 * ("<|" + role + "|>") is the template's. */
static graft_status typed_specials(const gr_chat *chat, const gr_jinja_result *text, gr_text_range **ranges,
                                   size_t *count, graft_error *err) {
    size_t cap = 0;
    for (size_t at = 0, run = 0; text->from_data && at < text->text.len; at++) {
        if (!text->from_data[at]) continue;
        if (run < at) run = at;
        while (run < text->text.len && text->from_data[run]) run++;
        size_t n = gr_tokenizer_special_at(chat->tok, text->text.data + at, run - at);
        if (!n) continue;
        if (!gr_grow((void **)ranges, &cap, *count, sizeof **ranges)) return gr_no_memory(err, cap);
        (*ranges)[(*count)++] = (gr_text_range){at, at + n};
        at += n - 1;
    }
    return GRAFT_OK;
}

graft_status gr_chat_tokens(const gr_chat *chat, const gr_jinja_result *text, gr_ids *ids, gr_ids *starts,
                            graft_error *err) {
    gr_text_range *typed = NULL;
    size_t ntyped = 0;
    graft_status st = typed_specials(chat, text, &typed, &ntyped, err);
    if (st == GRAFT_OK)
        st = gr_tokenizer_encode_parts(chat->tok, text->text.data, text->text.len, GR_ENCODE_PARSE_SPECIAL,
                                       typed, ntyped, ids, starts, err);
    free(typed);
    return st;
}

graft_status gr_chat_prompt(const gr_chat *chat, const gr_chat_row *row, gr_ids *ids, graft_error *err) {
    gr_jinja_result text;
    GR_TRY(gr_chat_render(chat, row, true, &text, err));
    graft_status st = gr_chat_tokens(chat, &text, ids, NULL, err);
    gr_jinja_result_free(&text);
    return st;
}
