/* layers/attention.h - causal attention over ragged rows (flash style: no S x S matrix), forward and
 * backward. What it does: softmax(scale q k^T) v per head with grouped kv heads, optional sliding window;
 * rows do not see each other. May include: base, kernels, layers/linear.h (gr_batch). Never: rotates.
 */
#ifndef GR_LAYERS_ATTENTION_H
#define GR_LAYERS_ATTENTION_H
#include "layers/linear.h"

typedef struct gr_attention {
    int64_t heads, kv_heads, d;
    int64_t window;    /* keys a query sees, itself included; 0: all before it */
    int64_t longest;   /* tokens of the longest row that bind planned for */
    float scale, cap;  /* scores are scale q k, and cap * tanh(that / cap) where cap is not 0 */
    int64_t ldq, ldkv; /* of q; of k and v: elements from token to token */
} gr_attention;

/* Bytes of scratch one worker needs. */
size_t gr_attention_scratch(const gr_kernels *k, const gr_attention *a, bool backward);

/* out[T, heads*d] act; lse [heads, T] f32 (log of the softmax's sum, kept for backward). q [T, heads*d], k, v
 * [T, kv_heads*d] act, rotated, by their ld. */
void gr_attention_forward(const gr_compute *c, const gr_attention *a, void *out, float *lse, const void *q,
                          const void *k, const void *v, const gr_batch *batch);

/* dq [T, heads*d], dk, dv [T, kv_heads*d], all f32 (=). delta [heads, T] f32 is scratch: dot products of out
 * and dout. source: arXiv 2307.08691 section 3.1.2
 * Heads that share a kv head are added in the order of their number, whoever computed them. */
void gr_attention_backward(const gr_compute *c, const gr_attention *a, float *dq, float *dk, float *dv,
                           const void *q, const void *k, const void *v, const void *out, const void *dout,
                           const float *lse, float *delta, const gr_batch *batch);

#endif
