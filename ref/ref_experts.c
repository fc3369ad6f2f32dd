/* A mixture of experts, token by token; backward computes again what forward had. */
#include "ref/ref.h"
#include <math.h>
#include <stdlib.h>

/* Of one token: the router's softmax, its picks and their weights, and what one expert computes. */
typedef struct mixture {
    double *p, *weight, *gate, *up, *act, *out, *xa;
    int *pick;
} mixture;

static double *zeros(long n) {
    double *p = calloc((size_t)n + 1, sizeof *p);
    if (p == NULL) abort();
    return p;
}

static mixture mixture_new(const ref_experts *e) {
    mixture m = {.p = zeros(e->count),
                 .weight = zeros(e->used),
                 .gate = zeros(e->gate->out),
                 .up = zeros(e->gate->out),
                 .act = zeros(e->gate->out),
                 .out = zeros(e->gate->in),
                 .xa = zeros(e->gate->rank + e->up->rank + e->down->rank),
                 .pick = calloc((size_t)e->used + 1, sizeof *m.pick)};
    if (m.pick == NULL) abort();
    return m;
}

static void mixture_free(mixture *m) {
    double *all[] = {m->p, m->weight, m->gate, m->up, m->act, m->out, m->xa};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
    free(m->pick);
}

static bool picked(const mixture *m, int expert, int count) {
    for (int j = 0; j < count; j++)
        if (m->pick[j] == expert) return true;
    return false;
}

/* The `used` largest p, of equal ones the first, and their weights. */
static void choose(mixture *m, const double *x, const ref_experts *e) {
    double sum = 0, top = -INFINITY, of_picks = 0;
    ref_linear_forward(m->p, NULL, x, &e->router, 1);
    for (int i = 0; i < e->count; i++) top = fmax(top, m->p[i]);
    for (int i = 0; i < e->count; i++) sum += m->p[i] = exp(m->p[i] - top);
    for (int i = 0; i < e->count; i++) m->p[i] /= sum;
    for (int j = 0; j < e->used; j++) {
        int best = -1;
        for (int i = 0; i < e->count; i++)
            if (!picked(m, i, j) && (best < 0 || m->p[i] > m->p[best])) best = i;
        m->pick[j] = best;
        of_picks += m->p[best];
    }
    for (int j = 0; j < e->used; j++) m->weight[j] = m->p[m->pick[j]] / (e->normed ? of_picks : 1);
}

/* out = expert i of x. */
static void one_expert(mixture *m, const double *x, const ref_experts *e, int i) {
    double *of_up = m->xa + e->gate->rank, *of_down = of_up + e->up->rank;
    ref_linear_forward(m->gate, m->xa, x, &e->gate[i], 1);
    ref_linear_forward(m->up, of_up, x, &e->up[i], 1);
    (e->gelu ? ref_geglu_forward : ref_swiglu_forward)(m->act, m->gate, m->up, e->gate->out);
    ref_linear_forward(m->out, of_down, m->act, &e->down[i], 1);
}

void ref_experts_forward(double *y, const double *x, const ref_experts *e, int tokens) {
    mixture m = mixture_new(e);
    int h = e->gate->in;
    for (int t = 0; t < tokens; t++, x += h, y += h) {
        choose(&m, x, e);
        for (int i = 0; i < h; i++) y[i] = 0;
        for (int j = 0; j < e->used; j++) {
            one_expert(&m, x, e, m.pick[j]);
            for (int i = 0; i < h; i++) y[i] += m.weight[j] * m.out[i];
        }
    }
    mixture_free(&m);
}

/* dy of the expert's own output. */
static void expert_backward(double *dx, const double *dy, const double *x, const mixture *m,
                            const ref_experts *e, int i) {
    int n = e->gate->out;
    double *dact = zeros(n), *dgate = zeros(n), *dup = zeros(n);
    const double *of_up = m->xa + e->gate->rank, *of_down = of_up + e->up->rank;
    ref_linear_backward(dact, dy, m->act, of_down, &e->down[i], 1);
    (e->gelu ? ref_geglu_backward : ref_swiglu_backward)(dgate, dup, dact, m->gate, m->up, n);
    ref_linear_backward(dx, dup, x, of_up, &e->up[i], 1);
    ref_linear_backward(dx, dgate, x, m->xa, &e->gate[i], 1);
    free(dact);
    free(dgate);
    free(dup);
}

/* From dw, the gradient of each pick's weight, to that of the scores. */
static void router_backward(double *dscores, const double *dw, const mixture *m, const ref_experts *e) {
    double of_picks = 0, mean = 0, sum = 0;
    for (int j = 0; j < e->used; j++) of_picks += m->p[m->pick[j]], mean += m->weight[j] * dw[j];
    for (int i = 0; i < e->count; i++) dscores[i] = 0;
    for (int j = 0; j < e->used; j++) {
        double dp = e->normed ? (dw[j] - mean) / of_picks : dw[j];
        dscores[m->pick[j]] = dp;
        sum += m->p[m->pick[j]] * dp;
    }
    for (int i = 0; i < e->count; i++) dscores[i] = m->p[i] * (dscores[i] - sum);
}

void ref_experts_backward(double *dx, const double *dy, const double *x, const ref_experts *e, int tokens) {
    mixture m = mixture_new(e);
    int h = e->gate->in;
    double *dw = zeros(e->used), *d = zeros(h), *dscores = zeros(e->count);
    for (int t = 0; t < tokens; t++, x += h, dx += h, dy += h) {
        choose(&m, x, e);
        for (int j = 0; j < e->used; j++) {
            one_expert(&m, x, e, m.pick[j]);
            dw[j] = 0;
            for (int i = 0; i < h; i++) dw[j] += dy[i] * m.out[i], d[i] = m.weight[j] * dy[i];
            expert_backward(dx, d, x, &m, e, m.pick[j]);
        }
        router_backward(dscores, dw, &m, e);
        ref_linear_backward(dx, dscores, x, NULL, &e->router, 1);
    }
    mixture_free(&m);
    free(dw);
    free(d);
    free(dscores);
}
