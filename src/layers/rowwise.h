/* layers/rowwise.h - the layers that treat every token by itself: rotary embedding with norms of q and k, the
 * activation of the MLP. Forward and backward, over the pool. May include: base, kernels, layers/linear.h
 * (gr_batch).
 */
#ifndef GR_LAYERS_ROWWISE_H
#define GR_LAYERS_ROWWISE_H
#include "layers/linear.h"

/* Runs body(context, t0, t1) over [0, tokens) in pieces of 16 tokens on the pool. */
void gr_for_tokens(const gr_compute *c, int64_t tokens, void (*body)(void *context, int64_t t0, int64_t t1),
                   void *context);

/* gr_for_tokens as a part of the profile that moves `bytes` a token. */
void gr_run_part(const gr_compute *c, gr_part part, int64_t bytes, int64_t tokens,
                 void (*body)(void *context, int64_t t0, int64_t t1), void *context);

/* Rotary embedding of q or k [T, heads*d] in place, position = index within the row; before it, if norm is
 * not NULL, an RMSNorm of each head (Qwen3) or over all of them (OLMo 2): raw [T, heads*d] in, x out, rstd
 * [T, heads] or [T] kept. Without norm raw is ignored. */
typedef struct gr_rotary {
    const float *cosine, *sine; /* f32 [longest row, half]; NULL: nothing is rotated */
    int64_t heads, d;
    int64_t half;      /* pairs of a head that are rotated: its first 2 * half elements */
    int64_t ld;        /* of x, from token to token */
    const float *norm; /* [d], or [heads*d] if wide; or NULL */
    bool wide;
    float eps;
} gr_rotary;
void gr_rotary_forward(const gr_compute *c, const gr_rotary *r, void *x, float *rstd, const void *raw,
                       const gr_batch *batch);
/* dx (as x above) = gradient with respect to the projection's output, from dy f32 [T, heads*d], which is
 * rotated back in place: without a norm it is then the same in f32. */
void gr_rotary_backward(const gr_compute *c, const gr_rotary *r, void *dx, float *dy, const float *rstd,
                        const void *raw, const gr_batch *batch);

/* y[T, m] = act(gate) * up, gate and up [T, m] with ld elements from token to token; gate NULL: act(up),
 * which is GELU then. Backward overwrites gate by dgate and up by dup. All act. */
void gr_gate_forward(const gr_compute *c, gr_activation activation, void *y, const void *gate, const void *up,
                     int64_t ld, int64_t tokens, int64_t m);
void gr_gate_backward(const gr_compute *c, gr_activation activation, void *gate, void *up, const void *dy,
                      int64_t ld, int64_t tokens, int64_t m);

/* y[n] act = x[n] f32. */
void gr_round_act(const gr_compute *c, void *y, const float *x, int64_t n);

#endif
