#include "infer/sample.h"
#include <math.h>

graft_status gr_sampler_init(gr_sampler *s, const gr_sampler_config *config, int64_t vocab,
                             graft_error *err) {
    *s = (gr_sampler){.config = *config};
    gr_rng_seed(&s->rng, config->seed, 0x5a);
    bool draws = config->temp > 0, penalizes = config->penalty > 0 && config->penalty != 1;
    if (draws) s->order = gr_calloc((size_t)vocab, sizeof *s->order);
    if (draws) s->p = gr_calloc((size_t)vocab, sizeof *s->p);
    if (penalizes) s->seen = gr_calloc((size_t)vocab, 1);
    if ((!draws || (s->order && s->p)) && (!penalizes || s->seen)) return GRAFT_OK;
    gr_sampler_free(s);
    return gr_no_memory(err, (size_t)vocab * 13);
}

void gr_sampler_free(gr_sampler *s) {
    free(s->order);
    free(s->p);
    free(s->seen);
    s->order = NULL;
    s->p = NULL;
    s->seen = NULL;
}

void gr_sampler_penalize(gr_sampler *s, float *logits, const int32_t *ids, int64_t count) {
    if (!s->seen) return;
    int64_t window = s->config.penalty_ids, first = window > 0 && window < count ? count - window : 0;
    float penalty = (float)s->config.penalty;
    for (int64_t i = first; i < count; i++) {
        float *logit = &logits[ids[i]];
        if (s->seen[ids[i]]) continue;
        s->seen[ids[i]] = 1;
        *logit = *logit < 0 ? *logit * penalty : *logit / penalty;
    }
    for (int64_t i = first; i < count; i++) s->seen[ids[i]] = 0;
}

static int32_t largest(const float *logits, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

/* Sorts ids by falling probability, equal ones by id: a heap sort needs no memory and no context pointer. */
static bool before(const double *p, int32_t a, int32_t b) {
    return p[a] > p[b] || (p[a] == p[b] && a < b);
}

static void sift(int32_t *order, const double *p, int64_t at, int64_t n) {
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= n) return;
        if (child + 1 < n && before(p, order[child], order[child + 1])) child++;
        if (before(p, order[child], order[at])) return;
        int32_t t = order[at];
        order[at] = order[child];
        order[child] = t;
        at = child;
    }
}

static void sort_ids(int32_t *order, const double *p, int64_t n) {
    for (int64_t i = 0; i < n; i++) order[i] = (int32_t)i;
    for (int64_t i = n / 2; i-- > 0;) sift(order, p, i, n);
    for (int64_t end = n - 1; end > 0; end--) {
        int32_t t = order[0];
        order[0] = order[end];
        order[end] = t;
        sift(order, p, 0, end);
    }
}

/* How many of the sorted tokens stay. Tokens as likely as the last one within top-p stay with it, as in
 * mlx-lm: nothing tells them apart. */
static int64_t filter(const gr_sampler *s, int64_t n) {
    const gr_sampler_config *c = &s->config;
    bool nucleus = c->top_p > 0 && c->top_p < 1;
    int64_t most = c->top_k > 0 ? gr_min_i64(c->top_k, n) : n;
    double mass = s->p[s->order[0]], last = mass, least = c->min_p * mass;
    for (int64_t i = 1; i < most; i++) {
        double p = s->p[s->order[i]];
        if (p < least || (nucleus && mass >= c->top_p && p < last)) return i;
        mass += last = p;
    }
    return most;
}

int64_t gr_sampler_spread(gr_sampler *s, const float *logits, int64_t n) {
    double best = (double)logits[largest(logits, n)], total = 0;
    for (int64_t i = 0; i < n; i++) total += s->p[i] = exp((double)logits[i] - best);
    for (int64_t i = 0; i < n; i++) s->p[i] /= total;
    sort_ids(s->order, s->p, n);
    int64_t keep = filter(s, n);
    total = 0;
    for (int64_t i = 0; i < keep; i++)
        total += s->p[s->order[i]] = exp(((double)logits[s->order[i]] - best) / s->config.temp);
    for (int64_t i = 0; i < keep; i++) s->p[s->order[i]] /= total;
    return keep;
}

int32_t gr_sample(gr_sampler *s, const float *logits, int64_t n) {
    if (s->config.temp <= 0) return largest(logits, n);
    int64_t keep = gr_sampler_spread(s, logits, n);
    double at = gr_rng_uniform(&s->rng), drawn = 0;
    for (int64_t i = 0; i < keep; i++) {
        drawn += s->p[s->order[i]];
        if (at < drawn) return s->order[i];
    }
    return s->order[keep - 1]; /* the sum may round to just below 1 */
}
