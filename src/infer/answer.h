/* infer/answer.h - from a prompt to its ids, and from logits to the text of an answer, a token at a time:
 * samplers, stop texts, what is sent while it grows. May include: what infer may. Never: runs the model.
 */
#ifndef GR_INFER_ANSWER_H
#define GR_INFER_ANSWER_H
#include "infer/sample.h"
#include "infer/session.h"
#include "infer/stops.h"
#include "text/growing_text.h"

/* The prompt's ids: a chat with the template, or the text as it is. */
graft_status gr_prompt_encode(const gr_session *s, const char *prompt, gr_ids *ids,
                              graft_error *err) GR_MUST_CHECK;
/* The same of a list of messages; tools may be NULL. */
graft_status gr_messages_encode(const gr_session *s, const json_t *messages, const json_t *tools, gr_ids *ids,
                                graft_error *err) GR_MUST_CHECK;
/* Appends one message; false when out of memory. */
bool gr_message_add(json_t *messages, const char *role, const char *content);
/* Tokens of an answer at most: options.max_tokens within what a cache can be asked for. */
int64_t gr_answer_most(const graft_options *o);

/* An answer while it grows. */
typedef struct gr_answer {
    gr_ids ids;            /* the prompt's and the answer's */
    size_t prompt;         /* how many of them are the prompt's */
    gr_growing_text grown; /* the answer's */
    gr_stops stops;        /* --stop */
    gr_sampler sampler;
    bool full;   /* it ended because it had all its tokens */
    bool send;   /* to the hooks */
    size_t sent; /* bytes, of which none changes any more */
} gr_answer;

/* Owned by caller until gr_answer_free, also after a failure. */
graft_status gr_answer_init(gr_answer *g, const gr_session *s, const gr_ids *prompt, bool send,
                            graft_error *err) GR_MUST_CHECK;
void gr_answer_free(gr_answer *g);
/* The next token from logits, which the penalty changes, into the text. *over after the last one; else *id is
 * what the model has to see. */
graft_status gr_answer_next(gr_answer *g, const gr_session *s, float *logits, int32_t *id, bool *over,
                            graft_error *err) GR_MUST_CHECK;
int64_t gr_answer_tokens(const gr_answer *g);
/* Hands the text over (malloc'ed). */
graft_status gr_answer_text(gr_answer *g, char **text, graft_error *err) GR_MUST_CHECK;

#endif
