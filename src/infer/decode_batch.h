/* infer/decode_batch.h - several answers at once: a token of each row goes through the layers of the batch
 * path, so that a weight is read once for all of them. A row's logits have the same bits whatever the other
 * rows are and however many. May include: base, model, kernels, layers, net.
 */
#ifndef GR_INFER_DECODE_BATCH_H
#define GR_INFER_DECODE_BATCH_H
#include "infer/attend.h"
#include "net/runtime.h"

#define GR_DECODE_BATCH_MOST 256 /* rows at once */

typedef struct gr_decode_batch {
    gr_runtime *rt; /* bound for the tokens of the prompts that come together, and for `most`; borrowed */
    int64_t most, rows;
    gr_kv_cache *cache; /* [most]; those of [0, rows) are in use. Only the first `caches` that init was asked
                           for have memory; the others' is put there by whoever lends it */
    gr_arena arena;
    void *x, *x_mid, *norm; /* act [most, hidden] */
    void *q, *k, *v, *attn; /* act [most, q or kv]; of a fused linear parts of its rows, as in gr_saved */
    void *gate, *up, *mlp;  /* act [most, mlp]; likewise */
    gr_routing routing;     /* of a mixture, whose gate, up and mlp are [most * used, mlp] */
    gr_experts_scratch experts;
    void *xa;        /* act [most, ranks] */
    float *rotation; /* f32 [ropes][most][2][head_dim/2] */
    float *logits;   /* f32 [most, vocab]: of the rows' last tokens */
    int64_t *start;  /* [most + 1] */
    gr_attend attend;
} gr_decode_batch;

/* Caches of `capacity` tokens for the first `caches` of `most` <= GR_DECODE_BATCH_MOST rows. Owned by caller
 * until gr_decode_batch_free. */
graft_status gr_decode_batch_init(gr_decode_batch *d, gr_runtime *rt, int64_t most, int64_t caches,
                                  int64_t capacity, graft_error *err) GR_MUST_CHECK;
void gr_decode_batch_free(gr_decode_batch *d);
/* A cache in the caller's arena, to be lent. */
gr_kv_cache gr_decode_batch_cache(gr_arena *arena, const gr_runtime *rt, int64_t capacity);

/* Appends rows: the batch's prompts, no more than fit. Their logits are the last ones of d->logits. */
void gr_decode_batch_prompts(gr_decode_batch *d, const gr_batch *prompts);
/* Appends ids[i] to row i, for all rows. */
void gr_decode_batch_step(gr_decode_batch *d, const int32_t *ids);
/* Appends `count` tokens to one lent cache, `most` at once, and leaves the logits of the last one in the
 * first row of d->logits. Each goes through the model as gr_decode_batch_step has it: the same bits as one
 * after the other, so that what a cache holds does not depend on how it came in. All rows of d end. False
 * where the net's go_on said so: the cache then holds a multiple of `most` more, and there are no logits. */
bool gr_decode_batch_extend(gr_decode_batch *d, gr_kv_cache *cache, const int32_t *ids, int64_t count);
/* Ends row i; the last row takes its place. */
void gr_decode_batch_drop(gr_decode_batch *d, int64_t i);

#endif
