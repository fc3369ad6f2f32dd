/* ref/ref.h - one training step of a decoder with LoRA, in plain double loops. Read it first.
 * What it does: every layer forward and backward side by side, the whole decoder, the optimizers, the rate
 * schedules, the rotary frequency tables. Tests use it as the truth. Shares no code with src/; nothing here
 * is fast. May include: the C library. Never: src/, files, threads, float.
 *
 * Three rules hold everywhere:
 *   1. Matrices are row-major; sizes are elements. T = tokens of all rows together; rows lie one after the
 * other, row b is the tokens cu_seqlens[b] .. cu_seqlens[b+1]-1. There is no padding.
 *   2. A backward function ADDS to every gradient it is given (activations and parameters): start from zeros.
 *   3. A parameter whose gradient pointer is NULL is frozen.
 */
#ifndef REF_REF_H
#define REF_REF_H
#include <stdbool.h>

/* y = x W^T + bias + scale * (x A^T) B        W [out,in]  bias [out]  A [rank,in]  B [rank,out]
 * source: arXiv 2106.09685 eq. 3. bias may be NULL; rank 0 means no adapter.
 * DoRA (arXiv 2402.09353 eq. 5): with m [out] given, W + scale * B^T A is rescaled row by row to length m;
 * the row's length counts as a constant in backward, as the paper (sec. 4.3), PEFT and mlx-lm have it.
 * Pooled (after QA-LoRA, arXiv 2309.14717): `pool` columns share one of A, which is [rank,in/pool]. */
typedef struct ref_linear {
    int in, out, rank, pool; /* pool 0: none */
    double scale;
    double *w, *bias, *a, *b, *m;
    double *dw, *dbias, *da, *db, *dm;
    const double *drop; /* [T,in] or NULL: x * drop is what A sees, 0 or 1/(1-p) each (dropout) */
} ref_linear;

/* A mixture of experts in an MLP's place: y = sum over the `used` largest p of w_e down_e(act(gate_e x) *
 * up_e x) with p = softmax(router x) and w_e = p_e, normed: p_e / (sum of those p). Of equal p the first
 * count. */
typedef struct ref_experts {
    int count, used;
    bool normed, gelu;
    ref_linear router;
    ref_linear *gate, *up, *down; /* [count] */
} ref_experts;

/* How heads rotate: pairs (x[j], x[j + half]) of each by pos * inv_freq[j], and times the magnitude. */
typedef struct ref_rotary {
    double *inv_freq; /* [half], from ref_rope_* */
    int half;
    double magnitude; /* 1 as a rule */
} ref_rotary;

/* One decoder block: x += o(attention(norm1(x))), then x += down(act(gate(norm2(x))) * up(norm2(x))). What is
 * added is first normed by behind1 and behind2 where the model has them (Gemma; OLMo 2 has these two only),
 * and multiplied by residual_scale. */
enum {
    REF_Q,
    REF_K,
    REF_V,
    REF_O,
    REF_GATE,
    REF_UP,
    REF_DOWN,
    REF_LINEARS
}; /* fused (Phi-3): REF_Q has the
rows of q, k and v, REF_GATE those of gate and up, and REF_K, REF_V, REF_UP are empty; without gate
(StarCoder2): REF_GATE is empty and act is of up alone */
typedef struct ref_block {
    ref_linear linear[REF_LINEARS];                /* of a mixture REF_GATE, REF_UP and REF_DOWN are empty */
    ref_experts experts;                           /* count 0: no mixture */
    double *norm1, *norm2, *d_norm1, *d_norm2;     /* [hidden]; NULL: none */
    double *shift1, *shift2, *d_shift1, *d_shift2; /* [hidden]: LayerNorm's bias; NULL: RMSNorm */
    double *behind1, *behind2, *d_behind1, *d_behind2; /* [hidden]; NULL: none */
    double *q_norm, *k_norm, *d_q_norm, *d_k_norm; /* [head_dim], NULL where the model has none (Qwen3 has);
                                                      wide: [heads*head_dim], [kv_heads*head_dim] (OLMo 2) */
    const struct ref_rotary *rotary; /* the model's rotary or its local one; NULL: no rotation */
    int window;                      /* a token sees itself and window-1 before it; 0 = all */
} ref_block;

typedef struct ref_model {
    int vocab, hidden, layers, heads, kv_heads, head_dim, mlp;
    double eps;
    bool fused, plain;    /* see REF_LINEARS */
    double one;           /* norms multiply by one + w: 0, or 1 (Gemma) */
    bool gelu, wide_norm; /* gelu's tanh form instead of silu; q_norm and k_norm span all heads */
    bool norms_behind;    /* post_attention_layernorm is behind attention, not before the MLP */
    double embedding_scale, residual_scale, attention_scale, logit_scale; /* what these are multiplied by */
    double attention_cap, logit_cap; /* scores and logits become cap * tanh(x / cap); 0: as they are */
    ref_rotary rotary, local_rotary;
    double growth; /* queries at position p are multiplied by 1 + growth log(1 + floor(p / step)); 0: not */
    int step;
    ref_linear embed;  /* w [vocab,hidden]: x = w[id] + scale * sum_r b[r,id] a[r]; the tied head itself */
    ref_block *blocks; /* [layers] */
    double *norm, *d_norm;   /* [hidden] */
    double *shift, *d_shift; /* [hidden] or NULL: as shift1 */
    ref_linear head;         /* in 0: tied to embed, whose gradients then have both parts */
} ref_model;

/* A batch of rows. target[t] is the token that position t has to predict, or -1 where nothing is trained. */
typedef struct ref_batch {
    int rows, tokens;
    const int *cu_seqlens;   /* [rows+1], 0 first, tokens last */
    const int *ids, *target; /* [tokens] */
} ref_batch;

/* What forward keeps for backward, one set per block. xa is x A^T of each linear. */
typedef struct ref_saved {
    double *x, *norm1, *q_raw, *k_raw, *q, *k, *v, *attn, *x_mid, *norm2, *gate, *up, *act;
    double *branch1, *branch2; /* what joins x, before behind1 and behind2 */
    double *xa[REF_LINEARS];
} ref_saved;

typedef struct ref_run {
    int layers, tokens;
    ref_saved *saved; /* [layers] */
    double *x_last, *norm_last, *logits,
        *head_xa; /* [T,hidden] [T,hidden] [T,vocab] [T,rank]; logits as capped */
    int *pos;     /* [T] position inside its row */
} ref_run;

/* ---- layers (ref_layers.c, ref_attention.c) ---- */
/* xa [T,rank] gets x A^T, which backward takes; may be NULL without an adapter. */
void ref_linear_forward(double *y, double *xa, const double *x, const ref_linear *l, int tokens);
void ref_linear_backward(double *dx, const double *dy, const double *x, const double *xa, const ref_linear *l,
                         int tokens);
/* y = x / sqrt(mean(x^2) + eps) * (one + w), over `width` values at a time; q/k norm is the same with n =
 * T*heads. */
void ref_rmsnorm_forward(double *y, const double *x, const double *w, double one, double eps, int n,
                         int width);
void ref_rmsnorm_backward(double *dx, double *dw, const double *dy, const double *x, const double *w,
                          double one, double eps, int n, int width);
/* y = (x - mean) / sqrt(variance + eps) * w + b, over `width` values at a time. */
void ref_layernorm_forward(double *y, const double *x, const double *w, const double *b, double eps, int n,
                           int width);
void ref_layernorm_backward(double *dx, double *dw, double *db, const double *dy, const double *x,
                            const double *w, double eps, int n, int width);
/* Turns the pairs of each head, in place: Hugging Face's and MLX's order ("rotate halves"). sign +1 forward,
 * -1 backward (the transpose of a rotation is its inverse). */
void ref_rope(double *x, const int *pos, const ref_rotary *rotary, int tokens, int heads, int head_dim,
              int sign);
/* The growth of queries: each token's `width` numbers times its factor, in place; so too a gradient. */
void ref_grow(double *x, const int *pos, double growth, int step, int tokens, int width);
/* y[t,h] = sum_j softmax_j(cap(scale * q[t,h].k[j,g])) v[j,g] over the tokens j <= t of t's own row inside
 * the window; kv head g serves heads/kv_heads query heads. q, y [T,heads,d]; k, v [T,kv_heads,d]. */
typedef struct ref_attention {
    int heads, kv_heads, head_dim, window, rows;
    const int *cu_seqlens;
    double scale, cap; /* 1 / sqrt(head_dim) as a rule; cap 0: none */
} ref_attention;
void ref_attention_forward(double *y, const double *q, const double *k, const double *v,
                           const ref_attention *at);
void ref_attention_backward(double *dq, double *dk, double *dv, const double *dy, const double *q,
                            const double *k, const double *v, const ref_attention *at);
/* act = silu(gate) * up, n values; or with gelu's tanh form in silu's place. */
void ref_swiglu_forward(double *act, const double *gate, const double *up, long n);
void ref_swiglu_backward(double *dgate, double *dup, const double *dact, const double *gate, const double *up,
                         long n);
void ref_geglu_forward(double *act, const double *gate, const double *up, long n);
void ref_geglu_backward(double *dgate, double *dup, const double *dact, const double *gate, const double *up,
                        long n);
/* ref_experts.c; x, y [T,hidden]. */
void ref_experts_forward(double *y, const double *x, const ref_experts *e, int tokens);
void ref_experts_backward(double *dx, const double *dy, const double *x, const ref_experts *e, int tokens);
/* x = w[id] + scale * sum_r b[r,id] a[r]: the linear l read backwards. */
void ref_embed_forward(double *x, const ref_linear *l, const int *ids, int tokens);
void ref_embed_backward(const double *dx, const ref_linear *l, const int *ids, int tokens);
/* Sum over t with target[t] >= 0 of -log softmax(logits[t])[target[t]]; dlogits (may be NULL) gets its
 * gradient. */
double ref_cross_entropy(double *dlogits, const double *logits, const int *target, int tokens, int vocab);

/* ---- preferences (ref_preference.c): a pair's loss from the log-probabilities of its two answers ----
 * logp, reference, tokens, dlogp [2]: of the chosen and the rejected answer; the loss is returned, its
 * derivatives by logp go to dlogp. A step over pairs is then one over tokens: the gradient of a token's -log
 * p is multiplied by -dlogp of its answer. */
typedef enum ref_dpo_kind {
    REF_DPO_SIGMOID,
    REF_DPO_HINGE,
    REF_DPO_IPO,
    REF_DPO_ROBUST,
    REF_DPO_SIGMOID_NORM
} ref_dpo_kind;
double ref_dpo(double *dlogp, const double *logp, const double *reference, const int *tokens,
               ref_dpo_kind kind, double beta, double smoothing);
/* nll: -log p of prompt and chosen answer, of which each token counts for `share`; *dnll: by nll. */
double ref_orpo(double *dlogp, double *dnll, const double *logp, const int *tokens, double nll, double share,
                double beta);

/* ---- the decoder (ref_model.c) ---- */
/* target from a mask over tokens: mask[i] = 1 means token i is a target, predicted by the token before it in
 * the same row; a row's first token never is. Returns the number of targets. */
int ref_targets(int *target, const int *ids, const int *mask, const int *cu_seqlens, int rows);
/* Room for one forward and backward of `tokens` tokens; ends the program when memory is short. */
ref_run *ref_run_new(const ref_model *model, int tokens);
void ref_run_free(ref_run *run);
/* Returns the summed loss; run->logits holds the logits. */
double ref_model_forward(ref_run *run, const ref_model *model, const ref_batch *batch);
/* Gradients of the summed loss; after the forward of the same batch. Calls add up: accumulate batches, then
 * divide by the number of targets of the update. */
void ref_model_backward(const ref_run *run, const ref_model *model, const ref_batch *batch);

/* ---- rotary frequencies (ref_rope.c): inv_freq[head_dim/2] ---- */
void ref_rope_default(double *inv_freq, int head_dim, double theta);
void ref_rope_linear(double *inv_freq, int head_dim, double theta, double factor);
typedef struct ref_rope_llama3_scaling {
    double factor, low_freq_factor, high_freq_factor, original_positions;
} ref_rope_llama3_scaling;
void ref_rope_llama3(double *inv_freq, int head_dim, double theta, const ref_rope_llama3_scaling *s);
typedef struct ref_rope_yarn_scaling {
    double factor, fast, slow,
        original_positions; /* turns in them beyond which nothing, below which all is slowed */
    bool fractions;         /* the ends of the blend are no whole pairs */
} ref_rope_yarn_scaling;
void ref_rope_yarn(double *inv_freq, int head_dim, double theta, const ref_rope_yarn_scaling *s);

/* ---- small models whose weights are a formula (ref_tiny.c) ----
 * Value i of a tensor: x = fnv1a32(name) + i * 0x9E3779B1; x ^= x >> 16; x *= 0x7FEB352D; x ^= x >> 15; x *=
 * 0x846CA68B; x ^= x >> 16 (all modulo 2^32); u = (x >> 25) / 128 - 0.5; embedding 2u, bias and linear u/2,
 * lora_A u/2, lora_B u/4, norms 1 + u. Every value is exact in bfloat16. tools/tiny_formula.py makes the same
 * ones. */
typedef struct ref_tiny {
    int vocab, hidden, layers, heads, kv_heads, head_dim, mlp;
    int rank;     /* of the adapter on every linear of the blocks; 0 = none */
    int end_rank; /* of the adapters on embedding and head; 0 = none */
    double scale, eps, theta;
    int window;                         /* 0 = none */
    bool tied, qkv_bias, qk_norm, dora; /* dora: m starts as the rows' length plus u/4 */
    int pool;                           /* of the blocks' adapters; 0 = none */
    bool train_all;                     /* gradients for every tensor, not only the adapter's */
    /* traits of other architectures; numbers that are 0: as in Llama */
    bool one_plus, gelu, sandwich, behind,
        wide_norm; /* sandwich: norms before and behind; behind: these only */
    double embedding_scale, residual_scale, attention_scale, logit_scale, attention_cap, logit_cap;
    bool fused, plain, layer_norm, all_bias;
    int experts, experts_used; /* of a mixture, whose experts are each mlp wide; 0 = none */
    bool experts_normed;
    int expert_rank;                       /* of the adapters on experts; 0 = none */
    double partial;                        /* of each head rotates; 0: all */
    const double *divisor;                 /* [rotated pairs] of the frequencies; NULL: none */
    int pattern;                           /* every pattern-th layer has no window */
    double local_theta;                    /* rotary base of the layers with a window */
    int rope_interval;                     /* every so many layers one rotates nothing */
    const ref_rope_llama3_scaling *llama3; /* NULL = default frequencies */
    const ref_rope_yarn_scaling *yarn;     /* likewise */
    double magnitude;                      /* of rotations */
    double growth;                         /* of queries, see ref_model */
    int step;
} ref_tiny;
double ref_formula(const char *name, long i); /* u */
ref_model *ref_tiny_new(const ref_tiny *spec);
void ref_tiny_free(ref_model *model);

/* One parameter: Hugging Face's name ("model.layers.0.self_attn.q_proj.weight", adapters
 * "....q_proj.lora_A"), values, gradient (NULL when frozen), count. lora_B is [rank,out], the transpose of
 * PEFT's. */
typedef struct ref_tensor {
    char name[64];
    double *p, *g;
    long n;
} ref_tensor;
/* Writes the tensors in a fixed order and returns how many; out may be NULL to count. */
int ref_model_tensors(ref_tensor *out, const ref_model *model);
void ref_zero_gradients(const ref_model *model);

/* ---- the update (ref_optim.c) ---- */
typedef struct ref_adam {
    double beta1, beta2, eps, weight_decay;
    bool bias_correction;
} ref_adam;
/* Adam, or AdamW where weight_decay > 0 (decoupled: p shrinks by rate*weight_decay first). step counts from
 * 1; m and v start as zeros. Equal to torch.optim.AdamW with bias_correction, to mlx's default without. */
void ref_adam_step(double *p, const double *g, double *m, double *v, long n, int step, double rate,
                   const ref_adam *o);
/* velocity = momentum * velocity + (g + weight_decay * p); p -= rate * velocity. velocity starts as zeros. */
void ref_sgd_step(double *p, const double *g, double *velocity, long n, double rate, double momentum,
                  double weight_decay);
/* sqrt of the sum of squares over all tensors, then every gradient times min(1, limit/(norm+1e-6)); limit 0 =
 * off. Returns the norm before. */
double ref_clip(double *const *g, const long *sizes, int count, double limit);
/* Rate of update k = 1..total: peak*k/warmup while k <= warmup; then with p = (k-warmup-1)/(total-warmup)
 * constant is peak, linear peak*(1-p), cosine peak*(1+cos(pi p))/2. */
typedef enum ref_schedule { REF_CONSTANT, REF_LINEAR, REF_COSINE } ref_schedule;
double ref_rate(ref_schedule schedule, double peak, int warmup, int total, int k);

#endif
