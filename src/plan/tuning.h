/* plan/tuning.h - what trains: which tensors of the base get an adapter or train themselves, and where every
 * trained number lies in the one parameter vector.
 * What it does: roles x request -> adapted, trained or frozen, per tensor; the layout of the vector.
 * May include: base, model. Never: weights' bytes, gradients.
 *
 * Files: tuning.c (layout, list, questions), select.c (a request decides), group_pool.c (A shared inside
 * quantization groups), qat_select.c, module_match.c (sets, lists and regular expressions over module paths).
 */
#ifndef GR_PLAN_TUNING_H
#define GR_PLAN_TUNING_H
#include "model/roles.h"

#define GR_RANK_MOST 65536

/* Linears of a block that read the same input share one group, so that their A matrices are one product.
 * ORDER: gr_group_table */
enum { GR_QKV, GR_O, GR_GATE_UP, GR_DOWN, GR_GROUPS };
#define GR_GROUP_MOST  3
#define GR_GROUP_ROLES 6
typedef struct gr_group_row {
    int count;
    gr_role role[GR_GROUP_ROLES]; /* of which a model has GR_GROUP_MOST at most */
} gr_group_row;
extern const gr_group_row
    gr_group_table[GR_GROUPS]; /* {q k v} {o} {gate up} {down}, and what is in their place */

#define GR_NOWHERE (-1) /* a place in the vector: not trained */

/* What trains of one tensor of the base.
 *
 *   linears    y = x W^T + bias + scale * (x A^T) B, A [rank, in], B [rank, out]. source: arXiv 2106.09685
 *              eq. 3
 *
 *   DoRA       y = magnitude / norm * (x W^T + scale * (x A^T) B) + bias with norm[o] = |W + scale (A^T B)^T|
 *              of row o, taken as a constant by the gradient. source: arXiv 2402.09353 eq. 5, section 4.3
 *
 *   embedding  x = W[id] + scale * sum_r B[r, id] A[r, :], A [rank, hidden], B [rank, vocab]: the linear of a
 *              tied head read backwards, so that one pair serves both uses
 *
 *   weight     the tensor itself: it starts as the base's, as f32, and takes the base's place */
typedef struct gr_tuned {
    int64_t rank; /* 0: no adapter */
    int64_t pool; /* so many columns of W share one of A, which is [rank, in / pool] then; 0: none do */
    float scale;
    bool dora, train_bias, train_weight;   /* wishes: set before gr_tuning_place */
    bool saved;                            /* train_weight because --modules-to-save names it */
    int64_t a, b, magnitude, bias, weight; /* first element in the vector, or GR_NOWHERE */
} gr_tuned;

typedef enum gr_param_kind {
    GR_PARAM_A,         /* [rank, in], or [rank, in / pool] */
    GR_PARAM_B,         /* [rank, out] */
    GR_PARAM_MAGNITUDE, /* [out, 0] */
    GR_PARAM_BIAS,      /* [out, 0] */
    GR_PARAM_WEIGHT     /* as gr_role_shape: [out, in], [vocab, hidden], norms [n, 0] */
} gr_param_kind;

/* One trained tensor: rows x max(cols, 1) floats of the vector, row-major. */
typedef struct gr_param {
    gr_param_kind kind;
    gr_role role;
    int64_t layer; /* 0 outside blocks */
    int64_t at;
    int64_t rows, cols; /* cols 0: a vector */
    int64_t stack; /* of a mixture's experts: matrices of rows / stack rows each, one after another; else 1 */
} gr_param;

typedef enum gr_tuning_kind { GR_TUNE_LORA, GR_TUNE_DORA, GR_TUNE_FULL } gr_tuning_kind;
typedef enum gr_bias_mode { GR_BIAS_NONE, GR_BIAS_ALL, GR_BIAS_LORA_ONLY } gr_bias_mode;

typedef struct gr_tuning {
    gr_tuning_kind kind;
    int64_t layers;
    gr_tuned (*block)[GR_ROLES]; /* [layers]; roles inside blocks */
    gr_tuned outside[GR_ROLES];  /* roles outside blocks: embedding, head, final norm */
    double scale, alpha;         /* of modules without a pattern of their own; as files say it */
    int64_t rank;                /* the largest */
    int64_t pool;                /* of every adapter; 0: none */
    bool qat;                    /* quantized linears compute with the quantized sum of base and adapter */
    bool use_rslora;
    gr_bias_mode bias;
    double dropout;
    gr_param *params; /* every trained tensor, in the order of the vector */
    size_t param_count;
    int64_t parameters;    /* floats in the vector */
    int64_t adapted;       /* tensors with A and B */
    int64_t lowest;        /* lowest block with something that trains; `layers` if none */
    bool embedding_trains; /* the gradient must reach the embedding */
    int64_t full_last;     /* --fine-tune-type full: blocks that train, counted from the end */
} gr_tuning;

/* What a run asks for. Strings are borrowed; NULL where an option is not given. */
typedef struct gr_tuning_request {
    gr_tuning_kind kind;
    const char
        *targets; /* set name, comma-separated names (PEFT's suffix match), or re:REGEX (whole match) */
    const char *exclude; /* names or re:REGEX */
    const char *layers;  /* "0,1,5-7" */
    int64_t num_layers;  /* last N blocks; <= 0: all */
    int64_t rank;        /* at most GR_RANK_MOST */
    double alpha;
    double scale; /* NaN: alpha / rank of each module (rsLoRA: alpha / sqrt(rank)); else the number itself,
                     except for modules with an alpha of their own */
    bool use_rslora;
    const char *rank_pattern, *alpha_pattern; /* "q_proj=8,v_proj=4" or a JSON object; PEFT's suffix match */
    const char *modules_to_save;              /* names by suffix: embed_tokens, lm_head, norm .. */
    gr_bias_mode bias;
    double dropout;
    bool measured; /* nobody trains it: what cannot be trained may be in it */
} gr_tuning_request;

/* Decides for every tensor. A request that trains nothing, names a module that does not exist (the nearest is
 * named) or is contradictory is refused (GRAFT_USAGE). Owned by caller until gr_tuning_free. */
graft_status gr_tuning_select(gr_tuning **tuning, const gr_model_config *config,
                              const gr_tuning_request *request, graft_error *err) GR_MUST_CHECK;

/* Makes every A one that is shared inside the base's quantization groups: what B A adds to W is then the same
 * for all columns of a group, and can be added to the group's bias. Where groups differ, inside the largest.
 * GRAFT_UNSUPPORTED names what is in no affine groups. */
struct gr_model;
graft_status gr_tuning_pool(gr_tuning *tuning, const struct gr_model *model, graft_error *err) GR_MUST_CHECK;

/* Makes it quantization-aware. GRAFT_UNSUPPORTED names what cannot be; GRAFT_USAGE with a pool. */
graft_status gr_tuning_qat(gr_tuning *tuning, const struct gr_model *model, graft_error *err) GR_MUST_CHECK;

/* For readers of adapters: an empty tuning (all ranks 0), whose gr_tuned the caller fills (rank, pool, scale,
 * dora, train_bias, train_weight) and gr_tuning_place then lays out: places, params, parameters, lowest,
 * rank. */
graft_status gr_tuning_new(gr_tuning **tuning, const gr_model_config *config, graft_error *err) GR_MUST_CHECK;
/* .. with the settings of another, from its kind to its dropout. */
graft_status gr_tuning_like(gr_tuning **tuning, const gr_tuning *from, const gr_model_config *config,
                            graft_error *err) GR_MUST_CHECK;
graft_status gr_tuning_place(gr_tuning *tuning, const gr_model_config *config,
                             graft_error *err) GR_MUST_CHECK;
void gr_tuning_free(gr_tuning *tuning);

/* What trains of the tensor with that role; layer is ignored outside blocks. */
gr_tuned *gr_tuning_at(gr_tuning *tuning, gr_role role, int64_t layer);
const gr_tuned *gr_tuning_of(const gr_tuning *tuning, gr_role role, int64_t layer);

/* First element of a group's stacked A [sum of ranks, in] and the sum; rank sum 0: no adapter in the group.
 */
int64_t gr_tuning_group(const gr_tuning *tuning, int64_t layer, int group, int64_t *a);

/* Floats of one trained tensor. */
static inline int64_t gr_param_count(const gr_param *p) {
    return p->cols ? p->rows * p->cols : p->rows;
}
/* True where mlx-lm keeps the transposed matrix: optimizers that look at rows and columns see its
 * orientation. */
bool gr_param_transposed(const gr_param *p);
/* "model.layers.3.self_attn.q_proj.lora_A", .lora_B, .magnitude, .bias, .weight */
void gr_param_name(char *name, size_t size, const gr_param *p);

#endif
