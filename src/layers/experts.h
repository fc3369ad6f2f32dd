/* layers/experts.h - a mixture of experts in an MLP's place, forward and backward.
 *
 *     p = softmax(x R^T)                                       R [experts, hidden], one row for each expert
 *     y = sum over the `used` largest p of w_e * down_e(act(gate_e(x)) * up_e(x))
 *     w_e = p_e, or p_e / (sum of those p)                     all in f32; of equal p the lower number wins
 *
 * where gate_e, up_e and down_e may have an adapter each, as in layers/linear.h, without DoRA, dropout and
 * pools.
 *
 * A token has `used` picks. Picks are put in order of their expert, and of their token among one expert's: a
 * place in that order is a slot. Each expert is then one product over its slots, whose bits depend on nothing
 * but the token, so that neither threads nor slices of a batch change any. source: transformers
 * modeling_qwen3_moe, modeling_olmoe. Their loss that balances the load is not in it: it is off unless
 * output_router_logits asks for it. May include: base, kernels, layers. Never: allocates.
 */
#ifndef GR_LAYERS_EXPERTS_H
#define GR_LAYERS_EXPERTS_H
#include "layers/linear.h"

/* All experts' linears of a kind. A [experts][rank, in], B [experts][rank, out], f32. */
typedef struct gr_expert_linear {
    gr_stack w;
    int64_t rank; /* 0: no adapters */
    float scale;
    const float *a, *b;
    int64_t a_at, b_at; /* of the first expert */
} gr_expert_linear;

typedef struct gr_experts {
    int64_t hidden, mlp, used;
    bool normed; /* w_e = p_e / sum */
    gr_activation activation;
    gr_mat router; /* [experts, hidden] */
    gr_expert_linear gate, up, down;
} gr_experts;

/* Where the tokens of a batch go; T tokens, N = T * used slots. Forward leaves it for backward. */
typedef struct gr_routing {
    float *p;        /* [T, experts] */
    float *weight;   /* [T, used]: w of each pick */
    int32_t *expert; /* [T, used]: the picks, the largest p first */
    int32_t *slot;   /* [T, used]: their slots */
    int32_t *pick;   /* [N]: of each slot, counted over [T, used] */
    int64_t *first;  /* [experts + 1]: first slot of each expert */
    void *xa;        /* act: scale x A^T of gate [N, rank], then of up; NULL: no adapters */
} gr_routing;

/* Buffers that are used again and again. */
typedef struct gr_experts_scratch {
    void *act;                    /* act [N, mlp] */
    void *wide;                   /* act [N, hidden] */
    void *xa;                     /* act [N, rank]: of down */
    const gr_linear_scratch *low; /* dxa, dxa_t, xa_t of [N, rank]: backward of adapters */
    void *scores;                 /* act [T, experts]: backward */
    float *dw;                    /* f32 [T, used]: backward */
} gr_experts_scratch;

/* Places all but xa for so many tokens, at most GR_NET_TOKENS_MAX. */
void gr_routing_bind(gr_routing *r, gr_arena *arena, int64_t experts, int64_t used, int64_t tokens);
/* Slots of so many tokens. */
static inline int64_t gr_expert_slots(const gr_experts *x, int64_t tokens) {
    return tokens * x->used;
}

/* Which experts one token takes: expert[used], weight[used] from its scores p[experts], which become the
 * softmax. */
void gr_experts_choose(const gr_experts *x, int32_t *expert, float *weight, float *p);

/* gate, up [N, mlp] act, and the routing, from x [T, hidden] act. */
void gr_experts_open(const gr_compute *c, const gr_experts *e, gr_routing *r, void *gate, void *up,
                     const void *x, int64_t tokens, const gr_experts_scratch *scratch);
/* y [T, hidden] act = residual + the mixture's output; y may not be residual. */
void gr_experts_close(const gr_compute *c, const gr_experts *e, const gr_routing *r, void *y,
                      const void *residual, const void *gate, const void *up, int64_t tokens,
                      const gr_experts_scratch *scratch);
/* Does a gradient need x: has gate or up adapters? */
bool gr_experts_need_input(const gr_experts *e);
/* Backward in two parts, since x may take the place of d between them. First from d [T, hidden] act, the
 * gradient of the output: gate and up become their gradients, and so do down's adapters. Then, from x (as
 * forward had it; NULL where it is not needed), the adapters of gate and up; d becomes the gradient of x. A
 * worker's scratch holds mlp floats. Gradients of adapters are complete for each row of the batch before they
 * join its tree. */
void gr_experts_back_down(const gr_compute *c, const gr_experts *e, const gr_routing *r, const void *d,
                          void *gate, void *up, const gr_gradients *gradients, const gr_batch *batch,
                          const gr_experts_scratch *scratch);
void gr_experts_back_open(const gr_compute *c, const gr_experts *e, const gr_routing *r, void *d, void *gate,
                          void *up, const void *x, const gr_gradients *gradients, const gr_batch *batch,
                          const gr_experts_scratch *scratch);

#endif
