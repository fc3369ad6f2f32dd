/* chat/request.h - what a request for an answer says: OpenAI's JSON to checked values. May include: infer and
 * above. Never: models, sockets.
 *
 * What is known and cannot be done is refused by name, and so is what is not known: nothing is read and
 * ignored but what has no effect by its nature (user, metadata ..).
 */
#ifndef GR_CHAT_REQUEST_H
#define GR_CHAT_REQUEST_H
#include "base/memory.h"
#include "options/options.h"
#include <jansson.h>

/* Why a request is refused, as OpenAI's clients read it. */
typedef struct gr_refusal {
    int status;       /* of HTTP */
    const char *type; /* "invalid_request_error" .. */
    const char *code; /* NULL: none */
    char param[64];   /* the field; "": none */
    char message[400];
} gr_refusal;
/* Fills in a 400; false, for `return`. */
bool gr_refuse(gr_refusal *why, const char *param, const char *message, ...) GR_PRINTF(3, 4);

typedef struct gr_request {
    char *model;          /* owned; NULL: not said */
    char *adapter;        /* owned; NULL: not said, or null */
    bool base;            /* adapter is null or "none" */
    json_t *messages;     /* owned: as templates take them; NULL: a completion */
    char *prompt;         /* owned: of a completion */
    bool stream, usage;   /* in pieces; at their end the tokens' numbers */
    bool seeded, limited; /* seed and max_tokens were said */
    graft_options o;      /* of these what shapes an answer; stop is owned, the rest zero */
} gr_request;

/* chat: of chat completions. defaults: what holds where the request says nothing. Owned by caller until
 * gr_request_free, also after a failure; *why then says what is wrong. */
bool gr_request_read(gr_request *ask, bool chat, const char *text, size_t n, const graft_options *defaults,
                     gr_refusal *why) GR_MUST_CHECK;
void gr_request_free(gr_request *ask);
/* Of all that the model is to read. */
size_t gr_request_bytes(const gr_request *ask);

#endif
