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

/* Ids by falling probability, equal ones by id: a heap whose top is the likeliest, so that only those that
 * are looked at have to be sorted. */
static bool before(const double *p, int32_t a, int32_t b) {
    return p[a] > p[b] || (p[a] == p[b] && a < b);
}

static void sift(int32_t *order, const double *p, int64_t at, int64_t n) {
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= n) return;
        if (child + 1 < n && before(p, order[child + 1], order[child])) child++;
        if (before(p, order[at], order[child])) return;
        int32_t t = order[at];
        order[at] = order[child];
        order[child] = t;
        at = child;
    }
}

/* All ids as such a heap; exp(logit - the largest one) normalized into s->p. */
static void likeliest_first(gr_sampler *s, const float *logits, int64_t n, double best) {
    double total = 0;
    for (int64_t i = 0; i < n; i++) total += s->p[i] = exp((double)logits[i] - best);
    for (int64_t i = 0; i < n; i++) s->p[i] /= total, s->order[i] = (int32_t)i;
    for (int64_t i = n / 2; i-- > 0;) sift(s->order, s->p, i, n);
}

/* The likeliest of the left ids in the heap goes behind them. */
static int32_t take_next(gr_sampler *s, int64_t left) {
    int32_t id = s->order[0];
    s->order[0] = s->order[left - 1];
    s->order[left - 1] = id;
    sift(s->order, s->p, 0, left - 1);
    return id;
}

/* Takes the ids that stay, to the end of s->order; how many. Ids as likely as the last one within top-p stay
 * with it, as in mlx-lm: nothing tells them apart. */
static int64_t filter(gr_sampler *s, int64_t n) {
    const gr_sampler_config *c = &s->config;
    bool nucleus = c->top_p > 0 && c->top_p < 1;
    int64_t most = c->top_k > 0 ? gr_min_i64(c->top_k, n) : n;
    double first = s->p[take_next(s, n)], mass = first, last = first, least = c->min_p * first;
    for (int64_t i = 1; i < most; i++) {
        double p = s->p[s->order[0]];
        if (p < least || (nucleus && mass >= c->top_p && p < last)) return i;
        take_next(s, n - i);
        mass += last = p;
    }
    return most;
}

int64_t gr_sampler_spread(gr_sampler *s, const float *logits, int64_t n) {
    double best = (double)logits[largest(logits, n)], total = 0;
    likeliest_first(s, logits, n, best);
    int64_t keep = filter(s, n);
    for (int64_t i = 0; i < n / 2; i++) { /* the taken ones come first now, the likeliest of them too */
        int32_t t = s->order[i];
        s->order[i] = s->order[n - 1 - i];
        s->order[n - 1 - i] = t;
    }
    for (int64_t i = 0; i < keep; i++)
        total += s->p[s->order[i]] = exp(((double)logits[s->order[i]] - best) / s->config.temp);
    for (int64_t i = 0; i < keep; i++) s->p[s->order[i]] /= total;
    return keep;
}

/* Without a filter: ids are only taken until the drawn one. */
static int32_t draw_from_all(gr_sampler *s, const float *logits, int64_t n, double at) {
    double best = (double)logits[largest(logits, n)], total = 0, drawn = 0;
    likeliest_first(s, logits, n, best);
    for (int64_t i = 0; i < n; i++) total += exp(((double)logits[i] - best) / s->config.temp);
    for (int64_t left = n; left > 1; left--) {
        int32_t id = take_next(s, left);
        drawn += exp(((double)logits[id] - best) / s->config.temp) / total;
        if (at < drawn) return id;
    }
    return s->order[0]; /* the sum may round to just below 1 */
}

int32_t gr_sample(gr_sampler *s, const float *logits, int64_t n) {
    const gr_sampler_config *c = &s->config;
    if (c->temp <= 0) return largest(logits, n);
    bool filters = (c->top_p > 0 && c->top_p < 1) || c->top_k > 0 || c->min_p > 0;
    if (!filters) return draw_from_all(s, logits, n, gr_rng_uniform(&s->rng));
    int64_t keep = gr_sampler_spread(s, logits, n);
    double at = gr_rng_uniform(&s->rng), drawn = 0;
    for (int64_t i = 0; i < keep; i++) {
        drawn += s->p[s->order[i]];
        if (at < drawn) return s->order[i];
    }
    return s->order[keep - 1]; /* the sum may round to just below 1 */
}
