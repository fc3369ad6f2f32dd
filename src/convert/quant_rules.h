/* convert/quant_rules.h - how many bits each matrix gets: the policy of the role table, MLX's mixed recipes,
 * and the user's rules per module (inside this room).
 *
 * A predicate is a list, separated by , or ; of
 *     mixed_2_6 | mixed_3_4 | mixed_3_6 | mixed_4_6      (once, first)  MLX's recipe for what is quantized
 *     NAME=VALUE                      modules whose path is NAME or ends in .NAME
 *     re:REGEX=VALUE                  modules whose whole path REGEX matches
 * VALUE is BITS, BITS:GROUP or false. The first rule that matches decides, also against the policy; then the
 * policy says whether, and the recipe or --q-bits how.
 */
#ifndef GR_CONVERT_QUANT_RULES_H
#define GR_CONVERT_QUANT_RULES_H
#include "base/memory.h"

typedef struct gr_quant_rules gr_quant_rules;

/* bits, group: of matrices that no rule and no recipe speaks of, and the group of rules that name none.
 * predicate may be NULL. GRAFT_USAGE for words that are not understood and numbers that MLX does not have.
 * Owned by caller until gr_quant_rules_free. */
graft_status gr_quant_rules_new(gr_quant_rules **rules, const char *predicate, int bits, int group,
                                graft_error *err) GR_MUST_CHECK;
void gr_quant_rules_free(gr_quant_rules *rules);

typedef struct gr_quant_choice {
    bool quantize;
    bool asked; /* by a rule or a recipe: codes of other numbers are not what the user wants */
    int bits, group;
} gr_quant_choice;

/* For a matrix of a module, e.g. model.layers.3.mlp.up_proj, in a model of `layers` blocks; policy: would it
 * be quantized without a rule? */
gr_quant_choice gr_quant_rules_choose(gr_quant_rules *rules, const char *path, bool policy, int64_t layers);

/* Is there a recipe? mlx-lm then writes an entry for every module. */
bool gr_quant_rules_mixed(const gr_quant_rules *rules);
/* The text of the first rule that has kept a matrix as floats; NULL: none has. Borrowed. */
const char *gr_quant_rules_refusal(const gr_quant_rules *rules);
/* GRAFT_USAGE when a rule has matched no module in any call of choose, GRAFT_UNSUPPORTED when a recipe has
 * met none that it is made for. */
graft_status gr_quant_rules_used(const gr_quant_rules *rules, graft_error *err) GR_MUST_CHECK;

#endif
