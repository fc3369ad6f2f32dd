/* infer/decode.h - one token at a time through the model, with cached keys and values (T = 1: memory
 * bandwidth). All of a token's work is one relay: the pool wakes once, and a linear's rows are finished
 * (adapter, bias, rotation, SwiGLU, residual) by whoever computed them. May include: base, model, kernels,
 * layers, net.
 */
#ifndef GR_INFER_DECODE_H
#define GR_INFER_DECODE_H
#include "base/relay.h"
#include "infer/attend.h"
#include "net/runtime.h"

struct gr_decode_layer;

typedef struct gr_decode {
    gr_runtime *rt; /* bound for at least one token; borrowed */
    gr_kv_cache cache;
    gr_arena arena; /* cache and vectors */
    void *x;        /* act [hidden]: the residual stream */
    void *q, *attn; /* act [heads, head_dim] */
    void *mlp;      /* act [mlp], of a mixture [used, mlp] */
    float *scores;  /* a mixture's: f32 [experts]; who is picked, with which weight: [used] */
    int32_t *picks;
    float *weights;
    void *xa;     /* act: the low-rank part of a group's input */
    float *wide;  /* f32: the sums of a group's linears, one after another */
    void *branch; /* act [hidden]: attention's output or the MLP's, where more than a sum joins them to x */
    void *k_flat; /* act [kv_heads, head_dim]: where a norm spans the heads of k */
    float *join;  /* f32 [2, hidden] */
    float *rotation[GR_ROPES]; /* f32 [2][head_dim/2]: cosines and sines of the position */
    float *logits;             /* f32 [vocab] */
    gr_attend attend;
    struct gr_decode_layer *layers; /* what the relay's legs work on */
    gr_relay relay;
    char *space; /* a block for each worker */
    size_t space_bytes;
} gr_decode;

/* Reserves the cache for `capacity` tokens; lent: its memory is put into d->cache by whoever lends it, and
 * gr_decode_legs follows each time. Owned by caller until gr_decode_free. */
graft_status gr_decode_init(gr_decode *d, gr_runtime *rt, int64_t capacity, bool lent,
                            graft_error *err) GR_MUST_CHECK;
void gr_decode_free(gr_decode *d);

/* Runs a prompt of count <= bound tokens through the batch path, fills the cache, and leaves the last token's
 * logits in d->logits. What trains must not change until the next prompt. */
void gr_decode_prompt(gr_decode *d, const int32_t *ids, int64_t count);
/* Appends one token (cache.length < capacity) and leaves its logits in d->logits. */
void gr_decode_token(gr_decode *d, int32_t id);

/* decode_legs.c: lays out the relay for the net as it is used now; the lists of attention's legs depend on
 * the cache's length and are counted anew by gr_decode_count. */
typedef struct gr_decode_layer gr_decode_layer;
void gr_decode_bind_legs(gr_decode *d, gr_arena *arena);
void gr_decode_legs(gr_decode *d);
void gr_decode_count(gr_decode *d);

#endif
