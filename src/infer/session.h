/* infer/session.h - a model opened to answer or to be measured: runtime, adapter, tokenizer, chat template.
 * May include: everything above infer.
 */
#ifndef GR_INFER_SESSION_H
#define GR_INFER_SESSION_H
#include "adapters/adapter.h"
#include "graft.h"
#include "infer/decode.h"
#include "options/options.h"

typedef struct gr_session {
    const graft_options *o;
    const graft_hooks *hooks;
    gr_tokenizer *tok;
    gr_chat *chat; /* NULL: the model has no template */
    gr_runtime rt; /* not bound yet */
} gr_session;

/* Opens dir with options.threads, compute and, if set, adapter_path. Owned by caller until gr_session_close.
 */
graft_status gr_session_open(gr_session *s, const char *dir, const graft_options *o, const graft_hooks *hooks,
                             graft_error *err) GR_MUST_CHECK;
/* The same with the template variables that the adapter `taught` records (NULL: none), whether or not it is
 * put on the model. */
graft_status gr_session_open_taught(gr_session *s, const char *dir, const graft_options *o,
                                    const char *taught, const graft_hooks *hooks,
                                    graft_error *err) GR_MUST_CHECK;
void gr_session_close(gr_session *s);
/* Tells the user, unless note is NULL; and of files beside `path`, rows of options.data, that are not read.
 */
void gr_session_note(const gr_session *s, const char *note);
void gr_session_note_unread(const gr_session *s, const char *path);
/* Loads options.adapter_path, if there is one, into a runtime that is not bound yet, and tells the hooks what
 * there is to know of how it fits. errors  those of gr_model_identify and gr_adapter_load */
graft_status gr_session_adapter(gr_runtime *rt, const graft_options *o, const graft_hooks *hooks,
                                graft_error *err) GR_MUST_CHECK;
/* Tokenizer and template alone; s->rt stays empty. */
graft_status gr_session_open_text(gr_session *s, const char *dir, const graft_options *o,
                                  const graft_hooks *hooks, graft_error *err) GR_MUST_CHECK;

/* The verbs behind graft.h: dir is the located model directory. taught: as above, options.adapter_path for
 * everybody but those who ask the base for comparison. */
graft_status gr_evaluate(const char *dir, const graft_options *o, const char *taught,
                         const graft_hooks *hooks, graft_eval_result *result, graft_error *err) GR_MUST_CHECK;
graft_status gr_generate(const char *dir, const graft_options *o, const graft_hooks *hooks,
                         graft_generation *result, graft_generation *base, graft_error *err) GR_MUST_CHECK;
graft_status gr_generate_batch(const char *dir, const graft_options *o, const char *taught,
                               const graft_hooks *hooks,
                               void (*answer)(void *user, uint64_t line, const graft_generation *answer),
                               void *user, graft_generation *total, graft_error *err) GR_MUST_CHECK;
graft_status gr_show_rows(const char *dir, const graft_options *o, const graft_hooks *hooks,
                          void (*row)(void *user, const graft_row *row), void *user,
                          graft_error *err) GR_MUST_CHECK;

/* samples.json in the directory o->adapter_path: what the base and that adapter answer to every line of
 * o->prompts. Written when all is answered. */
graft_status gr_samples_save(const char *model_dir, const graft_options *o, const graft_hooks *hooks,
                             graft_error *err) GR_MUST_CHECK;

/* options.data as a file, see data/split_file.h (malloc'ed). */
graft_status gr_data_file(char **path, const graft_options *o, const char *split,
                          graft_error *err) GR_MUST_CHECK;

#endif
