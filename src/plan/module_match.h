/* plan/module_match.h - wishes for modules by set, list or regular expression, and lists of layers.
 * May include: base, model/roles.h.
 */
#ifndef GR_PLAN_MODULE_MATCH_H
#define GR_PLAN_MODULE_MATCH_H
#include "model/roles.h"

typedef struct gr_matcher gr_matcher;

/* wish: a set's name (if `sets`), comma-separated names, or re:REGEX. A name matches when the module's path
 * is it, or ends in "." and it (PEFT); a regular expression matches the whole path. `option` is the flag that
 * errors name (GRAFT_USAGE). Borrows both strings. Owned by caller until gr_matcher_free. */
graft_status gr_matcher_new(gr_matcher **matcher, const char *wish, const char *option, bool sets,
                            graft_error *err) GR_MUST_CHECK;
void gr_matcher_free(gr_matcher *matcher);
bool gr_matches(const gr_matcher *matcher, gr_role role, const char *path);
/* Every name of a list must match a module whose role is in `roles` (bits 1 << role): GRAFT_USAGE names the
 * nearest. Sets and regular expressions pass. */
graft_status gr_matcher_check(const gr_matcher *matcher, const gr_model_config *config, unsigned roles,
                              graft_error *err) GR_MUST_CHECK;

/* One pattern per module, as PEFT's rank_pattern: "q_proj=8,layers.0.mlp.down_proj=4" or a JSON object. A key
 * is a regular expression for the end of a path, from a "." on; the first that matches counts. */
typedef struct gr_patterns gr_patterns;
graft_status gr_patterns_new(gr_patterns **patterns, const char *text, const char *option,
                             graft_error *err) GR_MUST_CHECK;
void gr_patterns_free(gr_patterns *patterns);
/* The value for that path, or `otherwise`; patterns may be NULL. Remembers which keys were used. */
double gr_patterns_value(gr_patterns *patterns, const char *path, double otherwise);
/* GRAFT_RANGE when a key was an expression that does not end in a sensible number of steps: values are wrong.
 */
graft_status gr_patterns_ended(const gr_patterns *patterns, graft_error *err) GR_MUST_CHECK;
/* The same, and a key that no path had, or only paths that an earlier key took: GRAFT_USAGE. Call when all
 * paths were asked. */
graft_status gr_patterns_check(const gr_patterns *patterns, graft_error *err) GR_MUST_CHECK;

/* Does "0,1,5-7" contain `layer`? *bad is set when the text is malformed or beyond the model. */
bool gr_in_layers(const char *text, int64_t layer, int64_t layers, bool *bad);

#endif
