/* layers/rowwise.h - the layers that treat every token by itself: RMSNorm, rotary embedding with per-head
 * norms, SwiGLU. Forward and backward, over the pool. May include: base, kernels, layers/linear.h
 * (gr_batch).
 */
#ifndef GR_LAYERS_ROWWISE_H
#define GR_LAYERS_ROWWISE_H
#include "layers/linear.h"

/* Runs body(context, t0, t1) over [0, tokens) in pieces of 16 tokens on the pool. */
void gr_for_tokens(const gr_compute *c, int64_t tokens, void (*body)(void *context, int64_t t0, int64_t t1),
                   void *context);

/* y[T, n] = rmsnorm(x[T, n]) * weight; rstd [T] f32 is kept for backward. x, y act; weight [n] f32. */
void gr_rmsnorm_forward(const gr_compute *c, void *y, float *rstd, const void *x, const float *weight,
                        float eps, int64_t tokens, int64_t n);
/* dx[T, n] f32 += gradient through the norm; dy act. */
void gr_rmsnorm_backward(const gr_compute *c, float *dx, const void *dy, const void *x, const float *rstd,
                         const float *weight, int64_t tokens, int64_t n);

/* dw[n] f32 (=, or += with add): the weight's gradient, summed over count vectors of n: dy * x * rstd. dy act
 * or, with dy_f32, f32; x act; rstd f32 [count]. */
void gr_rmsnorm_weight_sum(const gr_compute *c, float *dw, bool add, const void *dy, bool dy_f32,
                           const void *x, const float *rstd, int64_t count, int64_t n);
/* The same for every row of a batch, dy and x [T, heads, n], rstd [T, heads]; joins the tree at `at`. */
void gr_rmsnorm_weight_backward(const gr_compute *c, const gr_gradients *gradients, int64_t at,
                                const void *dy, bool dy_f32, const void *x, const float *rstd, int64_t heads,
                                int64_t n, const gr_batch *batch);

/* Rotary embedding of q or k [T, heads*d] in place, position = index within the row; before it, if norm is
 * not NULL, the per-head RMSNorm (Qwen3): raw [T, heads*d] in, x out, rstd [T, heads] kept. Without norm raw
 * is ignored. cosine, sine f32 [longest row, d/2]. */
typedef struct gr_rotary {
    const float *cosine, *sine;
    int64_t heads, d;
    const float *norm; /* [d] or NULL */
    float eps;
} gr_rotary;
void gr_rotary_forward(const gr_compute *c, const gr_rotary *r, void *x, float *rstd, const void *raw,
                       const gr_batch *batch);
/* dx[T, heads*d] act = gradient with respect to the projection's output, from dy f32 [T, heads*d], which is
 * rotated back in place: without the per-head norm it is then the same in f32. */
void gr_rotary_backward(const gr_compute *c, const gr_rotary *r, void *dx, float *dy, const float *rstd,
                        const void *raw, const gr_batch *batch);

/* y[T, m] = silu(gate) * up; backward overwrites gate by dgate and up by dup. All act. */
void gr_swiglu_forward(const gr_compute *c, void *y, const void *gate, const void *up, int64_t tokens,
                       int64_t m);
void gr_swiglu_backward(const gr_compute *c, void *gate, void *up, const void *dy, int64_t tokens, int64_t m);

/* y[n] act = x[n] f32. */
void gr_round_act(const gr_compute *c, void *y, const float *x, int64_t n);

#endif
