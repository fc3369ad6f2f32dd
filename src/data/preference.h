/* data/preference.h - a row of preferences: a prompt, the answer that was chosen and the one that was
 * rejected, as TRL (1.16) reads them.
 *
 *   {"prompt": "..", "chosen": "..", "rejected": ".."}        texts, or lists of messages
 *   {"chosen": .., "rejected": ..}                            both begin with the prompt
 *   {"prompt": "..", "chosen": [..], "rejected": [..]}        likewise: the text is the prompt again
 *
 * and beside messages "tools", a list or one as JSON in a string, and "chat_template_kwargs".
 */
#ifndef GR_DATA_PREFERENCE_H
#define GR_DATA_PREFERENCE_H
#include "data/rows.h"

typedef struct gr_preference_row {
    json_t *prompt, *chosen, *rejected; /* three strings, or three lists of messages; owned */
    json_t *tools, *variables;          /* of messages; owned; NULL: none */
} gr_preference_row;

/* A prompt that both answers begin with is what they have in common: whole messages, or characters. Where one
 * answer begins with all of the other, the last in common stays with the answers. Only the names of keys are
 * read from config. GRAFT_CORRUPT says which key is missing or has the wrong type, or that nothing is in
 * common. Owned by caller until gr_preference_free. */
graft_status gr_preference_of(gr_preference_row *p, const json_t *row, const gr_rows_config *config,
                              graft_error *err) GR_MUST_CHECK;
void gr_preference_free(gr_preference_row *p);

#endif
