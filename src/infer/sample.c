#include "infer/sample.h"
#include <math.h>

graft_status gr_sampler_init(gr_sampler *s, double temp, double top_p, double min_p, int64_t top_k,
                             uint64_t seed, int64_t vocab, graft_error *err) {
    *s = (gr_sampler){.temp = temp, .top_p = top_p, .min_p = min_p, .top_k = top_k};
    gr_rng_seed(&s->rng, seed, 0x5a);
    if (temp <= 0) return GRAFT_OK;
    s->order = gr_calloc((size_t)vocab, sizeof *s->order);
    s->p = gr_calloc((size_t)vocab, sizeof *s->p);
    if (s->order && s->p) return GRAFT_OK;
    gr_sampler_free(s);
    return gr_no_memory(err, (size_t)vocab * 12);
}

void gr_sampler_free(gr_sampler *s) {
    free(s->order);
    free(s->p);
    s->order = NULL;
    s->p = NULL;
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

int32_t gr_sample(gr_sampler *s, const float *logits, int64_t n) {
    int32_t best = largest(logits, n);
    if (s->temp <= 0) return best;
    double total = 0, mass = 0, drawn = 0;
    for (int64_t i = 0; i < n; i++) total += s->p[i] = exp((double)logits[i] - (double)logits[best]);
    for (int64_t i = 0; i < n; i++) s->p[i] /= total;
    sort_ids(s->order, s->p, n);
    int64_t keep = s->top_k > 0 ? gr_min_i64(s->top_k, n) : n;
    for (int64_t i = 0; i < keep; i++) {
        double p = s->p[s->order[i]];
        bool enough =
            s->top_p > 0 && s->top_p < 1 && mass >= s->top_p; /* the token that crosses top_p stays */
        if (i && (enough || p < s->min_p * s->p[s->order[0]])) {
            keep = i;
            break;
        }
        mass += p;
    }
    total = 0;
    for (int64_t i = 0; i < keep; i++) {
        double logit = (double)logits[s->order[i]] - (double)logits[best];
        total += s->p[s->order[i]] = exp(logit / s->temp);
    }
    double at = gr_rng_uniform(&s->rng) * total;
    for (int64_t i = 0; i < keep; i++) {
        drawn += s->p[s->order[i]];
        if (at < drawn) return s->order[i];
    }
    return s->order[keep - 1];
}
