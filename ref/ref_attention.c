/* Causal attention with grouped heads, a sliding window and rows that do not see each other. */
#include "ref/ref.h"
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

/* The first token that token t of a row starting at `start` may look at. */
static int first_visible(int start, int t, int window) {
    return window > 0 && t - window + 1 > start ? t - window + 1 : start;
}

static double dot(const double *a, const double *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static double capped(double x, double cap) {
    return cap > 0 ? cap * tanh(x / cap) : x;
}

/* p[j-from] = softmax over j = from..t of cap(scale q.k[j]); k points at its head, `stride` apart from token
 * to token. */
static void probabilities(double *p, const double *q, const double *k, int from, int t,
                          const ref_attention *at) {
    int d = at->head_dim, stride = at->kv_heads * d;
    double max = -HUGE_VAL, sum = 0;
    for (int j = from; j <= t; j++) {
        p[j - from] = capped(at->scale * dot(q, k + (size_t)j * stride, d), at->cap);
        max = fmax(max, p[j - from]);
    }
    for (int j = from; j <= t; j++) sum += p[j - from] = exp(p[j - from] - max);
    for (int j = from; j <= t; j++) p[j - from] /= sum;
}

static double *scores_new(const ref_attention *at) {
    double *p = calloc((size_t)at->cu_seqlens[at->rows] + 1, sizeof *p);
    if (p == NULL) abort();
    return p;
}

void ref_attention_forward(double *y, const double *q, const double *k, const double *v,
                           const ref_attention *at) {
    int d = at->head_dim, stride = at->kv_heads * d;
    double *p = scores_new(at);
    for (int b = 0; b < at->rows; b++)
        for (int t = at->cu_seqlens[b]; t < at->cu_seqlens[b + 1]; t++)
            for (int h = 0; h < at->heads; h++) {
                int g = h / (at->heads / at->kv_heads),
                    from = first_visible(at->cu_seqlens[b], t, at->window);
                size_t here = ((size_t)t * at->heads + h) * d;
                probabilities(p, q + here, k + (size_t)g * d, from, t, at);
                for (int i = 0; i < d; i++) {
                    double sum = 0;
                    for (int j = from; j <= t; j++) sum += p[j - from] * v[(size_t)j * stride + g * d + i];
                    y[here + i] = sum;
                }
            }
    free(p);
}

/* One query head of one token. The probabilities are computed again. With dp[j] = dy.v[j], softmax gives
 * ds[j] = p[j] * (dp[j] - sum_k p[k] dp[k]), and the sum equals dy.y. */
static void query_backward(double *dq, double *dk, double *dv, const double *dy, const double *q,
                           const double *k, const double *v, const double *p, int from, int t,
                           const ref_attention *a) {
    double mean = 0;
    int d = a->head_dim, stride = a->kv_heads * d;
    for (int j = from; j <= t; j++) mean += p[j - from] * dot(dy, v + (size_t)j * stride, d);
    for (int j = from; j <= t; j++) {
        size_t at = (size_t)j * stride;
        double ds = p[j - from] * (dot(dy, v + at, d) - mean) * a->scale;
        if (a->cap > 0) ds *= 1 - pow(tanh(a->scale * dot(q, k + at, d) / a->cap), 2);
        for (int i = 0; i < d; i++) {
            dq[i] += ds * k[at + i];
            dk[at + i] += ds * q[i];
            dv[at + i] += p[j - from] * dy[i];
        }
    }
}

void ref_attention_backward(double *dq, double *dk, double *dv, const double *dy, const double *q,
                            const double *k, const double *v, const ref_attention *at) {
    int d = at->head_dim;
    double *p = scores_new(at);
    for (int b = 0; b < at->rows; b++)
        for (int t = at->cu_seqlens[b]; t < at->cu_seqlens[b + 1]; t++)
            for (int h = 0; h < at->heads; h++) {
                size_t g = (size_t)(h / (at->heads / at->kv_heads)) * d,
                       here = ((size_t)t * at->heads + h) * d;
                int from = first_visible(at->cu_seqlens[b], t, at->window);
                probabilities(p, q + here, k + g, from, t, at);
                query_backward(dq + here, dk + g, dv + g, dy + here, q + here, k + g, v + g, p, from, t, at);
            }
    free(p);
}
