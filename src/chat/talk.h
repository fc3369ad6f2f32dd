/* chat/talk.h - a base that is open once, and adapters over it, each ready to answer.
 * What this room does: conversations that keep their cache (dialogue.c), and OpenAI's interface
 * (service_open.c: from options to an open port; service.c: requests; request.c: what they ask for;
 * scheduler.c: several answers at once; response.c: what is sent back). May include: everything above talk.
 * Never: prints; computes anything of a model itself.
 */
#ifndef GR_CHAT_TALK_H
#define GR_CHAT_TALK_H
#include "infer/decode.h"
#include "infer/decode_batch.h"
#include "infer/session.h"

/* The base as it is, or with an adapter. */
typedef struct gr_voice {
    char *name;    /* how clients ask for it; NULL: the base */
    char *path;    /* of the adapter, or a list as gr_adapter_load takes it; NULL: the base */
    gr_chat *chat; /* with the adapter's template variables; NULL: the model has no template */
    gr_runtime rt; /* model, kernels and pool are the session's, buffers the talk's; the rest is its own */
    gr_decode_batch d; /* of several tokens at once; its caches are lent */
    gr_decode one;     /* of one token of one row; likewise */
} gr_voice;

/* How tokens go through the model. Which of these it is changes an answer's last bits, and nothing else does.
 */
typedef enum gr_talk_way {
    GR_TALK_GROWING, /* prompts by gr_decode_batch_extend, answers a token at a time */
    GR_TALK_IN_TURN, /* prompts whole, answers a token at a time: as graft generate */
    GR_TALK_TOGETHER /* prompts whole, a token of every answer at a time: as graft generate --prompts */
} gr_talk_way;

typedef struct gr_talk {
    const graft_options *o; /* borrowed */
    graft_options plain;    /* a view of them that names no adapter */
    gr_session s;           /* the base; not bound */
    bool identified;
    gr_talk_way way;
    gr_net_config config;
    int64_t most;              /* rows, or tokens of one row, that go through the model at once */
    int64_t context;           /* tokens of a prompt and its answer */
    gr_arena saved, scratch;   /* of the forward passes of all voices, one at a time */
    uint64_t available, taken; /* bytes: when it was opened (0: unknown), and since then for what follows */
    gr_voice **voices;
    size_t count, room;
} gr_talk;

/* Opens dir with threads, compute and so on of the options. Owned by caller until gr_talk_close, which is
 * harmless on a zeroed one. */
graft_status gr_talk_open(gr_talk *t, const char *dir, const graft_options *o, int64_t most, gr_talk_way way,
                          const graft_hooks *hooks, graft_error *err) GR_MUST_CHECK;
void gr_talk_close(gr_talk *t);
/* The voice of that path (NULL: the base), loaded once. Borrowed; lives as long as the talk. name may be
 * NULL. */
graft_status gr_talk_voice(gr_voice **voice, gr_talk *t, const char *name, const char *path,
                           const graft_hooks *hooks, graft_error *err) GR_MUST_CHECK;
/* Notes that so many bytes more will be used. GRAFT_RANGE when all that was noted is more than there is. */
graft_status gr_talk_take(gr_talk *t, uint64_t bytes, graft_error *err) GR_MUST_CHECK;
/* max_tokens, or `usual` where nobody said it: neither an option nor, by another number, a host's field. */
int64_t gr_talk_max_tokens(const graft_options *o, int64_t usual);
/* What gr_answer and the encoders need of a session: the talk's tokenizer and model, the voice's template,
 * options and hooks of one answer. Borrows all. */
gr_session gr_talk_session(const gr_talk *t, const gr_voice *v, const graft_options *o,
                           const graft_hooks *hooks);

/* The verbs behind graft.h: dir is the located model directory. grace: seconds that answers have to end in
 * once the stop flag is raised. */
graft_status gr_dialogue_open(graft_chat **chat, const char *dir, const graft_options *o,
                              const graft_hooks *hooks, graft_error *err) GR_MUST_CHECK;
graft_status gr_service_run(const char *dir, const graft_options *o, const graft_hooks *hooks,
                            void (*ready)(void *user, int port), void *user, double grace,
                            graft_serve_result *result, graft_error *err) GR_MUST_CHECK;

#endif
