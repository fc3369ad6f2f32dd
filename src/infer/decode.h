/* infer/decode.h - one token at a time through the model, with cached keys and values (T = 1: memory
 * bandwidth). May include: base, model, kernels, layers, net.
 */
#ifndef GR_INFER_DECODE_H
#define GR_INFER_DECODE_H
#include "net/runtime.h"

typedef struct gr_decode {
    gr_runtime *rt; /* bound for at least one token; borrowed */
    gr_kv_cache cache;
    gr_arena arena;         /* cache and vectors */
    void *x, *norm;         /* act [hidden] */
    void *q, *k, *v, *attn; /* act */
    void *gate, *up, *mlp;  /* act [mlp] */
    float *wide;            /* f32: the widest linear's output, and its input */
    float *scores;          /* f32 [heads, capacity] */
    float *rotation;        /* f32 [2][head_dim/2]: cosines and sines of the position */
    float *logits;          /* f32 [vocab] */
} gr_decode;

/* Reserves the cache for `capacity` tokens. Owned by caller until gr_decode_free. */
graft_status gr_decode_init(gr_decode *d, gr_runtime *rt, int64_t capacity, graft_error *err) GR_MUST_CHECK;
void gr_decode_free(gr_decode *d);

/* Runs a prompt of count <= bound tokens through the batch path, fills the cache, and leaves the last token's
 * logits in d->logits. */
void gr_decode_prompt(gr_decode *d, const int32_t *ids, int64_t count);
/* Appends one token (cache.length < capacity) and leaves its logits in d->logits. */
void gr_decode_token(gr_decode *d, int32_t id);

#endif
