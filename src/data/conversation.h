/* data/conversation.h - what a row says, as messages: the formats of rows are recognized here, by their keys.
 *
 *   {"prompt": .., "completion": ..}           texts: a user and an assistant message; lists of messages: one
 * after the other
 *   {"messages": [..], "tools": [..]}          OpenAI's, or with from/value in each message (ShareGPT's)
 *   {"conversations": [..], "system": ..}      ShareGPT's, or with role/content in each message
 *   {"instruction": .., "input": .., "output": .., "system": .., "history": [[..]]}     Alpaca's
 *
 * mlx-lm's own come first (completions, messages, text), so that a row which mlx-lm reads is read the same.
 */
#ifndef GR_DATA_CONVERSATION_H
#define GR_DATA_CONVERSATION_H
#include "data/rows.h"

typedef struct gr_conversation {
    json_t *messages;   /* a new list, or NULL: the row is text */
    const json_t *text; /* borrowed from the row, with its key */
    const char *text_key;
    const json_t *tools; /* borrowed; NULL: none */
} gr_conversation;

/* Only the names of keys are read from config. `check`: a message without role or content is refused; else
 * that is the template's affair. GRAFT_CORRUPT says which key has the wrong type, or which formats are known.
 * Owned by caller until gr_conversation_free. */
graft_status gr_conversation_of(gr_conversation *c, const json_t *row, const gr_rows_config *config,
                                bool check, graft_error *err) GR_MUST_CHECK;
void gr_conversation_free(gr_conversation *c);

/* The parts of it that other formats share. */
/* Appends a row's list of messages, ShareGPT's with their names changed; GRAFT_CORRUPT names `key`. */
graft_status gr_conversation_add(json_t *messages, const json_t *list, const char *key, bool check,
                                 graft_error *err) GR_MUST_CHECK;
/* The member, or NULL when it is absent or null: exports of tables write null for empty cells. Borrowed. */
json_t *gr_row_member(const json_t *object, const char *key);
/* GRAFT_CORRUPT: "key" has the wrong type. */
graft_status gr_row_wrong_type(const char *key, const char *expected, const json_t *value, graft_error *err);
/* Says in the error's `found` which keys the row has. */
void gr_row_found_keys(const json_t *row, graft_error *err);

#endif
