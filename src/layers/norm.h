/* layers/norm.h - RMSNorm and LayerNorm of every token by itself, and how a block's branch joins the residual
 * stream. Forward and backward, over the pool. May include: base, kernels, layers/linear.h (gr_batch).
 */
#ifndef GR_LAYERS_NORM_H
#define GR_LAYERS_NORM_H
#include "layers/linear.h"

/* y = x / rms(x) * weight, or with a bias LayerNorm's (x - mean) / deviation * weight + bias. f32, borrowed;
 * weight NULL: there is no such norm. */
typedef struct gr_norm {
    const float *weight, *bias;
    float eps;
} gr_norm;

/* One vector of n. x, y act; y may be x. *rstd is for backward. */
static inline void gr_norm_row(const gr_kernels *k, const gr_norm *norm, void *y, float *rstd, const void *x,
                               int64_t n) {
    if (norm->bias)
        k->layernorm(y, rstd, x, norm->weight, norm->bias, norm->eps, n);
    else
        k->rmsnorm(y, rstd, x, norm->weight, norm->eps, n);
}
/* dx f32 [n] += ; dy f32 or act per dy_f32. */
static inline void gr_norm_row_back(const gr_kernels *k, const gr_norm *norm, float *dx, const void *dy,
                                    bool dy_f32, const void *x, float rstd, int64_t n) {
    if (norm->bias)
        k->layernorm_back(dx, dy, dy_f32, x, rstd, norm->weight, n);
    else
        k->rmsnorm_back(dx, dy, dy_f32, x, rstd, norm->weight, n);
}

/* y[T, n] = norm of x[T, n]; rstd [T] f32 is kept for backward. x, y act. */
void gr_norm_forward(const gr_compute *c, void *y, float *rstd, const void *x, const gr_norm *norm,
                     int64_t tokens, int64_t n);
/* dx[T, n] f32 += gradient through the norm; dy act. Without a norm dy itself. */
void gr_norm_backward(const gr_compute *c, float *dx, const void *dy, const void *x, const float *rstd,
                      const gr_norm *norm, int64_t tokens, int64_t n);

/* y = x + scale * norm(branch), act [T, n]; the norm may be none. y may be x or branch. rstd [T] where there
 * is a norm. */
void gr_join_forward(const gr_compute *c, void *y, float *rstd, const void *x, const void *branch,
                     const gr_norm *norm, float scale, int64_t tokens, int64_t n);
/* dbranch act [T, n] (=) of that, from dy f32 [T, n]. */
void gr_join_backward(const gr_compute *c, void *dbranch, const float *dy, const void *branch,
                      const float *rstd, const gr_norm *norm, float scale, int64_t tokens, int64_t n);
/* f32 [2 n] per worker of the compute's scratch is used. */
static inline size_t gr_join_scratch(int64_t n) {
    return 2 * sizeof(float) * (size_t)n;
}
/* One token: y = x + scale * norm(branch), act [n]; space f32 [2 n]. y may be x or branch. */
void gr_join_row(const gr_kernels *k, void *y, float *rstd, const void *x, const void *branch,
                 const gr_norm *norm, float scale, int64_t n, float *space);

/* Where the gradients of a norm's weight and bias go; NULL: not wanted. */
typedef struct gr_norm_sums {
    float *dw, *db;
} gr_norm_sums;
/* dw[n], db[n] f32 (=, or += with add), summed over count vectors of n: dy * normalized x, and dy. dy act or,
 * with dy_f32, f32; x act; rstd f32 [count]. */
void gr_norm_weight_sum(const gr_compute *c, const gr_norm *norm, gr_norm_sums to, bool add, const void *dy,
                        bool dy_f32, const void *x, const float *rstd, int64_t count, int64_t n);
/* The same for every row of a batch, dy and x [T, heads, n], rstd [T, heads]; joins the trees at weight_at
 * and bias_at, as far as they are somewhere. */
void gr_norm_weight_backward(const gr_compute *c, const gr_norm *norm, const gr_gradients *gradients,
                             int64_t weight_at, int64_t bias_at, const void *dy, bool dy_f32, const void *x,
                             const float *rstd, int64_t heads, int64_t n, const gr_batch *batch);

#endif
