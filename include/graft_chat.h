/* graft_chat.h - talking: a conversation that is kept, and a server for the clients of OpenAI's interface.
 */
#ifndef GRAFT_CHAT_H
#define GRAFT_CHAT_H
#include "graft_hooks.h"
#include "graft_options.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------- chat */

/* A model that is open, adapters over it, and one conversation. What the model has read of it stays in its
 * cache: a turn reads the last answer and what is new, and gives the bits that reading all of it would give.
 * One thread at a time. */
typedef struct graft_chat graft_chat;

/* What a turn cost, and how it ended. */
typedef struct graft_answer {
    char *text;
    const char *finish;    /* "stop", "length", "interrupted"; a constant */
    int64_t tokens;        /* of the answer */
    int64_t prompt_tokens; /* of all that the model saw before it */
    int64_t cached_tokens; /* of those: what was in the cache */
    int64_t dropped;       /* messages at the history's beginning that the model does not see any more: they
                              did not fit into options.max_seq_length */
    double prompt_tokens_per_second, generation_tokens_per_second;
} graft_answer;

/* Opens options.model, and options.adapter_path if set. The options are borrowed until graft_chat_close; what
 * shapes answers (max_tokens, temp, stop ..) may be set anew between them. max_tokens and max_seq_length with
 * the values of graft_options_init, set by no graft_options_set, mean what suits a chat: 512, and 4096 or
 * what the model was made for. NULL after a failure. */
graft_status graft_chat_open(graft_chat **chat, const graft_options *options, const graft_hooks *hooks,
                             graft_error *err);
void graft_chat_close(graft_chat *chat);
/* Goes on with another adapter; path as options.adapter_path ("a=0.7,b=0.3" too), NULL: the base alone. Those
 * that were used stay in memory. After a failure all is as before. */
graft_status graft_chat_use(graft_chat *chat, const char *path, const graft_hooks *hooks, graft_error *err);
/* Another system message, NULL: none. options.system_prompt is the first. */
graft_status graft_chat_system(graft_chat *chat, const char *prompt, graft_error *err);
/* Forgets what was said, not the system message. */
void graft_chat_reset(graft_chat *chat);
/* Says something and fills in the answer, whose pieces come as GRAFT_EVENT_TEXT events too. The stop flag
 * ends the answer: GRAFT_OK with what there is of it, or GRAFT_INTERRUPTED before its first token. After a
 * failure nothing was said. A message that alone does not fit into options.max_seq_length is GRAFT_RANGE. */
graft_status graft_chat_say(graft_chat *chat, const char *text, const graft_hooks *hooks,
                            graft_answer *answer, graft_error *err);
void graft_answer_free(graft_answer *answer);
/* Writes the conversation as a line that training reads: {"messages": [..]}. */
graft_status graft_chat_save(const graft_chat *chat, const char *path, graft_error *err);

/* ------------------------------------------------------------------------------------------- serve */

/* What a server did until it stopped. */
typedef struct graft_serve_result {
    int64_t requests; /* for an answer */
    int64_t answers;  /* given whole */
    int64_t refused;  /* malformed, unknown, one too many, without memory, or not begun when it stopped */
    int64_t left;     /* clients that went away before the end */
    int64_t cut;      /* by stopping; requests is the sum of these four */
    int64_t prompt_tokens, tokens; /* of all but those refused */
} graft_serve_result;

/* Answers OpenAI's requests for chat completions and completions at options.host and port until the stop flag
 * is raised; answers that are under way then have five seconds to end. ready(user, port) is called once it
 * listens (may be NULL); result may be NULL too. GRAFT_IO names a port that is in use. */
graft_status graft_serve(const graft_options *options, const graft_hooks *hooks,
                         void (*ready)(void *user, int port), void *user, graft_serve_result *result,
                         graft_error *err);

#ifdef __cplusplus
}
#endif
#endif
