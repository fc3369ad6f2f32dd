/* text/chat_parts.h - shared by chat.c and chat_mask.c only. */
#ifndef GR_TEXT_CHAT_PARTS_H
#define GR_TEXT_CHAT_PARTS_H
#include "text/chat.h"

struct gr_chat {
    const gr_tokenizer *tok; /* borrowed */
    gr_jinja *main, *tools;  /* tools: the named "tool_use" template, or NULL */
    json_t *names;           /* bos_token and the other special tokens */
    json_t *variables;       /* the caller's, which beat them; NULL: none */
    int64_t now;
};

/* What single messages say of their training. */
enum { GR_FLAG_NONE, GR_FLAG_OFF, GR_FLAG_ON };
/* One for each message, malloc'ed; NULL when none says anything. GRAFT_CORRUPT or GRAFT_UNSUPPORTED for
 * values that are neither yes nor no. */
graft_status gr_chat_read_flags(int8_t **flags, const json_t *messages, graft_error *err) GR_MUST_CHECK;

/* messages without flags and the keys that are null; a new reference, NULL when memory ran out or it is no
 * list of objects. */
graft_status gr_chat_clean(const json_t *messages, json_t **clean, graft_error *err) GR_MUST_CHECK;
/* Renders the first `count` of clean messages, with the row's tools and variables. */
graft_status gr_chat_render_part(const gr_chat *chat, const gr_chat_row *row, const json_t *clean,
                                 size_t count, bool prompt, gr_jinja_result *out,
                                 graft_error *err) GR_MUST_CHECK;
/* Does the template that these tools select mark what the assistant generates? */
bool gr_chat_marks_generation(const gr_chat *chat, const json_t *tools);
/* Appends the ids of a rendering and, where starts is not NULL, the byte where each token begins. */
graft_status gr_chat_tokens(const gr_chat *chat, const gr_jinja_result *text, gr_ids *ids, gr_ids *starts,
                            graft_error *err) GR_MUST_CHECK;

#endif
