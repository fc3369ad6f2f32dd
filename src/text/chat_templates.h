/* text/chat_templates.h - where a model's chat templates stand, in the form that tokenizer_config.json has
 * them: a string, or a list of {"name": .., "template": ..} with the name "default" for the one of every
 * chat.
 */
#ifndef GR_TEXT_CHAT_TEMPLATES_H
#define GR_TEXT_CHAT_TEMPLATES_H
#include "files/gguf.h"
#include <jansson.h>

/* Of a directory's chat_template.jinja and additional_chat_templates/NAME.jinja, which transformers 5 writes;
 * *value is NULL when there are none, and those of tokenizer_config.json count: with files these are nothing.
 * GRAFT_CORRUPT for what is no text. A new reference. */
graft_status gr_chat_templates_of_dir(json_t **value, const char *dir, gr_reading how,
                                      graft_error *err) GR_MUST_CHECK;
/* Of tokenizer.chat_template and, for the names in tokenizer.chat_templates and tool_use,
 * tokenizer.chat_template.NAME. */
graft_status gr_chat_templates_of_gguf(json_t **value, const gr_gguf *file, graft_error *err) GR_MUST_CHECK;
/* One of such a value; name NULL: "default". NULL: there is none. Borrowed. */
const char *gr_chat_template_named(const json_t *value, const char *name);

#endif
