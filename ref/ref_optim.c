/* From gradients to new parameters: clipping, rate schedules, Adam(W), SGD. */
#include "ref/ref.h"
#include <math.h>

/* source: arXiv 1412.6980 algorithm 1; arXiv 1711.05101 algorithm 2 for the decay. */
void ref_adam_step(double *p, const double *g, double *m, double *v, long n, int step, double rate,
                   const ref_adam *o) {
    double correct1 = o->bias_correction ? 1 - pow(o->beta1, step) : 1;
    double correct2 = o->bias_correction ? 1 - pow(o->beta2, step) : 1;
    for (long i = 0; i < n; i++) {
        m[i] = o->beta1 * m[i] + (1 - o->beta1) * g[i];
        v[i] = o->beta2 * v[i] + (1 - o->beta2) * g[i] * g[i];
        p[i] -= rate * o->weight_decay * p[i];
        p[i] -= rate * (m[i] / correct1) / (sqrt(v[i] / correct2) + o->eps);
    }
}

void ref_sgd_step(double *p, const double *g, double *velocity, long n, double rate, double momentum,
                  double weight_decay) {
    for (long i = 0; i < n; i++) {
        velocity[i] = momentum * velocity[i] + g[i] + weight_decay * p[i];
        p[i] -= rate * velocity[i];
    }
}

double ref_clip(double *const *g, const long *sizes, int count, double limit) {
    double sum = 0;
    for (int k = 0; k < count; k++)
        for (long i = 0; i < sizes[k]; i++) sum += g[k][i] * g[k][i];
    double norm = sqrt(sum), factor = limit > 0 ? fmin(1, limit / (norm + 1e-6)) : 1;
    for (int k = 0; k < count; k++)
        for (long i = 0; i < sizes[k]; i++) g[k][i] *= factor;
    return norm;
}

double ref_rate(ref_schedule schedule, double peak, int warmup, int total, int k) {
    if (k <= warmup) return peak * k / warmup;
    double p = (double)(k - warmup - 1) / (total - warmup);
    switch (schedule) {
    case REF_LINEAR: return peak * (1 - p);
    case REF_COSINE: return peak * (1 + cos(acos(-1) * p)) / 2;
    case REF_CONSTANT: break;
    }
    return peak;
}
