/* net/net.h - wires the layers along the plan: one function binds all buffers (with NULL bases it only
 * measures), then forward, loss and backward over a ragged batch. May include: base, model, plan, kernels,
 * layers. Never: allocates, reads files, fails after bind.
 *
 * Four arenas: weights are mapped by the model; STATE holds parameters, gradients and optimizer (bound by the
 * trainer); SAVED what the backward pass needs from the forward pass; SCRATCH what every layer uses again.
 */
#ifndef GR_NET_NET_H
#define GR_NET_NET_H
#include "layers/attention.h"
#include "layers/embedding.h"
#include "layers/experts.h"
#include "layers/head.h"
#include "layers/norm.h"
#include "layers/rowwise.h"
#include "model/model.h"

/* What forward leaves for backward, one layer. act unless noted; T tokens. NULL where not needed. */
typedef struct gr_saved {
    void *x;             /* [T, hidden] input of the block */
    void *q, *k, *v;     /* [T, q], [T, kv], [T, kv]: rotated; of a fused linear parts of its [T, q + 2 kv] */
    void *q_raw, *k_raw; /* before per-head norm (Qwen3) */
    float *q_rstd, *k_rstd;    /* f32 [T, heads] */
    void *attn;                /* [T, q] */
    float *lse;                /* f32 [heads, T] */
    void *x_mid;               /* [T, hidden] after attention's residual */
    float *rstd_in, *rstd_mid; /* f32 [T] */
    void *branch[2];           /* [T, hidden] attention's output and the MLP's, where a norm is behind them */
    float *rstd_branch[2];     /* f32 [T] */
    gr_routing routing;        /* of a mixture, whose gate and up are [T * used, mlp] */
    void *gate, *up;           /* [T, mlp]; of a fused linear parts of its [T, 2 mlp]; gate NULL: none */
    void *xa[GR_GROUPS];       /* [T, ranks] */
} gr_saved;

/* Keys and values of one row's tokens so far, for generation: act [layers][kv_heads][capacity][head_dim]. */
typedef struct gr_kv_cache {
    char *k, *v;
    int64_t capacity, length;
} gr_kv_cache;

/* What backward computes again instead of keeping it, least first. Changes no bit. */
typedef enum gr_recompute {
    GR_RECOMPUTE_NONE,  /* 0: everything is kept */
    GR_RECOMPUTE_MLP,   /* gate, up and what follows them in the block */
    GR_RECOMPUTE_LAYER, /* all but x */
    GR_RECOMPUTES
} gr_recompute;
extern const char *const gr_recompute_name[GR_RECOMPUTES]; /* none, mlp, layer */

typedef struct gr_net_config {
    int64_t tokens;  /* most tokens of one batch */
    int64_t longest; /* most tokens of one row */
    int64_t targets; /* most of them in one batch; 0: every token may be one */
    bool training;   /* backward will run */
    gr_recompute recompute;
    int64_t head_tile; /* rows of logits at once; 0: gr_head_tile. Changes no bit */
} gr_net_config;

typedef struct gr_net {
    const gr_model *model;
    const gr_tuning *tuning; /* NULL: base model only */
    const float *params;     /* the parameter vector; NULL while measuring or without tuning */
    gr_compute compute;
    gr_net_config config;
    gr_kv_cache *cache; /* NULL: none. Else forward stores the keys and values of row j in cache[j] */
    gr_saved *saved;    /* [layers + 1]; the last has only x */
    float *cosine[GR_ROPES], *sine[GR_ROPES]; /* [longest, rotary/2] */
    gr_embedding embedding;
    gr_head head;
    gr_mat trained_embed, trained_head; /* the tables where they train themselves */
    gr_target *targets;                 /* [tokens] */
    /* scratch; what lies in one place is never alive at one time */
    void *norm, *act_mlp;   /* [T, hidden], [T, mlp]; norm is the place of the last block's output, too */
    float *dres;            /* f32 [T, hidden]: gradient of the residual stream */
    void *d_hidden, *d_mlp; /* the places of norm and act_mlp: a linear's x and then its dx */
    void *d_attn;           /* act [T, q]; this and the next four in the place of act_mlp */
    float *dq_f32, *dk_f32, *dv_f32; /* [T, q], [T, kv]; rounded into the saved q, k, v, which they end */
    float *delta;                    /* [heads, T]; attention's */
    gr_linear_scratch linear_scratch;
    gr_experts_scratch experts; /* its act is act_mlp, and what follows lies behind that */
    /* what follows from the parameters */
    gr_dora (*dora)[GR_LINEARS]; /* [layers]; NULL: no DoRA */
    gr_dora_scratch dora_scratch;
    float *(*used)[GR_ROLES];   /* [layers + 1], the last of the final norm: what trained norms multiply with;
                                   NULL: their weights */
    gr_mat (*sums)[GR_LINEARS]; /* [layers]: W + scale B A, quantized as W is; NULL: no qat */
    void *zeros;                /* of a pooled A; zeros_bytes of them */
    int64_t zeros_bytes;
    /* backward: block `layer` and all above it have their gradients; NULL: nobody wants to know */
    void (*left)(void *context, int64_t layer);
    void *left_context;
    /* forward, before each block: false, and nothing more is computed, what is there then means nothing;
     * NULL: nobody is asked */
    bool (*go_on)(void *context);
    void *go_on_context;
    bool squared; /* the rows' squares of the base are there: they never change */
    bool stale;   /* the parameters changed since; bind sets it, and who updates them */
} gr_net;

/* Sizes (arenas with NULL bases) or places every buffer. net->model, tuning, compute.k, compute.pool and
 * config are set. Nothing fails here: test the arenas' overflow flags once.
 * kept: what outlives a batch; may be scratch. Without training the other two may be shared by nets that take
 * turns, a forward pass with what is read of it each. */
void gr_net_bind(gr_net *net, gr_arena *kept, gr_arena *saved, gr_arena *scratch);
/* Fills the tables that bind placed (rotary angles). */
void gr_net_prepare(gr_net *net);

/* Embedding and all blocks. The result stays in net->saved[layers].x. */
void gr_net_forward(gr_net *net, const gr_batch *batch);
/* Losses of all targets into net->targets; returns how many. With `gradients` (NULL: no backward) the
 * gradient of the summed loss is prepared in dres, and what trains after the blocks gets its own. Call after
 * gr_net_forward.
 */
int64_t gr_net_loss(gr_net *net, const gr_batch *batch, const gr_gradients *gradients);
/* Backward through all blocks down to the lowest with something that trains, and to the embedding if that
 * does; every row's gradient joins its tree in `gradients`. Where gr_net_one_row, the batch is one row. */
void gr_net_backward(gr_net *net, const gr_batch *batch, const gr_gradients *gradients);

/* Must each batch with a backward be a single row? Embedding and head are one parameter that trains: a row's
 * gradient has its head's part when the backward begins and its embedding's when it ends, and only complete
 * ones join the tree. */
bool gr_net_one_row(const gr_model_config *config, const gr_tuning *tuning);
/* Must the head's tile be the usual one? Something trains after the blocks: a long row's gradient is then the
 * sum of its tiles'. */
bool gr_net_fixed_tile(const gr_model_config *config, const gr_tuning *tuning);
/* Rows of logits at once as bind sets them. */
int64_t gr_net_tile(const gr_net_config *x, const gr_model_config *config, const gr_tuning *tuning);
/* Goes on with another tuning over the same parameters; NULL: as the base is. */
void gr_net_use(gr_net *net, const gr_tuning *tuning);
/* A norm as it trains or as it is in the base; layer is ignored outside blocks. GR_ROLES: no norm. */
gr_norm gr_net_norm(const gr_net *net, gr_role role, int64_t layer);
gr_norm gr_net_norm_at(const gr_net *net, gr_norm_place place, int64_t layer);
/* How q's, k's (by their norm's role) or v's (GR_ROLES: not at all) heads of that layer rotate. */
gr_rotary gr_net_rotary(const gr_net *net, gr_role norm, int64_t layer);
/* Elements of gate and of up from token to token. */
int64_t gr_net_gate_ld(const gr_model_config *config);
/* The mixture of experts of layer l; only where the model has them. */
gr_experts gr_net_experts(const gr_net *net, int64_t l);
/* Does a branch join the residual stream by more than a sum? */
bool gr_net_joins(const gr_model_config *config);

/* Brings what follows from the parameters up to date if it is stale; forward does. */
void gr_net_refresh(gr_net *net);

/* ends.c: part of bind, and of refresh. */
void gr_net_bind_norms(gr_net *net, gr_arena *arena);
void gr_net_refresh_norms(gr_net *net);
/* group.c: part of bind. */
void gr_net_bind_dora(gr_net *net, gr_arena *arena);
/* quantized_sums.c: part of bind; bytes of a worker's scratch; the sums after an update. */
void gr_net_bind_qat(gr_net *net, gr_arena *arena);
size_t gr_net_qat_scratch(const gr_net *net);
void gr_net_refresh_qat(gr_net *net);
/* The group of linears number g of layer l, with everything that trains. */
gr_linear_group gr_net_group(const gr_net *net, int64_t l, int g);

#endif
