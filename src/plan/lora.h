/* plan/lora.h - which linears get an adapter, of which rank, and where its parameters lie.
 * What it does: roles x request -> adapted or not, per tensor; the layout of the parameter vector.
 * May include: base, model. Never: weights' bytes, gradients.
 */
#ifndef GR_PLAN_LORA_H
#define GR_PLAN_LORA_H
#include "model/roles.h"

/* Linears of a block that read the same input share one group, so that their A matrices are one product. */
#define GR_GROUPS     4
#define GR_GROUP_MOST 3
typedef struct gr_group_row {
    int count;
    gr_role role[GR_GROUP_MOST];
} gr_group_row;
extern const gr_group_row gr_group_table[GR_GROUPS]; /* {q k v} {o} {gate up} {down} */

/* y = x W^T + scale * (x A^T) B with A [rank, in], B [rank, out]. source: arXiv 2106.09685 eq. 3 */
typedef struct gr_lora_linear {
    int64_t rank; /* 0: not adapted */
    int64_t a, b; /* first element of A and B in the parameter vector */
} gr_lora_linear;

typedef struct gr_lora {
    int64_t layers;
    gr_lora_linear (*linear)[GR_LINEARS]; /* [layers] */
    double scale, alpha;
    int64_t rank;
    int64_t parameters; /* floats in the parameter vector */
    int64_t adapted;    /* linears with an adapter */
    int64_t lowest;     /* lowest adapted layer: no backward below it */
} gr_lora;

typedef struct gr_lora_request {
    const char
        *targets; /* set name, comma-separated names (PEFT's suffix match), or re:REGEX (whole match) */
    const char *exclude; /* names or re:REGEX; may be NULL */
    const char *layers;  /* "0,1,5-7"; may be NULL */
    int64_t num_layers;  /* last N blocks; <= 0: all */
    int64_t rank;
    double scale, alpha;
} gr_lora_request;

/* Decides for every linear. A request that adapts nothing, or names a module that does not exist, is refused
 * with the nearest name (GRAFT_USAGE). Owned by caller until gr_lora_free. */
graft_status gr_lora_select(gr_lora **lora, const gr_model_config *config, const gr_lora_request *request,
                            graft_error *err) GR_MUST_CHECK;
/* The same from ranks already known (an adapter that was read): ranks[layer * GR_LINEARS + role], 0: not
 * adapted. */
graft_status gr_lora_from_ranks(gr_lora **lora, const gr_model_config *config, const int64_t *ranks,
                                double scale, graft_error *err) GR_MUST_CHECK;
void gr_lora_free(gr_lora *lora);

/* First element of a group's stacked A [sum of ranks, in] and the sum; rank sum 0: no adapter in the group.
 */
int64_t gr_lora_group(const gr_lora *lora, int64_t layer, int group, int64_t *a);

#endif
