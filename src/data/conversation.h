/* data/conversation.h - what a row says, as messages: the formats of rows are recognized here, by their keys.
 *
 *   {"prompt": .., "completion": ..}           texts: a user and an assistant message; lists of messages: one
 * after the other
 *   {"messages": [..], "tools": [..]}          OpenAI's, or with from/value in each message (ShareGPT's)
 *   {"conversations": [..], "system": ..}      ShareGPT's, or with role/content in each message
 *   {"instruction": .., "input": .., "output": .., "system": .., "history": [[..]]}     Alpaca's
 *
 * each of them with "chat_template_kwargs", which are variables of the template for this row.
 * mlx-lm's own come first (completions, messages, text), so that a row which mlx-lm reads is read the same.
 */
#ifndef GR_DATA_CONVERSATION_H
#define GR_DATA_CONVERSATION_H
#include "data/rows.h"

typedef struct gr_conversation {
    json_t *messages;   /* a new list, or NULL: the row is text */
    const json_t *text; /* borrowed from the row, with its key */
    const char *text_key;
    json_t *tools;           /* NULL: none */
    const json_t *variables; /* the row's chat_template_kwargs, borrowed; NULL: none */
    size_t asked;            /* messages of a prompt that is a list; 0: there is none */
    bool unread_system; /* a "system" stands there for nothing: beside a prompt, a text or messages with roles
                         */
} gr_conversation;

/* Only the names of keys are read from config. `check`: a message without role or content is refused; else
 * that is the template's affair. GRAFT_CORRUPT says which key has the wrong type, or which formats are known.
 * Owned by caller until gr_conversation_free. */
graft_status gr_conversation_of(gr_conversation *c, const json_t *row, const gr_rows_config *config,
                                bool check, graft_error *err) GR_MUST_CHECK;
void gr_conversation_free(gr_conversation *c);
static inline gr_chat_row gr_conversation_row(const gr_conversation *c) { /* all borrowed from c */
    return (gr_chat_row){
        .messages = c->messages, .tools = c->tools, .variables = c->variables, .asked = c->asked};
}

/* The parts of it that other formats share. */
/* Appends a row's list of messages, ShareGPT's with their names changed; GRAFT_CORRUPT names `key`. */
graft_status gr_conversation_add(json_t *messages, const json_t *list, const char *key, bool check,
                                 graft_error *err) GR_MUST_CHECK;
/* The member, or NULL when it is absent or null: exports of tables write null for empty cells. Borrowed. */
json_t *gr_row_member(const json_t *object, const char *key);
/* GRAFT_CORRUPT: "key" has the wrong type. */
graft_status gr_row_wrong_type(const char *key, const char *expected, const json_t *value, graft_error *err);
/* "tools" as a list; data sets with fixed columns keep it as JSON in a string. *tools: a new reference, or
 * NULL. */
graft_status gr_row_tools(json_t **tools, const json_t *row, const char *key, graft_error *err) GR_MUST_CHECK;
/* "chat_template_kwargs", variables for this row's rendering. Borrowed; NULL: none. */
graft_status gr_row_variables(const json_t **variables, const json_t *row, graft_error *err) GR_MUST_CHECK;
/* Says in the error's `found` which keys the row has. */
void gr_row_found_keys(const json_t *row, graft_error *err);

#endif
