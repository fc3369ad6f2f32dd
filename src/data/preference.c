#include "data/preference.h"
#include "data/conversation.h"
#include "files/json_read.h"

enum { CHOSEN, REJECTED };
static const char *const half_names[] = {"chosen", "rejected"};

static json_t **half_of(gr_preference_row *p, int half) {
    return half == CHOSEN ? &p->chosen : &p->rejected;
}

/* Which keys a row has to have, and which it has. */
static graft_status missing(const json_t *row, const char *prompt, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "a row of preferences needs \"chosen\" and \"rejected\"");
    gr_expected(err, "\"%s\", \"chosen\" and \"rejected\"; the prompt may be what both begin with", prompt);
    gr_row_found_keys(row, err);
    return gr_hint(err, "--loss dpo and --loss orpo read pairs; without it rows are read one by one");
}

/* What is for another program to heed, and would be passed over in silence here. */
static graft_status check_messages(const json_t *messages, graft_error *err) {
    size_t i;
    json_t *message, *value;
    const char *key;
    json_array_foreach((json_t *)messages, i, message) {
        json_object_foreach(message, key, value) {
            if (!gr_chat_is_flag(key) || json_is_null(value)) continue;
            gr_fail(err, GRAFT_UNSUPPORTED, "\"%s\" of a message means nothing in a pair", key);
            return gr_hint(err, "all of an answer is compared: leave \"%s\" out", key);
        }
    }
    return GRAFT_OK;
}

/* A list of messages in OpenAI's form. */
static graft_status take_messages(json_t **out, const json_t *list, const char *key, graft_error *err) {
    *out = json_array();
    if (!*out) return gr_no_memory(err, 64);
    GR_TRY(gr_conversation_add(*out, list, key, true, err));
    return check_messages(*out, err);
}

static graft_status take_halves(gr_preference_row *p, const json_t *row, graft_error *err) {
    json_t *chosen = gr_row_member(row, half_names[CHOSEN]);
    bool chat = json_is_array(chosen);
    if (!chat && !json_is_string(chosen))
        return gr_row_wrong_type(half_names[CHOSEN], "a string or an array of messages", chosen, err);
    for (int half = CHOSEN; half <= REJECTED; half++) {
        json_t *value = gr_row_member(row, half_names[half]);
        if (chat)
            GR_TRY(take_messages(half_of(p, half), value, half_names[half], err));
        else if (json_is_string(value))
            *half_of(p, half) = json_incref(value);
        else
            return gr_row_wrong_type(half_names[half], "a string, as \"chosen\" is", value, err);
    }
    return GRAFT_OK;
}

/* ---- a prompt that stands in both answers */

static graft_status nothing_shared(graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "\"chosen\" and \"rejected\" have no beginning in common");
    return gr_hint(err, "give the \"prompt\" by itself, or at the beginning of both");
}

/* Bytes of the characters that both begin with, without the space behind them; TRL's extract_prompt. */
static size_t shared_bytes(const char *a, size_t na, const char *b, size_t nb) {
    size_t n = na < nb ? na : nb, at = 0;
    while (at < n && a[at] == b[at]) at++;
    bool differ = at < n;
    if (!differ && at) at--;                                  /* the last in common stays */
    while (at && ((unsigned char)a[at] & 0xc0) == 0x80) at--; /* within a character */
    return at && differ && a[at - 1] == ' ' ? at - 1 : at;
}

static graft_status split_texts(gr_preference_row *p, graft_error *err) {
    const char *a = json_string_value(p->chosen), *b = json_string_value(p->rejected);
    size_t na = json_string_length(p->chosen), nb = json_string_length(p->rejected);
    size_t at = shared_bytes(a, na, b, nb);
    if (!at) return nothing_shared(err);
    json_t *prompt = json_stringn(a, at), *chosen = json_stringn(a + at, na - at),
           *rejected = json_stringn(b + at, nb - at);
    json_decref(p->chosen);
    json_decref(p->rejected);
    *p = (gr_preference_row){.prompt = prompt, .chosen = chosen, .rejected = rejected};
    return prompt && chosen && rejected ? GRAFT_OK : gr_no_memory(err, na + nb);
}

/* Messages [from, to) of a list, as a new one; NULL: no memory. */
static json_t *part_of(const json_t *list, size_t from, size_t to) {
    json_t *part = json_array();
    for (size_t i = from; part && i < to; i++) {
        if (json_array_append(part, json_array_get(list, i)) == 0) continue;
        json_decref(part);
        return NULL;
    }
    return part;
}

static graft_status split_messages(gr_preference_row *p, graft_error *err) {
    json_t *a = p->chosen, *b = p->rejected;
    size_t na = json_array_size(a), nb = json_array_size(b), n = na < nb ? na : nb, at = 0;
    while (at < n && json_equal(json_array_get(a, at), json_array_get(b, at))) at++;
    if (at == n && at) at--;
    if (!at) return nothing_shared(err);
    p->prompt = part_of(a, 0, at);
    p->chosen = part_of(a, at, na);
    p->rejected = part_of(b, at, nb);
    json_decref(a);
    json_decref(b);
    return p->prompt && p->chosen && p->rejected ? GRAFT_OK : gr_no_memory(err, 64);
}

/* ---- rows */

static graft_status take_variables(gr_preference_row *p, const json_t *row, graft_error *err) {
    const json_t *variables;
    GR_TRY(gr_row_variables(&variables, row, err));
    p->variables = json_incref((json_t *)variables);
    return GRAFT_OK;
}

static graft_status read_row(gr_preference_row *p, const json_t *row, const gr_rows_config *config,
                             graft_error *err) {
    const char *key = config->prompt_feature && config->prompt_feature[0] ? config->prompt_feature : "prompt";
    const char *tools = config->tools_feature && config->tools_feature[0] ? config->tools_feature : "tools";
    json_t *prompt = gr_row_member(row, key);
    if (!gr_row_member(row, half_names[CHOSEN]) || !gr_row_member(row, half_names[REJECTED]))
        return missing(row, key, err);
    GR_TRY(take_halves(p, row, err));
    bool chat = json_is_array(p->chosen);
    if (chat) GR_TRY(gr_row_tools(&p->tools, row, tools, err));
    if (chat) GR_TRY(take_variables(p, row, err));
    if (!prompt || (chat && json_is_string(prompt)))
        return chat ? split_messages(p, err) : split_texts(p, err);
    if (chat) return take_messages(&p->prompt, prompt, key, err);
    if (!json_is_string(prompt)) return gr_row_wrong_type(key, "a string, as \"chosen\" is", prompt, err);
    p->prompt = json_incref(prompt);
    return GRAFT_OK;
}

graft_status gr_preference_of(gr_preference_row *p, const json_t *row, const gr_rows_config *config,
                              graft_error *err) {
    *p = (gr_preference_row){0};
    graft_status st = read_row(p, row, config, err);
    if (st != GRAFT_OK) gr_preference_free(p);
    return st;
}

void gr_preference_free(gr_preference_row *p) {
    json_decref(p->prompt);
    json_decref(p->chosen);
    json_decref(p->rejected);
    json_decref(p->tools);
    json_decref(p->variables);
    *p = (gr_preference_row){0};
}
