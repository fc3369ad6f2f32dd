/* infer/sample.h - from logits to the next token. In mlx-lm's order: the penalty on repeated tokens, then
 * top-p, min-p and top-k on the unscaled distribution, then temperature. May include: base.
 */
#ifndef GR_INFER_SAMPLE_H
#define GR_INFER_SAMPLE_H
#include "base/memory.h"
#include "base/rng.h"

typedef struct gr_sampler_config {
    double temp;         /* 0: the largest logit */
    double top_p;        /* 0 or 1: off */
    double min_p;        /* 0: off */
    int64_t top_k;       /* 0: off */
    double penalty;      /* of repeated tokens; 0 or 1: off */
    int64_t penalty_ids; /* how many tokens back it looks; 0: all of them */
    uint64_t seed;
} gr_sampler_config;

typedef struct gr_sampler {
    gr_sampler_config config;
    gr_rng rng;
    int32_t *order; /* [vocab], owned; NULL when temp is 0 */
    double *p;      /* [vocab], owned; likewise */
    uint8_t *seen;  /* [vocab], owned, all 0 between calls; NULL without a penalty */
} gr_sampler;

graft_status gr_sampler_init(gr_sampler *s, const gr_sampler_config *config, int64_t vocab,
                             graft_error *err) GR_MUST_CHECK;
void gr_sampler_free(gr_sampler *s);

/* Divides the positive logits of the last tokens by the penalty and multiplies the negative ones with it,
 * each once however often its token stands there. ids [count], all within the vocabulary. */
void gr_sampler_penalize(gr_sampler *s, float *logits, const int32_t *ids, int64_t count);
/* temp above 0: the distribution that is drawn from. Returns how many tokens the filters leave, at least 1;
 * they stand first in s->order, likeliest first, and s->p[id] is the probability of each. */
int64_t gr_sampler_spread(gr_sampler *s, const float *logits, int64_t vocab);
int32_t gr_sample(gr_sampler *s, const float *logits, int64_t vocab);

#endif
