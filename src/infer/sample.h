/* infer/sample.h - from logits to the next token. Order of the filters as mlx-lm's make_sampler: top-p,
 * min-p, top-k on the unscaled distribution, then temperature. May include: base.
 */
#ifndef GR_INFER_SAMPLE_H
#define GR_INFER_SAMPLE_H
#include "base/memory.h"
#include "base/rng.h"

typedef struct gr_sampler {
    double temp;   /* 0: the largest logit */
    double top_p;  /* 0 or 1: off */
    double min_p;  /* 0: off */
    int64_t top_k; /* 0: off */
    gr_rng rng;
    int32_t *order; /* [vocab], owned; NULL when temp is 0 */
    double *p;      /* [vocab], owned */
} gr_sampler;

graft_status gr_sampler_init(gr_sampler *s, double temp, double top_p, double min_p, int64_t top_k,
                             uint64_t seed, int64_t vocab, graft_error *err) GR_MUST_CHECK;
void gr_sampler_free(gr_sampler *s);
int32_t gr_sample(gr_sampler *s, const float *logits, int64_t vocab);

#endif
