/* kernels/: what only some architectures need: LayerNorm, GELU, soft caps. Inputs and bounds as in
 * test_kernels.c. */
#include "tests/kernel_check.h"

enum { SIZES = 7, MOST = 300 };
static const int sizes[SIZES] = {1, 2, 15, 16, 17, 64, 300};

static void layernorms(const gr_kernels *k) {
    for (int s = 0; s < SIZES; s++) {
        int n = sizes[s];
        bool dy_f32 = s & 1;
        CASE(k, "layernorm n %d dy_f32 %d", n, dy_f32);
        float w[MOST], b[MOST], dyf[MOST], rstd;
        guarded x = act_new(k, n, 1), y = act_new(k, n, 3), dy = act_new(k, n, 0);
        guarded dx = guarded_new((size_t)n * 4, 4);
        act_fill(k, x.data, n, ORDINARY), act_fill(k, dy.data, n, ORDINARY);
        float *dxf = (float *)(void *)dx.data;
        double mean = 0, variance = 0, flat = 0, along = 0, before[MOST];
        for (int i = 0; i < n; i++) {
            w[i] = uniform(-2, 2), b[i] = uniform(-1, 1);
            dyf[i] = dy_f32 ? number(ORDINARY) : act_get(k, dy.data, i);
            before[i] = (double)(dxf[i] = number(ORDINARY));
            mean += (double)act_get(k, x.data, i) / n;
        }
        for (int i = 0; i < n; i++) variance += pow((double)act_get(k, x.data, i) - mean, 2) / n;
        double r = 1 / sqrt(variance + (double)1e-2f);
        k->layernorm(y.data, &rstd, x.data, w, b, 1e-2f, n);
        near_f32((double)rstd, r, (8 + 2 * sqrt(n)) * EPS32 * r, -1);
        for (int i = 0; i < n; i++) {
            double z = ((double)act_get(k, x.data, i) - mean) * r, g = (double)dyf[i] * (double)w[i];
            near_act(k, y.data, i, z * (double)w[i] + (double)b[i],
                     (16 + 2 * sqrt(n)) * EPS32 * (4 + fabs(z)) * 10);
            flat += g / n, along += g * z / n;
        }
        k->layernorm_back(dxf, dy_f32 ? (void *)dyf : dy.data, dy_f32, x.data, rstd, w, n);
        for (int i = 0; i < n; i++) {
            double z = ((double)act_get(k, x.data, i) - mean) * r, g = (double)dyf[i] * (double)w[i];
            near_f32((double)dxf[i], before[i] + r * (g - flat - z * along),
                     (16 + 2 * sqrt(n)) * EPS32 * 100 * (1 + r), i);
        }
        guarded_free(&x), guarded_free(&y), guarded_free(&dy), guarded_free(&dx);
    }
}

static double sigmoid_of(double g) {
    return 1 / (1 + exp(-2 * sqrt(2 / acos(-1)) * (g + 0.044715 * g * g * g)));
}

static void gelus(const gr_kernels *k) {
    for (int s = 0; s < SIZES; s++)
        for (int kind = 0; kind < KINDS; kind++) {
            int n = sizes[s];
            CASE(k, "gelu n %d kind %d", n, kind);
            guarded g = act_new(k, n, 1), u = act_new(k, n, 0), y = act_new(k, n, 5),
                    alone = act_new(k, n, 5), dy = act_new(k, n, 2), dx = act_new(k, n, 2);
            act_fill(k, g.data, n, kind), act_fill(k, u.data, n, ORDINARY), act_fill(k, dy.data, n, ORDINARY);
            double gate[MOST], up[MOST];
            for (int i = 0; i < n; i++)
                gate[i] = (double)act_get(k, g.data, i), up[i] = (double)act_get(k, u.data, i);
            k->geglu(y.data, g.data, u.data, n);
            k->gelu(alone.data, g.data, n);
            k->gelu_back(dx.data, dy.data, g.data, n);
            k->geglu_back(g.data, u.data, dy.data, g.data, u.data, n); /* in place */
            for (int i = 0; i < n; i++) {
                double x = gate[i], sigmoid = sigmoid_of(x), d = (double)act_get(k, dy.data, i);
                double far = fabs(x) > 20, dz = 2 * sqrt(2 / acos(-1)) * (1 + 3 * 0.044715 * x * x);
                double slope = sigmoid + (far != 0 ? 0 : x * sigmoid * (1 - sigmoid) * dz);
                /* the exponent z is large where sigmoid is small: an error of eps z in it is one of its
                 * factor */
                double z = far != 0 ? 0 : fabs(x) * dz, unit = (8 + 4 * z) * EPS32, size = fabs(x * sigmoid);
                double back = unit * (sigmoid + (far != 0 ? 0 : fabs(x) * dz * sigmoid)) + 1e-30;
                near_act(k, y.data, i, x * sigmoid * up[i], unit * size * fabs(up[i]) + 1e-30);
                near_act(k, alone.data, i, x * sigmoid, unit * size + 1e-30);
                near_act(k, u.data, i, d * x * sigmoid, unit * size * fabs(d) + 1e-30);
                near_act(k, g.data, i, d * up[i] * slope, 2 * back * fabs(d * up[i]) + 1e-30);
                near_act(k, dx.data, i, d * slope, 2 * back * fabs(d) + 1e-30);
            }
            guarded_free(&g), guarded_free(&u), guarded_free(&y), guarded_free(&alone), guarded_free(&dy);
            guarded_free(&dx);
        }
}

/* A block of scores, and its gradient through the cap by softmax_block_back. */
static void score_caps(const gr_kernels *k) {
    enum { ROWS = 5, ALL = ROWS * GR_NR };
    static float s[ALL] __attribute__((aligned(64))), dp[ALL] __attribute__((aligned(64))), s0[ALL], dp0[ALL],
        one[ALL], delta[GR_NR] __attribute__((aligned(64)));
    for (int wide = 0; wide < 2; wide++) {
        float scale = 0.3f, cap = wide ? 50 : 1.5f;
        CASE(k, "soft cap %g", (double)cap);
        for (int i = 0; i < ALL; i++) {
            s0[i] = s[i] = one[i] = uniform(-30, 30) * (i % 3 ? 1 : 0.02f);
            dp0[i] = dp[i] = uniform(-2, 2);
        }
        for (int c = 0; c < GR_NR; c++) delta[c] = uniform(-1, 1);
        k->soft_cap(one, ALL, scale, cap);
        k->soft_cap_back(s, dp, ROWS, scale, cap, delta);
        for (int i = 0; i < ALL; i++) {
            double t = tanh((double)scale * (double)s0[i] / (double)cap), d = (double)delta[i % GR_NR];
            near_f32((double)one[i], t * (double)cap, 8 * EPS32 * (double)cap, i);
            near_f32((double)s[i], t * (double)cap, 8 * EPS32 * (double)cap, i);
            near_f32((double)dp[i], ((double)dp0[i] - d) * (1 - t * t) + d, 40 * EPS32, i);
        }
    }
}

/* softmax of capped logits, and what the cap makes of its gradient. */
static void logit_caps(const gr_kernels *k) {
    enum { N = 150 };
    float logits[3 * GR_NR] = {0}, top[3], sum[3], hit, cap = 3;
    int32_t target = 77;
    bool leads;
    CASE(k, "capped logits");
    guarded p = act_new(k, N, 0);
    double capped[N], total = 0;
    for (int i = 0; i < N; i++) {
        logits[i] = uniform(-6, 6);
        capped[i] = (double)cap * tanh((double)logits[i] / (double)cap);
        total += exp(capped[i]);
    }
    gr_softmax to = {.p = p.data,
                     .ldp = N,
                     .panels = 3,
                     .top = top,
                     .sum = sum,
                     .target = &target,
                     .target_logit = &hit,
                     .leads = &leads,
                     .cap = cap};
    for (int i = 0; i < N; i += GR_NR)
        k->finish_softmax(&to, logits + i, GR_NR, 0, 1, i, N - i < GR_NR ? N - i : GR_NR);
    near_f32((double)hit, capped[target], 1e-6, -1);
    double lse = k->softmax_join(top, sum, 3);
    near_f32(lse, log(total), 2e-6, -1);
    k->softmax_factors(top, top, 3, lse, 0.5f);
    k->softmax_scale(p.data, N, top);
    k->softmax_uncap(p.data, N, (float)lse, 2, cap);
    for (int i = 0; i < N; i++) {
        double slope = 1 - pow(capped[i] / (double)cap, 2), want = 0.5 * exp(capped[i] - log(total));
        /* of the slope is left what log(p) was rounded by: 2^-8 of bf16 */
        near_act(k, p.data, i, want * slope,
                 want * (slope + 2 / (double)cap) * (k->fp32 ? 2e-6 : 2 * EPS_BF16));
    }
    guarded_free(&p);
}

static void test_layernorms(void **state) {
    (void)state;
    each_table(layernorms);
}

static void test_gelus(void **state) {
    (void)state;
    each_table(gelus);
}

static void test_caps(void **state) {
    (void)state;
    each_table(score_caps);
    each_table(logit_caps);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layernorms), cmocka_unit_test(test_gelus),
                                       cmocka_unit_test(test_caps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
