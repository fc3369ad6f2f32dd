/* infer/attend.h - attention of the newest token of each row over its cached keys and values. A task takes
 * one range of keys for the heads that share them, on the kernels of training's attention; where a row has
 * several ranges their results are joined afterwards, in order, so that the bits depend on the row's length
 * alone. May include: base, kernels, net. Never: allocates; knows how rows came together.
 */
#ifndef GR_INFER_ATTEND_H
#define GR_INFER_ATTEND_H
#include "net/net.h"

#define GR_ATTEND_KEYS 128 /* of one range */

typedef struct gr_attend {
    const gr_kernels *k;
    int64_t heads, kv_heads, d;
    float scale, cap;         /* as attention.h has them */
    const gr_kv_cache *cache; /* of each row; their lengths count the new token, whose key is stored */
    int64_t rows;
    const void *q; /* act [rows, heads, d], rotated */
    int64_t ldq;   /* from row to row of it */
    void *out;     /* act [rows, heads, d] */
    float *parts;  /* f32 [rows, heads, ranges_most, d + 2]: sums of values, largest score, sum of weights */
    int64_t ranges_most; /* gr_attend_ranges of the longest row that can come */
    char *space;         /* a block for each worker, 64-byte aligned */
    size_t space_bytes;
} gr_attend;

/* One layer's work; what changes from layer to layer beside the gr_attend. */
typedef struct gr_attend_layer {
    const gr_attend *a;
    int64_t layer, window; /* keys that a query sees, itself included; 0: all */
} gr_attend_layer;

/* What the model says of it; the rest is zero. */
static inline gr_attend gr_attend_of(const gr_kernels *k, const gr_model_config *c) {
    return (gr_attend){.k = k,
                       .heads = c->heads,
                       .kv_heads = c->kv_heads,
                       .d = c->head_dim,
                       .scale = (float)c->attention_scale,
                       .cap = (float)c->attention_cap};
}

/* Bytes of one worker's block. */
size_t gr_attend_space(const gr_kernels *k, int64_t heads, int64_t kv_heads, int64_t d);
/* Ranges that a row of `length` tokens has without a window: the most it can have. */
int64_t gr_attend_ranges(int64_t length);

/* Tasks of gr_attend_task, and of gr_attend_join, which follows; 0: nothing to join. */
int gr_attend_tasks(const gr_attend_layer *l);
int gr_attend_joins(const gr_attend_layer *l);
/* Pool tasks; context is the gr_attend_layer. */
void gr_attend_task(void *context, int task, int worker);
void gr_attend_join(void *context, int task, int worker);

#endif
