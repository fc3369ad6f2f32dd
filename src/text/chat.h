/* text/chat.h - messages to tokens and masks through a model's chat template. May include: base, text. */
#ifndef GR_TEXT_CHAT_H
#define GR_TEXT_CHAT_H
#include "text/jinja.h"
#include "text/tokenizer.h"

typedef struct gr_chat gr_chat;
/* Binds a tokenizer's template (GRAFT_NOT_FOUND if it has none; hint says what to do). Borrowed: tok. `now`
 * as in jinja.h. */
graft_status gr_chat_new(gr_chat **chat, const gr_tokenizer *tok, int64_t now,
                         graft_error *err) GR_MUST_CHECK;
/* A model directory's tokenizer and its template; *chat NULL where it has none, as base models do. A template
 * that is there must work. Both owned by caller; NULL after a failure. */
graft_status gr_chat_open(gr_tokenizer **tok, gr_chat **chat, const char *dir, gr_reading how, int64_t now,
                          graft_error *err) GR_MUST_CHECK;
void gr_chat_free(gr_chat *chat);

/* Variables that every rendering sees besides, as keyword arguments of transformers' apply_chat_template: an
 * object, copied. They beat special tokens and `documents`; what a conversation or the renderer itself fills
 * (messages, tools, add_generation_prompt) is refused by name with GRAFT_USAGE. NULL: none. */
graft_status gr_chat_set_variables(gr_chat *chat, const json_t *variables, graft_error *err) GR_MUST_CHECK;

/* One conversation. All borrowed. */
typedef struct gr_chat_row {
    const json_t *messages;
    const json_t *tools;     /* NULL: none */
    const json_t *variables; /* of this row alone, which beat gr_chat_set_variables'; the same are refused.
                                NULL: none */
    size_t asked; /* so many messages are a prompt, and the others its completion; 0: it does not say */
} gr_chat_row;

/* Renders as transformers' apply_chat_template(messages, tools, add_generation_prompt, tokenize=False):
 * variables messages, tools (NULL: none), documents none, add_generation_prompt, bos_token, eos_token and the
 * other special tokens by name, and gr_chat_set_variables'. Message keys that are null or flags are dropped
 * first. A named "tool_use" template is used when tools are given and it exists. */
graft_status gr_chat_render(const gr_chat *chat, const gr_chat_row *row, bool add_generation_prompt,
                            gr_jinja_result *out, graft_error *err) GR_MUST_CHECK;

/* Which tokens of a row carry loss. */
typedef enum gr_train_on { GR_TRAIN_ALL, GR_TRAIN_COMPLETION, GR_TRAIN_ASSISTANT, GR_TRAIN_LAST } gr_train_on;

/* Is it a key of a message that is for the trainer ("train", "weight"), and not for the template? */
bool gr_chat_is_flag(const char *key);

/* For a caller who does not take every row. */
typedef struct gr_mask_bounds {
    int64_t most; /* a row of more tokens gets no mask; 0: any does */
    bool forgive; /* a row whose mask would take too long to find is no error, */
    bool endless; /* out: but this is such a row */
} gr_mask_bounds;

/* Renders, encodes (no special tokens added; special tokens that a message's own text spells out stay text,
 * those of the template are parsed) and masks: mask[i] = 1 where token i is a target; mask[0] is always 0.
 *   all         every token but the first
 *   assistant   the template's generation spans, else each assistant message from the end of its generation
 *               prompt to the end of its rendering
 *   completion, last   from mlx-lm's offset: the length of the rendering of messages[:-1] with generation
 * prompt (when the last message is the assistant's) in tokens
 *   completion of a row that says what is asked   all of its messages' tokens, from where the tokens differ
 * from those of the prompt with generation prompt (TRL 1.16)
 * A message that says "train": true or false, or "weight": 1 or 0, is an exception to that: its span becomes
 * targets, or none (GRAFT_UNSUPPORTED where the template leaves nothing of it). bounds: see there; NULL:
 * none. ids are appended; *mask, NULL or as long as ids before the call, grows with them and is owned by
 * caller (free). */
graft_status gr_chat_encode(const gr_chat *chat, const gr_chat_row *row, gr_train_on train_on,
                            gr_mask_bounds *bounds, gr_ids *ids, uint8_t **mask,
                            graft_error *err) GR_MUST_CHECK;
/* Ids of a prompt for generation: rendering with generation prompt. */
graft_status gr_chat_prompt(const gr_chat *chat, const gr_chat_row *row, gr_ids *ids,
                            graft_error *err) GR_MUST_CHECK;

#endif
