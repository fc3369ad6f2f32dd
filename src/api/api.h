/* api.h - the front door behind graft.h: checks arguments, finds the model, calls the rooms. It computes
 * nothing and may include every room. One file for each public header.
 */
#ifndef GR_API_API_H
#define GR_API_API_H
#include "graft.h"
#include "options/options.h"

/* A call whose caller gave no error struct fills this one. */
#define GR_API_OWN_ERROR(err)                                                                                \
    graft_error own_error;                                                                                   \
    if (!(err)) (err) = &own_error

/* What every verb does first: a usable error struct, checked options. */
graft_status gr_api_begin(const graft_options *o, graft_verb verb, graft_error *err) GR_MUST_CHECK;

/* Paths below are malloc'ed. */

/* A GGUF, or a directory of AWQ or GPTQ linears, is taken code for code into a kept MLX directory, once. */
graft_status gr_api_use_kept(char **dir, const char *source, const graft_options *o, const graft_hooks *hooks,
                             graft_error *err) GR_MUST_CHECK;
/* As gr_model_locate; a directory is one that can be opened. Where no `weights` are used its config.json and
 * its tokenizer can be, without a conversion. */
graft_status gr_api_locate(char **path, bool *gguf, const graft_options *o, bool weights,
                           const graft_hooks *hooks, graft_error *err) GR_MUST_CHECK;
/* The model's directory, whatever the user named. */
graft_status gr_api_model_dir(char **dir, const graft_options *o, bool weights, const graft_hooks *hooks,
                              graft_error *err) GR_MUST_CHECK;
/* The directory to train on: 4 or 16 bits where the options ask for them. */
graft_status gr_api_base_dir(char **dir, const graft_options *o, graft_verb verb, const graft_hooks *hooks,
                             graft_error *err) GR_MUST_CHECK;
/* As gr_api_base_dir; NULL where a published shape is asked for. */
graft_status gr_api_dir_or_shape(char **dir, const graft_options *o, graft_verb verb,
                                 const graft_hooks *hooks, graft_error *err) GR_MUST_CHECK;

#endif
